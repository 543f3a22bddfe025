//! What the files of one cgroup said.

use std::sync::LazyLock;

use agent_model::hierarchy::Version;
use agent_model::limit::{Device, Held, Kind, Limit};

use super::cgroup_files::{files_of, tightest_of};

macro_rules! fields {
    ($($(#[$meta:meta])* $field:ident,)*) => {
        /// A number that is read of a cgroup. Times are in nanoseconds, memory in bytes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field { $($(#[$meta])* $field,)* }

        /// How many there are.
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
    /// Of v1.
    CpuShares,
    /// Of v2.
    CpuWeight,
    MemoryUsage,
    MaxUsage,
    Failcnt,
    Cache,
    Rss,
    Swap,
    MappedFile,
    ActiveFile,
    InactiveFile,
    /// Page faults of the very cgroup, and with those below it; likewise the major ones.
    Faults,
    MajorFaults,
    TreeFaults,
    TreeMajorFaults,
    /// A limit, likewise the next four.
    MemoryLimit,
    SwapLimit,
    Reservation,
    /// The tightest of the cgroup and those above it, as v1's kernel knows it.
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

/// The file was not there, or had no such row.
const ABSENT: u64 = u64::MAX;

/// A limit that is none.
const UNLIMITED: u64 = u64::MAX - 1;

/// The file is there, and could not be read.
const UNREAD: u64 = u64::MAX - 2;

/// What was read of one cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    values: [u64; FIELDS],
    pub devices: Vec<DeviceUse>,
    /// Rows of devices beyond [`DEVICES_AT_MOST`].
    pub left_out: u64,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            values: [ABSENT; FIELDS],
            devices: Vec::new(),
            left_out: 0,
        }
    }
}

impl Reading {
    /// A number; of a limit that is none: None.
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

    /// Whether nobody knows what it is: its file is there, and could not be read.
    pub fn is_unread(&self, field: Field) -> bool {
        self.values[field as usize] == UNREAD
    }

    /// A file could not be read to its end; what was read of it stays.
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

    /// What is known of the cgroup's own limit. It is not read where the tightest of it and those above is none.
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

    /// What the kernel says is the tightest limit of the cgroup and those above it. v2's says it of none.
    pub fn tightest(&self, kind: Kind) -> Seen {
        let Some(field) = PLACES[kind as usize].tightest else {
            return Seen::Nothing;
        };
        Seen::of(self.limit(field).map(Held::Amount), self.is_unread(field))
    }

    /// The values of some fields, to be put back by [`Reading::put`].
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

    /// The use of a device, a new one where it has none. None: there are too many.
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
    /// There is none, nor a file for it.
    #[default]
    Nothing,
    /// A file holds it.
    Held(Held),
    /// Its file is there, and could not be read.
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

    /// The tighter of the two. What could not be read may be tighter than any other.
    #[must_use]
    pub fn tighter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unread, _) | (_, Self::Unread) => Self::Unread,
            (Self::Held(one), Self::Held(other)) => Self::Held(one.tighter(other)),
            (Self::Nothing, seen) | (seen, Self::Nothing) => seen,
        }
    }
}

/// Where a reading has a limit.
struct Place {
    /// The number, and the period of a quota.
    fields: Vec<Field>,
    /// The tightest of the cgroup and those above it.
    tightest: Option<Field>,
}

/// By kind of limit. The fields are the same on both versions.
static PLACES: LazyLock<[Place; Kind::ALL.len()]> = LazyLock::new(|| {
    Kind::ALL.map(|kind| Place {
        fields: files_of(kind, Version::V2)
            .flat_map(|file| file.fields.iter().copied())
            .collect(),
        tightest: tightest_of(kind, Version::V1).map(|(_, field)| field),
    })
});

/// Fields that are remembered of one file at most.
pub(super) const REMEMBERED_A_FILE: usize = 2;

/// Block devices of one cgroup that are told apart.
pub const DEVICES_AT_MOST: usize = 64;

/// What a cgroup read from and wrote to a block device. None: the kernel does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceUse {
    pub major: u32,
    pub minor: u32,
    /// By [`Operation`].
    pub bytes: [Option<u64>; OPERATIONS],
    pub count: [Option<u64>; OPERATIONS],
}

/// What is done to a block device. v1's kernel counts each I/O by direction and by whether it is
/// waited for, and all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
    Sync,
    Async,
    Discard,
    Total,
}

/// How many there are.
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

    /// v1's word for it.
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
