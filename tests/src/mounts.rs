//! A mount namespace of this test's own: what is mounted there is nowhere else, and ends with it.

use std::ffi::OsStr;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use crate::process::kill;
use crate::program::program;

/// Says whether the mounts are there after its arguments have run that were before, and ends as they did.
const COMPARE: &str = "
    before=$(cat /proc/self/mountinfo)
    \"$@\"
    status=$?
    test \"$before\" = \"$(cat /proc/self/mountinfo)\" || echo a mount stays
    exit $status
";

/// A call in a mount namespace of its own, in which mounts made elsewhere in the call could appear; it prints that one
/// stays.
pub fn compared(call: &Command) -> Command {
    let mut command = Command::new(program("unshare"));
    command.args(["--mount", "--propagation", "shared"]);
    command.args(["sh", "-c", COMPARE, "sh"]);
    command.arg(call.get_program()).args(call.get_args());
    command
}

/// The namespace. Dropping it ends it, once nothing runs in it.
#[derive(Debug)]
pub struct Mounts {
    /// Keeps it: it waits for its input's end.
    keeper: Child,
}

impl Mounts {
    /// Mounts a new file system of this type at `path`, over what is there.
    ///
    /// # Panics
    /// Where that fails.
    pub fn new(kind: &str, path: impl AsRef<OsStr>) -> Self {
        let script = "mount -t \"$1\" none \"$2\" && echo . && exec cat";
        let mut keeper = Command::new("unshare");
        keeper.args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ]);
        keeper.arg(kind).arg(path);
        let keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut mounts = Self {
            keeper: keeper.spawn().expect("unshare can be run"),
        };
        let stdout = mounts.keeper.stdout.as_mut().expect("a pipe");
        let mounted = stdout.read_exact(&mut [0; 2]);
        assert!(mounted.is_ok(), "{kind} cannot be mounted");
        mounts
    }

    /// A call of `program` there.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.keeper.id().to_string()]);
        command.arg("--").arg(program);
        command
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        kill(&mut self.keeper);
    }
}
