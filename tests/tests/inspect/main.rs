//! `agent inspect`: all about one container or process, held against the kernel's own files, through the server and alone.

mod bad;
mod docker;
mod gaps;
mod limits;
mod plain;

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use tests::agent::agent;
use tests::container::inode;
use tests::run::Container;
use tests::serve::Serve;

/// No server is there: the command looks by itself.
const NOBODY: &str = "off";

const TYPES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// What a container runs that is only looked at.
const SLEEP: &[&str] = &["sleep", "infinity"];

fn call(socket: &Path, target: &str, arguments: &[&str]) -> Output {
    let mut inspect = agent(["inspect", target, "--docker-socket", "off", "--socket"]);
    let inspect = inspect.arg(socket).args(arguments).env("COLUMNS", "80");
    inspect.output().expect("agent inspect can be run")
}

/// What the command writes.
fn inspect(socket: &Path, target: &str, arguments: &[&str]) -> String {
    let output = call(socket, target, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    assert_eq!(stderr, "");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn report(socket: &Path, target: &str) -> Value {
    serde_json::from_str(&inspect(socket, target, &["--output", "json"])).expect("an object")
}

/// What it says of a container or process, looking by itself.
fn alone(target: &str) -> Value {
    report(Path::new(NOBODY), target)
}

/// What a process is not isolated from, each in a word.
fn gaps(report: &Value) -> Vec<&str> {
    let gaps = report["not_isolated"].as_array().expect("a list");
    let words = gaps.iter().map(|gap| gap["about"].as_str());
    words.collect::<Option<_>>().expect("words")
}

/// What is said of one of them.
fn gap<'a>(report: &'a Value, about: &str) -> &'a str {
    let mut gaps = report["not_isolated"].as_array().expect("a list").iter();
    let gap = gaps.find(|gap| gap["about"] == about);
    let text = gap.and_then(|gap| gap["text"].as_str());
    text.unwrap_or_else(|| panic!("{about}: {report}"))
}

fn namespace<'a>(report: &'a Value, kind: &str) -> &'a Value {
    let mut all = report["namespaces"].as_array().expect("a list").iter();
    let found = all.find(|it| it["type"] == kind);
    found.unwrap_or_else(|| panic!("{kind}: {report}"))
}

fn limit<'a>(report: &'a Value, name: &str) -> &'a Value {
    let mut all = report["limits"].as_array().expect("a list").iter();
    let found = all.find(|it| it["limit"] == name);
    found.unwrap_or_else(|| panic!("{name}: {report}"))
}

/// A report without the host's namespaces, which others come to and leave, and without the use of resources.
fn still(mut report: Value) -> Value {
    let namespaces = report["namespaces"].as_array_mut().expect("a list");
    namespaces.retain(|it| it["host"] == false);
    report["usage"].take();
    // By the clock of each call: to the microsecond.
    report["started"].take();
    report
}

/// What the kernel says in a row of `/proc/PID/status`.
fn status(pid: u32, row: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let found = text.lines().find_map(|line| line.strip_prefix(row));
    found
        .unwrap_or_else(|| panic!("{row}: {text}"))
        .trim()
        .to_owned()
}

fn lines(pid: u32, file: &str) -> usize {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}"));
    text.expect("a process").lines().count()
}

/// Docker's default ones.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

#[test]
#[ignore = "needs root"]
fn a_container_is_what_the_kernel_says_of_it() {
    let serve = Serve::start(&["--docker-socket", "off"]);
    let container = Container::new("inspect");
    container.start(&[], SLEEP);
    let pid = container.pid();
    let of = |file: &str| format!("/proc/{pid}/{file}");
    for socket in [&*serve.socket(), Path::new(NOBODY)] {
        let report = report(socket, &container.name);
        assert_eq!(report["pid"], pid);
        assert_eq!(report["container"]["name"], container.name, "{report}");
        assert_eq!(report["container"]["runtime"], "agent", "{report}");
        let comm = fs::read_to_string(of("comm")).expect("a name");
        let wanted = json!({"value": comm.trim(), "source": of("comm")});
        assert_eq!(report["comm"], wanted);
        let executable = fs::read_link(of("exe")).expect("a program");
        let wanted = json!({"value": executable, "source": of("exe")});
        assert_eq!(report["executable"], wanted);
        for kind in TYPES {
            let found = namespace(&report, kind);
            let file = of(&format!("ns/{kind}"));
            assert_eq!(found["inode"], inode(&file), "{found}");
            let host = inode(&format!("/proc/self/ns/{kind}"));
            assert_eq!(found["host"], inode(&file) == host, "{found}");
            assert_eq!(found["source"], file);
            if found["host"] == false {
                assert_eq!(found["shared_with"], json!([]), "{found}");
                assert_eq!(found["processes"], 1, "{found}");
            }
        }
        assert_eq!(report["command"]["value"], json!(SLEEP));
        assert_eq!(report["hostname"]["value"], container.name);
        let lo = json!([{"name": "lo", "is_up": true, "addresses": ["127.0.0.1/8", "::1/128"]}]);
        assert_eq!(report["interfaces"]["value"], lo, "{report}");
        let usage = &report["usage"];
        assert_eq!(usage["oom_kills"]["value"], 0, "{usage}");
        assert_eq!(usage["threads"]["value"], 1, "{usage}");
        let memory = usage["memory_bytes"]["value"].as_u64();
        assert!(memory.is_some_and(|bytes| bytes > 0), "{usage}");
        let root = &report["root"];
        assert_eq!(root["value"], json!({"how": "pivot_root", "path": "/"}));
        assert_eq!(
            root["source"],
            format!("{}, {}", of("root"), of("mountinfo"))
        );
        let mounts = &report["mounts"]["value"];
        assert_eq!(mounts["private"], lines(pid, "mountinfo"), "{mounts}");
        let all = json!([{"inside": 0, "outside": 0, "count": u32::MAX}]);
        assert_eq!(
            report["uid_map"],
            json!({"value": all, "source": of("uid_map")})
        );
        assert_eq!(
            report["gid_map"],
            json!({"value": all, "source": of("gid_map")})
        );
        for set in ["effective", "permitted", "bounding"] {
            let held = &report["capabilities"][set]["value"];
            assert_eq!(*held, json!(CAPABILITIES), "{set}");
        }
        for set in ["inheritable", "ambient"] {
            assert_eq!(report["capabilities"][set]["value"], json!([]), "{set}");
        }
        let source = &report["capabilities"]["bounding"]["source"];
        assert_eq!(*source, of("status CapBnd"));
        assert_eq!(report["no_new_privs"]["value"], true);
        assert_eq!(report["seccomp"]["value"], "filter");
        let filters = report["seccomp_filters"]["value"].to_string();
        assert_eq!(filters, status(pid, "Seccomp_filters:"));
        let cgroups = report["cgroups"]["value"].as_array().expect("a list");
        assert_eq!(cgroups.len(), lines(pid, "cgroup"));
        for cgroup in cgroups {
            let path = format!("/agent/{}", container.name);
            assert_eq!(cgroup["path"], path, "{cgroup}");
        }
        let left = ["time", "uid", "memory", "cpu-quota", "pids-limit"];
        assert_eq!(gaps(&report), left, "{report}");
    }
    // Its first process is the same.
    let by_pid = alone(&pid.to_string());
    assert_eq!(still(by_pid), still(alone(&container.name)));

    let page = inspect(Path::new(NOBODY), &container.name, &[]);
    assert!(
        page.lines().all(|line| line.chars().count() <= 80),
        "{page}"
    );
    assert!(!page.contains('\x1b'), "{page}");
    for words in [
        &container.name,
        "pivot_root",
        "CAP_SYS_CHROOT",
        "not isolated",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
}
