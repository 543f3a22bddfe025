//! Bundles by hand: what `runc spec` writes, with one change each.

mod mounts;

use serde_json::{Value, json};

use crate::cases::{Case, Expect, base, case, push, put};

fn with(name: &str, expect: Expect, change: impl FnOnce(&mut Value)) -> Case {
    let mut config = base();
    change(&mut config);
    case(name, config, expect)
}

/// The change of one member, by the names that lead to it, to what it says instead.
fn to(pointer: &str, value: Value) -> impl FnOnce(&mut Value) {
    move |config| put(config, pointer, value)
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
        with(
            "no capabilities at all",
            Same,
            to("process/capabilities", json!({})),
        ),
        with(
            "ambient capabilities",
            Same,
            to(
                "process/capabilities",
                capabilities(&["CAP_KILL", "CAP_MKNOD"]),
            ),
        ),
        with("ambient capabilities of a user", Same, |config| {
            config["process"]["capabilities"] = capabilities(&["CAP_NET_BIND_SERVICE"]);
            config["process"]["user"] = json!({"uid": 7, "gid": 8, "additionalGids": [9, 10]});
        }),
        with("a user without capabilities that stay", Same, |config| {
            config["process"]["user"] = json!({"uid": 7, "gid": 8});
        }),
        with("umask", Same, to("process/user/umask", json!(0o77))),
        with("no_new_privs is not asked for", Same, |config| {
            config["process"]
                .as_object_mut()
                .expect("it")
                .remove("noNewPrivileges");
        }),
        with("oom score", Same, to("process/oomScoreAdj", json!(300))),
        with(
            "limits",
            Same,
            to(
                "process/rlimits",
                json!([
                    {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
                    {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
                    {"type": "RLIMIT_STACK", "soft": 1 << 20, "hard": 1 << 30},
                ]),
            ),
        ),
        with(
            "environment",
            Same,
            to(
                "process/env",
                json!(["PATH=/bin", "A=1", "B=", "HOME=/tmp"]),
            ),
        ),
        with(
            "a directory that is made",
            Same,
            to("process/cwd", json!("/tmp/new/one")),
        ),
        with(
            "a command of no file",
            Expect::Refused("nothing-is-called-so"),
            to("process/args", json!(["nothing-is-called-so"])),
        ),
        with(
            "a command that is no program",
            Expect::Refused("/etc/text"),
            to("process/args", json!(["/etc/text"])),
        ),
        with(
            "a status",
            Same,
            to(
                "process/args",
                json!(["/bin/sh", "-c", "echo == ids; exit 7"]),
            ),
        ),
        with(
            "a signal",
            Same,
            to(
                "process/args",
                json!(["/bin/sh", "-c", "echo == ids; kill -9 $$; exit 7"]),
            ),
        ),
        with(
            "no rights to a terminal's size",
            Same,
            to("process/consoleSize", json!({"height": 10, "width": 20})),
        ),
        with(
            "a domain name",
            Differs(&["output"], "domainname"),
            to("domainname", json!("example")),
        )
        .command("echo == ids; echo == output; cat /proc/sys/kernel/domainname; exit 7"),
        with(
            "annotations",
            Same,
            to(
                "annotations",
                json!({"a": "b", "org.opencontainers.image.stopSignal": "SIGINT"}),
            ),
        ),
        with(
            "a member that OCI does not have",
            Expect::Said("linux.nonsense is no member"),
            to("linux/nonsense", json!(1)),
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
        with(
            "devices: all are allowed",
            Same,
            to(
                "linux/resources/devices",
                json!([{"allow": true, "access": "rwm"}]),
            ),
        )
        .can_make_nodes(),
        with(
            "devices: none is",
            Same,
            to(
                "linux/resources/devices",
                json!([{"allow": false, "access": "rwm"}]),
            ),
        )
        .can_make_nodes(),
        with("devices: no rules", Same, to("linux/resources", json!({}))).can_make_nodes(),
        with(
            "devices: one is",
            Same,
            to(
                "linux/resources/devices",
                json!([
                    {"allow": false, "access": "rwm"},
                    {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
                ]),
            ),
        )
        .can_make_nodes(),
        with(
            "a node of its own",
            Same,
            to("linux/devices", node("/dev/fuse", "c", 10, 229)),
        ),
        with(
            "a node in a directory",
            Same,
            to("linux/devices", node("/dev/net/tun", "c", 10, 200)),
        ),
        with(
            "a usual node of another mode",
            Expect::Differs(&["limits"], "usual-node"),
            to("linux/devices", node("/dev/zero", "c", 1, 5)),
        ),
        with(
            "a pipe of its own",
            Same,
            to("linux/devices", node("/dev/pipe", "p", 0, 0)),
        ),
        with(
            "a node elsewhere",
            RefusedHere("not below /dev", "devices-elsewhere"),
            to("linux/devices", node("/data/null", "c", 1, 3)),
        ),
        with(
            "limits of memory",
            Same,
            to(
                "linux/resources/memory",
                json!({"limit": 64 << 20, "reservation": 32 << 20}),
            ),
        ),
        with(
            "limits of CPU time",
            Same,
            to(
                "linux/resources/cpu",
                json!({"shares": 512, "quota": 50_000, "period": 100_000}),
            ),
        ),
        with(
            "a set of CPUs",
            Same,
            to("linux/resources/cpu", json!({"cpus": "0", "mems": "0"})),
        ),
        with(
            "a limit of processes",
            Same,
            to("linux/resources/pids", json!({"limit": 50})),
        ),
        with(
            "limits that are none",
            Same,
            to(
                "linux/resources",
                json!({
                    "devices": [], "memory": {"limit": -1, "disableOOMKiller": false}, "pids": {"limit": 0},
                    "cpu": {"shares": 0, "quota": -1}, "blockIO": {"weight": 0}, "hugepageLimits": [],
                }),
            ),
        ),
        with(
            "settings",
            Same,
            to(
                "linux/sysctl",
                json!({"net.core.somaxconn": "77", "kernel.shmmax": "5000000"}),
            ),
        ),
        with(
            "a setting with slashes",
            Same,
            to("linux/sysctl", json!({"net/core/somaxconn": "77"})),
        ),
        with(
            "a system call that is refused",
            Same,
            to(
                "linux/seccomp",
                json!({
                    "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
                }),
            ),
        ),
        with(
            "empty hooks",
            Same,
            to("hooks", json!({"prestart": [], "poststop": []})),
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
        with(name, RefusedHere(words, "members"), to(pointer, value))
    };
    vec![
        with(
            "no mount namespace",
            Refused("without a mount namespace"),
            to("linux/namespaces", json!([{"type": "pid"}])),
        ),
        with(
            "a namespace twice",
            Refused("pid twice"),
            to(
                "linux/namespaces",
                json!([{"type": "pid"}, {"type": "pid"}, {"type": "mount"}]),
            ),
        ),
        with(
            "a setting of the host",
            Refused("it belongs to the whole host"),
            to("linux/sysctl", json!({"vm.swappiness": "60"})),
        ),
        with(
            "a directory that is relative",
            Refused("process.cwd is tmp"),
            to("process/cwd", json!("tmp")),
        ),
        with(
            "no command",
            Refused("process.args is empty"),
            to("process/args", json!([])),
        ),
        with(
            "a root that is not there",
            Refused("nowhere"),
            to("root/path", json!("nowhere")),
        ),
        with(
            "a limit that no kernel takes",
            Refused("--cpu-quota"),
            to(
                "linux/resources/cpu",
                json!({"quota": 500, "period": 100_000}),
            ),
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
