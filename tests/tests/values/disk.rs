//! What a container read from a disk and wrote to it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{major, minor};
use tests::cgroup::Cgroup;
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};

use super::run;

/// A block device that can have limits.
struct Disk {
    /// `/dev/NAME`
    path: String,
    /// `MAJOR:MINOR`
    number: String,
}

/// What is done to it, and how it is called.
struct Way {
    metric: &'static str,
    v1: &'static str,
    v2: char,
    /// Bytes that the load makes of it, at least.
    bytes: f64,
}

const WAYS: [Way; 2] = [
    Way {
        metric: "reads",
        v1: "Read",
        v2: 'r',
        bytes: (2 << 20) as f64,
    },
    Way {
        metric: "writes",
        v1: "Write",
        v2: 'w',
        bytes: (4 << 20) as f64,
    },
];

/// What is counted of it.
#[derive(Clone, Copy)]
enum Unit {
    Bytes,
    Operations,
}

#[test]
#[ignore = "needs root"]
fn what_was_read_and_written_is_what_the_kernel_says() {
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("io");
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let disk = Disk::of(directory.path());
    if Cgroup::is_v1("blkio") {
        // From 6.10 on v1 counts only for disks with a limit of some cgroup.
        let none = format!("{} 10000000000", disk.number);
        cgroup.write("blkio", "blkio.throttle.write_bps_device", &none);
    }
    let file = directory.path().join("file");
    let [from, to] = ["if", "of"].map(|side| format!("{side}={}", file.display()));
    let write = ["if=/dev/zero", &to, "bs=64k", "count=64", "oflag=direct"];
    run(&cgroup, "dd", &write);
    let read = [&from, "of=/dev/null", "bs=64k", "count=32", "iflag=direct"];
    run(&cgroup, "dd", &read);

    let (id, (major, minor)) = (cgroup.path(), disk.numbers());
    for way in WAYS {
        let labels = [("id", &*id), ("device", &*disk.path)];
        let bytes = format!("container_fs_{}_bytes_total", way.metric);
        let operations = format!("container_fs_{}_total", way.metric);
        let usage = "container_blkio_device_usage_total";
        let parts = [
            ("id", &*id),
            ("major", major),
            ("minor", minor),
            ("operation", way.v1),
        ];
        wait_for("the kernel and the agent agree", PATIENCE, || {
            let kernel =
                [Unit::Bytes, Unit::Operations].map(|unit| disk.counted(&cgroup, &way, unit));
            let metrics = serve.metrics();
            let exported = [&bytes, &operations].map(|name| metrics.find(name, &labels));
            let agree = exported == kernel.map(Some)
                && metrics.find(usage, &parts) == exported[0]
                && kernel[0] >= way.bytes
                && kernel[1] >= 1.0;
            agree.then_some(())
        });
    }
    serve.stop();
}

impl Disk {
    /// The one that a directory is on.
    fn of(directory: &Path) -> Self {
        let device = directory.metadata().expect("a directory").dev();
        let (major, minor) = (major(device), minor(device));
        let device = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}"));
        let device = device.expect("a disk, on which the directory of the build is");
        // Of a partition, the disk: the kernel counts by that.
        let disk = if device.join("partition").exists() {
            device.parent().expect("a disk")
        } else {
            &device
        };
        let number = fs::read_to_string(disk.join("dev")).expect("a device");
        let name = disk.file_name().expect("a name").to_string_lossy();
        Self {
            path: format!("/dev/{name}"),
            number: number.trim().to_owned(),
        }
    }

    fn numbers(&self) -> (&str, &str) {
        self.number.split_once(':').expect("two numbers")
    }

    /// The kernel's own count; 0 where it has none yet.
    fn counted(&self, cgroup: &Cgroup, way: &Way, unit: Unit) -> f64 {
        let v1 = Cgroup::is_v1("blkio");
        let (controller, file, key) = match (v1, unit) {
            (true, Unit::Bytes) => {
                let file = "blkio.throttle.io_service_bytes_recursive";
                ("blkio", file, way.v1.to_owned())
            }
            (true, Unit::Operations) => {
                let file = "blkio.throttle.io_serviced_recursive";
                ("blkio", file, way.v1.to_owned())
            }
            (false, Unit::Bytes) => ("io", "io.stat", format!("{}bytes", way.v2)),
            (false, Unit::Operations) => ("io", "io.stat", format!("{}ios", way.v2)),
        };
        let text = cgroup.read(controller, file);
        let rows = text
            .lines()
            .filter_map(|line| line.strip_prefix(&*self.number)?.strip_prefix(' '));
        let mut words = rows.flat_map(|row| row.split([' ', '=']));
        let number = words.find(|word| *word == key).and_then(|_| words.next());
        number.map_or(0.0, |number| number.parse().expect("a number"))
    }
}
