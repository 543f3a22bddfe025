//! No wait for another process or file is without an end, and none blames another.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tests::agent::binary;
use tests::mounts::Mounts;
use tests::process::{Lines, wait_for_end};
use tests::run::{Container, STATE, output, rootfs, text};
use tests::wait::{PATIENCE, wait_for};

/// A container whose supervisor is stopped, and the supervisor.
fn stopped(name: &str) -> (Container, Pid) {
    let container = Container::new(name);
    container.start(&[], &["sleep", "1000"]);
    let pid = container.state()["supervisor"].as_i64();
    let pid = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let pid = pid.expect("a supervisor");
    kill_process(pid, Signal::STOP).expect("a process");
    wait_until_stopped(pid);
    (container, pid)
}

fn wait_until_stopped(pid: Pid) {
    let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
    wait_for("it is stopped", PATIENCE, || {
        let stat = fs::read_to_string(&stat).ok()?;
        stat.contains(") T ").then_some(())
    });
}

#[test]
#[ignore = "needs root"]
fn a_stopped_supervisor_holds_up_no_end() {
    for (name, words) in [("stop", ["stop", "-t0"]), ("remove", ["rm", "-f"])] {
        let (container, supervisor) = stopped(name);
        let ended = output(&mut container.agent(words[0], &[words[1]], &[]));
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{said}");
        let wanted = format!("process {}, is stopped", supervisor.as_raw_nonzero());
        assert!(said.contains(&wanted), "{said}");
        if words[0] == "stop" {
            assert_eq!(text(&mut container.agent("wait", &[], &[])), "137\n");
            text(&mut container.agent("rm", &[], &[]));
        }
        container.assert_gone();
    }
}

/// The wait itself is what the user asked for.
#[test]
#[ignore = "needs root"]
fn who_waits_hears_that_the_supervisor_is_stopped() {
    let (container, supervisor) = stopped("heard");
    let mut wait = container.agent("wait", &[], &[]);
    wait.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut wait = wait.spawn().expect("the program can be run");
    let said = Lines::of(wait.stderr.take().expect("a pipe"));
    let said = said.next(PATIENCE).unwrap_or_default();
    let wanted = format!("process {} is stopped", supervisor.as_raw_nonzero());
    assert!(said.contains(&wanted), "{said}");
    text(&mut container.agent("stop", &["-t0"], &[]));
    assert!(wait_for_end(&mut wait, "the container has ended").success());
    text(&mut container.agent("rm", &[], &[]));
    container.assert_gone();
}

/// It begins to make a container, and does not go on.
#[test]
#[ignore = "needs root"]
fn one_that_is_never_made_is_removed() {
    let container = Container::new("unmade");
    let mut run = container.run(&[], &["sleep", "1000"]);
    run.env("AGENT_HOLD", "recorded").stdin(Stdio::null());
    let mut run = run.spawn().expect("the program can be run");
    wait_until_stopped(Pid::from_child(&run));
    let began = Instant::now();
    let ended = output(&mut container.agent("stop", &[], &[]));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("to be made by its supervisor"), "{said}");
    assert!(said.contains("is stopped"), "{said}");
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    text(&mut container.agent("rm", &["-f"], &[]));
    wait_for_end(&mut run, "it is killed");
    container.assert_gone();
}

/// The supervisor of a container that `run -d` starts, once a test's hold has stopped it.
fn held_supervisor(caller: u32) -> Pid {
    let children = format!("/proc/{caller}/task/{caller}/children");
    let child = wait_for("there is a supervisor", PATIENCE, || {
        let children = fs::read_to_string(&children).ok()?;
        children.split_whitespace().next()?.parse().ok()
    });
    let supervisor = Pid::from_raw(child).expect("a pid");
    wait_until_stopped(supervisor);
    supervisor
}

/// Who starts it is told to end, or waits too long.
#[test]
#[ignore = "needs root"]
fn nothing_is_started_behind_the_callers_back() {
    for (step, signal) in [
        ("claimed", Some(Signal::INT)),
        ("recorded", Some(Signal::TERM)),
        ("prepared", Some(Signal::HUP)),
        ("begun", Some(Signal::QUIT)),
        ("cloned", Some(Signal::INT)),
        ("limited", Some(Signal::INT)),
        ("connected", Some(Signal::TERM)),
        ("recorded", None),
    ] {
        let container = Container::new("unwanted");
        let mut run = container.run(&["-d"], &["sleep", "1000"]);
        run.env("AGENT_HOLD", step).stdout(Stdio::piped());
        let mut run = run.stderr(Stdio::piped()).spawn().expect("the program");
        held_supervisor(run.id());
        if let Some(signal) = signal {
            kill_process(Pid::from_child(&run), signal).expect("a process");
        }
        let ended = wait_for_end(&mut run, "the caller gives up");
        let said = std::io::read_to_string(run.stderr.take().expect("a pipe")).expect("UTF-8");
        let status = signal.map_or(125, |signal| 128 + signal.as_raw());
        assert_eq!(ended.code(), Some(status), "{step}: {said}");
        let wanted = match signal {
            Some(_) => "interrupted by signal",
            None => "is stopped",
        };
        assert!(said.contains(wanted), "{step}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        // Nothing comes later, either.
        assert_eq!(container.remains(), [] as [String; 0], "{step}");
    }
}

/// Mounts a FUSE file system that answers nothing, and stays.
const HUNG: &str = r#"
    open my $fuse, "+<", "/dev/fuse" or die "/dev/fuse: $!";
    my $options = "fd=" . fileno($fuse) . ",rootmode=40000,user_id=0,group_id=0";
    my ($what, $where, $none) = ("fuse", $ARGV[0], 0);
    # mount(2), on x86-64
    syscall(165, $what, $where, $what, $none, $options) == 0 or die "mount: $!";
    $| = 1;
    print "mounted\n";
    sleep;
"#;

/// A volume on a file system whose server hangs.
#[test]
#[ignore = "needs root"]
fn a_volume_that_hangs_holds_up_nothing() {
    if !Path::new("/dev/fuse").exists() {
        tests::skip("this kernel has no FUSE, and no other file system hangs at will");
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let mounts = Mounts::new("tmpfs", place.path());
    let mut server = mounts.command("perl");
    let server = server.args(["-e", HUNG]).arg(place.path());
    let mut server = server.stdout(Stdio::piped()).spawn().expect("perl");
    let said = Lines::of(server.stdout.take().expect("a pipe"));
    assert_eq!(said.next(PATIENCE).as_deref(), Some("mounted"));
    for signal in [
        None,
        Some(Signal::INT),
        Some(Signal::TERM),
        Some(Signal::HUP),
    ] {
        let container = Container::new("hung");
        let volume = format!("{}/x:/tmp", place.path().display());
        let mut run = mounts.command(binary());
        run.args(["run", "--name", &container.name, "-v", &volume, "--rootfs"]);
        let run = run.arg(rootfs()).arg("true").stdin(Stdio::null());
        let began = Instant::now();
        let mut run = run.stderr(Stdio::piped()).spawn().expect("the program");
        if let Some(signal) = signal {
            // The one who looks it up.
            let children = format!("/proc/{0}/task/{0}/children", run.id());
            wait_for("it waits for a child", PATIENCE, || {
                let children = fs::read_to_string(&children).ok()?;
                (!children.is_empty()).then_some(())
            });
            kill_process(Pid::from_child(&run), signal).expect("a process");
        }
        let ended = wait_for_end(&mut run, "a volume that hangs is given up");
        let said = std::io::read_to_string(run.stderr.take().expect("a pipe")).expect("UTF-8");
        let status = signal.map_or(125, |signal| 128 + signal.as_raw());
        assert_eq!(ended.code(), Some(status), "{said}");
        let path = format!("{}/x", place.path().display());
        assert!(said.contains(&path) && said.contains("wait"), "{said}");
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        container.assert_gone();
    }
    tests::process::kill(&mut server);
}

/// Takes the lock of a file as fcntl(2) has it, and stops itself.
const LOCK: &str = r#"
    use Fcntl;
    open my $file, ">>", $ARGV[0] or die "$ARGV[0]: $!";
    my $lock = pack "s s x4 q q i x4", F_WRLCK, 0, 0, 0, 0;
    fcntl $file, F_SETLK, $lock or die "fcntl: $!";
    kill "STOP", $$;
"#;

#[test]
#[ignore = "needs root"]
fn a_lock_that_is_never_let_go_is_named() {
    let run = Mounts::new("tmpfs", "/run");
    let agent = |words: &[&str]| {
        let mut command = run.command(binary());
        command.args(words).stdin(Stdio::null());
        command
    };
    let root = rootfs().to_str().expect("UTF-8");
    let launch = ["run", "--rootfs", root, "true"];
    text(&mut agent(&launch));
    let lock = format!("{STATE}/.lock");
    let mut holder = run.command("perl");
    let holder = holder.args(["-e", LOCK, &lock]).process_group(0);
    let mut holder = holder.spawn().expect("perl can be run");
    wait_until_stopped(Pid::from_child(&holder));
    let began = Instant::now();
    let ended = output(&mut agent(&launch));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(125), "{said}");
    let wanted = format!(
        "{lock}, which is locked: process {} is stopped",
        holder.id()
    );
    assert!(said.contains(&wanted), "{said}");
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "{:?}",
        began.elapsed()
    );
    tests::process::kill(&mut holder);
    text(&mut agent(&launch));
}

/// Commands look at the state of every container.
#[test]
#[ignore = "needs root"]
fn a_fifo_in_the_state_holds_up_nothing() {
    let run = Mounts::new("tmpfs", "/run");
    for file in ["lock", "state.json", "config.json"] {
        let script = format!(
            "mkdir -p -m 700 {STATE}/planted; rm -f {STATE}/planted/*; mkfifo {STATE}/planted/{file}"
        );
        text(run.command("sh").args(["-e", "-c", &script]));
        for words in [
            &["wait", "planted"][..],
            &["stop", "planted"],
            &["ps"],
            &["exec", "planted", "true"],
        ] {
            let mut command = run.command(binary());
            let mut command = command
                .args(words)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the program can be run");
            wait_for_end(&mut command, &format!("{file}: {words:?}"));
        }
    }
}
