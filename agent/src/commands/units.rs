//! Follows the units of systemd for a pipeline: their descriptions and intended limits, and the results of those that end.

use std::sync::{Arc, Weak};
use std::time::Duration;

use agent_engines::units::{self, UnitMessage};
use agent_model::container::Container;
use agent_model::labels::LabelPatterns;
use agent_model::lock::lock;
use agent_model::text;
use agent_model::warn_once::WarnOnce;
use agent_pipeline::PipelineState;
use tokio::time::sleep;

/// How often the registry is asked for new units.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long this waits after systemd did not answer.
const PAUSE: Duration = Duration::from_secs(10);

/// The most units that systemd is asked about in one interval.
const ASKED_AT_ONCE: usize = 64;

/// Begins to follow systemd, where it is the host's init process. Nothing waits for it.
pub(super) fn follow(shared: &Arc<PipelineState>, labels: LabelPatterns) {
    if units::systemd_runs() {
        tokio::spawn(follow_results(Arc::downgrade(shared)));
        tokio::spawn(follow_facts(Arc::downgrade(shared), labels));
    }
}

async fn follow_results(shared: Weak<PipelineState>) {
    static UNHEARD: WarnOnce = WarnOnce::new();
    while shared.strong_count() > 0 {
        let followed = units::follow(|message| {
            let Some(shared) = shared.upgrade() else {
                return;
            };
            match message {
                UnitMessage::Connected => {
                    UNHEARD.clear();
                    shared.expect_unit_results(true);
                }
                UnitMessage::Ended { unit, result } => shared.set_unit_result(unit, result),
            }
        });
        let ended = followed.await;
        if let Some(shared) = shared.upgrade() {
            shared.expect_unit_results(false);
        }
        if let Err(error) = ended {
            let why = text::error_line(&error);
            UNHEARD.warn(&format!("stops of units have no result: {why}"));
        }
        sleep(PAUSE).await;
    }
}

async fn follow_facts(shared: Weak<PipelineState>, labels: LabelPatterns) {
    static UNANSWERED: WarnOnce = WarnOnce::new();
    loop {
        let new = change(&shared, |shared| {
            lock(&shared.registry).new_units(ASKED_AT_ONCE)
        });
        let Some(new) = new.await else {
            return;
        };
        match tell(&shared, &new, &labels).await {
            Ok(()) => {
                UNANSWERED.clear();
                sleep(INTERVAL).await;
            }
            Err(error) => {
                let why = text::error_line(&error);
                UNANSWERED.warn(&format!("units have no description and no drift: {why}"));
                sleep(PAUSE).await;
            }
        }
    }
}

/// Asks systemd about each of these units, and tells the registry. The registry names those again that were not asked about.
async fn tell(
    shared: &Weak<PipelineState>,
    units: &[Arc<Container>],
    labels: &LabelPatterns,
) -> Result<(), agent_engines::intent::Error> {
    for (at, unit) in units.iter().enumerate() {
        let facts = match units::ask(unit, labels).await {
            Ok(facts) => facts,
            // systemd reports a property of this unit in a form that is not known here.
            Err(error @ agent_engines::intent::Error::Property { .. }) => {
                tracing::debug!("{}", text::error_line(&error));
                continue;
            }
            Err(error) => {
                let left: Vec<String> = units[at..].iter().map(|it| it.cgroup.clone()).collect();
                let again = move |shared: &PipelineState| lock(&shared.registry).ask_again(&left);
                change(shared, again).await;
                return Err(error);
            }
        };
        let cgroup = unit.cgroup.clone();
        let intended = facts.intended.map(Arc::new);
        let set = move |shared: &PipelineState| {
            lock(&shared.registry).set_unit(&cgroup, facts.labels, intended);
        };
        change(shared, set).await;
    }
    Ok(())
}

/// Calls `change` on a thread for blocking work, because it waits for the registry's lock. `None` once the pipeline has ended.
async fn change<T: Send + 'static>(
    shared: &Weak<PipelineState>,
    change: impl FnOnce(&PipelineState) -> T + Send + 'static,
) -> Option<T> {
    let shared = shared.upgrade()?;
    let changed = tokio::task::spawn_blocking(move || change(&shared));
    changed.await.ok()
}
