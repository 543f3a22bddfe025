//! Parses the values of `--volume`, `--tmpfs` and `--mount`.

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

/// A mount in the long form of docker: `KEY=VALUE,…`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskedMount {
    /// `type=bind`
    Bind(Volume),
    /// `type=tmpfs`
    Tmpfs(Tmpfs),
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
                    volume.propagation = propagation_of(option).ok_or_else(|| {
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

impl FromStr for AskedMount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "wanted: type=bind,source=PATH,target=PATH[,readonly][,bind-propagation=KIND] or \
                              type=tmpfs,target=PATH[,readonly][,tmpfs-size=BYTES][,tmpfs-mode=OCTAL]";
        let wanted = || WANTED.to_owned();
        let (mut kind, mut source, mut target) = (None, None, None);
        let (mut read_only, mut propagation) = (false, None);
        let mut tmpfs = Vec::new();
        for option in text.split(',') {
            match option.split_once('=').unwrap_or((option, "")) {
                ("type", value) => kind = Some(value),
                ("source" | "src", value) => source = Some(value),
                ("target" | "destination" | "dst", value) => target = Some(value),
                ("readonly" | "ro", "" | "true" | "1") => read_only = true,
                ("readonly" | "ro", "false" | "0") => read_only = false,
                ("bind-propagation", value) => {
                    let known = propagation_of(value);
                    propagation = Some(known.ok_or_else(|| format!("{option}; {WANTED}"))?);
                }
                ("tmpfs-size", value) => tmpfs.push(format!("size={value}")),
                ("tmpfs-mode", value) => tmpfs.push(format!("mode={value}")),
                _ => return Err(format!("{option:?}; {WANTED}")),
            }
        }
        let target = target.ok_or_else(wanted)?;
        match (kind, source) {
            (Some("bind"), Some(source)) if tmpfs.is_empty() && !source.is_empty() => {
                Ok(Self::Bind(Volume {
                    source: source.into(),
                    destination: destination_of(target)?,
                    read_only,
                    propagation: propagation.unwrap_or(PROPAGATIONS[0]),
                }))
            }
            (Some("tmpfs"), None) if propagation.is_none() => {
                tmpfs.extend(read_only.then(|| "ro".to_owned()));
                let short = format!("{target}:{}", tmpfs.join(","));
                short.parse().map(Self::Tmpfs)
            }
            (Some("volume"), _) => Err(format!("there are no named volumes; {WANTED}")),
            _ => Err(wanted()),
        }
    }
}

fn propagation_of(text: &str) -> Option<&'static str> {
    PROPAGATIONS.into_iter().find(|it| *it == text)
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
