//! What a container of `agent run` may do, and what its root file system shows.

use std::fs;
use std::process::{Command, Output, Stdio};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::json;
use tests::agent::agent;
use tests::program::{copy, program};
use tests::run::{Container, output, rootfs, text};

/// `agent run` of a shell script, with this host's files.
fn script(flags: &[&str], script: &str) -> (Container, Command) {
    let container = Container::new("privileges");
    let mut run = agent(["run", "--name", &container.name, "--rootfs", "host"]);
    run.args(flags).args(["sh", "-c", script]);
    run.stdin(Stdio::null());
    (container, run)
}

fn said(flags: &[&str], of: &str) -> String {
    let (_container, mut run) = script(flags, of);
    text(&mut run).trim_end().to_owned()
}

fn ended(flags: &[&str], of: &str) -> Output {
    let (_container, mut run) = script(flags, of);
    output(&mut run)
}

/// A line of /proc/PID/status, in a new container.
fn status(flags: &[&str], name: &str) -> String {
    said(
        flags,
        &format!("grep '^{name}:' /proc/self/status | cut -f 2"),
    )
}

const NONE: &str = "0000000000000000";
/// docker's default: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw,
/// sys_chroot, mknod, audit_write, setfcap.
const DEFAULT: &str = "00000000a80425fb";

#[test]
#[ignore = "needs root"]
fn capabilities_are_dockers_unless_asked_otherwise() {
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(status(&[], set), DEFAULT, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(status(&[], set), NONE, "{set}");
        assert_eq!(status(&["--cap-add", "NET_ADMIN"], set), NONE, "{set}");
    }
    assert_eq!(
        status(&["--cap-add", "NET_ADMIN"], "CapEff"),
        "00000000a80435fb"
    );
    assert_eq!(status(&["--cap-drop", "ALL"], "CapBnd"), NONE);
    let only = ["--cap-drop", "ALL", "--cap-add", "CHOWN"];
    assert_eq!(status(&only, "CapPrm"), "0000000000000001");
}

#[test]
#[ignore = "needs root"]
fn an_ordinary_user_has_no_capabilities() {
    let user = ["--user", "1234:4321", "--group-add", "77"];
    assert_eq!(said(&user, "id -u; id -g; id -G"), "1234\n4321\n4321 77");
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_eq!(status(&user, set), NONE, "{set}");
    }
    assert_eq!(status(&user, "CapBnd"), DEFAULT);
    assert_eq!(
        said(&["--user", "nobody"], "id -un; id -gn"),
        "nobody\nnogroup"
    );
}

#[test]
#[ignore = "needs root"]
fn no_new_privileges_and_a_filter_unless_asked_otherwise() {
    assert_eq!(status(&[], "NoNewPrivs"), "1");
    assert_eq!(status(&[], "Seccomp"), "2");
    let may = ["--security-opt", "no-new-privileges=false"];
    assert_eq!(status(&may, "NoNewPrivs"), "0");
    assert_eq!(status(&may, "Seccomp"), "2");
    let free = ["--security-opt", "seccomp=unconfined"];
    assert_eq!(status(&free, "Seccomp"), "0");

    let unshare = "unshare --user true 2>/dev/null && echo done || echo refused";
    assert_eq!(said(&[], unshare), "refused");
    assert_eq!(said(&free, unshare), "done");
}

#[test]
#[ignore = "needs root"]
fn a_filter_can_be_a_file() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{
            "names": ["mkdir", "mkdirat"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": libc::ENOTSUP,
        }],
    });
    fs::write(file.path(), profile.to_string()).expect("a file");
    let filter = format!("seccomp={}", file.path().display());
    let ended = ended(
        &["--security-opt", &filter],
        "touch /tmp/file && mkdir /tmp/x",
    );
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("'/tmp/x': Operation not supported"), "{said}");
    assert_eq!(said.lines().count(), 1, "a file can be made: {said}");
}

/// What enters a container is forked, and its filter is there before: one that refuses forks refuses them to the command.
#[test]
#[ignore = "needs root"]
fn a_filter_that_refuses_forks_lets_commands_enter_and_holds_them() {
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names":
        ["clone", "clone3", "fork", "vfork", "setsid"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), profile).expect("a file");
    let filter = format!("seccomp={}", file.path().display());
    let container = Container::new("forkless");
    container.start(&["--security-opt", &filter], &["sleep", "1000"]);
    let status = text(&mut container.agent("exec", &[], &["cat", "/proc/self/status"]));
    assert!(status.contains("Seccomp:\t2"), "{status}");
    let forks = ["sh", "-c", "true & echo forked"];
    let ended = output(&mut container.agent("exec", &[], &forks));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(
        !ended.status.success() && said.contains("fork"),
        "{ended:?}"
    );
    text(&mut container.agent("rm", &["-f"], &[]));
}

#[test]
#[ignore = "needs root"]
fn the_kernel_is_hidden_and_read_only() {
    let hidden = "for path in /proc/keys /proc/timer_list /proc/interrupts; do
        test -e $path || continue; wc -c < $path; done; ls -A /sys/firmware /proc/acpi 2>/dev/null | grep -v :";
    let seen = said(&[], hidden);
    assert!(
        seen.lines().all(|line| line.is_empty() || line == "0"),
        "{seen}"
    );
    let read_only = [
        "echo 1 > /proc/sys/kernel/panic",
        "mkdir /sys/fs/cgroup/x",
        "mkdir /sys/x",
        "touch /x",
        "echo > /proc/irq/default_smp_affinity",
    ];
    for attempt in read_only {
        let ended = ended(&["--cap-add", "DAC_OVERRIDE"], attempt);
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(said.contains("Read-only file system"), "{attempt}: {said}");
    }
    for place in ["/tmp", "/dev/shm"] {
        let write = format!("echo mine > {place}/x; cat {place}/x");
        assert_eq!(said(&[], &write), "mine", "{place}");
    }
}

#[test]
#[ignore = "needs root"]
fn dev_has_the_standard_nodes_and_no_more() {
    assert_eq!(
        said(
            &[],
            "ls /dev | tr '\\n' ' '; stat -c '%n %t:%T %a' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty"
        ),
        "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero \
         /dev/null 1:3 666\n/dev/zero 1:5 666\n/dev/full 1:7 666\n/dev/random 1:8 666\n/dev/urandom 1:9 666\n/dev/tty 5:0 666"
    );
    // The same in a user namespace, which may make no nodes.
    let mapped = ["--uid-map", "0:100000:65536"];
    let seen = said(
        &mapped,
        "stat -c %t:%T /dev/null; echo x > /dev/null; head -c 4 /dev/zero | wc -c; ls /dev/pts",
    );
    assert_eq!(seen, "1:3\n4\nptmx");
}

#[test]
#[ignore = "needs root"]
fn a_process_is_as_its_flags_say() {
    assert_eq!(said(&["-w", "/usr/bin"], "pwd"), "/usr/bin");
    assert_eq!(said(&["-e", "COLOUR=blue"], "echo $COLOUR"), "blue");
    assert_eq!(
        said(&["--ulimit", "nofile=64:128"], "ulimit -Sn; ulimit -Hn"),
        "64\n128"
    );
    assert_eq!(
        said(&["--oom-score-adj", "321"], "cat /proc/self/oom_score_adj"),
        "321"
    );
    let sysctl = ["--sysctl", "net.ipv4.ip_forward=1"];
    assert_eq!(said(&sysctl, "cat /proc/sys/net/ipv4/ip_forward"), "1");
    assert_eq!(
        said(&[], "ls -l /proc/self/fd | grep -c -- '->'"),
        "4",
        "no descriptor is left but ls's own"
    );
    assert_eq!(
        said(&[], "grep -E '^Sig(Ign|Blk)' /proc/self/status | cut -f 2"),
        format!("{NONE}\n{NONE}")
    );
    assert_eq!(said(&[], "umask"), "0022");
    assert_eq!(
        said(&[], "ps -o sid= -p 1 | tr -d ' '"),
        "1",
        "a session of its own"
    );
}

#[test]
#[ignore = "needs root"]
fn a_limit_above_the_hard_one_is_refused() {
    // Without CAP_SYS_RESOURCE, which a test may lack as well as not.
    let (_container, run) = script(&["--ulimit", "nofile=5000:5000"], "true");
    let program = run.get_program().to_owned();
    let arguments: Vec<_> = run.get_args().map(ToOwned::to_owned).collect();
    let mut limited = Command::new("setpriv");
    limited.args([
        "--bounding-set",
        "-sys_resource",
        "prlimit",
        "--nofile=4000:4000",
    ]);
    let ended = output(limited.arg(program).args(arguments).stdin(Stdio::null()));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(125), "{said}");
    assert!(said.contains("5000") && said.contains("4000"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
#[ignore = "needs root"]
fn a_reaper_is_pid_1_where_asked() {
    assert_eq!(
        said(
            &["--init"],
            "echo $$; cat /proc/1/comm; tr '\\0' ' ' < /proc/1/cmdline"
        ),
        "2\ninit\ninit"
    );
    let orphan = "sh -c 'sleep 0.01 & echo $!' > /tmp/pid; orphan=$(cat /tmp/pid)
        for try in $(seq 500); do test -d /proc/$orphan || { echo buried; exit; }; sleep 0.01; done";
    assert_eq!(said(&["--init"], orphan), "buried");
    assert_eq!(ended(&["--init"], "exit 7").status.code(), Some(7));
    assert_eq!(ended(&["--init"], "kill -KILL $$").status.code(), Some(137));
    // Nothing of the host is in the reaper's memory for the container to read.
    let (_container, mut run) = script(&["--init"], "cat /proc/1/environ");
    let ended = output(run.env("HOST_SECRET", "x"));
    assert!(
        !ended.status.success() && ended.stdout.is_empty(),
        "{ended:?}"
    );
}

#[test]
#[ignore = "needs root"]
fn nothing_is_written_to_a_read_only_root() {
    let container = Container::new("privileges");
    let ended = output(&mut container.run(&["--read-only"], &["touch", "/x"]));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(!rootfs().join("x").exists());
}

/// The teaching flag: whoever may use chroot(2) leaves a chroot again, and no pivot_root.
#[test]
#[ignore = "needs root"]
fn a_chroot_can_be_left_and_a_pivot_cannot() {
    let outside = tempfile::tempdir_in("/var/tmp").expect("a directory");
    fs::write(outside.path().join("marker"), "").expect("a file");
    // The known way out: a root that is below the working directory, and then up.
    let script = format!(
        "mkdir '/tmp/r'; chroot '/tmp/r'; chdir '..' for 1..64; chroot '.';
         print -e '{}/marker' ? 'out' : 'in';",
        outside.path().display()
    );
    let perl = |flags: &[&str]| {
        let container = Container::new("privileges");
        let mut run = agent(["run", "--name", &container.name, "--bin", "perl"]);
        text(
            run.args(flags)
                .args(["perl", "-e", &script])
                .stdin(Stdio::null()),
        )
    };
    assert_eq!(perl(&[]), "in");
    assert_eq!(perl(&["--chroot"]), "out");
}

#[test]
#[ignore = "needs root"]
fn links_of_a_root_lead_nowhere_else() {
    let root = tempfile::tempdir().expect("a directory");
    let outside = tempfile::tempdir().expect("a directory");
    fs::create_dir(root.path().join("bin")).expect("a directory");
    copy(&program("busybox"), &root.path().join("bin/sh"));
    let link = |to: &std::path::Path, name: &str| {
        std::os::unix::fs::symlink(to, root.path().join(name)).expect("a link");
    };
    link(outside.path(), "data");
    let run = |flags: &[&str]| {
        let container = Container::new("privileges");
        let mut run = agent(["run", "--name", &container.name, "--rootfs"]);
        output(
            run.arg(root.path())
                .args(flags)
                .args(["sh", "-c", "true"])
                .stdin(Stdio::null()),
        )
    };
    // It leads to nothing in the root, where that is made.
    let ended = run(&["--tmpfs", "/data/below"]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(
        fs::read_dir(outside.path()).expect("a directory").count(),
        0
    );
    let inside = outside.path().strip_prefix("/").expect("absolute");
    assert!(root.path().join(inside).join("below").is_dir());
    fs::remove_file(root.path().join("data")).expect("a link");

    for name in ["proc", "sys", "dev"] {
        let _ = fs::remove_dir(root.path().join(name));
        fs::create_dir_all(root.path().join("elsewhere")).expect("a directory");
        link("/elsewhere".as_ref(), name);
        let ended = run(&[]);
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(125), "{name}: {said}");
        assert!(said.contains("symbolic link"), "{name}: {said}");
        fs::remove_file(root.path().join(name)).expect("a link");
    }
    assert_eq!(run(&[]).status.code(), Some(0));
}

#[test]
#[ignore = "needs root"]
fn a_directory_is_no_standard_stream() {
    let (_container, mut run) = script(&["-i"], "ls /proc/self/fd/0/");
    run.stdin(fs::File::open("/").expect("the root"));
    let ended = output(&mut run);
    assert_eq!(ended.status.code(), Some(125), "{ended:?}");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("is a directory"), "{said}");
}

#[test]
#[ignore = "needs root"]
fn a_device_is_given_with_its_access() {
    // No test writes to the kernel's log: it is only opened.
    let opens = |way: &str| format!(": {way} /dev/log-of-kernel && echo opened");
    let device = "/dev/kmsg:/dev/log-of-kernel";
    for (access, way, is_allowed) in [
        (":w", ">", true),
        (":r", ">", false),
        (":w", "<", false),
        ("", ">", true),
    ] {
        let flag = format!("{device}{access}");
        let found = ended(&["--device", &flag], &opens(way));
        let said = String::from_utf8_lossy(&found.stdout);
        assert_eq!(said == "opened\n", is_allowed, "{flag} {way}: {found:?}");
    }
    assert_eq!(said(&[], "ls /dev | grep -c kmsg || true"), "0");
    let nodes = tempfile::tempdir().expect("a directory");
    for name in ["one", "two"] {
        let (file, null) = (nodes.path().join(name), makedev(1, 3));
        mknodat(CWD, &file, FileType::CharacterDevice, Mode::RWXU, null).expect("a device");
    }
    let flag = format!("{}:/dev/own", nodes.path().display());
    let command = "ls /dev/own; echo lost > /dev/own/two";
    assert_eq!(said(&["--device", &flag], command), "one\ntwo");
}

#[test]
#[ignore = "needs root"]
fn a_privileged_container_has_what_the_command_has() {
    let flags = ["--privileged"];
    let own = fs::read_to_string("/proc/self/status").expect("a status");
    let row = |name: &str| {
        let mut lines = own.lines();
        let line = lines.find_map(|line| line.strip_prefix(name));
        line.expect("a row").trim().to_owned()
    };
    assert_eq!(status(&flags, "CapBnd"), row("CapPrm:"));
    assert_eq!(status(&flags, "Seccomp"), "0");
    assert_eq!(status(&flags, "NoNewPrivs"), "0");
    assert_eq!(said(&flags, ": > /dev/kmsg && echo opened"), "opened");
    let mounts = said(&flags, "grep -E ' /sys ' /proc/mounts | cut -d ' ' -f 4");
    // The last one is on top of the host's, which is in this root.
    let on_top = mounts.lines().next_back().unwrap_or_default();
    assert!(on_top.split(',').any(|it| it == "rw"), "{mounts}");
    let hidden = said(
        &flags,
        "grep -c -E ' /proc/(kcore|sys) ' /proc/mounts || true",
    );
    assert_eq!(hidden, "0");
}

#[test]
#[ignore = "needs root"]
fn labels_variables_and_mounts_in_the_long_form() {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("env");
    fs::write(&file, "# of a file\nA=file\nB=file\n").expect("a file");
    fs::write(place.path().join("data"), "of the host").expect("a file");
    let path = |file: &std::path::Path| file.to_str().expect("UTF-8").to_owned();
    let container = Container::new("habits");
    let mount = format!("type=bind,src={},dst=/etc,readonly", path(place.path()));
    let script =
        "echo $A $B; cat /etc/data; touch /etc/x 2>/dev/null || echo read-only; sleep 1000";
    let flags = [
        "--env-file",
        &path(&file),
        "-e",
        "B=flag",
        "--label",
        "com.example.team=web",
        "-l",
        "empty",
        "--mount",
        &mount,
        "--mount",
        "type=tmpfs,target=/tmp,tmpfs-size=1m",
    ];
    container.start(&flags, &["sh", "-c", script]);
    let wanted = json!({"com.example.team": "web", "empty": ""});
    assert_eq!(container.state()["labels"], wanted);
    let config = std::path::Path::new(tests::run::STATE).join(&container.name);
    let config = fs::read(config.join("config.json")).expect("a configuration");
    let config: serde_json::Value = serde_json::from_slice(&config).expect("JSON");
    assert_eq!(config["annotations"], wanted);
    tests::wait::wait_for("it has written", tests::wait::PATIENCE, || {
        let said = text(&mut container.agent("logs", &[], &[]));
        (said == "file flag\nof the hostread-only\n").then_some(())
    });
    let missing = output(&mut container.run(&["--env-file", "/no/such/file"], &["true"]));
    let said = String::from_utf8_lossy(&missing.stderr);
    assert_eq!(missing.status.code(), Some(125), "{said}");
    assert!(said.contains("/no/such/file"), "{said}");
}
