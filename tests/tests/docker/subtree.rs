//! A container whose init moves itself into a cgroup below its own, as an init of systemd's does.

use std::fs;

use serde_json::Value;
use tests::agent::agent;
use tests::docker::{Container, Docker};
use tests::run::output;
use tests::subtree::{KILLED_ONE_BY_ONE, assert_judged_at, assert_none_below, is_counted};
use tests::wait::{PATIENCE, wait_for};

/// On v1 of two controllers; on v2 the limit then has a file below, which holds none.
const MOVES: &str = "set -e; for root in /sys/fs/cgroup /sys/fs/cgroup/memory /sys/fs/cgroup/pids; do \
     [ -e $root/cgroup.procs ] || continue; busybox mount -o remount,rw,bind $root; mkdir $root/init; echo $$ > $root/init/cgroup.procs; done; \
     control=/sys/fs/cgroup/cgroup.subtree_control; [ ! -e $control ] || echo +memory > $control; set +e;";

/// What `agent verify` says of the process or container that `form` names.
fn verify(docker: &Docker, form: [&str; 2], more: &[&str]) -> Value {
    let mut verify = agent(["verify", "--socket", "off", "--output", "json"]);
    verify.arg("--docker-socket").arg(docker.socket());
    let verified = output(verify.args(form).args(more));
    serde_json::from_slice(&verified.stdout).unwrap_or_else(|error| panic!("{error}: {verified:?}"))
}

fn is_moved(container: &Container<'_>) -> bool {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid()));
    text.is_ok_and(|it| it.contains(&format!("{}/init", container.cgroup())))
}

#[test]
#[ignore = "needs root"]
fn an_init_that_moves_itself_stays_its_containers() {
    let docker = Docker::start();
    let serve = docker.serve();
    // What it needs of --privileged, which not every root may give.
    let options = [
        "--cap-add=SYS_ADMIN",
        "--security-opt=seccomp=unconfined",
        "--security-opt=apparmor=unconfined",
        "--memory=48m",
        "--memory-swap=48m",
        "--name=moved",
    ];
    let script = format!("{MOVES} {KILLED_ONE_BY_ONE}");
    let container = docker.run(&options, &["sh", "-c", &script]);
    let path = container.cgroup();
    wait_for("it moves", PATIENCE, || is_moved(&container).then_some(()));
    wait_for("its kills are counted", PATIENCE, || {
        is_counted(&serve.metrics(), &path, "moved").then_some(())
    });
    assert_none_below(&serve.metrics(), &path);

    let pid = container.pid().to_string();
    for form in [["--container", container.id()], ["--pid", &pid]] {
        let said = verify(&docker, form, &[]);
        assert_judged_at(&said, "pass", &path);
        assert_eq!(said["verdict"], "pass", "{said:#}");
    }
    let said = verify(&docker, ["--container", "moved"], &["--for", "5s"]);
    let memory = assert_judged_at(&said, "pass", &path);
    assert_eq!(memory["intended"]["source"], "docker", "{memory:#}");
    let victims = memory["observed"]["victims"].as_array();
    assert!(victims.is_some_and(|it| !it.is_empty()), "{memory:#}");
    serve.stop();
}
