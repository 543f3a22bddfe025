//! The details column of each kind of event.

use super::super::*;
use crate::samples;

#[track_caller]
fn says(event: EventDetails, text: &str) {
    let event = samples::by(1234, "sh", Some(samples::web()), event);
    assert_eq!(details(&event), text);
}

#[test]
fn a_namespace_call_names_the_types_and_what_changed() {
    let unshare =
        |requested: &[&str], changed: &[(&str, u32, u32)], result| EventDetails::Unshare {
            call: samples::call(requested, changed, result),
        };
    says(unshare(&["net"], &[("net", 1, 2)], "0"), "net: 1 → 2");
    says(unshare(&["net"], &[("net", 1, 2)], ""), "net: 1 → 2");
    says(
        unshare(&["pid"], &[("pid_for_children", 1, 2)], "0"),
        "pid: 1 → 2",
    );
    says(unshare(&["user"], &[("uts", 1, 2)], "0"), "user: uts 1 → 2");
    says(
        unshare(&["mnt", "net"], &[("mnt", 1, 2), ("net", 3, 4)], "0"),
        "mnt,net: mnt 1 → 2, net 3 → 4",
    );
    says(
        unshare(&[], &[("time_for_children", 1, 2)], "0"),
        "time_for_children: 1 → 2",
    );
    says(unshare(&["net"], &[], "EPERM"), "net failed: EPERM");
    says(unshare(&["net"], &[], "0"), "net: unchanged");
}

#[test]
fn a_clone_names_the_child_and_its_pid_inside() {
    let event = |requested: &[&str], changed: &[(&str, u32, u32)], result, ns_pid| {
        let mut child = samples::subject(1235, "sh", None);
        child.process.ns_pid = ns_pid;
        EventDetails::Clone {
            call: samples::call(requested, changed, result),
            child,
        }
    };
    says(
        event(&["pid", "net"], &[("net", 1, 2), ("pid", 3, 4)], "0", 1),
        "pid,net → child 1235 (pid 1 inside): net 1 → 2, pid 3 → 4",
    );
    says(
        event(&["uts"], &[("uts", 1, 2)], "0", 1235),
        "uts → child 1235: 1 → 2",
    );
}

#[test]
fn a_setns_names_whose_namespace_was_entered() {
    let event = |joined, result| EventDetails::Setns {
        call: samples::call(&["net"], &[("net", 1, 2)], result),
        joined,
    };
    let impostor = Container {
        name: "host".into(),
        ..Container::clone(&samples::web())
    };
    says(event(None, "0"), "net: 1 → 2");
    says(
        event(Some(Joined::Host("host".into())), "0"),
        "net of host: 1 → 2",
    );
    says(
        event(Some(Joined::Container(samples::web())), "0"),
        "net of web-1: 1 → 2",
    );
    says(
        event(Some(Joined::Container(impostor.into())), "0"),
        "net of \"host\": 1 → 2",
    );
    says(event(None, "EINVAL"), "net failed: EINVAL");
}

#[test]
fn an_oom_kill_names_the_victim_and_whose_limit_was_hit() {
    let change = |change: fn(&mut Oom)| {
        let mut details = samples::oom().details;
        if let EventDetails::Oom(oom) = &mut details {
            change(oom);
        }
        details
    };
    says(
        change(|_| ()),
        "killed stress-ng(4711) rss 49.8M, limit 50.0M of /parent hit",
    );
    says(
        change(|oom| {
            let container = oom.victim.container.as_ref().unwrap();
            oom.limit_owner.as_mut().unwrap().cgroup = container.cgroup.clone();
        }),
        "killed stress-ng(4711) rss 49.8M, its limit 50.0M hit",
    );
    says(
        change(|oom| oom.init_killed = true),
        "killed init stress-ng(4711) rss 49.8M, limit 50.0M of /parent hit",
    );
    says(
        change(|oom| oom.victim.container = Some(samples::service())),
        "killed stress-ng(4711) of cron.service rss 49.8M, limit 50.0M of /parent hit",
    );
    says(
        change(|oom| oom.limit_owner.as_mut().unwrap().limit_bytes = None),
        "killed stress-ng(4711) rss 49.8M, 50.0M used by /parent",
    );
    says(
        change(|oom| {
            oom.limit_owner = None;
            oom.constraint = "none".into();
            oom.victim.container = None;
        }),
        "killed stress-ng(4711) of host rss 49.8M, the host is out of memory",
    );
    says(
        change(|oom| {
            oom.limit_owner = None;
            oom.constraint = "cpuset".into();
        }),
        "killed stress-ng(4711) rss 49.8M, out of memory by cpuset",
    );
}

#[test]
fn a_container_starts_and_stops() {
    let stop = |code, signal, oom_killed, duration_ms| EventDetails::Container {
        action: ContainerAction::Stop,
        exit: Some(Exit {
            code,
            signal,
            oom_killed,
            duration_ms,
        }),
        result: None,
    };
    let start = EventDetails::Container {
        action: ContainerAction::Start,
        exit: None,
        result: None,
    };
    says(start.clone(), "start docker nginx:1.27 4f5e9e8d7c6b");
    let unit = samples::by(1, "cron", Some(samples::service()), start);
    assert_eq!(details(&unit), "start");
    for (result, wanted) in [(None, "stop"), (Some("oom-kill"), "stop oom-kill")] {
        let stop = EventDetails::Container {
            action: ContainerAction::Stop,
            exit: None,
            result: result.map(str::to_owned),
        };
        says(stop, wanted);
    }
    says(stop(0, 0, false, 850), "stop exit 0 after 850ms");
    says(
        stop(0, 9, true, 1_250),
        "stop exit 137 (SIGKILL, OOM) after 1.2s",
    );
    says(stop(0, 0, true, 59_999), "stop exit 0 (OOM) after 59.9s");
    says(
        stop(0, 64, false, 3_661_000),
        "stop exit 192 (signal 64) after 1h 1m 1s",
    );
    says(
        stop(0, 255, false, 0),
        "stop exit 383 (signal 255) after 0ms",
    );
}

#[test]
fn a_loss_is_counted_by_kind() {
    assert_eq!(
        details(&samples::lost()),
        "12 clone, 3 oom since 10:11:10.000"
    );
}

#[test]
fn a_process_is_born_executes_and_ends() {
    let mut child = samples::subject(1235, "sh", None);
    says(
        EventDetails::Fork {
            child: child.clone(),
        },
        "child 1235",
    );
    child.process.ns_pid = 7;
    says(EventDetails::Fork { child }, "child 1235 (pid 7 inside)");
    let exec = |argv: &[&str], argv_truncated| EventDetails::Exec {
        argv: argv.iter().collect(),
        argv_truncated,
    };
    says(
        exec(&["sh", "-c", "it's", ""], false),
        r"sh -c 'it'\''s' ''",
    );
    says(exec(&["ls", "-l=/a"], true), "ls -l=/a …");
    let exit = Exit {
        code: 1,
        signal: 0,
        oom_killed: false,
        duration_ms: 7,
    };
    says(EventDetails::Exit { exit }, "exit 1 after 7ms");
}

#[test]
fn an_escape_names_the_namespace_and_the_way() {
    let escape = |how: &str| EventDetails::Escape {
        namespace: "mnt".into(),
        inode: 4_026_531_841,
        how: how.into(),
    };
    let host = "in the host's mnt namespace 4026531841";
    says(escape("setns"), &format!("{host} by setns"));
    says(escape("unseen"), &format!("{host}, seen later"));
}
