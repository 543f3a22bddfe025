//! Parses the values of `--device`.

use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

/// The directory of device nodes.
const DIRECTORY: &str = "/dev";

/// `PATH[:PATH][:ACCESS]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceMap {
    /// The path on the host, of a node or of a directory with nodes.
    pub source: PathBuf,
    /// The path in the container, which is in `/dev`.
    pub destination: PathBuf,
    /// What the container may do: `r`, `w` and `m`.
    pub access: String,
}

impl DeviceMap {
    /// All devices of the host.
    pub fn all() -> Self {
        Self {
            source: DIRECTORY.into(),
            destination: DIRECTORY.into(),
            access: "rwm".to_owned(),
        }
    }
}

impl FromStr for DeviceMap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_access = |text: &str| {
            let known = text.bytes().all(|byte| b"rwm".contains(&byte));
            known && !text.is_empty()
        };
        let parts: Vec<&str> = text.split(':').collect();
        let (source, destination, access) = match parts[..] {
            [source] => (source, source, "rwm"),
            [source, access] if is_access(access) => (source, source, access),
            [source, destination] => (source, destination, "rwm"),
            [source, destination, access] if is_access(access) => (source, destination, access),
            _ => {
                return Err(
                    "wanted: PATH[:PATH][:ACCESS], as in /dev/fuse, ACCESS of r, w and m"
                        .to_owned(),
                );
            }
        };
        let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        let destination = Path::new(destination);
        let is_plain = destination.components().all(plain);
        let is_below = destination.starts_with(DIRECTORY) && destination != Path::new(DIRECTORY);
        if !source.starts_with('/') || !is_plain || !is_below {
            return Err(format!(
                "wanted: an absolute path on the host, and one below {DIRECTORY} in the container"
            ));
        }
        Ok(Self {
            source: source.into(),
            destination: destination.into(),
            access: access.to_owned(),
        })
    }
}
