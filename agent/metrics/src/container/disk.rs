//! The families of file systems and their disks. The host has its own, and a container its writable layer if layers are
//! measured. What a container did on a disk is in the families of [`io`](super::io).

use agent_host::filesystems::{DiskCount, DiskIo, Filesystem};

use super::{Cgroup, Samples, Source};
use crate::catalogue;
use crate::text::Value;

pub const SOURCES: &[Source] = &[
    Source {
        metric: &catalogue::FS_INODES_FREE,
        write: |cgroup, out| sizes(cgroup, out, |it| it.inodes_free),
    },
    Source {
        metric: &catalogue::FS_INODES_TOTAL,
        write: |cgroup, out| sizes(cgroup, out, |it| Some(it.inodes)),
    },
    Source {
        metric: &catalogue::FS_LIMIT,
        write: |cgroup, out| sizes(cgroup, out, |it| Some(it.size)),
    },
    Source {
        metric: &catalogue::FS_USAGE,
        write: |cgroup, out| sizes(cgroup, out, |it| Some(it.used)),
    },
    Source {
        metric: &catalogue::FS_IO_CURRENT,
        write: |cgroup, out| counts(cgroup, out, DiskCount::InProgress),
    },
    Source {
        metric: &catalogue::FS_IO_TIME,
        write: |cgroup, out| times(cgroup, out, DiskCount::IoTime),
    },
    Source {
        metric: &catalogue::FS_IO_TIME_WEIGHTED,
        write: |cgroup, out| times(cgroup, out, DiskCount::WeightedIoTime),
    },
    Source {
        metric: &catalogue::FS_READ_TIME,
        write: |cgroup, out| times(cgroup, out, DiskCount::ReadTime),
    },
    Source {
        metric: &catalogue::FS_READS_MERGED,
        write: |cgroup, out| counts(cgroup, out, DiskCount::ReadsMerged),
    },
    Source {
        metric: &catalogue::FS_SECTOR_READS,
        write: |cgroup, out| counts(cgroup, out, DiskCount::SectorsRead),
    },
    Source {
        metric: &catalogue::FS_SECTOR_WRITES,
        write: |cgroup, out| counts(cgroup, out, DiskCount::SectorsWritten),
    },
    Source {
        metric: &catalogue::FS_WRITE_TIME,
        write: |cgroup, out| times(cgroup, out, DiskCount::WriteTime),
    },
    Source {
        metric: &catalogue::FS_WRITES_MERGED,
        write: |cgroup, out| counts(cgroup, out, DiskCount::WritesMerged),
    },
];

fn sizes(cgroup: &Cgroup, out: &mut Samples<'_, '_>, size: fn(&Filesystem) -> Option<u64>) {
    for filesystem in &cgroup.filesystems {
        if let Some(size) = size(filesystem) {
            out.push(&[&filesystem.device], Value::Number(size));
        }
    }
}

/// Returns the disks, with the paths of their devices.
fn disks(cgroup: &Cgroup) -> impl Iterator<Item = (&str, &DiskIo)> {
    let filesystems = cgroup.filesystems.iter();
    filesystems.filter_map(|it| Some((&*it.device, it.io.as_ref()?)))
}

fn counts(cgroup: &Cgroup, out: &mut Samples<'_, '_>, count: DiskCount) {
    for (device, io) in disks(cgroup) {
        out.push(&[device], Value::Number(io.get(count)));
    }
}

/// Writes times, which the kernel counts in milliseconds. cAdvisor takes them for nanoseconds, so that its values are a
/// millionth of these.
fn times(cgroup: &Cgroup, out: &mut Samples<'_, '_>, time: DiskCount) {
    for (device, io) in disks(cgroup) {
        let nanoseconds = io.get(time).saturating_mul(1_000_000);
        out.push(&[device], Value::Seconds(nanoseconds));
    }
}
