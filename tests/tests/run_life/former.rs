//! The state of containers is in no directory of the server's, where older agents kept it.

use std::process::Stdio;

use tests::agent::binary;
use tests::mounts::Mounts;
use tests::run::{Container, STATE, output, rootfs, text};

/// The server's directory, and where older agents kept the state of containers in it.
const SERVERS: &str = "/run/agent";
const FORMER: &str = "/run/agent/containers";

/// A /run of the test's own: what it does there is nobody else's loss.
struct Host {
    run: Mounts,
    container: Container,
}

impl Host {
    /// A container runs there, which ends with status 5 when it is asked to.
    fn new(name: &str) -> Self {
        let host = Self {
            run: Mounts::new("tmpfs", "/run"),
            container: Container::new(name),
        };
        let root = rootfs().to_str().expect("UTF-8");
        let name = &host.container.name;
        let script = "trap 'exit 5' TERM; while :; do sleep 0.05; done";
        let words = [
            "run", "-d", "--name", name, "--rootfs", root, "sh", "-c", script,
        ];
        text(&mut host.agent(&words));
        host
    }

    fn agent(&self, words: &[&str]) -> std::process::Command {
        let mut command = self.run.command(binary());
        command.args(words).stdin(Stdio::null());
        command
    }

    fn shell(&self, script: &str) -> String {
        text(self.run.command("sh").args(["-e", "-c", script]))
    }

    /// All that one does with a container that runs works, and nothing stays.
    fn assert_reached(&self) {
        let name = &*self.container.name;
        assert_eq!(
            text(&mut self.agent(&["exec", name, "echo", "here"])),
            "here\n"
        );
        let root = rootfs().to_str().expect("UTF-8");
        let again = output(&mut self.agent(&["run", "--name", name, "--rootfs", root, "true"]));
        let said = String::from_utf8_lossy(&again.stderr);
        assert!(said.contains("in use by a container that runs"), "{said}");
        text(&mut self.agent(&["stop", name]));
        assert_eq!(text(&mut self.agent(&["wait", name])), "5\n");
        text(&mut self.agent(&["rm", name]));
        assert!(!self.shell(&format!("ls -A {STATE}")).contains(name));
        assert_eq!(self.container.processes(), [].into());
    }
}

/// As systemd does with `RuntimeDirectory=agent` when the server stops.
#[test]
#[ignore = "needs root"]
fn the_servers_directory_may_go() {
    let host = Host::new("unit");
    host.shell(&format!("rm -rf {SERVERS}"));
    host.assert_reached();
}

#[test]
#[ignore = "needs root"]
fn a_container_of_an_older_agent_is_found() {
    let host = Host::new("older");
    let name = &host.container.name;
    // As one has it that an older agent supervises: it holds the lock, and writes to the old path.
    host.shell(&format!(
        "mkdir -p -m 755 {FORMER}; mv {STATE}/{name} {FORMER}/{name}"
    ));
    let _ = output(&mut host.agent(&["wait", "nobody"]));
    assert!(
        host.shell(&format!("readlink {FORMER}/{name}"))
            .starts_with(STATE)
    );
    host.shell(&format!("rm -rf {SERVERS}"));
    host.assert_reached();
}

/// What another user made there is not believed.
#[test]
#[ignore = "needs root"]
fn an_old_directory_of_others_is_left_alone() {
    let host = Host::new("others");
    host.shell(&format!("mkdir -p {FORMER}/x; chown 65534 {FORMER}"));
    host.assert_reached();
    assert_eq!(host.shell(&format!("ls {FORMER}")), "x\n");
}

/// A newer container has the name of one that an older agent left.
#[test]
#[ignore = "needs root"]
fn a_name_that_is_taken_is_told_once() {
    let host = Host::new("taken");
    let name = &host.container.name;
    host.shell(&format!("mkdir -p -m 755 {FORMER}/{name}"));
    let said = || {
        let ended = output(&mut host.agent(&["wait", "nobody"]));
        String::from_utf8_lossy(&ended.stderr).into_owned()
    };
    let first = said();
    let note = format!("{FORMER}/{name}: its name is that of a newer container");
    assert_eq!(first.matches(&note).count(), 1, "{first}");
    assert!(!said().contains(FORMER));
    host.assert_reached();
}
