//! Bundles by their configurations: stock ones, and stock ones of runc with a change.

use serde_json::{Value, json};

/// A bundle.
pub struct Case {
    pub name: String,
    pub config: Value,
    pub expect: Expect,
}

/// What the two make of it. Words are of what this program says; the last name is that of the difference.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// The same, and nothing is said.
    Same,
    /// The same, and something is said.
    Said(&'static str),
    /// Both refuse it.
    Refused(&'static str),
    /// It is refused here only.
    RefusedHere(&'static str, &'static str),
    /// It is refused by runc only.
    RefusedThere(&'static str),
    /// These sections differ.
    Differs(&'static [&'static str], &'static str),
}

impl Expect {
    pub const fn difference(self) -> Option<&'static str> {
        match self {
            Self::Same | Self::Said(_) | Self::Refused(_) => None,
            Self::RefusedHere(_, name) | Self::RefusedThere(name) | Self::Differs(_, name) => {
                Some(name)
            }
        }
    }
}

pub fn case(name: &str, config: Value, expect: Expect) -> Case {
    Case {
        name: name.to_owned(),
        config,
        expect,
    }
}

/// What `runc spec` writes, but for a terminal, with the probe as its command.
pub fn base() -> Value {
    ready(include_str!("stock/runc.json"))
}

fn ready(text: &str) -> Value {
    let mut config: Value = serde_json::from_str(text).expect("JSON");
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/sh", "/probe"]);
    config["root"]["path"] = json!("rootfs");
    config
}

/// Those that engines and runtimes write by themselves.
pub fn stock() -> Vec<Case> {
    let mut crun = ready(include_str!("stock/crun.json"));
    // The hybrid layout of this suite's machine has cgroup namespaces of v1 that runc does not mount likewise.
    let namespaces = crun["linux"]["namespaces"].as_array_mut().expect("a list");
    namespaces.retain(|it| it["type"] != "cgroup");
    let mut podman = ready(include_str!("stock/podman.json"));
    // More than this machine's root may have; and a cgroup of a name of its own.
    podman["process"]["rlimits"] = json!([
        {"type": "RLIMIT_NOFILE", "hard": 1000, "soft": 900},
        {"type": "RLIMIT_NPROC", "hard": 32768, "soft": 32768},
    ]);
    let mut docker = ready(include_str!("stock/docker.json"));
    let with_hook = docker.clone();
    docker["hooks"] = json!({});
    let mut containerd = ready(include_str!("stock/containerd.json"));
    // Other tests' cgroups are at such paths too.
    for (config, name) in [
        (&mut podman, "libpod"),
        (&mut docker, "docker"),
        (&mut containerd, "default"),
    ] {
        config["linux"]["cgroupsPath"] =
            json!(format!("/agent-bundles-{}-{name}", std::process::id()));
    }
    let path = Expect::Said("linux.cgroupsPath /agent-bundles-");
    vec![
        case("runc spec", base(), Expect::Same),
        case("crun spec", crun, Expect::Same),
        case("podman create", podman, path),
        case("docker run", docker, path),
        case(
            "docker run, with its hook",
            with_hook,
            Expect::Refused("hooks is not supported"),
        ),
        case("ctr run", containerd, path),
    ]
}

/// Adds to a list.
pub fn push(list: &mut Value, more: Value) {
    list.as_array_mut().expect("a list").push(more);
}

/// Sets a member, and makes those above it.
pub fn put(config: &mut Value, pointer: &str, value: Value) {
    let mut at = config;
    for name in pointer.split('/') {
        at = &mut at[name];
    }
    *at = value;
}

/// Adds a mount.
pub fn mount(config: &mut Value, mount: Value) {
    push(&mut config["mounts"], mount);
}
