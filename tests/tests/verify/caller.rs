//! The limits that the caller is under, beside those that were asked for.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tests::alone;
use tests::cgroup::Cgroup;
use tests::rootless::{Delegated, Everybodys, limit_memory};
use tests::run::{output, text};
use tests::serve::Serve;

use super::output::assert_fits;
use super::{MEMORY, NOBODY, assert_verdict, file, verdict, verify, write};

const LIMIT: u64 = 40 << 20;

/// More than fits.
const ALLOCATE: [&str; 6] = [
    "busybox",
    "dd",
    "if=/dev/zero",
    "of=/dev/null",
    "bs=100M",
    "count=1",
];

/// A caller in a cgroup that is theirs, whose memory is limited.
struct Limited {
    files: Everybodys,
    delegated: Delegated,
}

impl Limited {
    fn new(name: &str, files: Everybodys) -> Self {
        let delegated = Delegated::new(name, &files);
        limit_memory(&delegated.inner, LIMIT);
        Self { files, delegated }
    }

    /// The path of the cgroup that has the limit.
    fn cgroup(&self) -> String {
        self.delegated.inner.path()
    }

    /// The user's `agent verify`.
    fn verify(&self, flags: &[&str], command: &[&str]) -> Command {
        let root = self.files.path("root");
        let root = root.to_str().expect("UTF-8");
        let words = ["verify", "--socket", NOBODY];
        let words = [&words[..], &["--rootfs", root], flags, &["--"], command].concat();
        self.delegated.agent(&self.files, &words)
    }

    fn report(&self, flags: &[&str], command: &[&str]) -> Value {
        let flags = [&["--output=json"], flags].concat();
        let report = said(&output(&mut self.verify(&flags, command)));
        self.delegated.assert_empty();
        report
    }
}

/// What was reported, which the exit status goes with.
fn said(ended: &Output) -> Value {
    let report: Value =
        serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    let wanted = match verdict(&report) {
        "pass" => 0,
        "fail" => 1,
        _ => 2,
    };
    assert_eq!(ended.status.code(), Some(wanted), "{report:#}");
    report
}

/// The one check of a limit that was asked for, or of one of the caller's.
fn check(report: &Value, limit: &str, caller: bool) -> Value {
    let all = report["checks"].as_array().expect("a list").iter();
    let is_caller = |check: &Value| check["caller"] == true;
    let mut found = all.filter(|it| it["limit"] == limit && is_caller(it) == caller);
    let check = found
        .next()
        .unwrap_or_else(|| panic!("{limit}: {report:#}"));
    assert_eq!(found.next(), None, "{report:#}");
    check.clone()
}

#[test]
#[ignore = "needs root"]
fn the_callers_limit_is_the_one_that_holds() {
    let _alone = alone();
    let limited = Limited::new("verify-caller", Everybodys::new());
    let report = limited.report(&["-m", "200m"], &ALLOCATE);
    assert_eq!(verdict(&report), "fail", "{report:#}");
    let asked = check(&report, "memory", false);
    assert_verdict(&asked, "fail", &["40.0M < 200.0M", &limited.cgroup()]);
    let caller = check(&report, "memory", true);
    assert_verdict(&caller, "pass", &["held at 40.0M", "OOM-killed"]);
    assert_eq!(caller["intended"]["source"], "the caller");
    assert_eq!(caller["intended"]["cgroup"], limited.cgroup());
    assert_eq!(caller["intended"]["value"]["number"], LIMIT as f64);
    assert_eq!(caller["read_back"]["text"], LIMIT.to_string());
    assert_eq!(caller["effective"]["cgroup"], limited.cgroup());
    assert_eq!(caller["stimulus"]["pressed"], true);
}

/// For people: the caller's beside the one that was asked for, in 80 columns.
#[test]
#[ignore = "needs root"]
fn the_callers_limit_is_told_line_by_line() {
    let _alone = alone();
    let limited = Limited::new("verify-page", Everybodys::new());
    let mut verify = limited.verify(&["-m", "200m", "--output=human"], &ALLOCATE);
    let page = output(verify.env("COLUMNS", "80").env("NO_COLOR", "1"));
    let page = String::from_utf8(page.stdout).expect("UTF-8");
    assert_fits(&page, 80);
    assert!(page.starts_with("  verdict   fail\n"), "{page}");
    let (_, caller) = page.split_once("\nmemory (caller)\n").expect("a block");
    for words in [
        "intended  40.0M (41943040 bytes), by the caller",
        "effective 40.0M",
        "pass: held at 40.0M",
    ] {
        assert!(caller.contains(words), "{words}: {page}");
    }
}

/// One that nobody asked for, of which only the place tells that it holds.
#[test]
#[ignore = "needs root"]
fn the_callers_limit_holds_beside_others() {
    let _alone = alone();
    let limited = Limited::new("verify-beside", Everybodys::new());
    let forks = "i=0; while [ $i -lt 30 ]; do sleep 1 & i=$((i+1)); done 2>/dev/null; wait";
    let report = limited.report(&["--pids-limit=10"], &["sh", "-c", forks]);
    assert_verdict(&check(&report, "pids-limit", false), "pass", &[]);
    let caller = check(&report, "memory", true);
    let cgroup = limited.cgroup();
    assert_verdict(&caller, "pass", &[&cgroup, "nothing pressed"]);
    assert_eq!(verdict(&report), "pass", "{report:#}");
    // Its own is tighter.
    let report = limited.report(&["-m", "20m"], &ALLOCATE);
    assert_verdict(&check(&report, "memory", false), "pass", &["held at 20.0M"]);
    let caller = check(&report, "memory", true);
    assert_verdict(&caller, "pass", &[&cgroup, "20.0M", "tighter"]);
    assert_eq!(verdict(&report), "pass", "{report:#}");
    // Of siblings.
    let flags = ["--weights=100:300", "--for=300ms"];
    let report = limited.report(&flags, &["sh", "-c", "while :; do :; done"]);
    assert_verdict(&check(&report, "memory", true), "pass", &[&cgroup]);
}

#[test]
#[ignore = "needs root"]
fn a_container_that_is_placed_outside_fails() {
    let _alone = alone();
    let limited = Limited::new("verify-outside", Everybodys::new());
    let mut verify = limited.verify(&["--output=json", "-m", "20m"], &ALLOCATE);
    let report = said(&output(verify.env("AGENT_UNGUARDED", "placement")));
    assert_verdict(&check(&report, "memory", false), "pass", &["held at 20.0M"]);
    let caller = check(&report, "memory", true);
    let outer = limited.delegated.outer.path();
    let place = format!("it is in {outer}/agent/");
    assert_verdict(&caller, "fail", &[&place, "40.0M", &limited.cgroup()]);
    assert_eq!(verdict(&report), "fail", "{report:#}");
    limited.delegated.assert_empty();
    // Where the caller chose the place, it is theirs; that is told all the same.
    let parent = format!("--cgroup-parent={outer}");
    let report = limited.report(&["-m", "20m", &parent], &ALLOCATE);
    assert_eq!(verdict(&report), "pass", "{report:#}");
    assert!(notes(&report, &limited.cgroup()), "{report:#}");
}

/// Whether one is told that a limit of memory of this cgroup does not bind.
fn notes(report: &Value, cgroup: &str) -> bool {
    let notes = report["notes"].as_array().expect("a list").iter();
    let words = ["do not bind", &format!("memory 40.0M of {cgroup}")];
    let mut notes = notes.filter_map(Value::as_str);
    notes.any(|note| words.iter().all(|word| note.contains(word)))
}

/// Closes the files of memory's limit to the user.
fn close(cgroup: &Cgroup) {
    let [controller, name] = MEMORY;
    let file = file(&cgroup.path(), controller, name);
    fs::set_permissions(file, Permissions::from_mode(0o000)).expect("permissions");
}

#[test]
#[ignore = "needs root"]
fn a_limit_of_the_callers_that_cannot_be_read_is_not_passed() {
    let _alone = alone();
    let limited = Limited::new("verify-unknown", Everybodys::new());
    close(&limited.delegated.inner);
    let forks = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done 2>/dev/null; wait";
    let report = limited.report(&["--pids-limit=5"], &["sh", "-c", forks]);
    assert_verdict(&check(&report, "pids-limit", false), "pass", &[]);
    let caller = check(&report, "memory", true);
    assert_verdict(&caller, "inconclusive", &["cannot be read", "denied"]);
    assert_eq!(verdict(&report), "inconclusive", "{report:#}");
}

/// A root's container is where root's are, and one is told what that leaves.
#[test]
#[ignore = "needs root"]
fn root_is_told_of_what_it_leaves() {
    let cgroup = Cgroup::strangers("verify-root", "scope");
    limit_memory(&cgroup, LIMIT);
    let pressing = "stress-ng --vm 1 --vm-bytes 60M --vm-keep --timeout 2s";
    let arguments = verify(&["-m", "20m", "--"]);
    let mut inside = cgroup.command(arguments.get_program());
    inside.args(arguments.get_args()).args(pressing.split(' '));
    let report = said(&output(&mut inside));
    assert_verdict(&check(&report, "memory", false), "pass", &[]);
    assert!(notes(&report, &cgroup.path()), "{report:#}");
    // In its own cgroup all of them hold.
    let parent = format!("--cgroup-parent={}", cgroup.path());
    if Cgroup::is_v1("memory") {
        let arguments = verify(&["-m", "20m", &parent, "--"]);
        let mut inside = cgroup.command(arguments.get_program());
        inside.args(arguments.get_args()).args(pressing.split(' '));
        let report = said(&output(&mut inside));
        assert_eq!(verdict(&report), "pass", "{report:#}");
        assert!(!notes(&report, &cgroup.path()), "{report:#}");
    }
}

/// What a server says of the user's container `web`.
fn standing(serve: &Serve, path: &str) -> Value {
    let mut verify = super::verify_with(serve.socket(), "off");
    said(&output(verify.args(["--container", path])))
}

#[test]
#[ignore = "needs root"]
fn a_container_that_runs_is_held_against_its_callers_limits() {
    let _alone = alone();
    let serve = Serve::start(&["--docker-socket", "off"]);
    let limited = Limited::new("verify-started", Everybodys::of_session());
    let (files, delegated) = (&limited.files, &limited.delegated);
    let root = files.path("root");
    let words = ["run", "-d", "--name", "web", "-m", "20m", "--rootfs"];
    let words = [
        &words[..],
        &[root.to_str().expect("UTF-8"), "sleep", "1000"],
    ]
    .concat();
    text(&mut delegated.agent(files, &words));
    // By its cgroup: another user calls a container what they like.
    let path = format!("{}/agent/web", limited.cgroup());
    let report = standing(&serve, &path);
    assert_verdict(&check(&report, "memory", false), "pass", &[]);
    let caller = check(&report, "memory", true);
    assert_verdict(&caller, "pass", &[&limited.cgroup()]);
    assert_eq!(caller["intended"]["value"]["number"], LIMIT as f64);

    // The limit becomes looser.
    limit_memory(&delegated.inner, LIMIT * 2);
    let report = standing(&serve, &path);
    let caller = check(&report, "memory", true);
    assert_verdict(&caller, "fail", &["40.0M", "holds 80.0M"]);
    limit_memory(&delegated.inner, LIMIT);

    // On v2 whoever is elsewhere is in no cgroup of the container's.
    if Cgroup::is_v1("memory") {
        moved_in_one_hierarchy(&limited, &serve, &path);
    }
    // Its state does not say it.
    let state = Path::new("/run/user").join(files.user().to_string());
    let state = state.join("agent-containers/web/state.json");
    let mut record = files.state("web");
    record.as_object_mut().expect("an object").remove("bounds");
    fs::write(&state, record.to_string()).expect("a state");
    let report = standing(&serve, &path);
    let unsaid = check(&report, "limits", true);
    assert_verdict(&unsaid, "inconclusive", &["older agent"]);

    text(&mut files.agent(&["rm", "-f", "web"]));
    serve.stop();
}

/// root moves the container's process out of its cgroup of memory, and of no other, and back.
fn moved_in_one_hierarchy(limited: &Limited, serve: &Serve, path: &str) {
    let [controllers, _] = MEMORY;
    let processes = |path: &str| file(path, controllers, ["cgroup.procs"; 2]);
    let outer = limited.delegated.outer.path();
    let all = fs::read_to_string(processes(path)).expect("a cgroup");
    assert!(!all.is_empty());
    all.lines().for_each(|pid| write(&processes(&outer), pid));
    let report = standing(serve, path);
    let caller = check(&report, "memory", true);
    let (place, cgroup) = (format!("it is in {outer},"), limited.cgroup());
    assert_verdict(&caller, "fail", &[&place, "40.0M", &cgroup]);
    all.lines().for_each(|pid| write(&processes(path), pid));
}
