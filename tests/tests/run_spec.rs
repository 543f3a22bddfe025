//! What flags come to, and what is refused: in one line, with docker's exit status, and nothing left behind.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tests::agent::agent;
use tests::run::{Container, output, rootfs, status, text};

/// Runs it and checks that it says one line with these words, and exits with this status.
#[track_caller]
fn assert_refused(command: &mut Command, wanted: i32, words: &[&str]) {
    let ended = output(command.stdin(Stdio::null()));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(wanted), "{command:?}: {said}");
    assert!(
        said.starts_with("agent: ") && said.matches('\n').count() == 1,
        "{command:?}: {said}"
    );
    assert!(ended.stdout.is_empty(), "{command:?}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing: {said}");
    }
}

/// `agent run` of these flags and of nothing else.
fn run(flags: &[&str]) -> Command {
    agent([&["run"], flags].concat())
}

fn config(flags: &[&str]) -> Value {
    let mut print = run(&["--print-spec"]);
    print
        .args(flags)
        .arg("--rootfs")
        .arg(rootfs())
        .args(["sh", "-c", "id"]);
    serde_json::from_str(&text(&mut print)).expect("OCI's configuration")
}

#[test]
#[ignore = "needs root"]
fn the_configuration_is_printed_and_can_be_run_as_a_bundle() {
    let mut config = config(&["--pids-limit", "20", "-e", "A=b", "-h", "printed"]);
    assert_eq!(config["linux"]["resources"]["pids"]["limit"], 20);
    assert_eq!(config["process"]["args"], json!(["sh", "-c", "id"]));
    let bundle = tempfile::tempdir().expect("a directory");
    config["process"]["args"] = json!(["sh", "-c", "echo $A; hostname; pwd; exit 3"]);
    config["process"]["cwd"] = json!("/tmp");
    fs::write(bundle.path().join("config.json"), config.to_string()).expect("a file");
    let name = Container::new("bundle");
    let mut bundled = run(&["--name", &name.name, "--bundle"]);
    let ended = output(bundled.arg(bundle.path()).stdin(Stdio::null()));
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "b\nprinted\n/tmp\n");
    name.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn a_bundle_is_carried_out_as_it_is_or_not_at_all() {
    let good = config(&[]);
    let bundle = tempfile::tempdir().expect("a directory");
    let path = bundle.path().display().to_string();
    assert_refused(
        &mut run(&["--bundle", &path]),
        125,
        &["config.json", "No such file"],
    );
    let write = |text: &str| fs::write(bundle.path().join("config.json"), text).expect("a file");
    write("{");
    assert_refused(&mut run(&["--bundle", &path]), 125, &["config.json: "]);
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 10] = [
        (
            |it| it["hooks"] = json!({"prestart": [{"path": "/bin/true"}]}),
            "hooks is not supported",
        ),
        (
            |it| it["process"]["apparmorProfile"] = json!("x"),
            "process.apparmorProfile is not",
        ),
        (
            |it| it["linux"]["mountLabel"] = json!("x"),
            "linux.mountLabel is not",
        ),
        (
            |it| it["linux"]["namespaces"] = json!([]),
            "without a mount namespace",
        ),
        (
            |it| it["process"]["args"] = json!([]),
            "process.args is empty",
        ),
        (
            |it| it["process"]["cwd"] = json!("tmp"),
            "process.cwd is tmp",
        ),
        // Of another type than OCI's: it says where.
        (|it| it["process"]["cwd"] = json!(7), "at line 1 column"),
        (|it| it["root"] = Value::Null, "it has no root"),
        (
            |it| it["linux"]["namespaces"] = json!([{"type": "mount"}]),
            "hostname or domainname would be changed for others",
        ),
        (
            |it| it["linux"]["sysctl"] = json!({"vm/swappiness": "60"}),
            "linux.sysctl vm/swappiness: it belongs to the whole host",
        ),
    ];
    for (change, said) in changes {
        let mut config = good.clone();
        change(&mut config);
        write(&config.to_string());
        assert_refused(
            &mut run(&["--bundle", &path]),
            125,
            &["config.json: ", said],
        );
    }
    write(&good.to_string());
    assert_refused(
        &mut run(&["--bundle", &path, "-m", "64m"]),
        125,
        &["--bundle", "--memory"],
    );
}

#[test]
fn bad_values_are_refused() {
    let root = rootfs().display().to_string();
    for (flags, words) in [
        (&["-m", "12x"][..], &["'12x'", "--memory", "64m"][..]),
        (&["--nonsense"], &["--nonsense"]),
        (
            &["-m", "79847132533907027731t"],
            &[
                "'79847132533907027731t'",
                "--memory",
                "at most 9223372036854775807",
            ],
        ),
        (
            &["--shm-size", "340282366920938463463374607431768211456k"],
            &["--shm-size", "at most 9223372036854775807"],
        ),
        (
            &["--time-offset", "340282366920938463463374607431d"],
            &["--time-offset", "how far forward"],
        ),
        (
            &["--cpus", "18446744073709551616"],
            &["--cpus", "how many CPUs"],
        ),
        (
            &["--sysctl", "net/ipv4/conf/../../../kernel/panic=1"],
            &["net/ipv4/conf/../../../kernel/panic", "whole host"],
        ),
        (
            &["--stop-signal", "TERMINATE"],
            &["--stop-signal", "SIGTERM, INT, 15"],
        ),
        (
            &["--pids-limit", "0"],
            &["'0'", "--pids-limit", "at least 1"],
        ),
        (&["--cpu-period", "999"], &["'999'", "from 1000 to 1000000"]),
        (&["--net", "bridge"], &["'bridge'", "veth"]),
        (&["-v", "data:/x"], &["data:/x", "./data"]),
        (&["--cap-add", "CAP_NONE"], &["CAP_NONE", "capabilities(7)"]),
        (&["-m", "1m"], &["--memory 1048576", "at least 6m"]),
        (
            &["-m", "64m", "--memory-swap", "32m"],
            &["--memory-swap 33554432", "at least --memory"],
        ),
        (
            &["--cpu-quota", "500"],
            &["--cpu-quota 500", "at least 1000"],
        ),
        (&["--cpus", "100000"], &["--cpus 100000", "this host has"]),
        (
            &["--ulimit", "nofile=unlimited"],
            &[
                "--ulimit nofile=unlimited",
                "the hard limit of this command",
            ],
        ),
        (
            &["--sysctl", "kernel.panic=1"],
            &["kernel.panic", "whole host"],
        ),
        (
            &["--device-read-bps", "/dev/null:1m"],
            &["/dev/null", "no block device"],
        ),
        (
            &["--uid-map", "0:0:10", "--uid-map", "5:50:10"],
            &["--uid-map 5:50:10", "overlaps"],
        ),
        (
            &["--security-opt", "seccomp=/nowhere.json"],
            &["/nowhere.json"],
        ),
        (&["--name", "-x"], &["-x"]),
        (&["--name", "a b"], &["a b", "letters"]),
    ] {
        let mut command = run(flags);
        assert_refused(command.args(["--rootfs", &root, "true"]), 125, words);
    }
    assert_refused(
        &mut run(&["true"]),
        125,
        &["no root file system", "--rootfs"],
    );
    assert_refused(
        &mut run(&["--rootfs", &root, "--bin", "ls", "ls"]),
        125,
        &["--rootfs", "--bin"],
    );
}

#[test]
#[ignore = "needs root"]
fn what_is_not_there_is_refused() {
    let name = Container::new("absent");
    let none = Path::new("/nowhere/at/all");
    let flags = ["--name", &name.name, "--rootfs"];
    assert_refused(run(&flags).arg(none).arg("true"), 125, &["/nowhere/at/all"]);
    assert_refused(&mut name.run(&[], &[]), 125, &["no command"]);
    // For an ordinary user there may be one that the user does not see.
    assert_refused(
        &mut name.run(&["--net", "container:nobody-is-called-so"], &["true"]),
        125,
        &["container:nobody-is-called-so", "agent ps"],
    );
    assert_refused(
        &mut name.run(&[], &["nothing-has-this-name"]),
        127,
        &["nothing-has-this-name"],
    );
    assert_refused(&mut name.run(&[], &["/bin/data"]), 126, &["/bin/data"]);
    assert_refused(&mut name.run(&[], &["/tmp"]), 126, &["/tmp"]);
    assert_refused(
        &mut name.run(&["-u", "nobody-has-this-name"], &["true"]),
        125,
        &["/etc/passwd"],
    );
    assert_refused(
        &mut name.run(&["-v", "/nowhere/at/all:/x"], &["true"]),
        125,
        &["/nowhere/at/all"],
    );
    // In the new process: the step, what it was about, and why.
    assert_refused(
        &mut name.run(&["-w", "/bin/data"], &["true"]),
        125,
        &["workdir: /bin/data: Not a directory (os error 20)"],
    );
    assert_refused(
        &mut name.run(&["-w", "relative"], &["true"]),
        125,
        &["relative", "absolute"],
    );
    // The kernel takes each outside id once only, and not the last one.
    assert_refused(
        &mut name.run(&["--uid-map", "0:4294967294:2"], &["true"]),
        125,
        &["0:4294967294:2"],
    );
    name.assert_gone();
    name.start(&[], &["sleep", "1000"]);
    assert_refused(&mut name.run(&[], &["true"]), 125, &[&name.name, "in use"]);
    text(&mut name.agent("rm", &["-f"], &[]));
    name.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn the_process_is_as_the_flags_say() {
    let inside = |flags: &[&str], script: &str| -> String {
        let container = Container::new("process");
        let said = text(&mut container.run(flags, &["sh", "-c", script]));
        container.assert_gone();
        said
    };
    assert_eq!(
        inside(&["-u", "7:8", "--group-add", "9"], "id -u; id -g; id -G"),
        "7\n8\n8 9\n"
    );
    assert_eq!(
        inside(&["-w", "/tmp", "-e", "A=1"], "pwd; echo $A $HOME"),
        "/tmp\n1 /\n"
    );
    assert_eq!(
        inside(&["-h", "other"], "hostname; cat /proc/1/comm; true"),
        "other\nsh\n"
    );
    assert_eq!(
        inside(&["--ulimit", "nofile=100:200"], "ulimit -Sn; ulimit -Hn"),
        "100\n200\n"
    );
    assert_eq!(
        inside(&["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj"),
        "500\n"
    );
    assert_eq!(inside(&["--entrypoint", "echo"], "true"), "sh -c true\n");
    assert_eq!(
        inside(
            &["--sysctl", "net.core.somaxconn=77"],
            "cat /proc/sys/net/core/somaxconn"
        ),
        "77\n"
    );
    // What is in a name stays in it: an interface may be called eth0.5.
    assert_eq!(
        inside(
            &["--sysctl", "net/ipv4/conf/lo/forwarding=1"],
            "cat /proc/sys/net/ipv4/conf/lo/forwarding"
        ),
        "1\n"
    );
    let container = Container::new("process");
    let absent = ["--sysctl", "net/ipv4/conf/eth0.5/forwarding=1"];
    assert_refused(
        &mut container.run(&absent, &["true"]),
        125,
        &["sys/net/ipv4/conf/eth0.5/forwarding"],
    );
    let printed = config(&absent);
    let name = "net.ipv4.conf.eth0/5.forwarding";
    assert_eq!(printed["linux"]["sysctl"][name], "1");
    let container = Container::new("read-only");
    let write = ["sh", "-c", "touch /tmp/x || exit 9"];
    assert_eq!(status(&mut container.run(&["--read-only"], &write)), 9);
    assert_eq!(
        status(&mut container.run(&["--read-only", "--tmpfs", "/tmp"], &write)),
        0
    );
}
