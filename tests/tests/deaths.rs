//! What is gone has no series, but for what happens rarely.

use std::path::Path;
use std::process::Command;

use tests::cgroup::Cgroup;
use tests::limited::{LIMIT, TOO_MUCH};
use tests::memory::{Hog, set_limit};
use tests::metrics::{Metrics, Sample};
use tests::serve::Serve;
use tests::slow::fewer;
use tests::wait::{PATIENCE, wait_for};

/// Cgroups that come and go, and how many of them keep series at most.
const DEATHS: u32 = 5_000;
const TOLD: usize = 512;

/// Makes cgroups `$2`… to `$3` below `$1`, each with one process, and removes them. Every second process ends by SIGKILL
/// where `$4` is `killed`. v1 moves a thread by `tasks` ten times as fast as a process.
const LIVES: &str = r#"
[ -e "$1/tasks" ] && file=tasks || file=cgroup.procs
for ((i = $2; i < $3; i++)); do
    mkdir "$1/$i" || exit 1
    (echo 0 > "$1/$i/$file" || exit 1; [ "$4" = killed ] && ((i % 2)) && kill -KILL $BASHPID; exit 0)
    rmdir "$1/$i" || exit 1
done"#;

fn lives(parent: &Path, first: u32, count: u32, how: &str) {
    let mut bash = Command::new("bash");
    bash.args(["-c", LIVES, "bash"]).arg(parent);
    bash.args([first.to_string(), (first + count).to_string(), how.into()]);
    let output = bash.output().expect("bash can be run");
    assert!(output.status.success(), "{output:?}");
}

/// The samples of what is below `path`, and the lines of the rest that are of no cgroup.
fn split<'a>(metrics: &'a Metrics, path: &str) -> (Vec<Sample>, Vec<&'a str>) {
    let below = format!("id=\"{path}/");
    let own = metrics.text().lines().filter(|it| it.contains(&below));
    let own = own.filter(|it| !it.contains("/stays\""));
    let own = own.collect::<Vec<_>>().join("\n");
    let lines = metrics.text().lines();
    let rest = lines.filter(|it| !it.contains("id=\"/")).collect();
    (Metrics::parse(&own).into_samples(), rest)
}

/// Scrapes once the end of the last is seen.
fn after(serve: &Serve, path: &str, born: impl Fn(&Metrics) -> bool) -> Metrics {
    wait_for("all are seen to be gone", PATIENCE, || {
        let metrics = serve.metrics();
        let (own, _) = split(&metrics, path);
        let lives = own.iter().any(|it| it.name == "container_last_seen");
        (!lives && born(&metrics)).then_some(metrics)
    })
}

#[test]
#[ignore = "needs root"]
fn what_is_gone_has_no_series_but_of_what_is_rare() {
    let deaths = fewer(DEATHS, 2 * TOLD as u32 + 100);
    let serve = Serve::start(&["--docker-socket", "off"]);
    // Not below a container: each is one itself.
    let parent = Cgroup::strangers("deaths", "agent");
    let (path, memory) = (parent.path(), parent.directory("memory"));
    // Whose parent has no cgroups is removed with the last.
    let stays = parent.child("stays");
    let killed = limited(&parent);
    let size = |lines: &[&str]| lines.iter().map(|it| it.len()).sum::<usize>();
    let before = serve.metrics();
    let (_, before) = split(&before, &path);

    lives(&memory, 0, deaths, "ended");
    let seen = |metrics: &Metrics| {
        let dead = metrics.value("agent_registry_cgroups", &[("state", "dead")]);
        dead >= f64::from(deaths.min(4_096))
    };
    let ended = after(&serve, &path, seen);
    let (own, rest) = split(&ended, &path);
    assert_kill(&own, &killed);
    assert!(own.iter().all(|it| it.labels["id"] == killed), "{own:?}");
    assert!(size(&rest) <= size(&before) * 102 / 100, "{rest:#?}");

    lives(&memory, deaths, deaths, "killed");
    let last = format!("{path}/{}", deaths + (deaths - 1) / 2 * 2 - 1);
    let signal = |id: &str| [("how", "signal"), ("id", id)].map(|(k, v)| (k, v.to_owned()));
    let seen = |metrics: &Metrics| {
        let labels = signal(&last);
        let labels = labels.each_ref().map(|(k, v)| (*k, &**v));
        metrics.find("container_exits_total", &labels) == Some(1.0)
    };
    let killed_too = after(&serve, &path, seen);
    let (own, rest) = split(&killed_too, &path);
    // OOM kills stay longest.
    assert_kill(&own, &killed);
    let others = own.iter().filter(|it| it.labels["id"] != killed);
    let others: Vec<_> = others.collect();
    assert!(others.len() <= TOLD, "{}", others.len());
    for sample in others {
        let how = sample.labels.get("how").map(String::as_str);
        let is_kill = sample.name == "container_exits_total" && how == Some("signal");
        assert!(is_kill && sample.value > 0.0, "{sample:?}");
    }
    assert!(size(&rest) <= size(&before) * 102 / 100, "{rest:#?}");
    drop(stays);
    serve.stop();
}

/// Makes and removes a cgroup in which a process was killed for its limit: its path.
fn limited(parent: &Cgroup) -> String {
    let own = parent.child("killed");
    set_limit(&own, LIMIT);
    Hog::start(&own, 1, TOO_MUCH).wait_until_killed();
    own.path()
}

fn assert_kill(samples: &[Sample], id: &str) {
    for role in ["victim", "limit_owner"] {
        let kill = samples.iter().find(|it| {
            it.name == "container_oom_kills_total"
                && it.labels["id"] == id
                && it.labels["role"] == role
        });
        assert_eq!(kill.map(|it| it.value), Some(1.0), "{role}: {samples:?}");
    }
}
