//! Parses the values of `--volume` and `--tmpfs`.

use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

/// `SRC:DST[:OPTIONS]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The path on the host.
    pub source: PathBuf,
    /// The path in the container.
    pub destination: PathBuf,
    /// Whether the container can only read it.
    pub read_only: bool,
    /// The propagation type of the mount, as mount(8) names it.
    pub propagation: &'static str,
}

/// `DST[:OPTIONS]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// The path in the container.
    pub destination: PathBuf,
    /// The options of the mount, docker's defaults included.
    pub options: Vec<String>,
}

const PROPAGATIONS: [&str; 6] = [
    "rprivate", "private", "rslave", "slave", "rshared", "shared",
];

/// Docker's default options of a tmpfs, each with the option that turns it off.
const TMPFS: [(&str, &str); 3] = [("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec")];

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, destination, options) = match parts[..] {
            [source, destination] => (source, destination, ""),
            [source, destination, options] => (source, destination, options),
            _ => return Err("wanted: SRC:DST[:OPTIONS]".to_owned()),
        };
        if !source.contains('/') && source != "." {
            return Err(format!(
                "there are no named volumes; wanted: a path, as in ./{source}"
            ));
        }
        let mut volume = Self {
            source: source.into(),
            destination: destination_of(destination)?,
            read_only: false,
            propagation: PROPAGATIONS[0],
        };
        for option in options.split(',').filter(|it| !it.is_empty()) {
            match option {
                "ro" => volume.read_only = true,
                "rw" => volume.read_only = false,
                _ => {
                    let known = PROPAGATIONS.into_iter().find(|it| *it == option);
                    volume.propagation = known.ok_or_else(|| {
                        format!("{option}; wanted: ro, rw, {}", PROPAGATIONS.join(", "))
                    })?;
                }
            }
        }
        Ok(volume)
    }
}

impl FromStr for Tmpfs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (destination, options) = text.split_once(':').unwrap_or((text, ""));
        let given = options.split(',').filter(|it| !it.is_empty());
        let given: Vec<String> = given.map(str::to_owned).collect();
        let is_given = |option: &str| given.iter().any(|it| it == option);
        let usual = TMPFS.iter().filter(|(_, other)| !is_given(other));
        let mut options: Vec<String> = usual.map(|(option, _)| (*option).to_owned()).collect();
        options.extend(
            given
                .iter()
                .filter(|it| !TMPFS.iter().any(|(one, _)| one == it))
                .cloned(),
        );
        Ok(Self {
            destination: destination_of(destination)?,
            options,
        })
    }
}

/// Parses the path of a mount point in the container.
fn destination_of(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    if path.is_absolute() && path.components().all(plain) && path.components().count() > 1 {
        return Ok(path.components().collect());
    }
    Err(format!(
        "{text:?}; wanted: an absolute path in the container, without .., that is not /"
    ))
}
