//! A unit of systemd's. A host without systemd looks as if it had one: what systemctl says is given.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::agent::binary;
use tests::cgroup::Cgroup;
use tests::mounts::Mounts;

use super::{PIDS, assert_verdict, check, report, write};

/// Stands for systemctl: the limits that are judged, and those that are not.
const SYSTEMCTL: &str = "#!/bin/sh
echo ControlGroup=CGROUP
case \"$*\" in
*MemoryMin*) cat DIRECTORY/other;;
*) cat DIRECTORY/limits;;
esac
";

/// A host on which systemd has one unit.
struct Host {
    place: TempDir,
    mounts: Mounts,
    unit: Cgroup,
}

impl Host {
    fn new(limits: &str, other: &str) -> Self {
        let unit = Cgroup::strangers("verify-unit", "verify-unit.service");
        let place = tempfile::tempdir().expect("a directory");
        let directory = place.path().to_str().expect("UTF-8");
        let script = SYSTEMCTL.replace("CGROUP", &unit.path());
        let script = script.replace("DIRECTORY", directory);
        for (file, text) in [("limits", limits), ("other", other), ("systemctl", &script)] {
            fs::write(place.path().join(file), text).expect("a file");
        }
        let everybody = Permissions::from_mode(0o755);
        fs::set_permissions(place.path().join("systemctl"), everybody).expect("an own file");
        let mounts = Mounts::new("tmpfs", "/run");
        Self {
            place,
            mounts,
            unit,
        }
    }

    /// `agent verify` of the unit.
    fn verify(&self, flags: &[&str]) -> Command {
        let script = "mkdir -p /run/systemd/system && PATH=$1:$PATH && shift && exec \"$@\"";
        let mut command = self.mounts.command("sh");
        command.args(["-c", script, "sh"]).arg(self.place.path());
        command.arg(binary()).arg("verify").args(flags);
        command.args(["--socket", "off", "--docker-socket", "off", "--cgroup"]);
        command.arg(self.unit.path()).stdin(Stdio::null());
        command
    }

    fn said(&self, flags: &[&str]) -> (String, String) {
        let output = self.verify(flags).output().expect("it can be run");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (text(output.stdout), text(output.stderr))
    }
}

#[test]
#[ignore = "needs root"]
fn what_a_unit_asks_for_and_nothing_judges_is_told() {
    let asked = "IOWriteBandwidthMax=/dev/vda 1048576\nMemoryMin=16777216\nIOWeight=[not set]\n";
    let host = Host::new("TasksMax=50\nMemoryMax=infinity\n", asked);
    let [controller, files] = PIDS;
    write(&super::file(&host.unit.path(), controller, files), "50");
    let all = json!(["IOWriteBandwidthMax=/dev/vda 1048576", "MemoryMin=16777216"]);
    for flags in [&[][..], &["--expect", "pids-limit=50"], &["--for", "100ms"]] {
        let report = report(host.verify(flags).args(["--output", "json"]));
        assert_eq!(report["not_judged"], all, "{report:#}");
        // It decides nothing.
        if flags.is_empty() {
            assert_verdict(check(&report, "pids-limit"), "pass", &[]);
            assert_eq!(report["verdict"], "pass");
        }
    }
    let (text, _) = host.said(&[]);
    for line in [
        "  unjudged  IOWriteBandwidthMax=/dev/vda 1048576\n",
        "  unjudged  MemoryMin=16777216\n",
    ] {
        assert!(text.contains(line), "{line:?} is missing in {text}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_unit_whose_limits_are_all_of_other_kinds_has_no_verdict_and_they_are_told() {
    let host = Host::new("MemoryMax=infinity\n", "MemoryMin=16777216\n");
    let (text, said) = host.said(&[]);
    assert_eq!(text, "");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("MemoryMin=16777216"), "{said}");
    // What asks for nothing else has nothing to tell.
    let host = Host::new("TasksMax=50\n", "MemoryMin=0\nIOWriteBandwidthMax=\n");
    let report = report(host.verify(&["--output", "json"]).args([""; 0]));
    assert_eq!(report["not_judged"], Value::Array(Vec::new()), "{report:#}");
}
