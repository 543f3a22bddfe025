//! Records of containers of `agent run`: the runtime's state has the cgroup of each container.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent_model::labels::LabelPatterns;
use agent_model::limit::Bounds;
use agent_model::lock::lock;
use agent_model::text;
use agent_registry::claim::{Claim, Confirmation};
use agent_registry::path::Runtime;
use agent_registry::registry::names::Named;
use agent_runtime::order::ChangeRoot;
use agent_runtime::state::{CONFIG, RECORD, Record, Status, directories_of};
use oci_spec::runtime::Spec;

use super::file;
use crate::docker::texts;
use crate::intent;

/// Whether the witness reads the intended limits too, which takes longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intents {
    /// The intended limits are read.
    Read,
    /// The intended limits are not read.
    Leave,
}

/// How long the paths of a user's state are cached: the search for one of them reads all names in /tmp.
const CACHED_FOR: Duration = Duration::from_millis(200);

/// The most containers of a user's state that are listed.
const KEPT_AT_MOST: usize = 4096;

/// A cache of the directories of users' states.
#[derive(Debug, Default)]
pub struct Stores(Mutex<HashMap<u32, (Instant, Vec<PathBuf>)>>);

impl Stores {
    /// Returns the confirmation of a claim by `user`'s state. The runtime writes the state before it makes the cgroup.
    pub fn confirm(
        &self,
        root: &Path,
        claim: &Claim,
        user: u32,
        intents: Intents,
        labels: &LabelPatterns,
    ) -> Option<Confirmation> {
        let mut stores = self.of(root, user).into_iter();
        stores.find_map(|store| in_store(&store, claim, user, intents, labels))
    }

    fn of(&self, root: &Path, user: u32) -> Vec<PathBuf> {
        let mut kept = lock(&self.0);
        kept.retain(|_, (since, _)| since.elapsed() < CACHED_FOR);
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

fn in_store(
    store: &Path,
    claim: &Claim,
    user: u32,
    intents: Intents,
    labels: &LabelPatterns,
) -> Option<Confirmation> {
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
    let spec = read(CONFIG).and_then(|it| serde_json::from_slice::<Spec>(&it.bytes).ok());
    let intended = match intents {
        Intents::Leave => None,
        Intents::Read => spec.as_ref().and_then(|spec| intended(&record, spec)),
    };
    // A record without the caller's limits is one of root's containers, which may be placed outside of those limits.
    let bounds = record.bounds.clone();
    let bounds = bounds.or_else(|| (user == 0).then(Bounds::default));
    let confirmation = Confirmation {
        cgroups: cgroups(&record),
        process,
        bounds: bounds.filter(|_| intents == Intents::Read).map(Arc::new),
        named: Some(named(record, spec.as_ref(), labels)),
        intended: intended.map(Arc::new),
        ..Confirmation::of(claim)
    };
    confirmation.first(claim)
}

/// Whether `user`'s state has an exited container of this name.
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

/// The exited containers of `agent run` with the paths of their cgroups: root's, and those of the users who are logged in.
pub fn kept(root: &Path) -> Vec<(Named, PathBuf)> {
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

fn kept_of(root: &Path, user: u32) -> Vec<(Named, PathBuf)> {
    let mut found = Vec::new();
    for store in directories_of(root, user) {
        let (Some(parent), Some(directory)) = (store.parent(), store.file_name()) else {
            continue;
        };
        let directory = Path::new(directory);
        let names = file::names(parent, directory, user);
        for name in names.into_iter().flatten().take(KEPT_AT_MOST) {
            let read = |file: &str| file::read(parent, &directory.join(&name).join(file), user);
            let record = read(RECORD);
            let record = record.and_then(|it| serde_json::from_slice::<Record>(&it.bytes).ok());
            let kept =
                record.filter(|it| matches!(it.status, Status::Exited { .. }) && name == *it.name);
            found.extend(kept.map(|record| {
                let spec = read(CONFIG).and_then(|it| serde_json::from_slice(&it.bytes).ok());
                let cgroup = record.cgroup.clone();
                (named(record, spec.as_ref(), &LabelPatterns::all()), cgroup)
            }));
        }
    }
    found
}

/// The path of a file of `user`'s state on the container that exists and cannot be read.
pub fn unread(root: &Path, claim: &Claim, user: u32) -> Option<PathBuf> {
    let files = [(RECORD, is_record as IsWell), (CONFIG, is_spec)];
    let mut stores = directories_of(root, user).into_iter();
    stores.find_map(|store| {
        let unread = files.iter().filter(|(name, is_well)| {
            let read = read(&store, claim, name, user);
            read.is_none_or(|file| !is_well(&file.bytes))
        });
        let mut paths = unread.map(|(name, _)| store.join(&claim.id).join(name));
        paths.find_map(file::is_there)
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
    // Another user may have made the directory above the store first, but cannot make this user its owner.
    let parent = store.parent()?;
    let below = PathBuf::from(store.file_name().unwrap_or(OsStr::new("."))).join(&claim.id);
    file::read(parent, &below.join(name), user)
}

/// The most cgroups of a record that the witness reads: more than a host has hierarchies.
const HIERARCHIES_AT_MOST: usize = 64;

/// The paths of the container's cgroups in its record.
fn cgroups(record: &Record) -> Vec<String> {
    let others = record.cgroups.iter().flat_map(BTreeMap::values);
    let others = others.take(HIERARCHIES_AT_MOST).cloned();
    let first = record.cgroup.to_str().map(str::to_owned);
    let mut all: Vec<String> = first.into_iter().chain(others).collect();
    all.sort();
    all.dedup();
    all
}

/// A container's name, the image that its root file system was made from, and its labels, which are annotations of its
/// configuration.
fn named(record: Record, spec: Option<&Spec>, labels: &LabelPatterns) -> Named {
    let image = match record.change_root {
        ChangeRoot::Pivot => record.image,
        ChangeRoot::Chroot => format!("{} (chroot: isolates nothing but the path)", record.image),
    };
    let annotations = spec.and_then(|spec| spec.annotations().as_ref());
    Named {
        name: record.name,
        image,
        labels: labels.select(annotations.map_or_else(Vec::new, |all| texts(all).collect())),
        ..Named::default()
    }
}

fn intended(record: &Record, spec: &Spec) -> Option<intent::Intent> {
    let intended = intent::of_spec(&record.name, spec);
    let intended = intended.inspect_err(|error| tracing::warn!("{}", text::error_line(error)));
    Some(intent::Intent {
        swap_asked: record.swap_asked,
        ..intended.ok()?
    })
}
