//! Containers of `agent run` that share namespaces with the engine's.

use tests::agent::binary;
use tests::docker::Docker;
use tests::mounts::Mounts;
use tests::run::{Container, output, rootfs};

const INSIDE: &str =
    "for kind in net pid mnt; do readlink /proc/self/ns/$kind; done; cat /proc/1/comm";

#[test]
#[ignore = "needs root"]
fn network_and_processes_can_be_the_engines_containers() {
    let docker = Docker::start();
    let container = docker.run(&["--name", "shares"], &["sleep", "1000"]);
    // Where engines usually listen, and no agent serve: seen in there only.
    let mounts = Mounts::new("tmpfs", "/run");
    let mut link = mounts.command("ln");
    link.arg("-s").arg(docker.socket()).arg("/run/docker.sock");
    assert!(output(&mut link).status.success());
    for name in ["shares", &container.id()[..12]] {
        let shared = format!("container:{name}");
        let joins = Container::new("joins");
        let mut run = mounts.command(binary());
        run.args(["run", "--name", &joins.name, "--rootfs"])
            .arg(rootfs());
        run.args(["--net", &shared, "--pid", &shared, "sh", "-c", INSIDE]);
        let ended = output(&mut run);
        let said = String::from_utf8_lossy(&ended.stdout);
        let lines: Vec<_> = said.lines().collect();
        let [net, pid, mnt, first] = lines[..] else {
            panic!("{name}: {ended:?}");
        };
        let of_engine = |kind| format!("{kind}:[{}]", container.namespace(kind));
        assert_eq!([net, pid], ["net", "pid"].map(of_engine), "{name}");
        assert_ne!(mnt, of_engine("mnt"), "{name}");
        assert_eq!(first, "sleep", "{name}");
        joins.assert_gone();
    }
}
