//! Containers of `agent run`: their state says which cgroup each has.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent_model::limit::Bounds;
use agent_model::lock::lock;
use agent_model::text;
use agent_registry::claim::{Claim, Confirmation};
use agent_registry::path::Runtime;
use agent_registry::registry::names::Named;
use agent_runtime::order::ChangeRoot;
use agent_runtime::state::{CONFIG, RECORD, Record, Status, directories_of};
use oci_spec::runtime::Spec;

use super::{file, unread};
use crate::intent;

/// Whether the limits that a container is meant to have are read, which takes longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intents {
    Read,
    Leave,
}

/// For how long it is believed where a user's state is: one of the places is looked for among all files of /tmp.
const KEPT: Duration = Duration::from_millis(200);

/// Of a user's state, containers that are listed.
const KEPT_AT_MOST: usize = 4096;

/// Where the state of users is, of whom claims were looked for lately.
#[derive(Debug, Default)]
pub struct Stores(Mutex<HashMap<u32, (Instant, Vec<PathBuf>)>>);

impl Stores {
    /// What `user`'s state confirms of a claim. It is written before the cgroup is made.
    pub fn confirm(
        &self,
        root: &Path,
        claim: &Claim,
        user: u32,
        intents: Intents,
    ) -> Option<Confirmation> {
        let mut stores = self.of(root, user).into_iter();
        stores.find_map(|store| in_store(&store, claim, user, intents))
    }

    fn of(&self, root: &Path, user: u32) -> Vec<PathBuf> {
        let mut kept = lock(&self.0);
        kept.retain(|_, (since, _)| since.elapsed() < KEPT);
        if let Some((_, stores)) = kept.get(&user) {
            return stores.clone();
        }
        drop(kept);
        let stores = directories_of(root, user);
        let this = (Instant::now(), stores.clone());
        lock(&self.0).insert(user, this);
        stores
    }
}

fn in_store(store: &Path, claim: &Claim, user: u32, intents: Intents) -> Option<Confirmation> {
    let read = |name: &str| read(store, claim, name, user);
    let record: Record = serde_json::from_slice(&read(RECORD)?.bytes).ok()?;
    let process = match record.status {
        Status::Creating => None,
        Status::Running { pid } => u32::try_from(pid).ok(),
        Status::Exited { .. } => return None,
    };
    if record.name != claim.id {
        return None;
    }
    let intended = match intents {
        Intents::Leave => None,
        Intents::Read => read(CONFIG).and_then(|config| intended(&record, &config.bytes)),
    };
    // Those of root may leave their caller's limits, and did so before the record said it.
    let bounds = record.bounds.clone();
    let bounds = bounds.or_else(|| (user == 0).then(Bounds::default));
    let confirmation = Confirmation {
        cgroups: cgroups(&record),
        process,
        bounds: bounds.filter(|_| intents == Intents::Read).map(Arc::new),
        named: Some(named(record)),
        intended: intended.map(Arc::new),
        ..Confirmation::of(claim)
    };
    confirmation.first(claim)
}

/// Whether `user`'s state has a container of this name that has ended and was kept.
pub fn is_kept(root: &Path, name: &str, user: u32) -> bool {
    let cgroup = String::new();
    let claim = Claim {
        runtime: Runtime::Agent,
        id: name.to_owned(),
        cgroup,
    };
    let mut stores = directories_of(root, user).into_iter();
    stores.any(|store| {
        let record = read(&store, &claim, RECORD, user);
        let record = record.and_then(|it| serde_json::from_slice::<Record>(&it.bytes).ok());
        record.is_some_and(|it| matches!(it.status, Status::Exited { .. }))
    })
}

/// Containers of `agent run` that have ended and are kept: root's, and those of users that are logged in; their records, and
/// whose each is.
pub fn kept(root: &Path) -> Vec<(Record, u32)> {
    let users = std::fs::read_dir(root.join("run/user"))
        .into_iter()
        .flatten();
    let users = users.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let users: BTreeSet<u32> = users.chain([0]).collect();
    users
        .into_iter()
        .flat_map(|user| kept_of(root, user))
        .collect()
}

fn kept_of(root: &Path, user: u32) -> Vec<(Record, u32)> {
    let mut found: Vec<(Record, u32)> = Vec::new();
    for store in directories_of(root, user) {
        let (Some(parent), Some(directory)) = (store.parent(), store.file_name()) else {
            continue;
        };
        let directory = Path::new(directory);
        let names = file::names(parent, directory, user);
        for name in names.into_iter().flatten().take(KEPT_AT_MOST) {
            let below = directory.join(&name).join(RECORD);
            let record = file::read(parent, &below, user);
            let record = record.and_then(|it| serde_json::from_slice::<Record>(&it.bytes).ok());
            let kept =
                record.filter(|it| matches!(it.status, Status::Exited { .. }) && name == *it.name);
            found.extend(kept.map(|record| (record, user)));
        }
    }
    found
}

/// Where a file of `user`'s state on the container is, if it is there and cannot be read.
pub fn unread(root: &Path, claim: &Claim, user: u32) -> Option<PathBuf> {
    let files = [(RECORD, is_record as IsWell), (CONFIG, is_spec)];
    let mut stores = directories_of(root, user).into_iter();
    stores.find_map(|store| {
        let unread = files.iter().filter(|(name, is_well)| {
            let read = read(&store, claim, name, user);
            read.is_none_or(|file| !is_well(&file.bytes))
        });
        let mut paths = unread.map(|(name, _)| store.join(&claim.id).join(name));
        paths.find_map(unread::is_there)
    })
}

type IsWell = fn(&[u8]) -> bool;

fn is_record(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Record>(bytes).is_ok()
}

fn is_spec(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Spec>(bytes).is_ok()
}

/// A file of `user`'s state on the container.
fn read(store: &Path, claim: &Claim, name: &str, user: u32) -> Option<file::Document> {
    // Anybody may have made the directory above the store before its user did, but not as that user's.
    let parent = store.parent()?;
    let below = PathBuf::from(store.file_name().unwrap_or(OsStr::new("."))).join(&claim.id);
    file::read(parent, &below.join(name), user)
}

/// More than a host has. The witness looks in each of them for the owner of each cgroup.
const HIERARCHIES_AT_MOST: usize = 64;

/// Where a record says that the container's cgroups are.
fn cgroups(record: &Record) -> Vec<String> {
    let others = record.cgroups.iter().flat_map(BTreeMap::values);
    let others = others.take(HIERARCHIES_AT_MOST).cloned();
    let first = record.cgroup.to_str().map(str::to_owned);
    let mut all: Vec<String> = first.into_iter().chain(others).collect();
    all.sort();
    all.dedup();
    all
}

/// What a container is called, and where its files come from.
pub fn named(record: Record) -> Named {
    let image = match record.change_root {
        ChangeRoot::Pivot => record.image,
        ChangeRoot::Chroot => format!("{} (chroot: isolates nothing but the path)", record.image),
    };
    Named {
        name: record.name,
        image,
        ..Named::default()
    }
}

fn intended(record: &Record, config: &[u8]) -> Option<intent::Intent> {
    let spec: Spec = serde_json::from_slice(config).ok()?;
    let intended = intent::of_spec(&record.name, &spec);
    let intended = intended.inspect_err(|error| tracing::warn!("{}", text::error_line(error)));
    Some(intent::Intent {
        swap_asked: record.swap_asked,
        ..intended.ok()?
    })
}
