//! Conversion between v1's CPU shares and v2's CPU weight, which are two scales for the same property.

const SHARES: (u64, u64) = (2, 262_144);
const WEIGHT: (u64, u64) = (1, 10_000);

/// A formula by which programs convert between shares and weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// The curve through the minimum (2, 1), the default (1024, 100) and the maximum (262144, 10000), by which runc,
    /// crun and Kubernetes convert shares: `ConvertCPUSharesToCgroupV2Value` of github.com/opencontainers/cgroups
    /// (utils.go).
    ///
    /// A weight is converted to shares as the kernel does it (`sched_weight_from_cgroup`, kernel/sched/sched.h), which
    /// keeps the proportions of weights.
    Curve,
    /// The straight line of runc up to 1.3, crun up to 1.23 and containerd, which converts the default of 1024 shares
    /// to a weight of 39. cAdvisor exports shares by it.
    Line,
}

/// Converts shares to a weight. Shares out of range count as the nearest limit of the range.
pub fn weight_of_shares(shares: u64, scale: Scale) -> u64 {
    let shares = shares.clamp(SHARES.0, SHARES.1);
    match scale {
        Scale::Curve => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            // The subtraction keeps a whole number from being rounded up because of the last bits of the float.
            let weight = (10_f64.powf(exponent) - 1e-9).ceil() as u64;
            weight.clamp(WEIGHT.0, WEIGHT.1)
        }
        Scale::Line => 1 + (shares - SHARES.0) * (WEIGHT.1 - 1) / (SHARES.1 - SHARES.0),
    }
}

/// Converts a weight to shares. A weight out of range counts as the nearest limit of the range.
pub fn shares_of_weight(weight: u64, scale: Scale) -> u64 {
    let weight = weight.clamp(WEIGHT.0, WEIGHT.1);
    match scale {
        Scale::Curve => ((weight * 1024 + 50) / 100).clamp(SHARES.0, SHARES.1),
        Scale::Line => SHARES.0 + (weight - 1) * (SHARES.1 - SHARES.0) / (WEIGHT.1 - 1),
    }
}
