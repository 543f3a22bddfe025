//! OOM kills that are for no cgroup's limit: memory is short on a node, in a cpuset, or in all of the machine.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tests::cgroup::Cgroup;
use tests::law::assert_law;
use tests::mechanism::trampolines;
use tests::serve::Serve;
use tests::wait::PATIENCE;
use tests::{alone, own_machine};

/// Allocates without end, and is the one to be killed.
const GREEDY: &str = "echo 1000 > /proc/self/oom_score_adj; exec tail /dev/zero";

/// Whether the machine is the tests' own, tells what was short, and has a second node of memory where one is needed.
fn can_run(nodes: usize) -> bool {
    if !own_machine() || !trampolines() {
        return false;
    }
    let there =
        (0..nodes).all(|node| Path::new(&format!("/sys/devices/system/node/node{node}")).exists());
    if !there {
        tests::skip(format_args!("needs {nodes} nodes of memory"));
    }
    there
}

/// Lets a command of a cgroup be killed: the record of it.
fn killed(cgroup: &Cgroup, command: &mut Command) -> Value {
    let serve = Serve::start(&[]);
    let mut watch = serve.watch(&["--kind", "oom", "--container", cgroup.name()]);
    let status = command.status().expect("it can be run");
    assert!(!status.success(), "{status}");
    let record = watch.next(PATIENCE, |record| record["kind"] == "oom");
    assert_eq!(
        record["victim"]["container"]["name"],
        cgroup.name(),
        "{record}"
    );
    assert_eq!(record["victim"]["process"]["comm"], "tail", "{record}");
    assert_eq!(record["limit_owner"], Value::Null, "{record}");
    assert_law(&serve);
    serve.stop();
    record
}

/// set_mempolicy(2): MPOL_BIND to node 1.
#[test]
#[ignore = "needs root"]
fn of_a_node() {
    if !can_run(2) {
        return;
    }
    let _alone = alone();
    let cgroup = Cgroup::new("mempolicy");
    let bind = format!(
        "$nodes = pack('Q', 2); syscall(238, 2, $nodes, 64) == 0 or die \"set_mempolicy: $!\"; exec 'sh', '-c', '{GREEDY}'"
    );
    let record = killed(&cgroup, cgroup.command("perl").args(["-e", &bind]));
    assert_eq!(record["constraint"], "mempolicy", "{record}");
}

#[test]
#[ignore = "needs root"]
fn of_a_cpuset() {
    if !can_run(2) {
        return;
    }
    let cgroup = Cgroup::new("cpuset");
    if !cgroup.directory("cpuset").join("cpuset.mems").exists() {
        tests::skip("needs the cpuset controller");
        return;
    }
    let _alone = alone();
    cgroup.write("cpuset", "cpuset.mems", "1");
    let record = killed(&cgroup, cgroup.command("sh").args(["-c", GREEDY]));
    assert_eq!(record["constraint"], "cpuset", "{record}");
}

#[test]
#[ignore = "needs root"]
fn of_the_machine() {
    if !can_run(1) {
        return;
    }
    let _alone = alone();
    let cgroup = Cgroup::new("machine");
    let record = killed(&cgroup, cgroup.command("sh").args(["-c", GREEDY]));
    assert_eq!(record["constraint"], "none", "{record}");
}
