//! A cgroup that bears the name of a container, made by somebody who is not its engine: who takes it for that container.
//!
//! A cgroup of root's in a place of the test's own stands for one that a user makes in a delegated slice: what is looked at
//! is the path, and who vouches for it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tests::agent::binary;
use tests::attacks::{Attack, Kind, Launcher, Outcome, judge};
use tests::cgroup::{Cgroup, roots};
use tests::container::Container;
use tests::docker::answers::Answers;
use tests::serve::Serve;

const RUNC: Outcome = Outcome::DoesNotApply("runc goes by its own state alone");

/// Engines are asked where a row has one.
const ALONE: [&str; 2] = ["--docker-socket", "off"];

const ATTACKS: [Attack; 12] = [
    Attack {
        name: "verify --container judges a cgroup that ends in /agent/NAME",
        carry_out: |launcher| is_verified(launcher, "agent/{name}"),
    },
    Attack {
        name: "verify --container judges a cgroup that bears a name of LXC's",
        carry_out: |launcher| is_verified(launcher, "lxc.payload.{name}"),
    },
    Attack {
        name: "verify --container judges a cgroup that bears an escaped name of a machine",
        carry_out: |launcher| is_verified(launcher, r"machine.slice/machine-\x{first}{rest}.scope"),
    },
    Attack {
        name: "run --net container:NAME joins it",
        carry_out: is_joined,
    },
    Attack {
        name: "ps calls it by the name",
        carry_out: |launcher| is_listed(launcher, "agent/{name}"),
    },
    Attack {
        name: "ps calls it by the name, deep below other cgroups",
        carry_out: |launcher| is_listed(launcher, "user.slice/app.slice/a/b/agent/{name}"),
    },
    Attack {
        name: "inspect shows its process as the container's",
        carry_out: is_inspected,
    },
    Attack {
        name: "the metrics give it name and image of the docker container whose id it bears",
        carry_out: is_in_metrics,
    },
    Attack {
        name: "the engine names a process that is in another cgroup",
        carry_out: is_lied_for,
    },
    Attack {
        name: "a user's record names a cgroup of root's",
        carry_out: has_users_record,
    },
    Attack {
        name: "a cgroup that bears a container's name keeps the container from a verdict",
        carry_out: hides_another,
    },
    Attack {
        name: "many cgroups that bear a container's id keep the container from a verdict",
        carry_out: hide_another,
    },
];

#[test]
#[ignore = "needs root"]
fn claims_of_an_identity() {
    judge(Kind::Identity, &ATTACKS);
}

/// The attack's container: it runs, and has network namespace and limit of its own.
struct Forged {
    container: Container,
    name: String,
}

impl Forged {
    /// In a cgroup whose path ends so, with a name of its own in it.
    fn new(path: &str) -> Self {
        let name = unique();
        let path = path.replace("{name}", &name);
        let path = path.replace("{first}", &format!("{:02x}", name.as_bytes()[0]));
        Self::at(&path.replace("{rest}", &name[1..]), name)
    }

    fn at(path: &str, name: String) -> Self {
        let cgroup = Cgroup::strangers("forged", path);
        cgroup.write("pids", "pids.max", "50");
        let container = Container::start(cgroup, "mnt,net");
        Self { container, name }
    }

    fn path(&self) -> String {
        self.container.cgroup.path()
    }

    /// What `ps` says of it.
    fn listed(&self, launcher: Launcher, engine: &[&str]) -> Value {
        let arguments = [&["ps", "--socket", "off", "--output", "json"], engine].concat();
        let listed = launcher.agent(&arguments).output().expect("agent runs");
        let said = String::from_utf8_lossy(&listed.stderr);
        let all: Vec<Value> = serde_json::from_slice(&listed.stdout).expect(&said);
        let mut all = all.into_iter();
        let own = all.find(|it| it["cgroup"] == self.path());
        own.expect("ps shows what is only claimed, too")
    }
}

/// A name that no container has.
fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("twin{}x{number}", std::process::id())
}

fn broken_if(broken: bool) -> Outcome {
    if broken {
        Outcome::Broken
    } else {
        Outcome::Held
    }
}

/// The cgroup that `verify --container NAME` judges, and what it says where it judges none.
fn judged(launcher: Launcher, name: &str, engine: &[&str]) -> (Option<String>, String) {
    let arguments = [
        &["verify", "--socket", "off", "--output", "json"],
        engine,
        &["--container", name],
    ];
    let output = launcher.agent(&arguments.concat()).output();
    let output = output.expect("agent runs");
    let report: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    let cgroup = report.and_then(|it| it["subject"]["cgroup"].as_str().map(str::to_owned));
    (cgroup, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn is_verified(launcher: Launcher, path: &str) -> Outcome {
    if launcher == Launcher::Runc {
        return RUNC;
    }
    let forged = Forged::new(path);
    let (cgroup, said) = judged(launcher, &forged.name, &ALONE);
    if cgroup.is_none() {
        // The error says which cgroup it was.
        assert!(
            said.contains("claims") && said.contains(&forged.path()),
            "{said}"
        );
    }
    broken_if(cgroup == Some(forged.path()))
}

fn is_joined(launcher: Launcher) -> Outcome {
    if launcher == Launcher::Runc {
        return RUNC;
    }
    let forged = Forged::new("agent/{name}");
    let net = format!("container:{}", forged.name);
    let arguments = [
        "run",
        "--print-spec",
        "--rootfs",
        "host",
        "--net",
        &net,
        "true",
    ];
    let output = launcher.agent(&arguments).output().expect("agent runs");
    let spec = String::from_utf8_lossy(&output.stdout);
    broken_if(spec.contains(&forged.container.namespace("net")))
}

fn is_listed(launcher: Launcher, path: &str) -> Outcome {
    if launcher == Launcher::Runc {
        return RUNC;
    }
    let forged = Forged::new(path);
    let listed = forged.listed(launcher, &ALONE);
    let says = |field: &str| listed[field] == *forged.name;
    let is_claim = listed["confirmed"] == false && listed["image"] == "unknown";
    broken_if(says("name") || says("id") || !is_claim)
}

fn is_inspected(launcher: Launcher) -> Outcome {
    if launcher == Launcher::Runc {
        return RUNC;
    }
    let forged = Forged::new("agent/{name}");
    let arguments = ["inspect", "--socket", "off", "--output", "json"];
    let arguments = [&arguments[..], &ALONE, &[&*forged.name]].concat();
    let output = launcher.agent(&arguments).output().expect("agent runs");
    let report: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    broken_if(report.is_some_and(|it| it["pid"] == forged.container.pid))
}

/// A docker container that the engine has, and a cgroup with its id. `process` is what the engine calls its first.
fn with_engine(process: u32) -> (Forged, Answers) {
    let name = unique();
    let id = format!("{:0>64}", name.replace(|c: char| !c.is_ascii_digit(), "a"));
    let engine = Answers::start(&id, &name, process);
    (Forged::at(&format!("docker/{id}"), name), engine)
}

fn is_in_metrics(launcher: Launcher) -> Outcome {
    if launcher == Launcher::Runc {
        return RUNC;
    }
    let (forged, engine) = with_engine(0);
    let mut command = Command::new(binary());
    if let Launcher::Unguarded(kind) = launcher {
        command.env("AGENT_UNGUARDED", kind.guard());
    }
    let serve = Serve::spawn_by(command, &["--docker-socket", engine.socket()]);
    serve.wait_until_it_traces();
    tests::wait::wait_for("the engine is connected", tests::wait::PATIENCE, || {
        tests::docker::is_connected(&serve.metrics()).then_some(())
    });
    let text = serve.metrics().text().to_owned();
    let path = format!("id=\"{}\"", forged.path());
    let mut own = text.lines().filter(|line| line.contains(&path));
    let called = format!("image=\"busybox\",name=\"{}\"", forged.name);
    let claimed = "image=\"unknown\",name=\"\"";
    let line = own.next().expect("it has series");
    assert!(line.contains(&called) || line.contains(claimed), "{line}");
    broken_if(line.contains(&called))
}

fn is_lied_for(launcher: Launcher) -> Outcome {
    if launcher == Launcher::Runc {
        return RUNC;
    }
    // This test's process is in no cgroup with that id.
    let (forged, engine) = with_engine(std::process::id());
    let (cgroup, _) = judged(
        launcher,
        &forged.name,
        &["--docker-socket", engine.socket()],
    );
    broken_if(cgroup == Some(forged.path()))
}

fn has_users_record(launcher: Launcher) -> Outcome {
    const USER: u32 = 64_711;
    if launcher == Launcher::Runc {
        return RUNC;
    }
    let forged = Forged::new("agent/{name}");
    let parent = PathBuf::from(format!("/tmp/agent-{USER}"));
    let directory = parent.join("containers").join(&forged.name);
    fs::create_dir_all(&directory).expect("a user's state");
    let record = json!({
        "name": forged.name,
        "image": "trusted",
        "cgroup": forged.path(),
        "supervisor": 1,
        "status": {"running": {"pid": forged.container.pid}},
        "created": "2026-11-29T00:00:00Z",
        "detached": false,
        "remove": true,
        "change_root": "pivot",
        "network": "none",
    });
    let file = directory.join("state.json");
    fs::write(&file, record.to_string()).expect("a record");
    let above = [parent.clone(), parent.join("containers"), directory.clone()];
    for path in above.iter().chain([&file]) {
        chown(path, Some(USER), Some(USER)).expect("root may");
    }
    for path in &above {
        fs::set_permissions(path, Permissions::from_mode(0o700)).expect("root may");
    }
    let (cgroup, _) = judged(launcher, &forged.name, &ALONE);
    // One directory of several is that user's. The only one of a host with v2 alone would be delegated.
    let mut part = None;
    if roots().count() > 1 {
        let own = forged.container.cgroup.directory("memory");
        chown(own, Some(USER), Some(USER)).expect("root may");
        part = judged(launcher, &forged.name, &ALONE).0;
    }
    fs::remove_dir_all(&parent).expect("it can be removed");
    broken_if([cgroup, part].contains(&Some(forged.path())))
}

fn hides_another(launcher: Launcher) -> Outcome {
    if launcher == Launcher::Runc {
        return RUNC;
    }
    let own = Cgroup::new("real");
    own.write("pids", "pids.max", "60");
    let real = Container::start(own, "mnt,net");
    let name = real.cgroup.name().to_owned();
    let forged = Forged::at(&format!("agent/{name}"), name.clone());
    let (cgroup, said) = judged(launcher, &name, &ALONE);
    if launcher != Launcher::Agent {
        // Two are meant, and both are named.
        let both = [real.cgroup.path(), forged.path()];
        assert!(both.iter().all(|it| said.contains(&**it)), "{said}");
    }
    broken_if(cgroup != Some(real.cgroup.path()))
}

/// More than are looked at where many bear one id.
fn hide_another(launcher: Launcher) -> Outcome {
    const MANY: usize = 20;
    if launcher == Launcher::Runc {
        return RUNC;
    }
    let own = Cgroup::new("real");
    own.write("pids", "pids.max", "60");
    let real = Container::start(own, "mnt,net");
    let name = real.cgroup.name().to_owned();
    let path = format!("agent/{name}");
    let forged: Vec<Forged> = (0..MANY).map(|_| Forged::at(&path, name.clone())).collect();
    let (cgroup, said) = judged(launcher, &name, &ALONE);
    if launcher != Launcher::Agent {
        assert!(forged.iter().any(|it| said.contains(&it.path())), "{said}");
    }
    broken_if(cgroup != Some(real.cgroup.path()))
}
