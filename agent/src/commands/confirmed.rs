//! Finds containers of any engine by name or id, for commands that inspect one and for flags that share its namespaces.
//!
//! A name means a container whose identity is confirmed at that moment. Where a server lists the containers, this module
//! confirms the matching ones again. A name or an id means a container of root's, or of the user who asks. Other users
//! choose the names of their containers freely, so only its cgroup names a container of theirs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_engines::docker::Client;
use agent_engines::intent;
use agent_engines::intent::{Intent, Source};
use agent_engines::witness::{Intents, Records, engine};
use agent_host::hierarchy::Hierarchies;
use agent_host::membership::Membership;
use agent_host::pinned::Pinned;
use agent_inventory::containers::ContainerState;
use agent_model::container::Container;
use agent_model::labels::LabelPatterns;
use agent_model::limit::Bounds;
use agent_pipeline::look::HostLook;
use agent_registry::claim::{Claim, Confirmation, Witnesses};
use agent_registry::location;
use agent_registry::path::Runtime;
use agent_stream::client;
use anyhow::{anyhow, bail};

use super::engine::{EngineArgs, state, witnesses};

/// The error for a name that no container has. An engine at another socket may have one of that name.
pub(super) const NOBODY: &str = "no container of that name or id is known here; agent ps lists those that run, by their ids where their engine is not asked";

/// The fewest digits that may abbreviate an id.
const SHORTEST_ID: usize = 4;

/// The most containers of one name that are confirmed.
const LOOKED_AT: usize = 256;

/// A container that is confirmed.
#[derive(Clone, Debug)]
pub(super) struct ConfirmedContainer {
    pub container: Container,
    /// The user whose record confirms it.
    owner: u32,
    /// Its init process, where a record or an engine names one.
    pub process: Option<Pinned>,
    /// Its intended limits, from a record or from the server.
    pub intended: Option<Arc<Intent>>,
    /// The limits of its caller, from the same state.
    pub bounds: Option<Arc<Bounds>>,
}

/// A running container, confirmed or not, and its init process.
pub(super) type RunningContainer = (Container, Option<u32>);

/// Confirms claims at this moment.
pub(super) struct Confirmer {
    witnesses: Witnesses,
    engine: Option<Client>,
    /// The engine's arguments, which also print a note where the engine does not answer.
    by: EngineArgs,
    /// The user who asks.
    user: u32,
    /// Whether a server of root's or of this user's listed the candidates. It may be connected to engines that this process
    /// is not.
    server: bool,
    /// The intended limits that the server's engine reported, by cgroup. This process may not know the engine's socket.
    told: HashMap<String, Arc<Intent>>,
}

impl Confirmer {
    /// Connects to the engine, where it answers, and prepares the records that can confirm a claim.
    ///
    /// # Errors
    /// The host's hierarchies cannot be found.
    pub(super) async fn new(engine: &EngineArgs) -> anyhow::Result<Self> {
        let by = engine.clone();
        let engine = by.connect().await;
        let docker = engine.as_ref().map(state);
        let witnesses = witnesses(Intents::Read, docker, LabelPatterns::all())?;
        let user = rustix::process::geteuid().as_raw();
        Ok(Self {
            witnesses,
            engine,
            by,
            user,
            server: false,
            told: HashMap::new(),
        })
    }

    /// Sets whether a candidate that the server calls confirmed counts as confirmed.
    #[must_use]
    pub(super) fn believing_server(mut self, server: bool) -> Self {
        self.server = server;
        self
    }

    /// Does the same as [`Self::new`], and adds the reports that the server on `socket` has from its engines.
    ///
    /// # Errors
    /// The host's hierarchies cannot be found, or the server does not answer.
    pub(super) async fn with_server(engine: &EngineArgs, socket: &Path) -> anyhow::Result<Self> {
        let mut fresh = Self::new(engine).await?;
        match client::fetch_trusted::<Vec<ContainerState>>(socket, "/v1/containers").await {
            Ok(states) => fresh.learn(&states),
            Err(nobody) if nobody.is_no_server() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(fresh)
    }

    fn learn(&mut self, states: &[ContainerState]) {
        let confirmed = states
            .iter()
            .filter(|it| it.container.confirmed == Some(true));
        let told = confirmed.filter_map(|it| {
            // Records are read again here. Only the server has what its engine reported.
            let intent = it
                .intended
                .clone()
                .filter(|it| it.source == Source::Docker)?;
            Some((it.container.cgroup.clone(), Arc::new(intent)))
        });
        self.told.extend(told);
    }

    /// Tells whether names that `user` chose count: root's, and those of the user who asks.
    fn is_trusted(&self, user: u32) -> bool {
        [0, self.user].contains(&user)
    }

    /// Confirms a claim by a record or by docker's answer.
    async fn confirm(&self, claim: &Claim) -> Option<Confirmation> {
        if let Some(confirmation) = self.witnesses.confirm(claim) {
            return Some(confirmation);
        }
        if self.told.contains_key(&claim.cgroup) {
            return Some(Confirmation::of(claim));
        }
        let asked = engine::inspect(self.engine.as_ref()?, &claim.id);
        self.by.answer(asked).await??.1?.first(claim)
    }

    /// Returns the container of a candidate, if a record, an engine or a trusted server confirms it.
    pub(super) async fn know(&self, candidate: &RunningContainer) -> Option<ConfirmedContainer> {
        let (container, process) = candidate;
        let claim = Claim::of(&container.cgroup)?;
        let confirmation = match self.confirm(&claim).await {
            None if self.server && container.confirmed == Some(true) => as_told(&claim)?,
            confirmation => confirmation?,
        };
        let called = match container.confirmed {
            Some(true) => container.clone(),
            _ => called(&claim, &confirmation),
        };
        // A user's record may name any process, so only one in the container's cgroup counts.
        let processes = [confirmation.process, *process].into_iter().flatten();
        let mut own = processes.filter_map(|process| in_it(&claim, process));
        Some(ConfirmedContainer {
            container: called,
            owner: confirmation.user,
            process: own.next(),
            intended: self.newest(&claim, confirmation.intended),
            bounds: confirmation.bounds,
        })
    }

    /// Of the intended limits in a record, and those that the server's engine reported, the newest: no later update is in
    /// an OCI bundle.
    fn newest(&self, claim: &Claim, record: Option<Arc<Intent>>) -> Option<Arc<Intent>> {
        let told = || self.told.get(&claim.cgroup).cloned();
        match record {
            Some(record) if record.source != Source::Bundle => Some(record),
            record => told().or(record),
        }
    }

    /// Returns the outermost container that a process is in, and that container's cgroups. `None` means that it is in
    /// none, or that nothing confirms it. Any of the process's cgroups may be the container's.
    pub(super) async fn around(
        &self,
        membership: &Membership,
    ) -> Option<(ConfirmedContainer, Membership)> {
        let mut places = membership.paths().map(|(_, path)| location::of(path));
        let claim = places.find_map(|place| place.claim)?;
        let candidate = (location::of(&claim.cgroup).container, None);
        let known = self.know(&candidate).await?;
        let own = membership.above(|path| claim.covers(path), &claim.cgroup);
        Some((known, own))
    }

    /// Returns the container, confirmed or not, or the unit, whose own cgroup is one of the paths of `membership`.
    pub(super) async fn at(&self, membership: &Membership) -> Option<ConfirmedContainer> {
        let places = membership.paths().map(|(_, path)| location::of(path));
        let place = places
            .filter(|place| place.own)
            .max_by_key(|place| place.rank)?;
        let known = self.know(&(place.container.clone(), None)).await;
        Some(known.unwrap_or(ConfirmedContainer::without_record(place.container)))
    }
}

/// The confirmation that a server's answer gives. The cgroup belongs to the user who owns all of its directories.
fn as_told(claim: &Claim) -> Option<Confirmation> {
    let hierarchies = Hierarchies::discover(Path::new("/")).ok()?;
    let user = hierarchies.owner_of(&claim.cgroup)?;
    Some(Confirmation {
        user,
        ..Confirmation::of(claim)
    })
}

/// Pins a process, if it is in the container's cgroup or below it.
fn in_it(claim: &Claim, process: u32) -> Option<Pinned> {
    let process = Pinned::open(i32::try_from(process).ok()?)?;
    let membership = Membership::of(Path::new("/"), process.number()).ok()?;
    let is_in = membership.paths().any(|(_, path)| claim.covers(path));
    (is_in && process.check().is_ok()).then_some(process)
}

/// A confirmed container, with the name, image, labels and pod of its record.
fn called(claim: &Claim, confirmation: &Confirmation) -> Container {
    let named = confirmation.named.clone().unwrap_or_default();
    let (pod, labels) = (named.pod, named.labels);
    let or = |said: String, otherwise: &str| match &*said {
        "" => otherwise.to_owned(),
        _ => said,
    };
    Container {
        id: claim.id.clone(),
        name: or(named.name, location::short(&claim.id)),
        image: or(named.image, location::UNKNOWN),
        confirmed: Some(true),
        pod,
        labels,
        ..location::of(&claim.cgroup).container
    }
}

impl ConfirmedContainer {
    /// A unit, or a container without a record.
    pub(super) const fn without_record(container: Container) -> Self {
        Self {
            container,
            owner: 0,
            process: None,
            intended: None,
            bounds: None,
        }
    }

    /// The user whose record confirms this container.
    pub(super) const fn owner(&self) -> u32 {
        self.owner
    }

    /// The container's cgroups, found from its init process, which may be in a cgroup below.
    ///
    /// # Errors
    /// The init process is not known, or has just ended, or is not in the container.
    pub(super) fn membership(&self) -> anyhow::Result<Membership> {
        let Container { name, cgroup, .. } = &self.container;
        let process = self
            .process
            .as_ref()
            .ok_or_else(|| anyhow!("container {name}: neither an engine nor a record says which process is its init process"))?;
        let number = process.number();
        let membership = Membership::of(Path::new("/"), number)?;
        let claim = Claim::of(cgroup);
        let is_in = |path: &str| claim.as_ref().is_some_and(|claim| claim.covers(path));
        if !membership.paths().any(|(_, path)| is_in(path)) {
            bail!("container {name}: its init process, {number}, is not in {cgroup}");
        }
        if process.check().is_err() {
            bail!("container {name}: its init process, {number}, has just ended");
        }
        Ok(membership.above(is_in, cgroup))
    }

    /// The path of a record about this container that exists and cannot be read.
    pub(super) fn unread(&self, hierarchies: &Hierarchies) -> Option<PathBuf> {
        let claim = Claim::of(&self.container.cgroup)?;
        let none = LabelPatterns::default();
        Records::new(hierarchies.clone(), Intents::Leave, None, none).unread(&claim)
    }

    /// Its intended limits, where a record or the engine has them. The engine knows later updates than an OCI bundle.
    ///
    /// # Errors
    /// Only the engine may have them, and it does not answer, or its answer holds an invalid limit.
    pub(super) async fn intent(
        &self,
        docker: Option<&str>,
    ) -> Result<Option<Intent>, intent::Error> {
        let is_final = |intent: &Intent| intent.source != Source::Bundle;
        let of_record = self.intended.as_deref().cloned();
        if self.container.runtime == Runtime::Agent.name()
            || of_record.as_ref().is_some_and(is_final)
        {
            return Ok(of_record);
        }
        match intent::of_container(&self.container, docker).await {
            Ok(reported) => Ok(reported.or(of_record)),
            Err(_) if of_record.is_some() => Ok(of_record),
            Err(error) => Err(error),
        }
    }
}

/// The running containers of a server's list.
pub(super) fn running(states: &[ContainerState]) -> Vec<RunningContainer> {
    let containers = states.iter().filter(|it| it.container.kind.is_container());
    let running = containers.filter(|it| it.running);
    running.map(|it| (it.container.clone(), it.pid)).collect()
}

/// The running containers of a scan.
pub(super) fn running_in(look: &HostLook) -> Vec<RunningContainer> {
    let running = look.registry.containers().filter(|it| it.life.running());
    let pid = |it: &agent_registry::registry::Cgroup| it.life.init().map(|init| init.pid);
    running
        .map(|it| ((*it.container).clone(), pid(it)))
        .collect()
}

/// A way in which a name can match a container. The first way that matches a confirmed one counts.
#[derive(Clone, Copy, Debug)]
enum NameMatch {
    /// Its name, id or cgroup.
    Whole,
    /// The beginning of its id.
    Prefix,
}

impl NameMatch {
    fn takes(self, container: &Container, name: &str) -> bool {
        // The id of an unconfirmed container is part of its claim.
        let claim = Claim::of(&container.cgroup);
        let id = claim.as_ref().map_or(&*container.id, |claim| &*claim.id);
        match self {
            Self::Whole => [&container.name, id, &container.cgroup].contains(&name),
            Self::Prefix => name.len() >= SHORTEST_ID && id.starts_with(name),
        }
    }
}

/// The search for the container that a name means.
pub(super) struct ContainerSearch<'a> {
    name: &'a str,
    found: &'a [RunningContainer],
    fresh: &'a Confirmer,
}

impl<'a> ContainerSearch<'a> {
    pub(super) fn new(name: &'a str, found: &'a [RunningContainer], fresh: &'a Confirmer) -> Self {
        Self { name, found, fresh }
    }

    /// Finds a container by its whole name, id or cgroup.
    ///
    /// # Errors
    /// The name matches several containers.
    pub(super) async fn whole(&self) -> anyhow::Result<Option<ConfirmedContainer>> {
        self.by(NameMatch::Whole).await
    }

    /// Finds a container by the beginning of its id.
    ///
    /// # Errors
    /// It matches several containers, or only a cgroup whose claim nothing confirms.
    pub(super) async fn by_prefix(&self) -> anyhow::Result<Option<ConfirmedContainer>> {
        if let Some(known) = self.by(NameMatch::Prefix).await? {
            return Ok(Some(known));
        }
        let ways = [NameMatch::Whole, NameMatch::Prefix];
        let mut claims = self.found.iter().map(|(container, _)| container);
        match claims.find(|it| ways.iter().any(|way| way.takes(it, self.name))) {
            None => Ok(None),
            Some(Container { cgroup, .. }) => bail!(
                "{cgroup} claims to be it, and neither an engine nor a record of one confirms that; to judge it as a cgroup: \
                 agent verify --cgroup {}",
                agent_model::text::shell_word(cgroup)
            ),
        }
    }

    /// Finds a container by whole name, id or cgroup, else by the beginning of its id.
    ///
    /// # Errors
    /// As [`Self::whole`] and [`Self::by_prefix`].
    pub(super) async fn any(&self) -> anyhow::Result<Option<ConfirmedContainer>> {
        match self.whole().await? {
            Some(known) => Ok(Some(known)),
            None => self.by_prefix().await,
        }
    }

    async fn by(&self, way: NameMatch) -> anyhow::Result<Option<ConfirmedContainer>> {
        let meant = self.found.iter();
        let meant = meant.filter(|(container, _)| way.takes(container, self.name));
        let mut meant: Vec<_> = meant.collect();
        // Confirmed containers come first, so that no number of unconfirmed claims can hide one.
        meant.sort_by_key(|(container, _)| container.confirmed != Some(true));
        let mut known: Vec<ConfirmedContainer> = Vec::new();
        for candidate in meant.into_iter().take(LOOKED_AT) {
            known.extend(self.fresh.know(candidate).await);
        }
        let by_path = |known: &ConfirmedContainer| known.container.cgroup == self.name;
        let is_of_others =
            |known: &mut ConfirmedContainer| !self.fresh.is_trusted(known.owner) && !by_path(known);
        let of_others: Vec<_> = known.extract_if(.., is_of_others).collect();
        match &known[..] {
            [] => match of_others.first() {
                None => Ok(None),
                Some(ConfirmedContainer {
                    container, owner, ..
                }) => bail!(
                    "the container of that name is user {owner}'s, who may call it what they like; name it by its cgroup, {}",
                    container.cgroup
                ),
            },
            [_] => Ok(known.pop()),
            several => {
                let cgroups = several.iter().map(|it| &*it.container.cgroup);
                let cgroups = cgroups.collect::<Vec<_>>().join(", ");
                bail!("several containers are meant; name one by its cgroup: {cgroups}")
            }
        }
    }
}

/// Finds a running container of `agent run` or of any engine, by its name, id, cgroup or the beginning of its id.
///
/// # Errors
/// No server answers and this process may not scan the host; or the name matches several containers, or only an
/// unconfirmed one.
pub(super) async fn find(
    name: &str,
    socket: &Path,
    engine: &EngineArgs,
) -> anyhow::Result<Option<ConfirmedContainer>> {
    let mut fresh = Confirmer::new(engine).await?;
    let found = match client::fetch_trusted::<Vec<ContainerState>>(socket, "/v1/containers").await {
        Ok(states) => {
            fresh.learn(&states);
            fresh = fresh.believing_server(true);
            running(&states)
        }
        Err(nobody) if nobody.is_no_server() => {
            super::need_privileges("verify --container without a server")?;
            super::log_to_stderr("warn");
            let said = nobody.named_in_vain();
            let look = engine.look().await?;
            said.iter().for_each(|said| super::note(said));
            running_in(&look)
        }
        Err(error) => return Err(error.into()),
    };
    ContainerSearch::new(name, &found, &fresh).any().await
}

#[cfg(test)]
mod tests;
