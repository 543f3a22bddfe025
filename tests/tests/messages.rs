//! What the program says of a name, a socket, a process or a limit that it cannot use: the cause, and the next step.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tests::agent::{agent, binary};
use tests::cgroup::Cgroup;
use tests::mounts::Mounts;
use tests::process::kill;
use tests::program::{copy, program};
use tests::rootless::Everybodys;
use tests::run::{Container, output, rootfs};
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};

/// Any but root: `nobody` of Debian.
const NOBODY: u32 = 65534;

/// Runs it to its end: its exit status, and what it said on standard error.
fn said(command: &mut Command) -> (i32, String) {
    let output = output(command.stdin(Stdio::null()));
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    (output.status.code().expect("an exit status"), said)
}

/// Checks that it fails with one line that has all of these words, and none of those.
#[track_caller]
fn assert_says(command: &mut Command, status: i32, words: &[&str], without: &[&str]) {
    let (found, said) = said(command);
    assert_eq!(found, status, "{command:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{command:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in {said}");
    }
    for word in without {
        assert!(!said.contains(word), "{word:?} is in {said}");
    }
}

#[test]
fn what_is_spelled_alike_is_suggested() {
    for (line, status, meant) in [
        ("inspct web", 64, "did you mean 'inspect'"),
        ("runn", 64, "did you mean 'run'?"),
        ("ps --sockt /x", 64, "did you mean '--socket'?"),
        ("run --memry 3m true", 125, "did you mean '--memory'?"),
        ("exec --usr x web true", 125, "did you mean '--user'?"),
        ("ps --output jsn", 64, "did you mean 'json'?"),
    ] {
        assert_says(&mut agent(line.split(' ')), status, &[meant, "--help"], &[]);
    }
    // Nothing is like it.
    assert_says(&mut agent(["zzzzzz"]), 64, &["'zzzzzz'"], &["did you mean"]);
}

#[test]
#[ignore = "needs root"]
fn a_socket_on_which_nobody_listens_is_said() {
    let place = tempfile::tempdir().expect("a directory");
    let missing = place.path().join("typo");
    let stale = place.path().join("stale");
    drop(UnixListener::bind(&stale).expect("a socket"));
    for socket in [&missing, &stale] {
        let socket = socket.to_str().expect("UTF-8");
        let calls: [&[&str]; 3] = [
            &["ps"],
            &["ns", "--type", "net"],
            &["watch", "--for", "1ms"],
        ];
        for call in calls {
            for mut by in [agent([call, &["--socket", socket]].concat()), {
                let mut by = agent(call);
                by.env("AGENT_SOCKET", socket);
                by
            }] {
                let (status, said) = said(by.args(["--docker-socket", "off"]));
                assert_eq!(status, 0, "{said}");
                assert!(
                    said.contains("no agent serve on") && said.contains(socket),
                    "{said}"
                );
            }
        }
    }
    // Nobody is to be asked, and nobody is missed.
    let (status, said) = said(&mut agent([
        "ps",
        "--docker-socket",
        "off",
        "--socket",
        "off",
    ]));
    assert_eq!((status, &*said), (0, ""));
}

/// The program, as an ordinary user calls it.
fn by_nobody(directory: &Path, arguments: &[&str]) -> Command {
    let own = directory.join("agent");
    if !own.exists() {
        fs::set_permissions(directory, Permissions::from_mode(0o755)).expect("own directory");
        copy(binary(), &own);
    }
    let mut command = Command::new(own);
    command.args(arguments).current_dir("/");
    command.env_remove("XDG_RUNTIME_DIR");
    command.uid(NOBODY).gid(NOBODY);
    command
}

#[test]
#[ignore = "needs root"]
fn an_ordinary_user_is_told_what_is_missing() {
    let place = tempfile::tempdir().expect("a directory");
    let closed = place.path().join("closed");
    fs::create_dir(&closed).expect("a directory");
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).expect("own directory");
    let hidden = closed.join("agent.sock");
    let socket = place.path().join("roots.sock");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    fs::set_permissions(&socket, Permissions::from_mode(0o600)).expect("own socket");
    let calls: [&[&str]; 4] = [
        &["ps"],
        &["ns", "--pid", "1"],
        &["inspect", "1"],
        &["watch"],
    ];
    for call in calls {
        for (socket, closed, mode) in [
            (&hidden, &closed, "mode 0700"),
            (&socket, &socket, "mode 0600"),
        ] {
            let path = socket.to_str().expect("UTF-8");
            let mut by = by_nobody(place.path(), call);
            let at = format!("{} is user 0's, {mode}", closed.display());
            assert_says(
                by.args(["--socket", path]),
                1,
                &[path, &at, "sudo"],
                &["there is no"],
            );
        }
        let mut alone = by_nobody(place.path(), call);
        let words = ["needs root", "CAP_BPF", "sudo"];
        assert_says(alone.args(["--socket", "off"]), 1, &words, &["there is no"]);
    }
    // Who else has one, only root may see.
    let calls: [&[&str]; 5] = [&["exec"], &["stop"], &["logs"], &["wait"], &["rm"]];
    for call in calls {
        let mut words = [call, &["messages-nobodys"]].concat();
        if call == ["exec"] {
            words.push("true");
        }
        let status = if call == ["exec"] { 125 } else { 1 };
        let mut by = by_nobody(place.path(), &words);
        by.env("AGENT_SOCKET", &hidden);
        let wanted = ["agent run of this user", "cannot be told", "sudo"];
        assert_says(&mut by, status, &wanted, &[]);
    }
    let joins = [
        "run",
        "--pid",
        "container:messages-nobodys",
        "--bin",
        "true",
        "true",
    ];
    let mut by = by_nobody(place.path(), &joins);
    by.env("AGENT_SOCKET", &hidden);
    assert_says(
        &mut by,
        125,
        &["--pid container:messages-nobodys", "cannot be told", "sudo"],
        &[],
    );
}

#[test]
#[ignore = "needs root"]
fn a_process_that_is_there_is_not_said_to_be_missing() {
    let ns = |pid: &str| {
        agent([
            "ns",
            "--docker-socket",
            "off",
            "--socket",
            "off",
            "--pid",
            pid,
        ])
    };
    // Where its capabilities are more than this root's, its namespaces are closed.
    let (status, said) = said(&mut ns("1"));
    assert!(
        status == 0 || said.contains("is there, and its namespaces are closed"),
        "{said}"
    );
    let mut ended = Command::new(program("true")).spawn().expect("a program");
    let pid = ended.id().to_string();
    wait_for("it has ended", PATIENCE, || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.contains(") Z ").then_some(())
    });
    let mut inspect = agent(["inspect", "--docker-socket", "off", "--socket", "off", &pid]);
    let words = [&*pid, "has ended", "not waited for"];
    assert_says(&mut inspect, 1, &words, &["no such process"]);
    let status = ended.wait().expect("a child");
    assert!(status.success());
    let most = fs::read_to_string("/proc/sys/kernel/pid_max").expect("a number");
    let above = most.trim().parse::<u32>().expect("a number") + 1;
    assert_says(
        &mut ns(&above.to_string()),
        1,
        &["there is no such process"],
        &[],
    );
}

#[test]
#[ignore = "needs root"]
fn a_units_name_is_explained() {
    let unit = format!("messages{}.service", std::process::id());
    let inspect =
        |name: &str| agent(["inspect", "--docker-socket", "off", "--socket", "off", name]);
    assert_says(
        &mut inspect(&unit),
        1,
        &[
            &unit,
            "no unit of that name has a cgroup here",
            "systemctl status",
        ],
        &[],
    );
    let cgroup = Cgroup::strangers("messages", &unit);
    let mut sleep = cgroup.command(program("sleep"));
    let mut sleep: Child = sleep.arg("1000").spawn().expect("a process");
    let pid = sleep.id().to_string();
    wait_for("it is there", PATIENCE, || {
        cgroup.members().contains(&sleep.id()).then_some(())
    });
    // Below a cgroup that is not systemd's, anybody may have given it that name.
    let path = cgroup.path();
    assert_says(
        &mut inspect(&unit),
        1,
        &["name one by its cgroup", &path],
        &[],
    );
    let page = output(&mut inspect(&path));
    let said = String::from_utf8_lossy(&page.stdout);
    assert!(page.status.success(), "{page:?}");
    assert!(said.contains(&unit) && said.contains(&pid), "{said}");
    kill(&mut sleep);
}

#[test]
#[ignore = "needs root"]
fn too_few_descriptors_are_refused_before_anything_is_made() {
    let container = Container::new("messages-few");
    for few in 0..=3 {
        let flag = format!("nofile={few}");
        let mut run = container.run(&["--ulimit", &flag], &["true"]);
        assert_says(
            &mut run,
            125,
            &["--ulimit", &flag, "wanted are 4 or more"],
            &["channel"],
        );
    }
    container.assert_gone();
    let (status, said) = said(&mut container.run(&["--ulimit", "nofile=4"], &["true"]));
    assert_eq!((status, &*said), (0, ""));
    let bundle = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::symlink(rootfs(), bundle.path().join("root")).expect("a link");
    let config = json!({
        "ociVersion": "1.2.0",
        "root": {"path": rootfs()},
        "process": {
            "cwd": "/", "args": ["true"], "user": {"uid": 0, "gid": 0},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 3}],
        },
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]},
    });
    fs::write(bundle.path().join("config.json"), config.to_string()).expect("a file");
    let mut run = agent(["run", "--name", &container.name, "--bundle"]);
    assert_says(
        run.arg(bundle.path()),
        125,
        &["NOFILE", "wanted are 4 or more"],
        &["channel"],
    );
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn a_killed_supervisors_container_is_known_by_the_command_that_removes_it() {
    // No other test's command is the next one for this user's state.
    let files = Everybodys::new();
    for (words, status, wanted) in [
        (&["rm", "-f", "left"][..], 0, ""),
        (&["rm", "left"], 0, ""),
        (&["stop", "-t", "1", "left"], 0, ""),
        (&["wait", "left"], 1, "was killed"),
        (&["logs", "left"], 1, "was killed"),
        (&["exec", "left", "true"], 125, "was killed"),
    ] {
        let started = output(&mut files.run(&["-d", "--name", "left"], &["sleep", "1000"]));
        assert!(started.status.success(), "{started:?}");
        files.kill_supervisor("left");
        let (found, said) = said(&mut files.agent(words));
        assert_eq!(found, status, "{words:?}: {said}");
        let is_said = if wanted.is_empty() {
            said.is_empty()
        } else {
            said.contains(wanted) && said.contains("\"left\"")
        };
        assert!(is_said, "{words:?}: {said}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_session_and_a_service_are_the_hosts_own() {
    let serve = Serve::start(&["--docker-socket", "off"]);
    let container = Cgroup::new("messages-host");
    for unit in ["session-9.scope", "web.service", "plain"] {
        let own = Cgroup::strangers("messages-own", unit);
        let kinds = ["unshare", "exec"];
        let watches = kinds.map(|kind| serve.watch(&["--host", "--kind", kind]));
        let unshare = |cgroup: &Cgroup, kind: &str| {
            let mut unshare = cgroup.command(program("unshare"));
            let status = unshare.args([kind, "true"]).status();
            assert!(status.expect("unshare can be run").success());
        };
        // The container's comes first: it would be seen first.
        unshare(&container, "--ipc");
        unshare(&own, "--net");
        for mut watch in watches {
            let is_in =
                |record: &Value, cgroup: &Cgroup| record["container"]["cgroup"] == cgroup.path();
            let seen = watch.until(PATIENCE, |record| is_in(record, &own));
            let of_container = seen.iter().any(|record| is_in(record, &container));
            assert!(!of_container, "{unit}: {seen:?}");
        }
    }
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn hidden_processes_networks_are_told_once() {
    let container = Container::new("messages-hidden");
    // Whoever has fewer capabilities does not see it where /proc hides processes.
    container.start(&["--cap-add", "ALL", "--net", "none"], &["sleep", "1000"]);
    let mounts = Mounts::new("proc", "/proc");
    let hidden = "mount -o remount,hidepid=ptraceable /proc && exec setpriv --bounding-set -sys_ptrace --inh-caps \
                  -sys_ptrace \"$@\"";
    let mut command = mounts.command("sh");
    command.args(["-c", hidden, "sh"]).arg(binary());
    let serve = Serve::spawn_by(command, &["--docker-socket", "off"]);
    serve.wait_until_it_traces();
    for _ in 0..3 {
        serve.metrics();
    }
    let log = serve.log();
    assert_eq!(log.matches("container_network_*").count(), 1, "{log}");
    assert!(log.contains("CAP_SYS_PTRACE"), "{log}");
    let mut doctor = mounts.command("setpriv");
    doctor.args(["--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace"]);
    let told = output(doctor.arg(binary()).arg("doctor"));
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("no CAP_SYS_PTRACE"), "{told}");
}

/// A controller that v2 has here, and a file of it with what is to be in that.
fn of_v2(directory: &Path) -> Option<(&'static str, &'static str, &'static str)> {
    let there = fs::read_to_string(directory.join("cgroup.controllers")).expect("a cgroup of v2");
    let mut all = [
        ("memory", "memory.max", "104857600"),
        ("pids", "pids.max", "100"),
    ]
    .into_iter();
    all.find(|(name, ..)| there.split_whitespace().any(|it| it == *name))
}

#[test]
#[ignore = "needs root"]
fn what_is_advised_for_a_crowded_cgroup_is_what_the_kernel_takes() {
    let cgroup = Cgroup::strangers("messages-crowded", "web.service");
    let directory = cgroup.directory("");
    let Some((controller, file, value)) = of_v2(&directory) else {
        tests::skip("needs a controller of v2");
        return;
    };
    let mut sleep = cgroup.command(program("sleep"));
    let mut sleep: Child = sleep.arg("1000").spawn().expect("a process");
    wait_for("it is there", PATIENCE, || {
        cgroup.members().contains(&sleep.id()).then_some(())
    });
    let container = Container::new("messages-crowded");
    let bundle = tempfile::tempdir().expect("a directory");
    let config = json!({
        "ociVersion": "1.2.0",
        "root": {"path": rootfs()},
        "process": {"cwd": "/", "args": ["true"], "user": {"uid": 0, "gid": 0}},
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "pid"}],
            "resources": {"unified": {file: value}},
        },
    });
    fs::write(bundle.path().join("config.json"), config.to_string()).expect("a file");
    let run = || {
        let mut run = agent(["run", "--name", &container.name, "--cgroup-parent"]);
        run.arg(cgroup.path()).arg("--bundle").arg(bundle.path());
        run
    };
    let (status, said) = self::said(&mut run());
    assert_eq!(status, 125, "{said}");
    for word in [controller, "a process is in", "DelegateSubgroup="] {
        assert!(said.contains(word), "{word:?} is missing in {said}");
    }
    let (_, advice) = said.trim_end().rsplit_once("as root: ").expect("an advice");
    let done = output(Command::new(program("sh")).args(["-c", advice]));
    assert!(done.status.success(), "{advice}: {done:?}");
    // What the rest of the way needs is said too, until it runs.
    let (status, said) = self::said(&mut run());
    assert_eq!((status, &*said), (0, ""));
    kill(&mut sleep);
}

/// A name is a name: what is advised follows from what failed.
#[test]
#[ignore = "needs root"]
fn a_container_called_swan_is_told_what_any_other_is() {
    for name in ["swan", "memsw", "oom"] {
        let container = Container::new(name);
        // No less than a page is left to a process.
        for flags in [
            &["--memory", "1"][..],
            &["--pids-limit", "0"],
            &["--sysctl", "net.swap=1"],
        ] {
            let (status, said) = said(&mut container.run(flags, &["true"]));
            assert_ne!(status, 0, "{flags:?}: {said}");
            assert!(!said.contains("swapaccount"), "{flags:?}: {said}");
        }
    }
}
