//! What nobody said, what nothing pressed against and what cannot be read passes nowhere; what is in the cgroups below
//! counts for what they are below.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tests::agent::agent;
use tests::cgroup::{Cgroup, directory};
use tests::docker::Docker;
use tests::memory::{self, Hog, set_limit};
use tests::process::{kill, wait_until_it_is};
use tests::run::Container;

use super::{NOBODY, assert_verdict, check, judged, report, verdict, verify, verify_with};

const SLEEP: &[&str] = &["sleep", "1000"];

#[test]
#[ignore = "needs root"]
fn nothing_passes_that_nothing_pressed_against() {
    for (flags, command) in [
        (&["--cpus=1.5"][..], &["true"][..]),
        (
            &["--cpu-period=1000000", "--cpu-quota=500000"],
            &["sleep", "1"],
        ),
        (&["--cpuset-cpus=0"], &["true"]),
        (&["--memory=6m"], &["true"]),
        (&["--pids-limit=2"], &["true"]),
    ] {
        let said = report(verify(flags).arg("--").args(command));
        judged(&said, "inconclusive", &[]);
    }
}

#[test]
#[ignore = "needs root"]
fn nothing_passes_that_nobody_is_known_to_have_intended() {
    // One that no engine, systemd or agent made.
    let nobodys = Cgroup::strangers("verify-nobodys", "web");
    set_limit(&nobodys, 64 << 20);
    let mut sleep = nobodys.command("sleep").arg("1000").spawn().expect("sleep");
    wait_until_it_is(sleep.id(), "sleep");
    let said = report(&mut verify(&["--pid", &sleep.id().to_string()]));
    kill(&mut sleep);
    let words = ["nobody says", "--expect"];
    assert_verdict(check(&said, "memory"), "inconclusive", &words);
    for check in said["checks"].as_array().expect("a list") {
        assert_verdict(check, "inconclusive", &words);
    }
    let docker = Docker::start();
    let container = docker.run(&["--memory=64m"], SLEEP);
    // Its engine is not asked, and neither is a server.
    for form in [
        ["--pid", &container.pid().to_string()],
        ["--cgroup", &container.cgroup()],
    ] {
        let said = report(verify(&form).args(["--for", "100ms"]));
        assert_eq!(verdict(&said), "inconclusive", "{said:#}");
        let words = ["nobody says", "--docker-socket", "agent serve", "--expect"];
        assert_verdict(check(&said, "memory"), "inconclusive", &words);
    }
}

#[test]
#[ignore = "needs root"]
fn a_server_that_hears_the_engine_is_asked_first() {
    let docker = Docker::start();
    let serve = docker.serve();
    let container = docker.run(&["--memory=64m", "--pids-limit=50"], SLEEP);
    let judge = |form: [&str; 2]| report(verify_with(serve.socket(), "off").args(form));
    let pid = container.pid().to_string();
    tests::wait::wait_for(
        "the server knows what was intended",
        tests::wait::PATIENCE,
        || {
            let said = serve.get("/v1/containers").body;
            let states: Vec<Value> = serde_json::from_str(&said).ok()?;
            let state = states
                .into_iter()
                .find(|it| it["cgroup"] == container.cgroup())?;
            (!state["intended"].is_null()).then_some(())
        },
    );
    for form in [["--container", container.id()], ["--pid", &pid]] {
        let said = judge(form);
        assert_eq!(verdict(&said), "pass", "{said:#}");
        let memory = check(&said, "memory");
        assert_eq!(memory["intended"]["source"], "docker", "{memory:#}");
        assert_eq!(memory["effective"]["cgroup"], container.cgroup());
    }
}

#[test]
#[ignore = "needs root"]
fn what_docker_makes_of_another_limit_does_not_decide() {
    let docker = Docker::start();
    // Each is killed, and the shell lives.
    let command = "while :; do busybox dd if=/dev/zero of=/dev/null bs=256M count=1; done";
    let container = docker.run(&["--memory=48m"], &["sh", "-c", command]);
    let mut verify = verify_with(NOBODY, docker.socket());
    let said = report(verify.args(["--container", container.id(), "--for", "3s"]));
    assert_verdict(check(&said, "memory"), "pass", &["held at 48.0M"]);
    let all = said["checks"].as_array().expect("a list");
    if let Some(swap) = all.iter().find(|it| it["limit"] == "memory-swap") {
        assert_eq!(swap["by_default"], true, "{swap:#}");
    }
    assert_eq!(verdict(&said), "pass", "{said:#}");
}

#[test]
#[ignore = "needs root"]
fn kills_in_a_cgroup_below_are_found() {
    let outer = Cgroup::new("verify-below");
    let inner = outer.child("inner");
    set_limit(&inner, 32 << 20);
    let judge = || {
        let path = inner.path();
        let mut verify = verify(&["--cgroup", &path, "--expect", "memory=32m", "--for", "4s"]);
        report(&mut verify)
    };
    let said = std::thread::scope(|scope| {
        let judged = scope.spawn(judge);
        let before = memory::oom_kills(&inner);
        while !judged.is_finished() {
            Hog::start(&inner, 1, 64 << 20).wait_until_killed();
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        assert!(memory::oom_kills(&inner) > before);
        judged.join().expect("it is judged")
    });
    let memory = judged(&said, "pass", &["OOM-killed"]);
    let victims = memory["observed"]["victims"].as_array();
    let kills = memory["observed"]["oom_kills"].as_u64().expect("a number");
    assert_eq!(
        victims.expect("they were traced").len() as u64,
        kills,
        "{memory:#}"
    );
}

/// `agent verify` in a mount namespace where opening this file fails: it is `socket` there.
fn without(file: &Path, socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    let hide = r#"mount --bind "$1" "$2" || exit 125; shift 2; exec "$@""#;
    command.args(["--mount", "sh", "-c", hide, "sh"]);
    command.arg(socket).arg(file);
    let mut verify = agent(["verify", "--output", "json", "--socket", NOBODY]);
    verify.args(["--docker-socket", "off"]).args(arguments);
    command.arg(verify.get_program()).args(verify.get_args());
    command
}

#[test]
#[ignore = "needs root"]
fn what_cannot_be_read_is_named_and_no_verdict() {
    let directory_of_socket = tempfile::tempdir().expect("a directory");
    let socket = directory_of_socket.path().join("socket");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    let container = Container::new("verify-closed");
    container.start(
        &["--memory=64m", "--cpus=0.2", "--pids-limit=50"],
        &["sh", "-c", "while :; do :; done"],
    );
    let cgroup = format!("/agent/{}", container.name);
    let name = ["--container", &container.name];
    let is_v1 = Cgroup::is_v1("cpu");
    let limit = if is_v1 { "cpu.cfs_quota_us" } else { "cpu.max" };
    let file = directory("cpu", &cgroup).join(limit);
    let said = report(&mut without(&file, &socket, &name));
    assert_verdict(
        check(&said, "cpu-quota"),
        "inconclusive",
        &[limit, "cannot be read"],
    );
    assert_verdict(check(&said, "memory"), "pass", &[]);
    assert_eq!(verdict(&said), "inconclusive", "{said:#}");

    let file = directory("cpu", &cgroup).join("cpu.stat");
    let arguments = [&name[..], &["--for", "500ms"]].concat();
    let said = report(&mut without(&file, &socket, &arguments));
    let quota = check(&said, "cpu-quota");
    assert_verdict(quota, "inconclusive", &["cpu.stat", "cannot be read"]);
    assert_eq!(
        quota["observed"]["throttled_periods"],
        Value::Null,
        "{quota:#}"
    );
}

#[test]
#[ignore = "needs root"]
fn a_limit_of_swap_that_cannot_be_read_is_no_verdict() {
    let directory_of_socket = tempfile::tempdir().expect("a directory");
    let socket = directory_of_socket.path().join("socket");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    let container = Container::new("verify-swap-closed");
    container.start(&["--memory=64m", "--memory-swap=96m"], SLEEP);
    let is_v1 = Cgroup::is_v1("memory");
    let limit = if is_v1 {
        "memory.memsw.limit_in_bytes"
    } else {
        "memory.swap.max"
    };
    let file = directory("memory", format!("/agent/{}", container.name)).join(limit);
    let said = report(&mut without(
        &file,
        &socket,
        &["--container", &container.name],
    ));
    assert_verdict(
        check(&said, "memory-swap"),
        "inconclusive",
        &[limit, "cannot be read"],
    );
    assert_eq!(verdict(&said), "inconclusive", "{said:#}");
}

#[test]
#[ignore = "needs root"]
fn a_limit_of_swap_decides_where_it_was_asked_for() {
    for (flags, follows) in [
        (&["--memory=64m"][..], true),
        (&["--memory=64m", "--memory-swap=128m"], false),
    ] {
        let container = Container::new("verify-swap-asked");
        container.start(flags, SLEEP);
        let said = report(&mut verify(&["--container", &container.name]));
        let swap = check(&said, "memory-swap");
        assert_eq!(swap["by_default"] == true, follows, "{swap:#}");
        assert_verdict(swap, "pass", &[]);
    }
}

#[test]
#[ignore = "needs root"]
fn a_burst_is_no_fail() {
    let _alone = tests::alone();
    let container = Container::new("verify-burst");
    container.start(
        &["--cpu-quota=10000", "--cpu-period=100000"],
        &["sh", "-c", "while :; do :; done"],
    );
    let is_v1 = Cgroup::is_v1("cpu");
    let file = if is_v1 {
        "cpu.cfs_burst_us"
    } else {
        "cpu.max.burst"
    };
    let path = directory("cpu", format!("/agent/{}", container.name)).join(file);
    super::write(&path, "10000");
    let said = report(&mut verify(&[
        "--container",
        &container.name,
        "--for",
        "1s",
    ]));
    let quota = judged(&said, "pass", &["held at 0.1 CPUs"]);
    assert_eq!(quota["observed"]["burst_seconds"], 0.01, "{quota:#}");
}
