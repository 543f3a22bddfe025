//! v1's CPU shares and v2's CPU weight: two words for one thing.

const SHARES: (u64, u64) = (2, 262_144);
const WEIGHT: (u64, u64) = (1, 10_000);

/// The weight for shares: the curve through least (2, 1), usual (1024, 100) and most (262144, 10000) that runc, crun and
/// Kubernetes use, `ConvertCPUSharesToCgroupV2Value` of github.com/opencontainers/cgroups (utils.go). The straight line
/// that it replaced made 39 of the usual 1024, which starved containers beside units of the usual 100.
pub fn weight_of_shares(shares: u64) -> u64 {
    let shares = shares.clamp(SHARES.0, SHARES.1);
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    // So that what is whole but for the last bits of a float stays so.
    let weight = (10_f64.powf(exponent) - 1e-9).ceil();
    let weight = weight as u64;
    weight.clamp(WEIGHT.0, WEIGHT.1)
}

/// The shares that the kernel itself makes of a weight (`sched_weight_from_cgroup`, kernel/sched/sched.h): it keeps the
/// proportions of weights.
pub fn shares_of_weight(weight: u64) -> u64 {
    let weight = weight.clamp(WEIGHT.0, WEIGHT.1);
    ((weight * 1024 + 50) / 100).clamp(SHARES.0, SHARES.1)
}

/// The weight for shares on the straight line that runc up to 1.3, crun up to 1.23 and containerd used before the curve.
pub fn line_weight_of_shares(shares: u64) -> u64 {
    let shares = shares.clamp(SHARES.0, SHARES.1);
    1 + (shares - SHARES.0) * (WEIGHT.1 - 1) / (SHARES.1 - SHARES.0)
}

/// The shares of a weight on that line, as cAdvisor exports them.
pub fn line_shares_of_weight(weight: u64) -> u64 {
    let weight = weight.clamp(WEIGHT.0, WEIGHT.1);
    SHARES.0 + (weight - 1) * (SHARES.1 - SHARES.0) / (WEIGHT.1 - 1)
}

/// Whether a runtime makes this weight of these shares, by the one formula or the other.
pub fn is_weight_of_shares(weight: u64, shares: u64) -> bool {
    [weight_of_shares(shares), line_weight_of_shares(shares)].contains(&weight)
}
