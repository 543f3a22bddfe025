//! The numbers that were read from the files of one cgroup.

use std::sync::LazyLock;

use agent_model::hierarchy::Version;
use agent_model::limit::{Device, Held, Kind, Limit};

use super::cgroup_files::{files_of, tightest_of};

macro_rules! fields {
    ($($(#[$meta:meta])* $field:ident,)*) => {
        /// A number that is read from a cgroup's files. Times are in nanoseconds, memory in bytes. Limits are in the
        /// unit of their file.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field { $($(#[$meta])* $field,)* }

        /// The number of fields.
        const FIELDS: usize = [$(Field::$field),*].len();
    };
}

fields! {
    CpuUsage,
    CpuUser,
    CpuSystem,
    Periods,
    ThrottledPeriods,
    ThrottledTime,
    CpuPeriod,
    /// A limit.
    CpuQuota,
    /// On v1 only.
    CpuShares,
    /// On v2 only.
    CpuWeight,
    MemoryUsage,
    MaxUsage,
    Failcnt,
    Cache,
    Rss,
    Swap,
    /// What the kernel itself allocated for the cgroup.
    KernelMemory,
    MappedFile,
    ActiveFile,
    InactiveFile,
    /// Page faults. `Faults` and `MajorFaults` count the cgroup alone; the two `Tree` fields add the cgroups below it.
    Faults,
    MajorFaults,
    TreeFaults,
    TreeMajorFaults,
    /// A limit, as are the next four fields.
    MemoryLimit,
    SwapLimit,
    Reservation,
    /// The tightest limit of the cgroup and its ancestors, which the kernel reports on v1.
    TreeMemoryLimit,
    TreeSwapLimit,
    Threads,
    /// A limit.
    ThreadsMax,
    CpuWaiting,
    CpuStalled,
    MemoryWaiting,
    MemoryStalled,
    IoWaiting,
    IoStalled,
}

/// The file does not exist, or has no such row.
const ABSENT: u64 = u64::MAX;

/// The value of a limit that is not set.
const UNLIMITED: u64 = u64::MAX - 1;

/// The file exists and could not be read.
const UNREAD: u64 = u64::MAX - 2;

/// The numbers of one cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    values: [u64; FIELDS],
    pub devices: Vec<DeviceUse>,
    /// The CPU time on each CPU, in nanoseconds. Empty unless it was asked for, and on v2, which does not have it.
    pub cpus: Vec<u64>,
    /// Rows of devices beyond [`DEVICES_AT_MOST`].
    pub left_out: u64,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            values: [ABSENT; FIELDS],
            devices: Vec::new(),
            cpus: Vec::new(),
            left_out: 0,
        }
    }
}

impl Reading {
    /// Returns a number. Returns None where it is unknown, or a limit that is not set.
    pub fn number(&self, field: Field) -> Option<u64> {
        let value = self.values[field as usize];
        (value < UNREAD).then_some(value)
    }

    /// A limit.
    pub fn limit(&self, field: Field) -> Option<Limit> {
        match self.values[field as usize] {
            ABSENT | UNREAD => None,
            UNLIMITED => Some(Limit::Max),
            value => Some(Limit::Value(value)),
        }
    }

    pub fn set(&mut self, field: Field, value: u64) {
        self.values[field as usize] = value.min(UNREAD - 1);
    }

    /// Returns whether the field's file exists and could not be read.
    pub fn is_unread(&self, field: Field) -> bool {
        self.values[field as usize] == UNREAD
    }

    /// Marks the fields of a file that could not be read to its end. Fields that were read before the error keep their
    /// values.
    pub fn set_unread(&mut self, fields: &[Field]) {
        for field in fields {
            let value = &mut self.values[*field as usize];
            if *value == ABSENT {
                *value = UNREAD;
            }
        }
    }

    pub fn set_limit(&mut self, field: Field, limit: Limit) {
        match limit {
            Limit::Max => self.values[field as usize] = UNLIMITED,
            Limit::Value(value) => self.set(field, value),
        }
    }

    /// Returns the cgroup's own limit. Where the tightest limit of the cgroup and its ancestors is `max`, so is the
    /// cgroup's own, and its file is not read.
    pub fn own(&self, kind: Kind) -> Seen {
        let Place { fields, tightest } = &PLACES[kind as usize];
        let held = fields.first().and_then(|field| {
            let tightest = tightest.and_then(|tightest| self.limit(tightest));
            let limit = self.limit(*field);
            let limit = limit.or(tightest.filter(|limit| *limit == Limit::Max))?;
            Some(match fields.get(1) {
                None => Held::Amount(limit),
                Some(period) => Held::Quota {
                    quota: limit,
                    period: self.number(*period).filter(|period| *period > 0)?,
                },
            })
        });
        Seen::of(held, fields.iter().any(|field| self.is_unread(*field)))
    }

    /// Returns the tightest limit of the cgroup and its ancestors, as the kernel reports it. On v2 the kernel reports
    /// none.
    pub fn tightest(&self, kind: Kind) -> Seen {
        let Some(field) = PLACES[kind as usize].tightest else {
            return Seen::Nothing;
        };
        Seen::of(self.limit(field).map(Held::Amount), self.is_unread(field))
    }

    /// Returns the values of some fields. [`Reading::put`] sets them again.
    pub(super) fn take(&self, fields: &[Field]) -> [u64; REMEMBERED_A_FILE] {
        let mut values = [ABSENT; REMEMBERED_A_FILE];
        for (value, field) in values.iter_mut().zip(fields) {
            *value = self.values[*field as usize];
        }
        values
    }

    pub(super) fn put(&mut self, fields: &[Field], values: [u64; REMEMBERED_A_FILE]) {
        for (field, value) in fields.iter().zip(values) {
            self.values[*field as usize] = value;
        }
    }

    /// Returns the entry of a device, and adds one where it has none. Returns None, and counts the row, where there are
    /// [`DEVICES_AT_MOST`] already.
    pub fn device(&mut self, of: Device) -> Option<&mut DeviceUse> {
        let Device { major, minor } = of;
        let found = |device: &DeviceUse| (device.major, device.minor) == (major, minor);
        let at = match self.devices.iter().position(found) {
            Some(at) => at,
            None if self.devices.len() < DEVICES_AT_MOST => {
                self.devices.push(DeviceUse {
                    major,
                    minor,
                    ..DeviceUse::default()
                });
                self.devices.len() - 1
            }
            None => {
                self.left_out += 1;
                return None;
            }
        };
        self.devices.get_mut(at)
    }
}

/// A limit, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seen {
    /// No limit is known, and no file holds one.
    #[default]
    Nothing,
    /// A file holds it.
    Held(Held),
    /// The limit's file exists and could not be read.
    Unread,
}

impl Seen {
    fn of(held: Option<Held>, is_unread: bool) -> Self {
        match held {
            Some(held) => Self::Held(held),
            None if is_unread => Self::Unread,
            None => Self::Nothing,
        }
    }

    pub fn held(&self) -> Option<&Held> {
        match self {
            Self::Held(held) => Some(held),
            Self::Nothing | Self::Unread => None,
        }
    }

    /// Returns the tighter of the two. An unread limit wins, as it may be tighter than any other.
    #[must_use]
    pub fn tighter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unread, _) | (_, Self::Unread) => Self::Unread,
            (Self::Held(one), Self::Held(other)) => Self::Held(one.tighter(other)),
            (Self::Nothing, seen) | (seen, Self::Nothing) => seen,
        }
    }
}

/// The fields of a reading that hold one limit.
struct Place {
    /// The field of the limit. For a quota, the field of its period follows.
    fields: Vec<Field>,
    /// The field of the tightest limit of the cgroup and its ancestors.
    tightest: Option<Field>,
}

/// Indexed by kind of limit. The fields are the same on v1 and v2.
static PLACES: LazyLock<[Place; Kind::ALL.len()]> = LazyLock::new(|| {
    Kind::ALL.map(|kind| Place {
        fields: files_of(kind, Version::V2)
            .flat_map(|file| file.fields.iter().copied())
            .collect(),
        tightest: tightest_of(kind, Version::V1).map(|(_, field)| field),
    })
});

/// The most fields of one file that are remembered.
pub(super) const REMEMBERED_A_FILE: usize = 2;

/// The most block devices of one cgroup that are counted separately.
pub const DEVICES_AT_MOST: usize = 64;

/// A cgroup's I/O on one block device. None: the kernel does not report this count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceUse {
    pub major: u32,
    pub minor: u32,
    /// Indexed by [`Operation`], as is `count`.
    pub bytes: [Option<u64>; OPERATIONS],
    pub count: [Option<u64>; OPERATIONS],
}

/// An I/O operation on a block device. On v1 the kernel counts each operation by direction, by whether a process waits
/// for it, and in a total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
    Sync,
    Async,
    Discard,
    Total,
}

/// The number of operations.
pub const OPERATIONS: usize = Operation::ALL.len();

impl Operation {
    pub const ALL: [Self; 6] = [
        Self::Read,
        Self::Write,
        Self::Sync,
        Self::Async,
        Self::Discard,
        Self::Total,
    ];

    /// The operation's name in the files of v1.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Write => "Write",
            Self::Sync => "Sync",
            Self::Async => "Async",
            Self::Discard => "Discard",
            Self::Total => "Total",
        }
    }
}
