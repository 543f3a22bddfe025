//! v1's CPU shares and v2's CPU weight: two scales for one thing.

const SHARES: (u64, u64) = (2, 262_144);
const WEIGHT: (u64, u64) = (1, 10_000);

/// How a program converts between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// To a weight by the curve through least (2, 1), usual (1024, 100) and most (262144, 10000) that runc, crun and
    /// Kubernetes use: `ConvertCPUSharesToCgroupV2Value` of github.com/opencontainers/cgroups (utils.go). To shares as
    /// the kernel itself does (`sched_weight_from_cgroup`, kernel/sched/sched.h), which keeps the proportions of weights.
    Curve,
    /// By the straight line of runc up to 1.3, crun up to 1.23 and containerd, which makes 39 of the usual 1024. cAdvisor
    /// exports shares by it.
    Line,
}

/// The weight that a program makes of shares.
pub fn weight_of_shares(shares: u64, scale: Scale) -> u64 {
    let shares = shares.clamp(SHARES.0, SHARES.1);
    match scale {
        Scale::Curve => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            // So that what is whole but for the last bits of a float stays so.
            let weight = (10_f64.powf(exponent) - 1e-9).ceil() as u64;
            weight.clamp(WEIGHT.0, WEIGHT.1)
        }
        Scale::Line => 1 + (shares - SHARES.0) * (WEIGHT.1 - 1) / (SHARES.1 - SHARES.0),
    }
}

/// The shares that a program makes of a weight.
pub fn shares_of_weight(weight: u64, scale: Scale) -> u64 {
    let weight = weight.clamp(WEIGHT.0, WEIGHT.1);
    match scale {
        Scale::Curve => ((weight * 1024 + 50) / 100).clamp(SHARES.0, SHARES.1),
        Scale::Line => SHARES.0 + (weight - 1) * (SHARES.1 - SHARES.0) / (WEIGHT.1 - 1),
    }
}
