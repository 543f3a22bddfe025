//! Containers of `agent run` are known from their first instant: in the stream, in lists, in metrics.

use std::process::Stdio;

use serde_json::{Value, json};
use tests::agent::agent;
use tests::archive;
use tests::container;
use tests::run::{self, Container, output, rootfs, text};
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};

/// As `agent ps` and `agent ns` have it at once.
fn list(serve: &Serve, command: &str, container: &Container) -> Vec<Value> {
    let mut call = agent([command, "--output", "json", "--socket"]);
    call.arg(serve.socket()).stdin(Stdio::null());
    if command == "ns" {
        call.args(["--container", &container.name]);
    }
    let list: Vec<Value> = serde_json::from_str(&text(&mut call)).expect("a list");
    let mine = list
        .into_iter()
        .filter(|it| command == "ns" || it["name"] == *container.name);
    mine.collect()
}

#[test]
#[ignore = "needs root"]
fn the_stream_shows_the_launch_and_the_end() {
    let _alone = tests::alone();
    let serve = Serve::start(&["--docker-socket", "off"]);
    let mut watch = serve.watch(&["--kind", "clone,unshare,container"]);
    let seen = Container::new("seen");
    let status = run::status(&mut seen.run(&[], &["sh", "-c", "exit 7"]));
    assert_eq!(status, 7);
    let mine = |record: &Value| {
        record["container"]["name"] == *seen.name
            || record["child"]["container"]["name"] == *seen.name
    };
    let records = watch.until(PATIENCE, |record| {
        mine(record) && record["action"] == "stop"
    });
    let image = rootfs().display().to_string();
    let known = |record: &Value| {
        let container = &record["container"];
        assert_eq!(
            json!([
                container["kind"],
                container["id"],
                container["runtime"],
                container["image"],
                container["cgroup"]
            ]),
            json!([
                "container",
                seen.name,
                "agent",
                image,
                format!("/agent/{}", seen.name)
            ]),
        );
    };
    let start = records
        .iter()
        .find(|it| mine(it) && it["action"] == "start");
    known(start.expect("a start"));
    let stop = records.last().expect("a stop");
    known(stop);
    assert_eq!(
        (&stop["exit"]["code"], &stop["exit"]["signal"]),
        (&json!(7), &json!(0))
    );
    let pid = &stop["process"]["pid"];
    let clone = records
        .iter()
        .find(|it| it["child"]["process"]["pid"] == *pid);
    let clone = clone.unwrap_or_else(|| panic!("no clone: {records:#?}"));
    assert_eq!(clone["kind"], "clone");
    assert_eq!(clone["requested"], json!(["ipc", "mnt", "pid", "uts"]));
    // The others it makes by itself, beside the launcher's work and in its cgroup.
    let unshared = records
        .iter()
        .filter(|it| it["kind"] == "unshare" && it["process"]["pid"] == *pid);
    let unshared: Vec<&Value> = unshared.map(|it| &it["requested"]).collect();
    assert_eq!(unshared, [&json!(["net"]), &json!(["cgroup"])]);
    seen.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn lists_and_metrics_have_it_at_once() {
    let _alone = tests::alone();
    let serve = Serve::start(&["--docker-socket", "off"]);
    let listed = Container::new("listed");
    listed.start(&["--memory", "64m"], &["sleep", "1000"]);
    let pid = listed.pid();
    let states = list(&serve, "ps", &listed);
    let [state] = &states[..] else {
        panic!("not one: {states:?}");
    };
    let image = rootfs().display().to_string();
    assert_eq!(
        json!([
            state["running"],
            state["pid"],
            state["runtime"],
            state["image"],
            state["memory_limit_bytes"]
        ]),
        json!([true, pid, "agent", image, 64 << 20]),
    );
    let id = format!("/agent/{}", listed.name);
    let labels = [("id", &*id), ("name", &*listed.name), ("image", &*image)];
    assert!(
        serve
            .metrics()
            .find("container_start_time_seconds", &labels)
            .is_some()
    );

    // Another one in its network: who shares it is seen.
    let sharing = Container::new("sharing");
    let network = format!("container:{}", listed.name);
    sharing.start(&["--net", &network], &["sleep", "1000"]);
    let namespaces = list(&serve, "ns", &sharing);
    let shared = |kind: &str| -> bool {
        let found = namespaces.iter().find(|it| it["type"] == kind);
        let found = found.unwrap_or_else(|| panic!("no {kind}: {namespaces:?}"));
        found.to_string().contains(&listed.name)
    };
    assert!(shared("net"), "{namespaces:?}");
    for kind in ["ipc", "mnt", "pid", "uts"] {
        assert!(!shared(kind), "{kind}: {namespaces:?}");
    }
    for container in [&sharing, &listed] {
        text(&mut container.agent("rm", &["-f"], &[]));
        container.assert_gone();
    }
    wait_for("it is gone from the list", PATIENCE, || {
        list(&serve, "ps", &listed).is_empty().then_some(())
    });
}

/// Helpers of the launcher are in its cgroup before the first process is, and it is empty in between.
#[test]
#[ignore = "needs root"]
fn a_container_of_an_image_starts_and_stops_once() {
    let _alone = tests::alone();
    let place = tempfile::tempdir().expect("a directory");
    let layers = [
        archive::shell(),
        archive::layer(&[archive::directory("work")]),
    ];
    let image = archive::write(
        place.path(),
        "image.tar",
        &archive::saved(&layers, &json!({})),
    );
    let serve = Serve::start(&["--docker-socket", "off"]);
    let mut watch = serve.watch(&["--kind", "container"]);
    let mut all = Vec::new();
    let all_flags = [
        vec!["--image", &*image],
        vec!["--image", &image, "--memory", "64m"],
        vec!["--image", &image, "--init"],
        vec!["--bin", "/bin/sh"],
    ];
    for flags in &all_flags {
        let container = Container::new("once");
        let mut run = agent(["run", "--rm", "--name", &container.name]);
        run.args(flags).args(["--", "/bin/sh", "-c", "exit 7"]);
        let ended = output(run.stdin(Stdio::null()));
        assert_eq!(ended.status.code(), Some(7), "{flags:?}: {ended:?}");
        container.assert_gone();
        all.push((flags, container));
    }
    let marker = Container::new("marker");
    assert_eq!(run::status(&mut marker.run(&[], &["true"])), 0);
    let end = format!("/agent/{}", marker.name);
    let is_marker = |it: &Value| it["container"]["cgroup"] == *end && it["action"] == "stop";
    let records = watch.until(PATIENCE, is_marker);
    for (flags, container) in all {
        // Not by its name: one that has ended before its record is read goes by its path.
        let path = format!("/agent/{}", container.name);
        let own = records
            .iter()
            .filter(|it| it["container"]["cgroup"] == *path);
        let own: Vec<&Value> = own.collect();
        let actions: Vec<&Value> = own.iter().map(|it| &it["action"]).collect();
        assert_eq!(actions, ["start", "stop"], "{flags:?}: {records:#?}");
        // A reaper executes no program, so it is not known how the container ended.
        if !flags.contains(&"--init") {
            assert_eq!(own[1]["exit"]["code"], 7, "{flags:?}: {records:#?}");
        }
    }
    serve.stop();
}

/// No first process was seen, so that somebody may still come: it stops all the same.
#[test]
#[ignore = "needs root"]
fn a_container_whose_first_process_is_not_seen_stops_a_little_later() {
    let _alone = tests::alone();
    let serve = Serve::start(&["--docker-socket", "off"]);
    let mut watch = serve.watch(&["--kind", "container"]);
    let cgroup = tests::cgroup::Cgroup::new("unseen");
    let name = cgroup.name().to_owned();
    let status = cgroup.command("/bin/true").status().expect("a process");
    assert!(status.success());
    // Again at once: that is the same life.
    let status = cgroup.command("/bin/true").status().expect("a process");
    assert!(status.success());
    for action in ["start", "stop"] {
        let next = watch.next(PATIENCE, |it| it["container"]["name"] == *name);
        assert_eq!(next["action"], action, "{next}");
    }
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn what_chroot_does_not_isolate_is_said() {
    let _alone = tests::alone();
    let serve = Serve::start(&["--docker-socket", "off"]);
    let mut watch = serve.watch(&["--kind", "container"]);
    let rooted = Container::new("rooted");
    assert_eq!(run::status(&mut rooted.run(&["--chroot"], &["true"])), 0);
    let start = watch.next(PATIENCE, |it| it["container"]["name"] == *rooted.name);
    let image = start["container"]["image"].as_str().expect("an image");
    assert!(
        image.ends_with("(chroot: isolates nothing but the path)"),
        "{image}"
    );
}

#[test]
#[ignore = "needs root"]
fn a_container_that_another_engine_made_can_be_shared_with() {
    let _alone = tests::alone();
    // Not of `agent run`: nothing is written of it.
    let other = container::Container::start(tests::cgroup::Cgroup::new("other"), "mnt,net,uts");
    let joins = Container::new("joins");
    let name = format!("container:{}", other.cgroup.name());
    let inside = output(&mut joins.run(
        &["--net", &name, "--uts", &name],
        &[
            "sh",
            "-c",
            "for it in net uts mnt; do readlink /proc/self/ns/$it; done",
        ],
    ));
    let said = String::from_utf8_lossy(&inside.stdout);
    let inodes: Vec<u32> = said
        .lines()
        .filter_map(|line| line.trim_end_matches(']').rsplit('[').next()?.parse().ok())
        .collect();
    let [net, uts, mnt] = inodes[..] else {
        panic!("{inside:?}");
    };
    assert_eq!((net, uts), (other.inode("net"), other.inode("uts")));
    assert_ne!(mnt, other.inode("mnt"));
    joins.assert_gone();
}
