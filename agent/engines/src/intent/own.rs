//! The intended limits of containers of `agent run`, from their specs.

use agent_host::system::page_size;
use agent_runtime::cgroup::Wanted;
use oci_spec::runtime::Spec;

use super::{Error, Intent, Source};

/// The limits in a container's spec.
///
/// # Errors
/// The spec has a value that is no limit.
pub fn of_spec(name: &str, spec: &Spec) -> Result<Intent, Error> {
    let linux = spec.linux().clone().unwrap_or_default();
    let resources = linux.resources().clone().unwrap_or_default();
    let wanted = Wanted::of(&resources, page_size());
    let wanted = wanted.map_err(|source| Error::Limit {
        id: name.to_owned(),
        source: Box::new(source),
    })?;
    Ok(Intent::new(wanted.limits, Source::AgentRun))
}

#[cfg(test)]
mod tests {
    use agent_model::limit::{Kind, Limit, Value};

    use super::*;

    #[test]
    fn the_spec_says_it() {
        let of = |text: &str| of_spec("web", &serde_json::from_str(text).unwrap());
        let intent =
            of(r#"{"ociVersion":"1.2.0","linux":{"resources":{"pids":{"limit":50}}}}"#).unwrap();
        let pids = (Kind::Pids, Value::Amount(Limit::Value(50)));
        assert_eq!(
            (intent.limits, intent.source),
            (vec![pids], Source::AgentRun)
        );
        let odd = r#"{"ociVersion":"1.2.0","linux":{"resources":{"memory":{"limit":1}}}}"#;
        assert!(matches!(of(odd), Err(Error::Limit { .. })));
    }
}
