//! Containers of `agent run`: what its state has of them.

use super::{Error, Intent, Source};
use crate::container::path::Runtime;
use crate::host::system::page_size;
use crate::runtime::cgroup::Wanted;
use crate::runtime::state::{self, Store};
use crate::watch::record::Container;

/// Whether `agent run` made it.
pub fn is_of_agent_run(container: &Container) -> bool {
    container.runtime == Runtime::Agent.name()
}

/// The limits that a container was made with; `None` where the state does not have it.
///
/// # Errors
/// The state cannot be read, or has what is no limit.
pub fn of_agent_run(store: &Store, name: &str) -> Result<Option<Intent>, Error> {
    let spec = match store.spec(name) {
        Ok(spec) => spec,
        Err(state::Error::Unknown { .. } | state::Error::Name { .. }) => return Ok(None),
        Err(source) => {
            let id = name.to_owned();
            return Err(Error::State { id, source });
        }
    };
    let linux = spec.linux().clone().unwrap_or_default();
    let resources = linux.resources().clone().unwrap_or_default();
    let wanted = Wanted::of(&resources, page_size());
    let wanted = wanted.map_err(|source| Error::Limit {
        id: name.to_owned(),
        source: Box::new(source),
    })?;
    Ok(Some(Intent {
        limits: wanted.limits,
        source: Source::AgentRun,
    }))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::host::cgroup::Limit;
    use crate::limit::{Kind, Value};

    #[test]
    fn the_spec_in_the_state_says_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("containers");
        fs::create_dir_all(store.join("web")).unwrap();
        fs::set_permissions(&store, PermissionsExt::from_mode(0o700)).unwrap();
        let write = |text: &str| fs::write(store.join("web/config.json"), text).unwrap();
        let of = |name| of_agent_run(&Store::at(&store), name);
        assert_eq!(of("web").unwrap(), None);
        assert_eq!(of("../web").unwrap(), None);
        write(r#"{"ociVersion":"1.2.0","linux":{"resources":{"pids":{"limit":50}}}}"#);
        let intent = of("web").unwrap().unwrap();
        let pids = (Kind::Pids, Value::Amount(Limit::Value(50)));
        assert_eq!(
            (intent.limits, intent.source),
            (vec![pids], Source::AgentRun)
        );
        write(r#"{"ociVersion":"1.2.0","linux":{"resources":{"memory":{"limit":1}}}}"#);
        assert!(matches!(of("web"), Err(Error::Limit { .. })));
        write("{");
        assert!(matches!(of("web"), Err(Error::State { .. })));
    }
}
