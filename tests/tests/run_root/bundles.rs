//! Files that `agent run` reads because somebody named them, or put them there: what is no file, or too large, is refused
//! at once.

use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tests::agent::agent;
use tests::bounded::Bounded;

use crate::Came;

/// What may be in the place of a file, and what is said of it.
const KINDS: [(&str, &str); 5] = [
    ("fifo", "a FIFO; wanted a regular file"),
    ("socket", "a socket; wanted a regular file"),
    ("directory", "a directory; wanted a regular file"),
    ("device", "a character device; wanted a regular file"),
    ("large", "bytes or more; wanted at most"),
];

fn put(kind: &str, path: &Path) -> Option<UnixListener> {
    match kind {
        "fifo" => mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).expect("a FIFO"),
        "socket" => return Some(UnixListener::bind(path).expect("a socket")),
        "directory" => fs::create_dir(path).expect("a directory"),
        "device" => std::os::unix::fs::symlink("/dev/zero", path).expect("a link"),
        _ => File::create(path)
            .and_then(|file| file.set_len(1 << 30))
            .expect("a file"),
    }
    None
}

fn bounded(arguments: &[&str]) -> Came {
    let run = agent(["run"].iter().chain(arguments));
    Came::from(Bounded::start(&run).output())
}

#[test]
#[ignore = "needs root"]
fn what_is_no_file_is_said() {
    for (kind, wanted) in KINDS {
        let place = tempfile::tempdir().expect("a directory");
        let bundle = place.path().to_str().expect("UTF-8");
        let path = place.path().join("config.json");
        let _listener = put(kind, &path);
        let config = path.to_str().expect("UTF-8");
        let profile = format!("seccomp={config}");
        let calls: [&[&str]; 2] = [
            &["--bundle", bundle],
            &["--security-opt", &profile, "--bin", "true", "true"],
        ];
        for call in calls {
            let said = bounded(call).badly(125);
            assert!(
                said.contains(config) && said.contains(wanted),
                "{kind}: {said}"
            );
        }
        if kind != "large" && kind != "fifo" {
            let said = bounded(&["--image", config, "true"]).badly(125);
            assert!(said.contains(config), "{kind}: {said}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_configuration_that_is_nested_or_repeats() {
    let place = tempfile::tempdir().expect("a directory");
    let bundle = place.path().to_str().expect("UTF-8");
    let mount = r#"{"destination":""},"#;
    let mounts = mount.repeat((4 << 20) / mount.len() - 10);
    let nested = format!("{{\"annotations\":{}", "[".repeat(100_000));
    let unknown = format!("{{\"unknown\":{}", "[".repeat(100_000));
    let cases = [
        (nested, "config.json"),
        (unknown, "config.json"),
        (
            format!("{{\"ociVersion\":\"1.0\",\"mounts\":[{mounts}"),
            "config.json",
        ),
    ];
    for (text, wanted) in cases {
        fs::write(place.path().join("config.json"), text).expect("a file");
        let said = bounded(&["--bundle", bundle]).badly(125);
        assert!(said.contains(wanted), "{said}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_namespace_that_is_none() {
    let place = tempfile::tempdir().expect("a directory");
    let fifo = place.path().join("fifo");
    put("fifo", &fifo);
    fs::create_dir(place.path().join("root")).expect("a directory");
    let config = serde_json::json!({
        "ociVersion": "1.2.0",
        "root": {"path": "root"},
        "process": {"cwd": "/", "args": ["true"], "user": {"uid": 0, "gid": 0}},
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "ipc", "path": fifo}]},
    });
    let path = place.path().join("config.json");
    fs::write(path, config.to_string()).expect("a file");
    let bundle = place.path().to_str().expect("UTF-8");
    let said = bounded(&["--bundle", bundle]).badly(125);
    assert!(said.contains("a FIFO; wanted a regular file"), "{said}");
}
