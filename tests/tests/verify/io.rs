//! Rates of a block device.

use std::process::Command;

use serde_json::Value;
use tests::alone;
use tests::cgroup::Cgroup;
use tests::disk::Disk;
use tests::program::program;

use super::{judged, report, verify};

const RATE: u64 = 2 << 20;

/// Judges a rate of writes while a shell writes to a file system of the device, which is at /mnt.
fn writing(script: &str) -> Value {
    let disk = Disk::new();
    let (device, place) = (disk.device.display(), disk.directory.path());
    let rate = format!("--device-write-bps={device}:{RATE}");
    let volume = format!("--volume={}:/mnt", place.display());
    let verify = verify(&[&rate, &volume, "--for=5s", "--", "sh", "-c", script]);
    // Only there: the mount ends with its namespace.
    let mount = r#"mount -t ext4 "$1" "$2" || exit 99; shift 2; exec "$@""#;
    let mut outer = Command::new(program("busybox"));
    outer.args(["unshare", "-m", "sh", "-c", mount, "sh"]);
    outer.arg(&disk.device).arg(place).arg(verify.get_program());
    outer.args(verify.get_args());
    report(&mut outer)
}

#[test]
#[ignore = "needs root"]
fn direct_writes_keep_to_the_rate() {
    let _alone = alone();
    let script = "while :; do dd if=/dev/zero of=/mnt/file bs=64k count=256 oflag=direct conv=notrunc 2>/dev/null || exit; done";
    let check = judged(&writing(script), "pass", &["held at 2.0M/s"]);
    let rate = check["observed"]["rate"].as_f64().expect("a rate");
    assert!(rate <= 1.15 * RATE as f64, "{check:#}");
}

/// The kernel's threads write the page cache, in the root cgroup on v1.
#[test]
#[ignore = "needs root"]
fn buffered_writes_are_limited_by_v2_alone() {
    let _alone = alone();
    let script = "dd if=/dev/zero of=/mnt/file bs=1M count=40";
    if Cgroup::is_v1("blkio") {
        let report = writing(&format!("{script}; sync; sleep 100"));
        judged(
            &report,
            "fail",
            &["page cache", "v1 does not limit", "O_DIRECT"],
        );
    } else {
        // sync(1) cannot be killed while v2 makes it wait.
        let report = writing(&format!("{script}; sleep 100"));
        assert_ne!(report["verdict"], "fail", "{report:#}");
    }
}
