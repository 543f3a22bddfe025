//! Standard streams: a container that gets an open file of the host opens it in another mode, changes who may do what
//! with it, or locks it.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rustix::fs::{FlockOperation, flock};
use rustix::termios::{LocalModes, tcgetattr};
use tempfile::TempDir;
use tests::agent::profile;
use tests::attacks::{Attack, Bundle, Kind, Launcher, Outcome, judge};
use tests::pty::Pty;
use tests::rootfs::Rootfs;
use tests::run::Container;
use tests::wait::{PATIENCE, wait_for};

/// What stands in a file of the host.
const SECRET: &str = "of the host\n";

const ATTACKS: [Attack; 18] = [
    Attack {
        name: "run: write to the file that is standard input",
        carry_out: |by| overwrite(by, Way::Run),
    },
    Attack {
        name: "exec: write to the file that is standard input",
        carry_out: |by| overwrite(by, Way::Exec),
    },
    Attack {
        name: "run: make the file that is standard output set-user-ID",
        carry_out: |by| set_user_id(by, Way::Run),
    },
    Attack {
        name: "exec: make the file that is standard output set-user-ID",
        carry_out: |by| set_user_id(by, Way::Exec),
    },
    Attack {
        name: "run -d: make the log set-user-ID",
        carry_out: |by| set_user_id(by, Way::Detached),
    },
    Attack {
        name: "run: give away the file that is standard error",
        carry_out: |by| give_away(by, Way::Run),
    },
    Attack {
        name: "exec: give away the file that is standard error",
        carry_out: |by| give_away(by, Way::Exec),
    },
    Attack {
        name: "run: cut off a file that is appended to",
        carry_out: |by| cut_off(by, Way::Run),
    },
    Attack {
        name: "exec: cut off a file that is appended to",
        carry_out: |by| cut_off(by, Way::Exec),
    },
    Attack {
        name: "run -d: cut off the log",
        carry_out: |by| cut_off(by, Way::Detached),
    },
    Attack {
        name: "run: read a file that is only written to",
        carry_out: |by| read_output(by, Way::Run),
    },
    Attack {
        name: "exec: read a file that is only written to",
        carry_out: |by| read_output(by, Way::Exec),
    },
    Attack {
        name: "run: read what standard input is past",
        carry_out: |by| read_before(by, Way::Run),
    },
    Attack {
        name: "exec: read what standard input is past",
        carry_out: |by| read_before(by, Way::Exec),
    },
    Attack {
        name: "run: lock the file that is standard input",
        carry_out: |by| lock(by, Way::Run),
    },
    Attack {
        name: "run: take a lease on the file that is standard input",
        carry_out: |by| lease(by, Way::Run),
    },
    Attack {
        name: "run: turn the echo of the caller's terminal off",
        carry_out: |by| silence(by, Way::Run),
    },
    Attack {
        name: "run: change the host's /dev/null",
        carry_out: |by| change_null(by, Way::Run),
    },
];

#[test]
#[ignore = "needs root"]
fn standard_streams() {
    judge(Kind::Streams, &ATTACKS);
}

/// How the command that attacks gets into a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Run,
    Exec,
    Detached,
}

/// What a command gets as its standard streams; nothing, where nothing is said.
#[derive(Debug, Default)]
struct Streams {
    input: Option<Stdio>,
    output: Option<Stdio>,
    errors: Option<Stdio>,
}

impl Streams {
    fn give_to(self, command: &mut Command) -> &mut Command {
        command
            .stdin(self.input.unwrap_or_else(Stdio::null))
            .stdout(self.output.unwrap_or_else(Stdio::piped))
            .stderr(self.errors.unwrap_or_else(Stdio::piped))
    }
}

/// A file of the host, and the container that attacks it.
struct Scene {
    directory: TempDir,
    rootfs: Rootfs,
    container: Container,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("file"), SECRET).expect("a file");
        Self {
            directory,
            rootfs: Rootfs::new(&[("attack", &profile().join("attack"))]),
            container: Container::new("streams"),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("file")
    }

    fn open(&self, options: &OpenOptions) -> File {
        options.open(self.path()).expect("a file")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).expect("a file")
    }

    /// Carries out a script of busybox's shell in a container.
    fn attack(&self, by: Launcher, way: Way, script: &str, streams: Streams) -> Output {
        let name = self.container.name.as_str();
        let command = ["/bin/sh", "-c", script];
        let sleep = ["/bin/sleep", "1000"];
        if by == Launcher::Runc {
            return attack_by_runc(&self.rootfs, name, way, &command, streams);
        }
        let root = self.rootfs.path();
        let root = root.to_str().expect("UTF-8");
        let run = ["run", "--name", name, "--rootfs", root];
        let output = match way {
            Way::Run => {
                let input = streams.input.iter().map(|_| "-i");
                let rest = ["--rm", "--"].into_iter().chain(command);
                let words: Vec<_> = run.into_iter().chain(input).chain(rest).collect();
                let mut call = by.agent(&words);
                streams.give_to(&mut call).output()
            }
            Way::Exec => {
                let started = by
                    .agent(&[&run[..], &["-d", "--"], &sleep].concat())
                    .output();
                let started = started.expect("agent can be run");
                assert!(started.status.success(), "{started:?}");
                let mut call = by.agent(&["exec", "-i", name]);
                let output = streams.give_to(call.args(command)).output();
                drop(by.agent(&["rm", "-f", name]).output());
                output
            }
            Way::Detached => {
                let output = by
                    .agent(&[&run[..], &["-d", "--"], &command].concat())
                    .output();
                drop(by.agent(&["wait", name]).output());
                output
            }
        };
        output.expect("agent can be run")
    }

    /// The log of a detached container; for runc, which has none, the file that it is given.
    fn log(&self, by: Launcher) -> PathBuf {
        let state = || self.container.state()["log"].as_str().map(PathBuf::from);
        match by {
            Launcher::Runc => self.path(),
            Launcher::Agent | Launcher::Unguarded(_) => state().expect("a log").join("log"),
        }
    }
}

fn attack_by_runc(
    rootfs: &Rootfs,
    name: &str,
    way: Way,
    command: &[&str],
    streams: Streams,
) -> Output {
    let first = match way {
        Way::Exec => &["/bin/sleep", "1000"],
        Way::Run | Way::Detached => command,
    };
    let bundle = Bundle::new(name, &rootfs.path(), &[], first);
    let output = match way {
        Way::Run => streams.give_to(&mut bundle.runc("run", &[])).output(),
        Way::Exec => {
            let mut start = bundle.runc("run", &["--detach"]);
            start.stdin(Stdio::null()).stdout(Stdio::null());
            let started = start.stderr(Stdio::null()).status();
            assert!(started.expect("runc can be run").success());
            let mut exec = bundle.runc("exec", &[]);
            streams.give_to(exec.args(command)).output()
        }
        Way::Detached => {
            let output = streams
                .give_to(&mut bundle.runc("run", &["--detach"]))
                .output();
            wait_for("the container has stopped", PATIENCE, || {
                let state = bundle.runc("state", &[]).output().ok()?;
                let state = String::from_utf8_lossy(&state.stdout).into_owned();
                state.contains("\"stopped\"").then_some(())
            });
            output
        }
    };
    output.expect("runc can be run")
}

fn broken(is_broken: bool) -> Outcome {
    if is_broken {
        Outcome::Broken
    } else {
        Outcome::Held
    }
}

fn reading() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    options
}

fn appending() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true);
    options
}

fn overwrite(by: Launcher, way: Way) -> Outcome {
    let scene = Scene::new();
    let streams = Streams {
        input: Some(scene.open(&reading()).into()),
        ..Streams::default()
    };
    scene.attack(by, way, "echo gone >/proc/self/fd/0", streams);
    broken(scene.text() != SECRET)
}

fn set_user_id(by: Launcher, way: Way) -> Outcome {
    let scene = Scene::new();
    let streams = Streams {
        output: Some(scene.open(&appending()).into()),
        ..Streams::default()
    };
    let script = "/bin/busybox chmod 4755 /proc/self/fd/1";
    scene.attack(by, way, script, streams);
    let path = match way {
        Way::Detached => scene.log(by),
        Way::Run | Way::Exec => scene.path(),
    };
    let mode = fs::metadata(path).expect("a file").permissions().mode();
    broken(mode & 0o4000 != 0)
}

fn give_away(by: Launcher, way: Way) -> Outcome {
    let scene = Scene::new();
    let streams = Streams {
        errors: Some(scene.open(&appending()).into()),
        ..Streams::default()
    };
    scene.attack(by, way, "/bin/busybox chown 1234 /proc/self/fd/2", streams);
    broken(fs::metadata(scene.path()).expect("a file").uid() != 0)
}

fn cut_off(by: Launcher, way: Way) -> Outcome {
    let scene = Scene::new();
    let streams = Streams {
        output: Some(scene.open(&appending()).into()),
        ..Streams::default()
    };
    let script = "echo written; : >/proc/self/fd/1; echo last";
    scene.attack(by, way, script, streams);
    let path = match way {
        Way::Detached => scene.log(by),
        Way::Run | Way::Exec => scene.path(),
    };
    let there = fs::read(path).expect("a file");
    broken(!String::from_utf8_lossy(&there).contains("written"))
}

fn read_output(by: Launcher, way: Way) -> Outcome {
    let scene = Scene::new();
    let streams = Streams {
        output: Some(scene.open(&appending()).into()),
        ..Streams::default()
    };
    // Where it is a pipe, a reader would wait for what it holds itself.
    let script = "read -t 1 line </proc/self/fd/1; echo \"$line\" >&2";
    let output = scene.attack(by, way, script, streams);
    broken(String::from_utf8_lossy(&output.stderr).contains(SECRET.trim_end()))
}

fn read_before(by: Launcher, way: Way) -> Outcome {
    let scene = Scene::new();
    let mut file = scene.open(&reading());
    file.seek(SeekFrom::End(0)).expect("a file");
    let streams = Streams {
        input: Some(file.into()),
        ..Streams::default()
    };
    let output = scene.attack(by, way, "cat </proc/self/fd/0", streams);
    broken(String::from_utf8_lossy(&output.stdout).contains(SECRET.trim_end()))
}

fn lock(by: Launcher, way: Way) -> Outcome {
    let scene = Scene::new();
    let file = scene.open(&reading());
    let streams = Streams {
        input: Some(file.try_clone().expect("a descriptor").into()),
        ..Streams::default()
    };
    scene.attack(by, way, "/bin/attack lock", streams);
    // The lock is the open file's, and so this test's as long as it has that.
    let another = scene.open(&reading());
    let locked = flock(&another, FlockOperation::NonBlockingLockExclusive).is_err();
    drop(file);
    broken(locked)
}

fn lease(by: Launcher, way: Way) -> Outcome {
    let scene = Scene::new();
    let file = scene.open(&reading());
    let streams = Streams {
        input: Some(file.try_clone().expect("a descriptor").into()),
        ..Streams::default()
    };
    scene.attack(by, way, "/bin/attack lease", streams);
    let mut writing = OpenOptions::new();
    let opened = writing
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(scene.path());
    drop(file);
    broken(opened.is_err())
}

fn silence(by: Launcher, way: Way) -> Outcome {
    let scene = Scene::new();
    let pty = Pty::new();
    let streams = Streams {
        input: Some(pty.terminal.try_clone().expect("a descriptor").into()),
        ..Streams::default()
    };
    scene.attack(by, way, "/bin/busybox stty -echo", streams);
    let modes = tcgetattr(&pty.terminal).expect("a terminal").local_modes;
    broken(!modes.contains(LocalModes::ECHO))
}

/// The device's time of change does no harm to others.
fn change_null(by: Launcher, way: Way) -> Outcome {
    const THEN: i64 = 86_400;
    let scene = Scene::new();
    let script = "/bin/busybox touch -d @86400 /proc/self/fd/0";
    scene.attack(by, way, script, Streams::default());
    let changed = fs::metadata("/dev/null").expect("a device").mtime() == THEN;
    if changed {
        let restored = File::options().write(true).open("/dev/null");
        let now = std::time::SystemTime::now();
        restored
            .and_then(|file| file.set_modified(now))
            .expect("the device");
    }
    broken(changed)
}
