//! What docker and podman store about a container: docker's `config.v2.json` and `hostconfig.json`, podman's `db.sql` (from
//! 4.8 on) and `containers.json`. An OCI bundle says where: the container's root file system is in the engine's
//! directory. For a root file system that is elsewhere, the arguments of conmon do.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use agent_model::labels::LabelPatterns;
use agent_model::lock::lock;
use agent_registry::claim::Named;
use bollard::models::HostConfig;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::file;
use super::file::OpenDocument;
use super::sqlite::Database;
use crate::docker::{pod, texts};

/// The engine's directory is so many directories above a container's root: `DATA/overlay2/LAYER/merged`,
/// `DATA/vfs/dir/LAYER`, `DATA/rootfs/overlayfs/ID`.
const LEVELS: usize = 3;

/// The most files of podman whose names are cached.
const CACHED_AT_MOST: usize = 16;

/// The engine's directory that a container's root file system is in.
#[derive(Debug)]
pub(super) struct EngineDirectory {
    path: PathBuf,
    /// The directory in it that the root file system is in, which has the name of the storage driver.
    driver: Option<String>,
    owner: u32,
}

/// What an engine stores about a container.
#[derive(Debug, Default)]
pub(super) struct StoredContainer {
    pub named: Named,
    /// docker's: the limits that its user asked for, by the last update.
    pub config: Option<HostConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerFile {
    name: Option<String>,
    config: Option<DockerConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerConfig {
    image: Option<String>,
    labels: Option<HashMap<String, String>>,
}

/// An entry of `containers.json` (containers/storage). podman puts its own JSON into `metadata`.
#[derive(Deserialize)]
struct PodmanEntry {
    id: String,
    metadata: Option<String>,
}

/// The JSON in a row of `ContainerConfig` (libpod's container_config.go).
#[derive(Deserialize)]
struct PodmanConfig {
    id: String,
    labels: Option<HashMap<String, String>>,
    #[serde(rename = "rootfsImageName")]
    image: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct PodmanMetadata {
    name: Option<String>,
    #[serde(rename = "image-name")]
    image: Option<String>,
}

/// The names in podman's files, until a file changes.
#[derive(Debug, Default)]
pub(super) struct PodmanNames(Mutex<HashMap<PathBuf, CachedNames>>);

type Names = Arc<HashMap<String, PodmanMetadata>>;
type CachedNames = (FileVersion, Names);

/// Distinguishes the contents of a file that its writer replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileVersion {
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl EngineDirectory {
    /// The directory of the engine of `owner` that has the container with this root file system. `host` is the root of
    /// the host's files.
    pub(super) fn of(host: &Path, root: &Path, owner: u32) -> Option<Self> {
        let path = root.ancestors().nth(LEVELS)?;
        let driver = root.strip_prefix(path).ok()?.components().next()?;
        Some(Self {
            path: host.join(path.strip_prefix("/").ok()?),
            driver: Some(driver.as_os_str().to_str()?.to_owned()),
            owner,
        })
    }

    /// The directory at this path.
    pub(super) fn at(host: &Path, path: &Path, owner: u32) -> Option<Self> {
        Some(Self {
            path: host.join(path.strip_prefix("/").ok()?),
            driver: None,
            owner,
        })
    }

    fn open(&self, path: &Path) -> Option<OpenDocument> {
        file::open_named(&self.path, path, self.owner)
    }

    fn parse<T: DeserializeOwned>(&self, path: &Path) -> Option<T> {
        serde_json::from_slice(&self.open(path)?.read()?.bytes).ok()
    }

    /// docker's files on the container `id`.
    pub(super) fn docker(&self, id: &str, labels: &LabelPatterns) -> Option<StoredContainer> {
        let files = Path::new("containers").join(id);
        let file: DockerFile = self.parse(&files.join("config.v2.json"))?;
        let config = file.config?;
        let all = config.labels.unwrap_or_default();
        let name = file.name.unwrap_or_default();
        Some(StoredContainer {
            named: Named {
                name: name.strip_prefix('/').unwrap_or(&name).to_owned(),
                image: config.image.unwrap_or_default(),
                labels: labels.select(texts(&all)),
                pod: pod(&all),
                ..Named::default()
            },
            config: self.parse(&files.join("hostconfig.json")),
        })
    }

    /// podman's row for the container `id`.
    pub(super) fn podman_row(&self, id: &str, labels: &LabelPatterns) -> Option<StoredContainer> {
        let database = Database::open(self.open(Path::new("db.sql"))?.file)?;
        let row = database.row("ContainerConfig", id)?;
        let config: PodmanConfig = serde_json::from_str(row.text(3)?).ok()?;
        let all = config.labels.unwrap_or_default();
        (config.id == id).then(|| StoredContainer {
            named: Named {
                name: row.text(1).unwrap_or_default().to_owned(),
                image: config.image.unwrap_or_default(),
                labels: labels.select(texts(&all)),
                ..Named::default()
            },
            config: None,
        })
    }

    /// podman's entry for the container `id`. Entries of containers that do not outlive the host are in a file of
    /// their own.
    pub(super) fn podman_entry(&self, id: &str, cache: &PodmanNames) -> Option<StoredContainer> {
        let directory = PathBuf::from(format!("{}-containers", self.driver.as_ref()?));
        let files = ["containers.json", "volatile-containers.json"];
        let mut names = files.into_iter().filter_map(|file| {
            let path = directory.join(file);
            cache.of(&self.path.join(&path), self.open(&path)?)
        });
        let found = names.find_map(|names| names.get(id).cloned())?;
        Some(StoredContainer {
            named: Named {
                name: found.name.unwrap_or_default(),
                image: found.image.unwrap_or_default(),
                ..Named::default()
            },
            config: None,
        })
    }
}

impl PodmanNames {
    /// The names in the open file that is at `path`.
    fn of(&self, path: &Path, file: OpenDocument) -> Option<Names> {
        let version = FileVersion {
            inode: file.found.ino(),
            size: file.found.size(),
            seconds: file.found.mtime(),
            nanoseconds: file.found.mtime_nsec(),
        };
        if let Some((cached, names)) = lock(&self.0).get(path)
            && *cached == version
        {
            return Some(Arc::clone(names));
        }
        let names = Arc::new(parse(&file.read()?.bytes)?);
        let mut cache = lock(&self.0);
        if cache.len() >= CACHED_AT_MOST {
            cache.clear();
        }
        cache.insert(path.to_owned(), (version, Arc::clone(&names)));
        Some(names)
    }
}

fn parse(json: &[u8]) -> Option<HashMap<String, PodmanMetadata>> {
    let entries: Vec<PodmanEntry> = serde_json::from_slice(json).ok()?;
    let named = entries.into_iter().filter_map(|entry| {
        let metadata = serde_json::from_str(&entry.metadata?).ok()?;
        Some((entry.id, metadata))
    });
    Some(named.collect())
}
