//! The value that the files of a cgroup should hold for an intended limit.

use agent_host::cgroup_files::files_of;
use agent_host::cgroup_format::whole;
use agent_model::hierarchy::Version;
use agent_model::limit::weight::{Scale, weight_of_shares};
use agent_model::limit::{Device, Held, Intent, Kind, Limit, Value};

/// The value that the files of a limit should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub held: Held,
    /// Another value that is right as well, where the runtimes convert the same request differently.
    pub other: Option<Held>,
}

impl Expected {
    /// Returns what the files should hold for `value`; `None` if this cgroup version has no such limit. `page` is the
    /// page size in bytes: the kernel rounds limits on memory down to whole pages.
    pub fn of(kind: Kind, version: Version, value: &Value, page: u64) -> Option<Self> {
        let held = written(kind, version, value, page)?;
        let other = match (version, value) {
            (Version::V2, Value::Shares(shares)) => {
                let weight = weight_of_shares(*shares, Scale::Line);
                Some(Held::Amount(Limit::Value(weight)))
            }
            (
                Version::V2,
                Value::Swap {
                    both,
                    earlier: Some(memory),
                    ..
                },
            ) => {
                let earlier = Value::Swap {
                    memory: *memory,
                    both: *both,
                    earlier: None,
                };
                written(kind, version, &earlier, page)
            }
            _ => None,
        };
        Some(Self { held, other })
    }

    /// Returns what the files should hold for the limit of `kind` in `intent`. `device` is the block device of a rate.
    /// `None` means that `intent` does not have the limit, or that this cgroup version does not.
    pub fn intended(
        intent: &Intent,
        kind: Kind,
        device: Option<Device>,
        version: Version,
        page: u64,
    ) -> Option<Self> {
        let mut limits = intent.limits.iter();
        let (_, value) =
            limits.find(|(found, value)| *found == kind && value.device() == device)?;
        Self::of(kind, version, value, page)
    }

    /// Tells whether `held` is the expected value.
    pub fn allows(&self, held: &Held) -> bool {
        let mut all = [Some(&self.held), self.other.as_ref()]
            .into_iter()
            .flatten();
        all.any(|it| it.is_same(held))
    }
}

impl From<Held> for Expected {
    fn from(held: Held) -> Self {
        Self { held, other: None }
    }
}

/// Returns what the files hold after `agent run` has written a value to them.
fn written(kind: Kind, version: Version, value: &Value, page: u64) -> Option<Held> {
    let parts: Option<Vec<Held>> = files_of(kind, version)
        .map(|file| {
            let text = file.write(kind, value)?;
            let held = file.held(kind, text.as_bytes(), value.device())?;
            Some(file.kept(held, page))
        })
        .collect();
    whole(parts?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(limit: u64) -> Held {
        Held::Amount(Limit::Value(limit))
    }

    #[test]
    fn shares_are_kept_as_either_weight_that_runtimes_make_of_them() {
        let held = Expected::of(Kind::CpuWeight, Version::V2, &Value::Shares(512), 4096);
        let held = held.unwrap();
        for (weight, wanted) in [(20, true), (59, true), (512, false), (100, false)] {
            assert_eq!(held.allows(&amount(weight)), wanted, "{weight}");
        }
        let v1 = Expected::of(Kind::CpuWeight, Version::V1, &Value::Shares(512), 4096);
        assert_eq!(v1, Some(amount(512).into()));
    }

    #[test]
    fn what_files_are_to_hold() {
        let quota = Value::Quota {
            quota: Limit::Value(50_000),
            period: 100_000,
        };
        let wanted = Held::Quota {
            quota: Limit::Value(50_000),
            period: 100_000,
        };
        for version in [Version::V1, Version::V2] {
            assert_eq!(
                Expected::of(Kind::CpuQuota, version, &quota, 4096),
                Some(wanted.clone().into())
            );
        }
        let swap = |earlier| Value::Swap {
            memory: 4096,
            both: Limit::Value(12_289),
            earlier,
        };
        let held = |version, earlier| Expected::of(Kind::MemorySwap, version, &swap(earlier), 4096);
        assert_eq!(held(Version::V1, None), Some(amount(12_288).into()));
        assert_eq!(held(Version::V2, None), Some(amount(8192).into()));
        // v1 limits memory and swap together, whatever the limit on memory was.
        assert_eq!(held(Version::V1, Some(8192)), held(Version::V1, None));
        let either = held(Version::V2, Some(8192)).unwrap();
        for (bytes, wanted) in [(8192, true), (4096, true), (0, false), (12_288, false)] {
            assert_eq!(either.allows(&amount(bytes)), wanted, "{bytes}");
        }
        let high = Value::Amount(Limit::Value(4096));
        assert_eq!(
            Expected::of(Kind::MemoryHigh, Version::V1, &high, 4096),
            None
        );
        let other = |quota, period| Held::Quota {
            quota: Limit::Value(quota),
            period,
        };
        // Half a CPU is half a CPU in any period. An empty set is no limit.
        assert!(wanted.is_same(&other(25_000, 50_000)) && !wanted.is_same(&other(25_000, 100_000)));
        assert!(!wanted.is_same(&Held::Quota {
            quota: Limit::Max,
            period: 100_000
        }));
        assert!(Held::Numbers(agent_model::limit::Numbers::default()).is_none());
    }
}
