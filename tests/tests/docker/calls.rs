//! Namespace calls of containers, of their runtime, and into them.

use std::process::Command;

use serde_json::json;
use tests::cgroup;
use tests::docker::{Container, Docker, namespace};
use tests::program::program;
use tests::wait::PATIENCE;

use crate::{MAY_UNSHARE, assert_is, get, is_unshare_of_net};

#[test]
#[ignore = "needs root"]
fn the_runtime_s_namespaces_become_the_container_s() {
    let docker = Docker::start();
    let serve = docker.serve();
    let container = docker.create(&[], &["sleep", "1000"]);
    let mut watch = serve.watch(&["--container", container.id()]);
    container.start();
    let record = watch.next(PATIENCE, |record| {
        let kind = record["kind"].as_str();
        let made = record["changed"]
            .as_object()
            .is_some_and(|it| it.contains_key("mnt"));
        matches!(kind, Some("clone" | "unshare")) && made
    });
    assert_is(&record["container"], &container);
    for (changed, name) in [
        ("ipc", "ipc"),
        ("mnt", "mnt"),
        ("net", "net"),
        ("pid_for_children", "pid"),
        ("uts", "uts"),
    ] {
        let wanted = json!({"from": namespace("self", name), "to": container.namespace(name)});
        assert_eq!(record["changed"][changed], wanted, "{changed}: {record}");
    }
}

#[test]
#[ignore = "needs root"]
fn calls_inside_and_into_a_container_are_told_apart() {
    let docker = Docker::start();
    let serve = docker.serve();
    let container = docker.run(&MAY_UNSHARE, &["sleep", "1000"]);
    let mut watch = serve.watch(&["--container", container.id()]);
    let own = json!(container.namespace("net"));

    container.exec(&["unshare", "-n", "true"]);
    let record = watch.next(PATIENCE, is_unshare_of_net);
    assert_is(&record["container"], &container);
    assert_eq!(record["requested"], json!(["net"]), "{record}");
    assert_eq!(record["changed"]["net"]["from"], own, "{record}");

    let entered = Command::new(program("nsenter"))
        .args(["--net", "--target", &container.pid().to_string(), "true"])
        .status();
    assert!(entered.expect("nsenter can be run").success());
    let record = watch.next(PATIENCE, |record| record["process"]["comm"] == "nsenter");
    assert_eq!(record["kind"], "setns", "{record}");
    assert_is(&record["joined"], &container);
    assert_ne!(record["container"]["id"], container.id(), "{record}");
    let wanted = json!({"net": {"from": namespace("self", "net"), "to": own}});
    assert_eq!(record["changed"], wanted, "{record}");
}

/// It may write to the host's cgroups, as a privileged one may.
#[test]
#[ignore = "needs root"]
fn a_container_cannot_pass_for_another() {
    let docker = Docker::start();
    let serve = docker.serve();
    let other = docker.run(&[], &["sleep", "1000"]);
    let options = [
        "--cap-add=SYS_ADMIN",
        "--security-opt=seccomp=unconfined",
        "--security-opt=apparmor=unconfined",
        "--volume=/sys/fs/cgroup:/sys/fs/cgroup",
    ];
    let impostor = docker.run(&options, &["sleep", "1000"]);
    let mut watch = serve.watch(&["--kind", "unshare", "--namespace", "net"]);

    // In the first it makes a cgroup with the name of the other's.
    let parent = format!("{}/docker", impostor.cgroup());
    let own = format!("{parent}/{}", other.id());
    let mut script = String::from("set -e\n");
    for root in cgroup::roots() {
        let [parent, own] = [&parent, &own].map(|path| format!("{}{path}", root.display()));
        // A cpuset of v1 takes no process before it has these.
        script += &format!(
            "mkdir -p {own}\n\
             for file in cpuset.cpus cpuset.mems; do for cgroup in {parent} {own}; do\n\
             [ ! -e $cgroup/$file ] || cat $cgroup/../$file > $cgroup/$file\n\
             done; done\n\
             echo $$ > {own}/cgroup.procs\n"
        );
    }
    script += "cat /proc/self/cgroup; unshare -n readlink /proc/self/ns/net";
    let said = impostor.exec(&["sh", "-c", &script]);
    let mut said: Vec<&str> = said.lines().collect();
    let net = said.pop().expect("the new namespace");
    let is_own = |line: &&str| line.ends_with(&format!("/docker/{}", other.id()));
    assert!(said.iter().all(is_own), "{said:?}");

    // The number of a namespace that is gone is given out again.
    let from = impostor.namespace("net");
    let record = watch.next(PATIENCE, |record| {
        let changed = &record["changed"]["net"];
        changed["from"] == from && format!("net:[{}]", changed["to"]) == net
    });
    assert_is(&record["container"], &impostor);
    let states = get(&serve, "/v1/containers");
    let pids = |container: &Container<'_>| {
        let own = states.iter().filter(|state| state["id"] == container.id());
        own.map(|state| state["pid"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(pids(&other), [json!(other.pid())]);
    assert_eq!(pids(&impostor), [json!(impostor.pid())]);
}
