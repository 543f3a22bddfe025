//! Containers that this user's `agent run` did not make: which engine or user has the container of a name, and which of
//! its commands does what the caller asked for.

use std::path::Path;

use agent_inventory::containers::ContainerState;
use agent_model::container::Container;
use agent_model::text;
use agent_registry::path::Runtime;
use agent_runtime::{state, supervise};
use agent_stream::{client, socket};

use super::confirmed::{ConfirmedContainer, Confirmer, ContainerSearch, running, running_in};
use super::engine::EngineArgs;

/// The actions that `agent` offers for containers of `agent run` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContainerAction {
    Exec,
    Stop,
    Kill,
    Logs,
    Wait,
    Remove,
}

impl ContainerAction {
    const fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Stop => "stop",
            Self::Kill => "kill",
            Self::Logs => "logs",
            Self::Wait => "wait",
            Self::Remove => "rm",
        }
    }
}

/// The engines' commands for the same actions, in the order of [`ContainerAction`]. NAME and ID stand for the
/// container's name and id, NAMESPACE for containerd's namespace, COMMAND for the command to run in it, SIGNAL for the
/// signal to send.
#[rustfmt::skip]
const COMMANDS: [(Runtime, [Option<&str>; 6]); 7] = [
    (Runtime::Docker,     [Some("docker exec NAME COMMAND"), Some("docker stop NAME"), Some("docker kill -s SIGNAL NAME"), Some("docker logs NAME"), Some("docker wait NAME"), Some("docker rm NAME")]),
    (Runtime::Podman,     [Some("podman exec NAME COMMAND"), Some("podman stop NAME"), Some("podman kill -s SIGNAL NAME"), Some("podman logs NAME"), Some("podman wait NAME"), Some("podman rm NAME")]),
    (Runtime::Containerd, [Some("ctr -n NAMESPACE tasks exec --exec-id agent ID COMMAND"), Some("ctr -n NAMESPACE tasks kill ID"), Some("ctr -n NAMESPACE tasks kill -s SIGNAL ID"), None, None, Some("ctr -n NAMESPACE containers rm ID")]),
    (Runtime::Crio,       [Some("crictl exec ID COMMAND"), Some("crictl stop ID"), None, Some("crictl logs ID"), None, Some("crictl rm ID")]),
    (Runtime::Cri,        [Some("crictl exec ID COMMAND"), Some("crictl stop ID"), None, Some("crictl logs ID"), None, Some("crictl rm ID")]),
    (Runtime::Lxc,        [Some("lxc-attach -n NAME -- COMMAND"), Some("lxc-stop -n NAME"), None, None, Some("lxc-wait -n NAME -s STOPPED"), Some("lxc-destroy -n NAME")]),
    (Runtime::Nspawn,     [Some("machinectl shell NAME COMMAND"), Some("machinectl terminate NAME"), Some("machinectl kill -s SIGNAL NAME"), Some("journalctl -M NAME"), None, Some("machinectl remove NAME")]),
];

/// Where a container of the name exists.
pub(super) enum NameLookup {
    Confirmed(Box<ConfirmedContainer>),
    /// docker has it, and it does not run.
    Stopped,
    Nobody,
    /// This user has no permission to find out; the reason.
    Closed(String),
}

/// Looks for a container. It asks a server of root's or of this user's. Where no such server answers, it scans the
/// host. It also asks docker for containers that do not run. All threads have ended when it returns, because the caller
/// may have only one.
///
/// # Errors
/// The name matches several containers, or one that nothing confirms.
pub(super) fn ask(name: &str) -> anyhow::Result<NameLookup> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build()?.block_on(asked(name))
}

async fn asked(name: &str) -> anyhow::Result<NameLookup> {
    let engine = EngineArgs::default();
    let socket = socket::named();
    let told = client::fetch_trusted::<Vec<ContainerState>>(&socket, "/v1/containers");
    let mut closed = None;
    let (found, is_told) = match told.await {
        Ok(states) => (running(&states), true),
        Err(refusal) => match look(&engine).await {
            Ok(found) => (found, false),
            Err(error) => {
                let refusal = text::error_line(&refusal);
                closed = Some(format!("{refusal}; {error}"));
                (Vec::new(), false)
            }
        },
    };
    let fresh = Confirmer::new(&engine).await?.believing_server(is_told);
    if let Some(known) = ContainerSearch::new(name, &found, &fresh).any().await? {
        return Ok(NameLookup::Confirmed(Box::new(known)));
    }
    if is_plain(name)
        && let Some(docker) = engine.connect().await
        && let Some(Some(_)) = engine.answer(docker.inspect(name)).await
    {
        return Ok(NameLookup::Stopped);
    }
    Ok(closed.map_or(NameLookup::Nobody, NameLookup::Closed))
}

async fn look(engine: &EngineArgs) -> anyhow::Result<Vec<super::confirmed::RunningContainer>> {
    super::need_privileges("without a server")?;
    Ok(running_in(&engine.look().await?))
}

/// Whether the name can be part of a path of docker's HTTP interface.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.bytes().all(plain)
}

/// Extends the error of a command that handles containers of `agent run` alone. Where none has the name, the error names
/// the engine or user that has such a container, and the command to call there. `command` is the command to run in it, or the signal to
/// send.
pub(super) fn explained(
    error: supervise::Error,
    action: ContainerAction,
    name: &str,
    command: &[String],
) -> anyhow::Error {
    let supervise::Error::State(state::Error::Unknown { .. } | state::Error::Name { .. }) = &error
    else {
        return error.into();
    };
    let quoted = format!("{name:?}");
    match ask(name) {
        Ok(NameLookup::Confirmed(known)) => anyhow::anyhow!(of_other(&known, action, command)),
        Ok(NameLookup::Stopped) => {
            let container = Container {
                runtime: Runtime::Docker.name().to_owned(),
                name: name.to_owned(),
                ..agent_registry::location::of("/").container
            };
            anyhow::anyhow!(of_engine(&container, action, command))
        }
        Ok(NameLookup::Nobody) => match error {
            supervise::Error::State(state::Error::Name { .. }) => error.into(),
            _ => anyhow::anyhow!(
                "there is no container {quoted}, of agent run or of an engine that is known here; agent ps shows those that \
                 run"
            ),
        },
        Ok(NameLookup::Closed(why)) => anyhow::anyhow!(
            "there is no container {quoted} of agent run of this user; whether another user or an engine has one cannot be \
             told: {why}"
        ),
        Err(ambiguous) => ambiguous.context(quoted),
    }
}

fn of_other(known: &ConfirmedContainer, action: ContainerAction, command: &[String]) -> String {
    let container = &known.container;
    if container.runtime != Runtime::Agent.name() {
        return of_engine(container, action, command);
    }
    let (name, owner, action) = (&container.name, known.owner(), action.name());
    let own = rustix::process::geteuid().as_raw();
    if owner != own {
        return format!(
            "{name:?} is a container of agent run by user {owner}: call agent {action} as that user"
        );
    }
    let directory = state::Store::of_user();
    let directory = directory.path().display();
    format!(
        "{name:?} is a container of agent run whose state is not in {directory}: set XDG_RUNTIME_DIR as it was where it was \
         started"
    )
}

/// Formats the error:
/// `"web-1" is a container of docker, and agent exec is for those of agent run; call docker exec web-1 sh`.
fn of_engine(container: &Container, action: ContainerAction, command: &[String]) -> String {
    let (name, engine, asked) = (&container.name, &container.runtime, action.name());
    let does = COMMANDS
        .iter()
        .find(|(runtime, _)| runtime.name() == engine)
        .and_then(|(_, commands)| commands[action as usize]);
    let whose =
        format!("{name:?} is a container of {engine}, and agent {asked} is for those of agent run");
    let Some(does) = does else {
        return format!("{whose}; no command of {engine} that does the same is known here");
    };
    let words = does.split(' ').map(|word| match word {
        "NAME" => text::shell_word(name).into_owned(),
        "ID" => text::shell_word(&container.id).into_owned(),
        "NAMESPACE" => namespace(&container.cgroup),
        "COMMAND" | "SIGNAL" => {
            let words = command.iter().map(|word| text::shell_word(word));
            words.collect::<Vec<_>>().join(" ")
        }
        word => word.to_owned(),
    });
    let words: Vec<String> = words.collect();
    format!("{whose}; call {}", words.join(" "))
}

/// containerd's namespace, which is the parent of the cgroup that `ctr run` makes (`/NAMESPACE/ID`).
fn namespace(cgroup: &str) -> String {
    let parent = Path::new(cgroup).parent();
    let above = parent.and_then(Path::parent);
    let name = parent
        .filter(|_| above == Some(Path::new("/")))
        .and_then(Path::file_name)
        .and_then(|name| name.to_str())
        .filter(|name| is_plain(name));
    name.unwrap_or("NAMESPACE").to_owned()
}

#[cfg(test)]
mod tests {
    use agent_registry::location;

    use super::*;

    fn of(runtime: Runtime, name: &str, id: &str, cgroup: &str) -> Container {
        Container {
            name: name.to_owned(),
            id: id.to_owned(),
            runtime: runtime.name().to_owned(),
            ..location::of(cgroup).container
        }
    }

    #[test]
    fn each_engine_has_its_command() {
        let command = ["sh".to_owned(), "-c".to_owned(), "echo $A".to_owned()];
        for (runtime, action, wanted) in [
            (
                Runtime::Docker,
                ContainerAction::Exec,
                "; call docker exec web-1 sh -c 'echo $A'",
            ),
            (
                Runtime::Docker,
                ContainerAction::Remove,
                "; call docker rm web-1",
            ),
            (
                Runtime::Podman,
                ContainerAction::Kill,
                "; call podman kill -s sh -c 'echo $A' web-1",
            ),
            (
                Runtime::Podman,
                ContainerAction::Wait,
                "; call podman wait web-1",
            ),
            (
                Runtime::Containerd,
                ContainerAction::Stop,
                "; call ctr -n default tasks kill ct1",
            ),
            (
                Runtime::Crio,
                ContainerAction::Logs,
                "; call crictl logs ct1",
            ),
            (
                Runtime::Lxc,
                ContainerAction::Exec,
                "; call lxc-attach -n web-1 -- sh -c 'echo $A'",
            ),
            (
                Runtime::Nspawn,
                ContainerAction::Stop,
                "; call machinectl terminate web-1",
            ),
            (
                Runtime::Lxc,
                ContainerAction::Logs,
                "; no command of lxc that does the same is known here",
            ),
            (
                Runtime::Unknown,
                ContainerAction::Stop,
                "; no command of unknown that does the same is known here",
            ),
        ] {
            let container = of(runtime, "web-1", "ct1", "/default/ct1");
            let said = of_engine(&container, action, &command);
            let whose = format!(
                "\"web-1\" is a container of {}, and agent {} is for those of agent run",
                runtime.name(),
                action.name()
            );
            assert_eq!(said, whose + wanted);
        }
    }

    #[test]
    fn containerds_namespace_is_the_parent() {
        assert_eq!(namespace("/default/ct1"), "default");
        assert_eq!(namespace("/a/b/ct1"), "NAMESPACE");
        assert_eq!(namespace("/"), "NAMESPACE");
    }
}
