//! Bundles by hand: what `runc spec` writes, with one change each.

mod mounts;

use serde_json::{Value, json};

use crate::cases::{Case, Expect, base, case, push, put};

fn with(name: &str, expect: Expect, change: impl FnOnce(&mut Value)) -> Case {
    let mut config = base();
    change(&mut config);
    case(name, config, expect)
}

/// A member, by the names that lead to it, and what it says instead.
fn set(name: &str, expect: Expect, pointer: &str, value: Value) -> Case {
    with(name, expect, |config| put(config, pointer, value))
}

/// Namespaces but for one, or with another one.
fn without(name: &str, kind: &str) -> Case {
    with(name, Expect::Same, |config| {
        let namespaces = config["linux"]["namespaces"]
            .as_array_mut()
            .expect("a list");
        namespaces.retain(|it| it["type"] != kind);
        if kind == "uts" {
            config["hostname"] = json!("");
        }
    })
}

pub fn all() -> Vec<Case> {
    let mut all = processes();
    all.extend(mounts::all());
    all.extend(linux());
    all.extend(refused());
    all
}

fn processes() -> Vec<Case> {
    use Expect::{Differs, Same};
    let capabilities = |names: &[&str]| json!({"bounding": names, "effective": names, "permitted": names, "inheritable": names, "ambient": names});
    vec![
        set(
            "no capabilities at all",
            Same,
            "process/capabilities",
            json!({}),
        ),
        set(
            "ambient capabilities",
            Same,
            "process/capabilities",
            capabilities(&["CAP_KILL", "CAP_MKNOD"]),
        ),
        with("ambient capabilities of a user", Same, |config| {
            config["process"]["capabilities"] = capabilities(&["CAP_NET_BIND_SERVICE"]);
            config["process"]["user"] = json!({"uid": 7, "gid": 8, "additionalGids": [9, 10]});
        }),
        with("a user without capabilities that stay", Same, |config| {
            config["process"]["user"] = json!({"uid": 7, "gid": 8});
        }),
        set("umask", Same, "process/user/umask", json!(0o77)),
        with("no_new_privs is not asked for", Same, |config| {
            config["process"]
                .as_object_mut()
                .expect("it")
                .remove("noNewPrivileges");
        }),
        set("oom score", Same, "process/oomScoreAdj", json!(300)),
        set(
            "limits",
            Same,
            "process/rlimits",
            json!([
                {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
                {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
                {"type": "RLIMIT_STACK", "soft": 1 << 20, "hard": 1 << 30},
            ]),
        ),
        set(
            "environment",
            Same,
            "process/env",
            json!(["PATH=/bin", "A=1", "B=", "HOME=/tmp"]),
        ),
        set(
            "a directory that is made",
            Same,
            "process/cwd",
            json!("/tmp/new/one"),
        ),
        set(
            "a command of no file",
            Expect::Refused("nothing-is-called-so"),
            "process/args",
            json!(["nothing-is-called-so"]),
        ),
        set(
            "a command that is no program",
            Expect::Refused("/etc/text"),
            "process/args",
            json!(["/etc/text"]),
        ),
        set(
            "a status",
            Same,
            "process/args",
            json!(["/bin/sh", "-c", "echo == ids; exit 7"]),
        ),
        set(
            "a signal",
            Same,
            "process/args",
            json!(["/bin/sh", "-c", "echo == ids; kill -9 $$; exit 7"]),
        ),
        set(
            "no rights to a terminal's size",
            Same,
            "process/consoleSize",
            json!({"height": 10, "width": 20}),
        ),
        set(
            "a domain name",
            Differs(&["output"], "domainname"),
            "domainname",
            json!("example"),
        )
        .command("echo == ids; echo == output; cat /proc/sys/kernel/domainname; exit 7"),
        set(
            "annotations",
            Same,
            "annotations",
            json!({"a": "b", "org.opencontainers.image.stopSignal": "SIGINT"}),
        ),
        set(
            "a member that OCI does not have",
            Expect::Said("linux.nonsense is no member"),
            "linux/nonsense",
            json!(1),
        ),
    ]
}

impl Case {
    fn command(mut self, script: &str) -> Self {
        self.config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        self
    }
}

fn linux() -> Vec<Case> {
    use Expect::{RefusedHere, Same};
    let node = |path: &str, kind: &str, major: i32, minor: i32| json!([{"path": path, "type": kind, "major": major, "minor": minor, "fileMode": 0o640, "uid": 3, "gid": 4}]);
    vec![
        without("the host's network", "network"),
        without("the host's ipc", "ipc"),
        without("the host's name", "uts"),
        without("the host's processes", "pid"),
        with("users of its own", Same, |config| {
            push(&mut config["linux"]["namespaces"], json!({"type": "user"}));
            for map in ["uidMappings", "gidMappings"] {
                config["linux"][map] = json!([{"containerID": 0, "hostID": 0, "size": 4000}]);
            }
            // runc binds the host's nodes then, and its mounts of v1 are the host's to read.
            config["mounts"]
                .as_array_mut()
                .expect("a list")
                .retain(|it| it["type"] != "cgroup");
        }),
        set(
            "devices: all are allowed",
            Same,
            "linux/resources/devices",
            json!([{"allow": true, "access": "rwm"}]),
        )
        .can_make_nodes(),
        set(
            "devices: none is",
            Same,
            "linux/resources/devices",
            json!([{"allow": false, "access": "rwm"}]),
        )
        .can_make_nodes(),
        set("devices: no rules", Same, "linux/resources", json!({})).can_make_nodes(),
        set(
            "devices: one is",
            Same,
            "linux/resources/devices",
            json!([
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
            ]),
        )
        .can_make_nodes(),
        set(
            "a node of its own",
            Same,
            "linux/devices",
            node("/dev/fuse", "c", 10, 229),
        ),
        set(
            "a node in a directory",
            Same,
            "linux/devices",
            node("/dev/net/tun", "c", 10, 200),
        ),
        set(
            "a usual node of another mode",
            Expect::Differs(&["limits"], "usual-node"),
            "linux/devices",
            node("/dev/zero", "c", 1, 5),
        ),
        set(
            "a pipe of its own",
            Same,
            "linux/devices",
            node("/dev/pipe", "p", 0, 0),
        ),
        set(
            "a node elsewhere",
            RefusedHere("not below /dev", "devices-elsewhere"),
            "linux/devices",
            node("/data/null", "c", 1, 3),
        ),
        set(
            "limits of memory",
            Same,
            "linux/resources/memory",
            json!({"limit": 64 << 20, "reservation": 32 << 20}),
        ),
        set(
            "limits of CPU time",
            Same,
            "linux/resources/cpu",
            json!({"shares": 512, "quota": 50_000, "period": 100_000}),
        ),
        set(
            "a set of CPUs",
            Same,
            "linux/resources/cpu",
            json!({"cpus": "0", "mems": "0"}),
        ),
        set(
            "a limit of processes",
            Same,
            "linux/resources/pids",
            json!({"limit": 50}),
        ),
        set(
            "limits that are none",
            Same,
            "linux/resources",
            json!({
                "devices": [], "memory": {"limit": -1, "disableOOMKiller": false}, "pids": {"limit": 0},
                "cpu": {"shares": 0, "quota": -1}, "blockIO": {"weight": 0}, "hugepageLimits": [],
            }),
        ),
        set(
            "settings",
            Same,
            "linux/sysctl",
            json!({"net.core.somaxconn": "77", "kernel.shmmax": "5000000"}),
        ),
        set(
            "a setting with slashes",
            Same,
            "linux/sysctl",
            json!({"net/core/somaxconn": "77"}),
        ),
        set(
            "a system call that is refused",
            Same,
            "linux/seccomp",
            json!({
                "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
            }),
        ),
        set(
            "empty hooks",
            Same,
            "hooks",
            json!({"prestart": [], "poststop": []}),
        ),
    ]
}

impl Case {
    fn can_make_nodes(mut self) -> Self {
        for set in ["bounding", "effective", "permitted"] {
            self.config["process"]["capabilities"][set] = json!(["CAP_MKNOD"]);
        }
        self
    }
}

fn refused() -> Vec<Case> {
    use Expect::{Refused, RefusedHere};
    let member = |name: &str, pointer: &str, words, value| {
        set(name, RefusedHere(words, "members"), pointer, value)
    };
    vec![
        set(
            "no mount namespace",
            Refused("without a mount namespace"),
            "linux/namespaces",
            json!([{"type": "pid"}]),
        ),
        set(
            "a namespace twice",
            Refused("pid twice"),
            "linux/namespaces",
            json!([{"type": "pid"}, {"type": "pid"}, {"type": "mount"}]),
        ),
        set(
            "a setting of the host",
            Refused("it is the whole host's"),
            "linux/sysctl",
            json!({"vm.swappiness": "60"}),
        ),
        set(
            "a directory that is relative",
            Refused("process.cwd is tmp"),
            "process/cwd",
            json!("tmp"),
        ),
        set(
            "no command",
            Refused("process.args is empty"),
            "process/args",
            json!([]),
        ),
        set(
            "a root that is not there",
            Refused("nowhere"),
            "root/path",
            json!("nowhere"),
        ),
        set(
            "a limit that no kernel takes",
            Refused("--cpu-quota"),
            "linux/resources/cpu",
            json!({"quota": 500, "period": 100_000}),
        ),
        member(
            "a hook",
            "hooks",
            "hooks is not supported",
            json!({"poststop": [{"path": "/bin/true"}]}),
        ),
        member(
            "swappiness",
            "linux/resources/memory",
            "linux.resources.memory.swappiness is not",
            json!({"swappiness": 60}),
        ),
        member(
            "a personality",
            "linux/personality",
            "linux.personality is not",
            json!({"domain": "LINUX32"}),
        ),
        member(
            "a scheduler",
            "process/scheduler",
            "process.scheduler is not",
            json!({"policy": "SCHED_BATCH"}),
        ),
        member(
            "another system's",
            "windows",
            "windows is not",
            json!({"layerFolders": ["x"]}),
        ),
    ]
}
