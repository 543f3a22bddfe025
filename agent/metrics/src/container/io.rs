//! The families of block I/O, by device.

use agent_host::filesystems::DiskCount;
use agent_host::reading::{DeviceUse, OPERATIONS, Operation};

use super::{Cgroup, Samples, Source};
use crate::catalogue;
use crate::text::Value;

pub const SOURCES: &[Source] = &[
    Source {
        metric: &catalogue::FS_READS_BYTES,
        write: |cgroup, out| operation(cgroup, out, |device| &device.bytes, Operation::Read),
    },
    Source {
        metric: &catalogue::FS_READS,
        write: |cgroup, out| count(cgroup, out, Operation::Read, DiskCount::Reads),
    },
    Source {
        metric: &catalogue::FS_WRITES_BYTES,
        write: |cgroup, out| operation(cgroup, out, |device| &device.bytes, Operation::Write),
    },
    Source {
        metric: &catalogue::FS_WRITES,
        write: |cgroup, out| count(cgroup, out, Operation::Write, DiskCount::Writes),
    },
    Source {
        metric: &catalogue::BLKIO_USAGE,
        write: usage,
    },
];

fn operation(
    cgroup: &Cgroup,
    out: &mut Samples<'_, '_>,
    values: fn(&DeviceUse) -> &[Option<u64>; OPERATIONS],
    operation: Operation,
) {
    for (device, name) in cgroup.reading.devices.iter().zip(&cgroup.devices) {
        // A device without a name was removed. Several such devices would have the same series.
        if let Some(value) = values(device)[operation as usize]
            && !name.is_empty()
        {
            out.push(&[name], Value::Number(value));
        }
    }
}

/// Writes the operations. The host's cgroup may have none of a device that a file system of the host is on.
fn count(cgroup: &Cgroup, out: &mut Samples<'_, '_>, of_cgroup: Operation, of_disk: DiskCount) {
    operation(cgroup, out, |device| &device.count, of_cgroup);
    for filesystem in &cgroup.filesystems {
        let is_written = cgroup.devices.contains(&filesystem.device);
        if let Some(io) = filesystem.io.filter(|_| !is_written) {
            out.push(&[&filesystem.device], Value::Number(io.get(of_disk)));
        }
    }
}

fn usage(cgroup: &Cgroup, out: &mut Samples<'_, '_>) {
    for (device, name) in cgroup.reading.devices.iter().zip(&cgroup.devices) {
        let (major, minor) = (device.major.to_string(), device.minor.to_string());
        for operation in Operation::ALL {
            if let Some(bytes) = device.bytes[operation as usize] {
                let own = [name, &*major, &*minor, operation.name()];
                out.push(&own, Value::Number(bytes));
            }
        }
    }
}
