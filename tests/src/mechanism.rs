//! By which mechanisms this kernel lets the agent trace.

use serde_json::Value;

use crate::agent::agent;

/// What has a trampoline as its first mechanism.
pub const TRAMPOLINES: [&str; 3] = ["unshare", "setns", "oom"];

/// What the doctor says of a probe, with these options.
///
/// # Panics
/// Where it does not know of it.
#[must_use]
pub fn probe(name: &str, options: &[&str]) -> Value {
    let output = agent(["doctor", "--output", "json"]).args(options).output();
    let output = output.expect("agent doctor can be run");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let probes = report["probes"].as_array().expect("probes");
    let mut probes = probes.iter().filter(|it| it["probe"] == name);
    probes.next().expect("the probe").clone()
}

/// Whether this kernel has trampolines; where it refuses them, the skip is printed.
#[must_use]
pub fn trampolines() -> bool {
    let probes = TRAMPOLINES.map(|name| probe(name, &[]));
    let mut others = probes
        .iter()
        .filter_map(|it| it["passed_over"].as_array()?.first());
    let Some(other) = others.next() else {
        return true;
    };
    crate::skip(format_args!(
        "needs trampolines, which the kernel refuses: {other}"
    ));
    false
}
