//! A bundle, run by one of the two.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tests::agent::binary;
use tests::program::{copy, program};

use crate::cases::Case;

/// The commands of busybox that a bundle has.
const APPLETS: [&str; 19] = [
    "cat", "chmod", "cut", "echo", "env", "grep", "hostname", "id", "ls", "mkdir", "mknod", "pwd",
    "readlink", "rm", "sh", "sort", "stat", "touch", "true",
];

/// What looks at a container from inside.
pub const PROBE: &str = include_str!("probe.sh");

/// What the probe ends with.
pub const PROBED: i32 = 7;

/// Seconds that a bundle may take.
const PATIENCE: &str = "120";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    Runc,
    Agent,
}

/// What a bundle came to.
#[derive(Debug)]
pub struct Came {
    pub status: i32,
    pub output: String,
    pub errors: String,
    /// Whether its command ran.
    pub ran: bool,
    /// The bundle's directory, and what the container was called.
    pub place: String,
    pub name: String,
}

/// Whether runc is here; where it is not, the skip is printed.
pub fn has_runc() -> bool {
    let is_here = ["/usr/sbin/runc", "/usr/bin/runc"]
        .iter()
        .any(|it| Path::new(it).is_file());
    if !is_here {
        tests::skip("needs runc, Debian's package");
    }
    is_here
}

impl Runtime {
    /// # Panics
    /// Where the bundle cannot be made.
    pub fn run(self, case: &Case) -> Came {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let bundle = tempfile::tempdir().expect("a directory");
        make(bundle.path(), case);
        let name = format!("bundles-{}-{number}", std::process::id());
        let mut call = Command::new(program("timeout"));
        call.args(["--foreground", PATIENCE]);
        match self {
            Self::Agent => call
                .arg(binary())
                .args(["run", "--name", &name, "--bundle"])
                .arg(bundle.path()),
            Self::Runc => call
                .arg(program("runc"))
                // Its state stays beside the bundle, and goes with it.
                .arg("--root")
                .arg(bundle.path().join("state"))
                .args(["run", "--bundle"])
                .arg(bundle.path())
                .arg(&name),
        };
        let output = call.stdin(Stdio::null()).output().expect("it can be run");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = text(&output.stdout);
        Came {
            status: output.status.code().unwrap_or(-1),
            ran: said.contains("== ids"),
            output: said,
            errors: text(&output.stderr),
            place: bundle.path().display().to_string(),
            name,
        }
    }
}

fn make(bundle: &Path, case: &Case) {
    let root = bundle.join("rootfs");
    for directory in ["bin", "dev", "etc", "proc", "sys", "tmp", "run", "data"] {
        fs::create_dir_all(root.join(directory)).expect("a directory");
    }
    fs::create_dir(bundle.join("volume")).expect("a directory");
    fs::write(bundle.join("volume/file"), "of the volume").expect("a file");
    fs::write(root.join("etc/secret"), "a secret").expect("a file");
    fs::write(root.join("etc/text"), "no program").expect("a file");
    fs::write(root.join("probe"), PROBE).expect("a file");
    copy(&program("busybox"), &root.join("bin/busybox"));
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).expect("a link");
    }
    let config = case.config.to_string();
    fs::write(bundle.join("config.json"), config).expect("a file");
}
