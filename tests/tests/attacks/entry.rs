//! What a process shows that enters a container, to the container: CVE-2016-9962 and its like.
//!
//! The container looks at every process that appears. Against our program the one that enters is held where it first is in
//! sight; against runc the container has many tries, as in life.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tests::agent::profile;
use tests::attacks::{Attack, Bundle, Kind, Launcher, Outcome, judge};
use tests::rootfs::Rootfs;
use tests::run::{Container, text};
use tests::slow::fewer;

/// In the environment and the arguments of whoever launches, and in a file of the host.
const SECRET: &str = "bG9va2luZyBpcyBmb3JiaWRkZW4";

/// How often runc enters.
fn tries() -> usize {
    fewer(20, 3)
}

/// How a process gets into the container's pid namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// `exec`
    Exec,
    /// `run --pid container:NAME`
    Share,
}

const ATTACKS: [Attack; 15] = [
    Attack {
        name: "exec: read the launcher's environment in `/proc/PID/environ`",
        carry_out: |launcher| attack(launcher, Way::Exec, "environ"),
    },
    Attack {
        name: "exec: read the launcher's memory through `/proc/PID/mem`",
        carry_out: |launcher| attack(launcher, Way::Exec, "memory"),
    },
    Attack {
        name: "exec: read the launcher's memory by ptrace(2)",
        carry_out: |launcher| attack(launcher, Way::Exec, "ptrace"),
    },
    Attack {
        name: "exec: reach a host file through `/proc/PID/fd` (CVE-2016-9962)",
        carry_out: |launcher| attack(launcher, Way::Exec, "fd"),
    },
    Attack {
        name: "exec: reach a host file through pidfd_getfd(2)",
        carry_out: |launcher| attack(launcher, Way::Exec, "getfd"),
    },
    Attack {
        name: "exec: find a process with the launcher's capabilities",
        carry_out: |launcher| attack(launcher, Way::Exec, "capabilities"),
    },
    Attack {
        name: "exec: find a process without its filter of system calls",
        carry_out: |launcher| attack(launcher, Way::Exec, "filter"),
    },
    Attack {
        name: "run in a shared pid namespace: read the launcher's environment",
        carry_out: |launcher| attack(launcher, Way::Share, "environ"),
    },
    Attack {
        name: "run in a shared pid namespace: read the launcher's arguments",
        carry_out: |launcher| attack(launcher, Way::Share, "cmdline"),
    },
    Attack {
        name: "run in a shared pid namespace: read the launcher's memory",
        carry_out: |launcher| attack(launcher, Way::Share, "memory"),
    },
    Attack {
        name: "run in a shared pid namespace: reach a host file through `/proc/PID/root`",
        carry_out: |launcher| attack(launcher, Way::Share, "root"),
    },
    Attack {
        name: "run in a shared pid namespace: reach a host file through `/proc/PID/cwd`",
        carry_out: |launcher| attack(launcher, Way::Share, "cwd"),
    },
    Attack {
        name: "run in a shared pid namespace: reach a host file through `/proc/PID/fd`",
        carry_out: |launcher| attack(launcher, Way::Share, "fd"),
    },
    Attack {
        name: "run in a shared pid namespace: find a process with the launcher's capabilities",
        carry_out: |launcher| attack(launcher, Way::Share, "capabilities"),
    },
    Attack {
        name: "run --init: read the launcher's memory in pid 1",
        carry_out: reaper,
    },
];

#[test]
#[ignore = "needs root"]
fn no_entering_process_shows_the_host() {
    judge(Kind::Entry, &ATTACKS);
}

/// What both containers have.
const FLAGS: [&str; 2] = ["--cap-add", "SYS_PTRACE"];

fn attack(launcher: Launcher, way: Way, attack: &str) -> Outcome {
    let rootfs = Rootfs::new(&[("entering", &profile().join("entering"))]);
    let file = rootfs.outside().join("secret");
    fs::write(&file, SECRET).expect("a file");
    // From the launcher's working directory.
    let name = if attack == "cwd" {
        "secret"
    } else {
        file.to_str().expect("UTF-8")
    };
    let command = ["/bin/entering", attack, SECRET, name, "held"];
    match launcher {
        Launcher::Runc => by_runc(&rootfs, way, &command[..4]),
        _ => by_agent(launcher, &rootfs, way, &command),
    }
}

/// The container's own pid 1 is a copy of its launcher.
fn reaper(launcher: Launcher) -> Outcome {
    if launcher == Launcher::Runc {
        return Outcome::DoesNotApply("it makes no reaper");
    }
    let rootfs = Rootfs::new(&[("entering", &profile().join("entering"))]);
    let root = rootfs.path();
    let container = Container::new("reaper");
    let mut run = launcher.agent(&["run", "--init", "--rm", "--name", &container.name]);
    run.arg("--rootfs").arg(root).args(FLAGS);
    run.args(["--", "/bin/entering", "memory-of-1", SECRET, "-"]);
    // The command gets what the launcher has in its environment as an argument only.
    let said = run.env("AGENT_TEST_SECRET", SECRET).output();
    let said = said.expect("the program can be run").stdout;
    match String::from_utf8_lossy(&said).as_ref() {
        "got memory-of-1\n" => Outcome::Broken,
        "nothing\n" => Outcome::Held,
        other => panic!("{other}"),
    }
}

/// What a launcher has that enters.
fn carrying<'a>(call: &'a mut Command, rootfs: &Rootfs) -> &'a mut Command {
    call.env("AGENT_TEST_SECRET", SECRET);
    call.current_dir(rootfs.outside());
    call.stdin(Stdio::null()).stdout(Stdio::null())
}

fn by_agent(launcher: Launcher, rootfs: &Rootfs, way: Way, command: &[&str]) -> Outcome {
    let root = rootfs.path();
    let root = root.to_str().expect("UTF-8");
    let watched = Container::new("watched");
    let mut run = Launcher::Agent.agent(&["run", "--name", &watched.name, "--rootfs", root]);
    let mut watcher = Watcher::start(run.args(FLAGS).arg("--").args(command));
    let entering = Container::new("entering");
    let share = format!("container:{}", watched.name);
    let label = format!("SECRET={SECRET}");
    let mut enter = match way {
        Way::Exec => launcher.agent(&["exec", &watched.name, "/bin/entering"]),
        Way::Share => launcher.agent(&[
            "run",
            "--name",
            &entering.name,
            "--rootfs",
            root,
            "--pid",
            &share,
            "--volume",
            // An argument of the launcher's that the command does not get.
            &format!("{}:/{label}", rootfs.outside().display()),
            "/bin/entering",
        ]),
    };
    // The old way is in sight from its first step on.
    let held = match (launcher, way) {
        (Launcher::Unguarded(_), Way::Share) => "session",
        _ => "fork",
    };
    let entered = carrying(&mut enter, rootfs).env("AGENT_HOLD", held).spawn();
    let mut entered = entered.expect("the program can be run");
    let outcome = watcher.outcome();
    let status = entered.wait().expect("a child");
    // Without arguments it fails at once: that it does shows that it was entered.
    assert_eq!(status.code(), Some(1), "{command:?}: the entering command");
    text(&mut watched.agent("rm", &["-f"], &[]));
    outcome
}

fn by_runc(rootfs: &Rootfs, way: Way, command: &[&str]) -> Outcome {
    let name = format!("watched-{}", std::process::id());
    let watched = Bundle::new(&name, &rootfs.path(), &FLAGS, command);
    let entering = Bundle::new(
        &format!("entering-{name}"),
        &rootfs.path(),
        &FLAGS,
        &["/bin/entering"],
    );
    let mut watcher = Watcher::start(&mut watched.runc("run", &[]));
    let pid = pid(&watched);
    entering.change(|spec| {
        let namespaces = spec["linux"]["namespaces"]
            .as_array_mut()
            .expect("namespaces");
        for namespace in namespaces.iter_mut().filter(|it| it["type"] == "pid") {
            namespace["path"] = format!("/proc/{pid}/ns/pid").into();
        }
    });
    for _ in 0..tries() {
        let mut enter = match way {
            Way::Exec => {
                let mut call = watched.runc("exec", &[]);
                call.arg("/bin/entering");
                call
            }
            Way::Share => entering.runc("run", &[]),
        };
        let ended = carrying(&mut enter, rootfs).stderr(Stdio::piped()).output();
        let ended = ended.expect("runc can be run");
        assert_eq!(
            ended.status.code(),
            Some(1),
            "{}",
            String::from_utf8_lossy(&ended.stderr)
        );
        if watcher.has_said() {
            break;
        }
    }
    drop(watched.runc("kill", &[]).arg("KILL").output());
    watcher.outcome()
}

fn pid(bundle: &Bundle) -> u64 {
    let state = bundle.runc("state", &[]).output().expect("runc can be run");
    let state: serde_json::Value = serde_json::from_slice(&state.stdout).expect("JSON");
    state["pid"].as_u64().expect("a pid")
}

/// The container that watches.
struct Watcher {
    child: Child,
    /// The pipe that the lines come from.
    output: OwnedFd,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Watcher {
    /// Starts it, and waits until it looks.
    fn start(call: &mut Command) -> Self {
        let call = call.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = call.spawn().expect("the program can be run");
        let output = child.stdout.take().expect("a pipe");
        let copy = output.as_fd().try_clone_to_owned().expect("a descriptor");
        let mut lines = BufReader::new(output).lines();
        let first = lines.next().expect("a line").expect("text");
        assert_eq!(first, "watching");
        Self {
            child,
            output: copy,
            lines,
        }
    }

    /// Whether it got something already.
    fn has_said(&self) -> bool {
        let mut waited = [PollFd::new(&self.output, PollFlags::IN)];
        poll(&mut waited, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// What it got until it was over, or was ended; [`Launcher::agent`] bounds the time.
    fn outcome(&mut self) -> Outcome {
        let mut outcome = Outcome::Held;
        for line in self.lines.by_ref() {
            match line.expect("text").as_str() {
                "over" => break,
                line if line.starts_with("got ") => outcome = Outcome::Broken,
                line => panic!("{line}"),
            }
        }
        outcome
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.wait();
    }
}
