//! A mount namespace of this test's own: what is mounted there is nowhere else, and ends with it.

use std::ffi::OsStr;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use crate::process::kill;
use crate::program::program;

/// Shares its mounts with the namespaces that are made from this one, runs its arguments, and ends as they did. Says whether
/// the mounts differ from those before.
const COMPARE: &str = "
    mount --make-rshared / || exit 1
    before=$(cat /proc/self/mountinfo)
    \"$@\"
    status=$?
    test \"$before\" = \"$(cat /proc/self/mountinfo)\" || echo a mount stays
    exit $status
";

/// A call in a mount namespace of its own, which prints that a mount stays. What the call mounts in namespaces that it
/// makes appears there; what others mount on the host does not.
pub fn compared(call: &Command) -> Command {
    let mut command = Command::new(program("unshare"));
    command.args(["--mount", "--propagation", "private"]);
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::run::text;

    /// Runs `script` by `sh`, which finds a directory in `$1`, in a namespace that shares its mounts.
    fn shared(script: &str, directory: &Path) -> Command {
        let mut command = Command::new(program("unshare"));
        command.args(["--mount", "--propagation", "shared", "sh", "-ec", script]);
        command.arg("sh").arg(directory);
        command
    }

    #[test]
    #[ignore = "needs root"]
    fn a_call_is_judged_by_its_own_mounts_alone() {
        let place = tempfile::tempdir().expect("a directory");
        let mut own = Command::new("mount");
        own.args(["-t", "tmpfs", "none"]).arg(place.path());
        assert_eq!(text(&mut compared(&own)), "a mount stays\n");
        let mut inner = Command::new("unshare");
        inner.args(["--mount", "--propagation", "unchanged"]);
        inner.arg("mount").args(own.get_args());
        assert_eq!(text(&mut compared(&inner)), "a mount stays\n");
        // The call lets its host mount, and waits until that is done.
        let wait = "mkfifo $1/a $1/b; (read x <$1/a; mount -t tmpfs none $1/at; echo >$1/b) & ";
        let call = compared(Command::new("sh").args(["-c", "echo >$0/a; read x <$0/b"]));
        let words = call
            .get_args()
            .map(|word| format!("'{}'", word.to_string_lossy()));
        let line = words.collect::<Vec<_>>().join(" ");
        let script = format!("mkdir $1/at; {wait} unshare {line} $1; findmnt $1/at >$1/found");
        assert_eq!(text(&mut shared(&script, place.path())), "");
        let found = std::fs::read_to_string(place.path().join("found"));
        assert!(found.is_ok_and(|found| found.contains("tmpfs")));
    }
}
