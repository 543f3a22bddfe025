//! The pages that people read.

use std::path::Path;

use agent_host::fixture::tree;
use agent_model::container::{Container, ContainerKind};
use agent_model::labels::ContainerLabels;
use proptest::prelude::*;

use super::*;
use crate::inspect::read;
use crate::namespaces::Eldest;
use crate::namespaces::NamespaceState;

const HOST: &str = "27 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n";
const MOUNTS: &str = "\
50 40 0:40 / / rw,relatime - overlay overlay rw
51 50 254:0 /data /data rw shared:1 - ext4 /dev/vda rw
";
const STATUS: &str = "\
CapInh:\t0
CapPrm:\t000001ffffffffff
CapEff:\t000001fffeffffff
CapBnd:\t000001fffeffffff
CapAmb:\t21
NoNewPrivs:\t0
Seccomp:\t2
Seccomp_filters:\t1
";

fn namespace(kind: &str, host: bool) -> NamespaceState {
    NamespaceState {
        kind: kind.to_owned(),
        inode: 17,
        name: None,
        host,
        processes: 2,
        owner: Some(Eldest {
            pid: 7,
            comm: String::new(),
            uid: 0,
            container: None,
            user_namespace: None,
        }),
        mounts: Vec::new(),
        holders: Vec::new(),
        containers: vec![],
    }
}

fn host() -> tempfile::TempDir {
    tree(&[
        (
            "proc/self/mountinfo",
            "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        ),
        ("proc/self/cgroup", "0::/\n"),
        ("proc/1/mountinfo", HOST),
        (
            "proc/7/stat",
            "7 (a) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0\n",
        ),
        ("proc/7/cgroup", "0::/docker/web/below\n"),
        ("proc/7/mountinfo", MOUNTS),
        ("proc/7/status", STATUS),
        ("proc/7/root", "-> /"),
        ("proc/7/comm", "a\x1b[31m\n"),
        ("proc/7/cmdline", "sh\0-c\0echo a\0"),
        ("proc/7/uid_map", "0 100000 65536\n"),
        ("proc/7/gid_map", "0 0 1\n"),
        ("proc/7/ns/net", "-> net:[17]"),
        ("sys/fs/cgroup/cgroup.controllers", "memory cpu\n"),
        ("sys/fs/cgroup/docker/web/below/memory.max", "157286400\n"),
        ("sys/fs/cgroup/docker/web/memory.max", "104857600\n"),
        ("sys/fs/cgroup/docker/web/memory.current", "2097152\n"),
        (
            "sys/fs/cgroup/docker/web/memory.stat",
            "inactive_file 1048576\n",
        ),
        (
            "sys/fs/cgroup/docker/web/memory.events.local",
            "oom_kill 3\n",
        ),
        ("sys/fs/cgroup/docker/web/cpu.stat", "usage_usec 1500000\n"),
        ("sys/fs/cgroup/docker/web/below/cpu.max", "50000 100000\n"),
    ])
}

fn report(root: &Path, name: &str) -> ProcessReport {
    let container = Container {
        kind: ContainerKind::Container,
        id: "web".to_owned(),
        name: name.to_owned(),
        runtime: "docker".to_owned(),
        image: "local/web".to_owned(),
        confirmed: Some(true),
        cgroup: "/docker/web".to_owned(),
        pod: None,
        labels: ContainerLabels::default(),
    };
    let namespaces = [namespace("mnt", false), namespace("net", true)];
    read(root, 7, Some(&container), &namespaces, None).unwrap()
}

#[test]
fn a_page() {
    let root = host();
    let text = page(&report(root.path(), "web"), 80, false);
    let text = text.replace(&*root.path().to_string_lossy(), "");
    // The clock of this host is not that of the tree.
    let (started, text): (Vec<&str>, Vec<&str>) = text
        .split_inclusive('\n')
        .partition(|line| line.starts_with("  started "));
    assert_eq!(started.len(), 1);
    let text = text.concat();
    let wanted = "\
process /proc/7/comm, /proc/7/exe
  pid                  7
  name                 a\\x1b[31m
  program              cannot be read: /proc/7/exe is gone
  command              sh -c 'echo a'
  host name            cannot be read: /proc/7/ns/uts is gone
  container            web of docker, image local/web, /docker/web
usage /sys/fs/cgroup/docker/web/memory.current
  memory               2.0M
  working set          1.0M
  CPU time             1.500s
  threads              cannot be read: no cgroup of the process counts it
  OOM kills            3
namespaces /proc/7/ns
  mnt                  17 not the host's, 2 processes in it
  net                  17 the host's, 2 processes in it
interfaces /proc/7/ns/net
  cannot be read: /proc/7/ns/net is gone
root /proc/7/root, /proc/7/mountinfo
  pivot_root: it is that of its mount namespace; / of overlay 0:40, rw,relatime
mounts /proc/7/mountinfo
  private              1
  shared               1
  mount                /data: /data of ext4 254:0, rw
  mounts go            /data: to and from the host
ids /proc/7/uid_map, /proc/7/gid_map
  uid                  0-65535 is 100000-165535 outside
  gid                  0 is the same outside
privileges /proc/7/status
  effective (CapEff)   all but CAP_SYS_RESOURCE
  permitted (CapPrm)   all
  inheritable (CapInh) none
  bounding (CapBnd)    as effective
  ambient (CapAmb)     CAP_CHOWN CAP_KILL
  NoNewPrivs           off
  Seccomp              filter
  Seccomp_filters      1
cgroups /proc/7/cgroup
  /docker/web/below in v2
limits
  memory               150.0M (memory.max), limited by /docker/web: 100.0M
  cpu-quota            0.5 CPUs (cpu.max)
not isolated
  net namespace is the host's
  mounts go between /data and the host
  no_new_privs off: programs with set-user-ID give privileges
  no limit of processes
";
    assert_eq!(text, wanted);
}

#[test]
fn a_narrow_page_has_texts_below_labels() {
    let root = host();
    let text = page(&report(root.path(), "web"), 40, false);
    let wanted = "  container\n    web of docker, image local/web,\n    /docker/web\n";
    assert!(text.contains(wanted), "{text}");
}

#[test]
fn a_fact_and_what_is_to_be_done_stand_apart() {
    let root = host();
    let below = root.path().join("sys/fs/cgroup/docker/web");
    std::fs::remove_file(below.join("below/memory.max")).unwrap();
    for (of, passed) in [("..", "memory"), ("../..", "memory"), (".", "cpu")] {
        std::fs::write(below.join(of).join("cgroup.subtree_control"), passed).unwrap();
    }
    let text = page(&report(root.path(), "web"), 200, false);
    let text = text.replace(&*root.path().to_string_lossy(), "");
    let row = |label: &str| {
        let mut lines = text
            .lines()
            .skip_while(|line| !line.starts_with("limits"))
            .filter(|line| line.trim_start().starts_with(label));
        lines
            .next()
            .unwrap_or_else(|| panic!("{label} is missing in {text}"))
            .trim()
    };
    let file = "/sys/fs/cgroup/docker/web/cgroup.subtree_control";
    let fact = format!(
        "memory               none: {file} does not enable the memory controller for it, limited by /docker/web: 100.0M"
    );
    assert_eq!(row("memory "), fact);
    let advice = format!("to do                as root: echo +memory > {file}");
    assert_eq!(row("to do"), advice);
}

#[test]
fn what_is_not_judged_is_told() {
    let root = host();
    let report = ProcessReport {
        not_judged: vec!["MemoryMin=16777216".to_owned()],
        ..report(root.path(), "web")
    };
    let text = page(&report, 80, false);
    assert!(
        text.contains("  not judged           MemoryMin=16777216\n"),
        "{text}"
    );
}

#[test]
fn where_it_was_seen() {
    let root = host();
    let report = report(root.path(), "web");
    let [mnt, net] = &report.namespaces[..] else {
        panic!("two namespaces");
    };
    // The link does not exist, which has the same effect as a link that this process may not read.
    assert!(mnt.source.contains("list of tasks"), "{}", mnt.source);
    assert!(net.source.ends_with("/proc/7/ns/net"), "{}", net.source);
    let alone = read(root.path(), 7, None, &[], None).unwrap();
    assert_eq!((alone.container, alone.namespaces), (None, vec![]));
}

#[test]
fn a_report_is_of_one_process() {
    let root = host();
    let stat = root.path().join("proc/7/stat");
    std::fs::remove_file(stat).unwrap();
    let error = read(root.path(), 7, None, &[], None).unwrap_err();
    assert!(matches!(error, agent_host::Error::Gone { .. }), "{error}");
}

#[test]
fn lines_break_at_spaces() {
    for (text, lines) in [
        ("", &[""][..]),
        ("a b c", &["a b", "c"]),
        ("abcdef", &["abc", "def"]),
        ("a bcdef", &["a", "bcd", "ef"]),
        ("日本", &["日", "本"]),
    ] {
        assert_eq!(wrap(text, 3), lines, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_name_leaves_its_line(name in any::<String>(), columns in 2 * INDENT + LEAST..100) {
        let root = host();
        let text = page(&report(root.path(), &name), columns, false);
        for line in text.lines() {
            prop_assert!(width(line) <= columns, "{line:?}");
            prop_assert_eq!(&escape(line), line);
        }
    }
}
