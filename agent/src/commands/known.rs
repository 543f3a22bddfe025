//! Containers by name or id, whoever made them: to look at, and for flags that share what another container has.
//!
//! A name stands for a container that is confirmed at that moment. Where a server says which containers there are, each
//! that is meant is looked at again here. A name or an id means a container of root's, or of the user who asks. Other users
//! call their containers what they like, so a container of theirs goes by its cgroup only.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{anyhow, bail};

use super::engine::EngineArgs;
use crate::container::claim::{Claim, Confirmation, Witnesses};
use crate::container::path::Runtime;
use crate::container::place;
use crate::engine::{Client, State};
use crate::host::hierarchy::Hierarchies;
use crate::host::membership::Membership;
use crate::host::pinned::Pinned;
use crate::intent::{self, Intent, Source};
use crate::inventory::containers::ContainerState;
use crate::limit::bound::Bounds;
use crate::pipeline::look::Look;
use crate::watch::client;
use crate::watch::record::Container;
use crate::witness::{Intents, Records, engine};

/// Digits of an id that say which, at least.
const SHORTEST_ID: usize = 4;

/// Containers of one name that are looked at.
const LOOKED_AT: usize = 256;

/// Who is asked what confirms a claim.
///
/// # Errors
/// The host's hierarchies cannot be found.
pub fn witnesses(intents: Intents, docker: Option<Arc<State>>) -> anyhow::Result<Witnesses> {
    let records = Records::new(Hierarchies::discover(Path::new("/"))?, intents, docker);
    Ok(Witnesses::new(move |claim| records.confirm(claim)))
}

/// How it stands with an engine that is connected.
pub fn state(client: &Client) -> Arc<State> {
    Arc::new(client.state())
}

/// A container that is confirmed.
#[derive(Clone, Debug)]
pub struct Known {
    pub container: Container,
    /// Whose record confirms it.
    owner: u32,
    /// Its first process, where somebody knows it.
    pub process: Option<Pinned>,
    /// What its limits are meant to be, by the state of `agent run`.
    pub intended: Option<Arc<Intent>>,
    /// The limits of its caller that it is to be under, likewise.
    pub bounds: Option<Arc<Bounds>>,
}

/// A container that runs, confirmed or not, and its first process.
pub type Candidate = (Container, Option<u32>);

/// Looks for what confirms claims at this moment.
pub struct Fresh {
    witnesses: Witnesses,
    engine: Option<Client>,
    by: EngineArgs,
    /// Who asks.
    user: u32,
    /// Whether the candidates are what a server of root's or of this user says: it may hear engines that are not heard here.
    server: bool,
    /// By cgroup: what a server was told by an engine that it hears, perhaps on a socket of which this process does not know.
    told: HashMap<String, Arc<Intent>>,
}

impl Fresh {
    /// # Errors
    /// The host's hierarchies cannot be found.
    pub async fn new(engine: &EngineArgs) -> anyhow::Result<Self> {
        let by = engine.clone();
        let engine = by.connect().await;
        let witnesses = witnesses(Intents::Read, engine.as_ref().map(state))?;
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

    /// Believes, or does not, what a server says is confirmed of the candidates.
    #[must_use]
    pub fn believing_server(mut self, server: bool) -> Self {
        self.server = server;
        self
    }

    /// The same, with what the server on `socket` was told by its engines, where one runs.
    ///
    /// # Errors
    /// Likewise; or the server does not answer.
    pub async fn with_server(engine: &EngineArgs, socket: &Path) -> anyhow::Result<Self> {
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
            // A record is looked at anew; what only an engine says is not to be had otherwise.
            let intent = it
                .intended
                .clone()
                .filter(|it| it.source == Source::Docker)?;
            Some((it.container.cgroup.clone(), Arc::new(intent)))
        });
        self.told.extend(told);
    }

    /// Whether the names that this user gave are believed: root's, and those of who asks.
    fn is_trusted(&self, user: u32) -> bool {
        [0, self.user].contains(&user)
    }

    /// What confirms the claim: a record, or docker's answer.
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

    /// The container that a candidate is, where that is confirmed.
    pub async fn know(&self, candidate: &Candidate) -> Option<Known> {
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
        // A user's record may name any process.
        let processes = [confirmation.process, *process].into_iter().flatten();
        let mut own = processes.filter_map(|process| in_it(&claim, process));
        Some(Known {
            container: called,
            owner: confirmation.user,
            process: own.next(),
            intended: confirmation
                .intended
                .or_else(|| self.told.get(&claim.cgroup).cloned()),
            bounds: confirmation.bounds,
        })
    }

    /// The container that a process is in, in whichever of its cgroups, and the cgroups of it; the outermost, where that is
    /// confirmed.
    pub async fn around(&self, membership: &Membership) -> Option<(Known, Membership)> {
        let mut places = membership.paths().map(|(_, path)| place::of(path));
        let claim = places.find_map(|place| place.claim)?;
        let candidate = (place::of(&claim.cgroup).container, None);
        let known = self.know(&candidate).await?;
        let own = membership.above(|path| claim.covers(path), &claim.cgroup);
        Some((known, own))
    }

    /// The container whose own cgroup is at `path`; one that is not confirmed is returned as such, and a unit as it is.
    pub async fn at(&self, membership: &Membership) -> Option<Known> {
        let places = membership.paths().map(|(_, path)| place::of(path));
        let place = places
            .filter(|place| place.own)
            .max_by_key(|place| place.rank)?;
        let known = self.know(&(place.container.clone(), None)).await;
        Some(known.unwrap_or(Known {
            container: place.container,
            owner: 0,
            process: None,
            intended: None,
            bounds: None,
        }))
    }
}

/// What a server's word confirms: the cgroup, which is the user's who has all of its directories.
fn as_told(claim: &Claim) -> Option<Confirmation> {
    let hierarchies = Hierarchies::discover(Path::new("/")).ok()?;
    let user = hierarchies.owner_of(&claim.cgroup)?;
    Some(Confirmation {
        user,
        ..Confirmation::of(claim)
    })
}

/// A process, if it is in a container's cgroup, or below it.
fn in_it(claim: &Claim, process: u32) -> Option<Pinned> {
    let process = Pinned::open(i32::try_from(process).ok()?)?;
    let membership = Membership::of(Path::new("/"), process.number()).ok()?;
    let is_in = membership.paths().any(|(_, path)| claim.covers(path));
    (is_in && process.check().is_ok()).then_some(process)
}

/// A container that is confirmed, by what its record says.
fn called(claim: &Claim, confirmation: &Confirmation) -> Container {
    let named = confirmation.named.clone().unwrap_or_default();
    let or = |said: String, otherwise: &str| match &*said {
        "" => otherwise.to_owned(),
        _ => said,
    };
    Container {
        id: claim.id.clone(),
        name: or(named.name, place::short(&claim.id)),
        image: or(named.image, place::UNKNOWN),
        confirmed: Some(true),
        ..place::of(&claim.cgroup).container
    }
}

impl Known {
    /// The user whose record confirms it.
    pub const fn owner(&self) -> u32 {
        self.owner
    }

    /// Its cgroups: where its first process is, which may be below its own.
    ///
    /// # Errors
    /// That process is not known, or not in the container: it has just ended.
    pub fn membership(&self) -> anyhow::Result<Membership> {
        let Container { name, cgroup, .. } = &self.container;
        let process = self
            .process
            .as_ref()
            .ok_or_else(|| anyhow!("container {name}: nobody says which process is its first"))?;
        let number = process.number();
        let membership = Membership::of(Path::new("/"), number)?;
        let claim = Claim::of(cgroup);
        let is_in = |path: &str| claim.as_ref().is_some_and(|claim| claim.covers(path));
        if !membership.paths().any(|(_, path)| is_in(path)) {
            bail!("container {name}: its first process, {number}, is not in {cgroup}");
        }
        if process.check().is_err() {
            bail!("container {name}: its first process, {number}, has just ended");
        }
        Ok(membership.above(is_in, cgroup))
    }

    /// A record on it that is there and cannot be read.
    pub fn unread(&self, hierarchies: &Hierarchies) -> Option<PathBuf> {
        let claim = Claim::of(&self.container.cgroup)?;
        Records::new(hierarchies.clone(), Intents::Leave, None).unread(&claim)
    }

    /// What its limits are meant to be, where somebody says so.
    ///
    /// # Errors
    /// Whoever should know does not say, or says what is no limit.
    pub async fn intent(&self, docker: Option<&str>) -> Result<Option<Intent>, intent::Error> {
        match &self.intended {
            None if self.container.runtime != Runtime::Agent.name() => {
                intent::of_container(&self.container, docker).await
            }
            intended => Ok(intended.as_deref().cloned()),
        }
    }
}

/// Of containers the ones that run.
pub fn running(states: &[ContainerState]) -> Vec<Candidate> {
    let running = states.iter().filter(|it| it.running);
    running.map(|it| (it.container.clone(), it.pid)).collect()
}

pub fn running_in(look: &Look) -> Vec<Candidate> {
    let running = look.registry.containers().filter(|it| it.life.running());
    let pid = |it: &crate::container::registry::Cgroup| it.life.init().map(|init| init.pid);
    running
        .map(|it| ((*it.container).clone(), pid(it)))
        .collect()
}

/// How a name says which container is meant; the first way that one is confirmed by counts.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Its name, id or cgroup.
    Whole,
    /// The beginning of an id that no other has.
    Begun,
}

impl Way {
    fn takes(self, container: &Container, name: &str) -> bool {
        // What is not confirmed has an id only as a claim.
        let claim = Claim::of(&container.cgroup);
        let id = claim.as_ref().map_or(&*container.id, |claim| &*claim.id);
        match self {
            Self::Whole => [&container.name, id, &container.cgroup].contains(&name),
            Self::Begun => name.len() >= SHORTEST_ID && id.starts_with(name),
        }
    }
}

/// Which of the containers a name means.
pub struct Search<'a> {
    name: &'a str,
    found: &'a [Candidate],
    fresh: &'a Fresh,
}

impl<'a> Search<'a> {
    pub fn new(name: &'a str, found: &'a [Candidate], fresh: &'a Fresh) -> Self {
        Self { name, found, fresh }
    }

    /// By its name, its id or its cgroup.
    ///
    /// # Errors
    /// Several are meant.
    pub async fn whole(&self) -> anyhow::Result<Option<Known>> {
        self.by(Way::Whole).await
    }

    /// By the beginning of its id.
    ///
    /// # Errors
    /// Several are meant; or a cgroup claims to be the container, and nobody confirms it.
    pub async fn begun(&self) -> anyhow::Result<Option<Known>> {
        if let Some(known) = self.by(Way::Begun).await? {
            return Ok(Some(known));
        }
        let ways = [Way::Whole, Way::Begun];
        let mut claims = self.found.iter().map(|(container, _)| container);
        match claims.find(|it| ways.iter().any(|way| way.takes(it, self.name))) {
            None => Ok(None),
            Some(Container { cgroup, .. }) => bail!(
                "{cgroup} claims to be it, and neither an engine nor a record of one confirms that; to judge it as a cgroup: \
                 agent verify --cgroup {}",
                crate::text::shell_word(cgroup)
            ),
        }
    }

    /// Any way.
    ///
    /// # Errors
    /// Likewise.
    pub async fn any(&self) -> anyhow::Result<Option<Known>> {
        match self.whole().await? {
            Some(known) => Ok(Some(known)),
            None => self.begun().await,
        }
    }

    async fn by(&self, way: Way) -> anyhow::Result<Option<Known>> {
        let meant = self.found.iter();
        let meant = meant.filter(|(container, _)| way.takes(container, self.name));
        let mut meant: Vec<_> = meant.collect();
        // However many cgroups claim to be it, they do not come before the one that is.
        meant.sort_by_key(|(container, _)| container.confirmed != Some(true));
        let mut known: Vec<Known> = Vec::new();
        for candidate in meant.into_iter().take(LOOKED_AT) {
            known.extend(self.fresh.know(candidate).await);
        }
        let by_path = |known: &Known| known.container.cgroup == self.name;
        let is_of_others =
            |known: &mut Known| !self.fresh.is_trusted(known.owner) && !by_path(known);
        let of_others: Vec<_> = known.extract_if(.., is_of_others).collect();
        match &known[..] {
            [] => match of_others.first() {
                None => Ok(None),
                Some(Known {
                    container, owner, ..
                }) => bail!(
                    "the container of that name is user {owner}'s, who may call it what they like; name it by its cgroup, {}",
                    container.cgroup
                ),
            },
            [_] => Ok(known.pop()),
            [one, other, ..] => bail!(
                "two containers are meant: {} and {}; name one by its cgroup",
                one.container.cgroup,
                other.container.cgroup
            ),
        }
    }
}

/// A container that runs, by its name, id, cgroup or the beginning of its id: of `agent run`, or of any engine.
///
/// # Errors
/// Neither a server can be asked, nor this process look; or none, or more than one, is meant and confirmed.
pub async fn find(name: &str, socket: &Path, engine: &EngineArgs) -> anyhow::Result<Option<Known>> {
    let mut fresh = Fresh::new(engine).await?;
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
    Search::new(name, &found, &fresh).any().await
}

#[cfg(test)]
mod tests;
