//! The intended limits of a container or unit, as its maker reports them.

use std::path::Path;

use agent_host::devices::block_device;
use agent_host::system::page_size;
use agent_model::container::{Container, ContainerKind};
use agent_registry::path::Runtime;
use agent_runtime::{cgroup, spec};
use bollard::models::HostConfig;

use crate::docker::{Client, EngineError};

mod bundle;
mod docker;
mod expect;
mod lxc;
mod own;
pub(crate) mod systemd;
mod unjudged;

pub use agent_model::limit::{Intent, Source};
pub use bundle::of_resources;
pub use expect::expect;
pub use lxc::{lxc_root, of_lxc};
pub use own::of_spec;
pub use systemd::main_process;
pub use unjudged::not_judged;

/// Why the intended limits are not known.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the messages say what each variant and its fields are"
)]
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
    #[error("the limits of {id} are none that are known here")]
    Limit {
        id: String,
        #[source]
        source: Box<cgroup::Error>,
    },
    #[error("systemd, asked for the limits of unit {unit}")]
    Systemd {
        unit: String,
        #[source]
        source: systemd::bus::Error,
    },
    #[error("systemd says {property}={value} of unit {unit}, wanted: {wanted}")]
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
    /// An engine's failure to report a container's limits.
    pub fn engine(socket: &str, id: &str, source: EngineError) -> Self {
        Self::Engine {
            socket: socket.to_owned(),
            id: id.to_owned(),
            source,
        }
    }
}

/// The intended limits of `container`, if the engine on `docker_socket` or systemd knows them. systemd's containers are
/// units of systemd. The record that confirms a container of `agent run` has its limits; an unconfirmed container has
/// none.
///
/// # Errors
/// The engine or systemd does not answer, or reports a value that is no limit.
pub async fn of_container(
    container: &Container,
    docker_socket: Option<&str>,
) -> Result<Option<Intent>, Error> {
    match container.kind {
        ContainerKind::Container if container.runtime == Runtime::Nspawn.name() => {
            let name = container.cgroup.rsplit('/').next().unwrap_or_default();
            let unit = Container {
                name: name.to_owned(),
                ..container.clone()
            };
            systemd::of_unit(&unit).await
        }
        ContainerKind::Container => match docker_socket {
            Some(socket) if container.confirmed == Some(true) => {
                of_docker(socket, &container.id).await
            }
            _ => Ok(None),
        },
        ContainerKind::Unit => systemd::of_unit(container).await,
        ContainerKind::Sandbox | ContainerKind::Cgroup => Ok(None),
    }
}

/// The limits that docker was asked for; `None` if nobody listens, or if docker has no such container.
async fn of_docker(socket: &str, id: &str) -> Result<Option<Intent>, Error> {
    let asked = async { Client::connect(socket).await?.inspect(id).await };
    match asked.await {
        Ok(found) => found.map(|it| of_config(id, &it.config)).transpose(),
        Err(EngineError::Absent) => Ok(None),
        Err(source) => Err(Error::engine(socket, id, source)),
    }
}

/// The limits that docker's configuration of a container asks for.
///
/// # Errors
/// The configuration has a value that is no limit.
pub fn of_config(id: &str, config: &HostConfig) -> Result<Intent, Error> {
    let device = |path: &str| block_device(Path::new(path));
    let limits = docker::limits(config, device, page_size());
    let limits = limits.map_err(|source| Error::Limit {
        id: id.to_owned(),
        source: Box::new(source),
    })?;
    let source = Source::Docker;
    Ok(Intent::new(limits, source))
}

#[cfg(test)]
mod tests {
    use agent_model::labels::ContainerLabels;

    use super::*;

    #[tokio::test]
    async fn where_nobody_knows_nothing_is_intended() {
        let of = |kind, runtime: &str| Container {
            kind,
            id: "no-container".to_owned(),
            name: "nobodys-0.service".to_owned(),
            runtime: runtime.to_owned(),
            image: String::new(),
            confirmed: Some(true),
            cgroup: "/nobodys".to_owned(),
            pod: None,
            labels: ContainerLabels::default(),
        };
        let socket = Some("/nowhere/docker.sock");
        for (kind, runtime, socket) in [
            (ContainerKind::Container, "docker", socket),
            (ContainerKind::Container, "containerd", None),
            (ContainerKind::Container, "agent", socket),
            (ContainerKind::Unit, "", None),
            (ContainerKind::Sandbox, "", socket),
            (ContainerKind::Cgroup, "", socket),
        ] {
            let intent = of_container(&of(kind, runtime), socket).await;
            assert_eq!(intent.unwrap(), None, "{kind:?} {runtime}");
        }
    }

    #[tokio::test]
    async fn an_engine_that_is_none_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let router = axum::Router::new().fallback(async || "220 mail.example ESMTP");
        tokio::spawn(async move { axum::serve(listener, router).await });
        let path = socket.to_str().unwrap();
        let error = of_docker(path, "abc").await.unwrap_err();
        let line = agent_model::text::error_line(&error);
        assert!(line.contains(path) && line.contains("abc"), "{line}");
    }
}
