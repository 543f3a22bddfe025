//! The intended limits in an OCI bundle, which the container's maker wrote when it started the container.

use agent_host::system::page_size;
use agent_runtime::cgroup::Wanted;
use oci_spec::runtime::LinuxResources;

use super::{Error, Intent, Source};

/// The limits that a bundle asks for. What the agent has no limit for, such as `hugepageLimits`, is passed over.
///
/// # Errors
/// The bundle has a value that is no limit.
pub fn of_resources(id: &str, resources: &LinuxResources) -> Result<Intent, Error> {
    let wanted = Wanted::supported(resources, page_size());
    let wanted = wanted.map_err(|source| Error::Limit {
        id: id.to_owned(),
        source: Box::new(source),
    })?;
    Ok(Intent::new(wanted.limits, Source::Bundle))
}

#[cfg(test)]
mod tests {
    use agent_model::limit::{Kind, Limit, Value};

    use super::*;

    #[test]
    fn what_is_no_limit_of_the_agents_is_passed_over() {
        let of = |text: &str| of_resources("web", &serde_json::from_str(text).unwrap());
        // As containerd makes it for the kubelet.
        let intent = of(
            r#"{"devices":[{"allow":false,"access":"rwm"}],"memory":{"limit":67108864,"swap":67108864,"swappiness":10},
            "cpu":{"shares":102,"quota":10000,"period":100000},"hugepageLimits":[{"pageSize":"2MB","limit":0}],
            "unified":{"memory.oom.group":"1"}}"#,
        );
        let intent = intent.unwrap();
        let kinds: Vec<Kind> = intent.limits.iter().map(|(kind, _)| *kind).collect();
        let wanted = [
            Kind::Memory,
            Kind::MemorySwap,
            Kind::CpuQuota,
            Kind::CpuWeight,
        ];
        assert_eq!(kinds, wanted);
        assert_eq!(intent.source, Source::Bundle);
        let memory = Value::Amount(Limit::Value(64 << 20));
        assert_eq!(intent.limits[0], (Kind::Memory, memory));
        assert!(matches!(
            of(r#"{"memory":{"limit":1}}"#),
            Err(Error::Limit { .. })
        ));
    }
}
