//! The source of a root file system, and the defaults of an image for its command.

use std::path::PathBuf;

use agent_model::text;
use agent_model::units::Signal;

/// Where the root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootSource {
    /// A directory of the host that holds a root file system.
    Directory(PathBuf),
    /// The host's root file system, read-only, with /tmp, /run and /var/tmp of the container's own.
    Host,
    /// Programs by name or path, with the libraries that their loader needs.
    Binaries(Vec<PathBuf>),
    /// A tar archive that `docker save` wrote, or of an OCI layout.
    Image(PathBuf),
}

impl RootSource {
    /// Whether it is unpacked from a file that can claim any size.
    pub const fn is_unpacked(&self) -> bool {
        matches!(self, Self::Image(_))
    }

    /// Returns a name for people: the image's file (until the image's own name is known), the directory, `host`, or the
    /// programs.
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

/// The configuration of an image for the command that runs in it.
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
    /// The signal with which `agent stop` asks the command to end.
    pub stop_signal: Option<Signal>,
}
