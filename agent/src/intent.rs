//! What the limits of a container are meant to be, asked of whoever made it.

use std::path::Path;

use bollard::models::HostConfig;

use crate::engine::{Client, EngineError};
use crate::host::devices::block_device;
use crate::host::system::page_size;
use crate::runtime::state::{self, Store};
use crate::runtime::{cgroup, spec};
use crate::watch::record::{Container, ContainerKind};

mod ask;
mod docker;
mod expect;
mod own;
mod systemd;

pub use crate::limit::{Intent, Source};
pub use ask::Asker;
pub use expect::expect;
pub use own::of_agent_run;

/// Why it cannot be said what is intended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "docker on {socket} does not say what the limits of container {id} are meant to be; --docker-socket off does \
         without"
    )]
    Engine {
        socket: String,
        id: String,
        #[source]
        source: EngineError,
    },
    #[error("the limits that container {id} was made with")]
    State {
        id: String,
        #[source]
        source: state::Error,
    },
    #[error("the limits of {id} are none that are known here")]
    Limit {
        id: String,
        #[source]
        source: Box<cgroup::Error>,
    },
    #[error("systemctl, asked for the limits of unit {unit}")]
    Systemctl {
        unit: String,
        #[source]
        source: std::io::Error,
    },
    #[error("systemctl says {property}={value:?} of unit {unit}, wanted: {wanted}")]
    Property {
        unit: String,
        property: &'static str,
        value: String,
        wanted: &'static str,
    },
    #[error("--expect {word}: {reason}")]
    Expect { word: String, reason: String },
    #[error("--expect")]
    Flags(#[source] spec::Error),
    #[error("--expect")]
    Range(#[source] Box<cgroup::Error>),
}

impl Error {
    fn engine(socket: &str, id: &str, source: EngineError) -> Self {
        Self::Engine {
            socket: socket.to_owned(),
            id: id.to_owned(),
            source,
        }
    }
}

/// What the limits of `container` are meant to be, where somebody knows: the engine on `docker_socket`, the state of
/// `agent run`, or systemd.
///
/// # Errors
/// Whoever should know does not say, or says what is no limit.
pub async fn of_container(
    container: &Container,
    docker_socket: Option<&str>,
) -> Result<Option<Intent>, Error> {
    match container.kind {
        ContainerKind::Container if own::is_of_agent_run(container) => {
            of_agent_run(&Store::of_user(), &container.id)
        }
        ContainerKind::Container => match docker_socket {
            Some(socket) => of_docker(socket, &container.id).await,
            None => Ok(None),
        },
        ContainerKind::Unit => systemd::of_unit(container).await,
        ContainerKind::Sandbox | ContainerKind::Cgroup => Ok(None),
    }
}

/// What the engine was asked for; `None` where nobody listens, or it has no such container.
async fn of_docker(socket: &str, id: &str) -> Result<Option<Intent>, Error> {
    let asked = async { Client::connect(socket).await?.config(id).await };
    match asked.await {
        Ok(config) => config.map(|config| of_config(id, &config)).transpose(),
        Err(EngineError::Absent) => Ok(None),
        Err(source) => Err(Error::engine(socket, id, source)),
    }
}

/// What docker's configuration of a container asks for.
fn of_config(id: &str, config: &HostConfig) -> Result<Intent, Error> {
    let device = |path: &str| block_device(Path::new(path));
    let limits = docker::limits(config, device, page_size());
    let limits = limits.map_err(|source| Error::Limit {
        id: id.to_owned(),
        source: Box::new(source),
    })?;
    let source = Source::Docker;
    Ok(Intent { limits, source })
}
