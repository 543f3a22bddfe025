//! The source of a root file system, and the defaults of an image for its command.

use std::path::PathBuf;

use agent_model::text;
use agent_model::units::Signal;

/// Where the root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootSource {
    /// A directory of the host that holds a root file system.
    Directory(PathBuf),
    /// The host's tree, read-only, with a /tmp of its own.
    Host,
    /// Programs by name or path, with the libraries that their loader needs.
    Binaries(Vec<PathBuf>),
    /// What `docker save` writes, or an OCI layout, as a tar archive.
    Image(PathBuf),
}

impl RootSource {
    /// Whether it is made of what somebody else chose the size of.
    pub const fn is_unpacked(&self) -> bool {
        matches!(self, Self::Image(_))
    }

    /// What it is called where people look: an image's file until the image has said its name, a directory, `host`,
    /// or the programs.
    pub fn name(&self) -> String {
        text::cut(&self.whole_name()).to_owned()
    }

    fn whole_name(&self) -> String {
        match self {
            Self::Directory(path) | Self::Image(path) => path.display().to_string(),
            Self::Host => "host".to_owned(),
            Self::Binaries(paths) => {
                let names = paths.iter().map(|path| {
                    let name = path.file_name().unwrap_or(path.as_os_str());
                    name.to_string_lossy().into_owned()
                });
                names.collect::<Vec<_>>().join(",")
            }
        }
    }
}

/// What an image says of the command that runs in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// The program and first arguments of every command.
    pub entrypoint: Vec<String>,
    /// The arguments where the user gives none.
    pub command: Vec<String>,
    /// `NAME=VALUE`.
    pub environment: Vec<String>,
    /// The working directory.
    pub directory: Option<PathBuf>,
    /// `USER[:GROUP]`, names or numbers.
    pub user: Option<String>,
    /// By which `agent stop` asks its command to end.
    pub stop_signal: Option<Signal>,
}
