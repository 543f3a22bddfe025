//! Compiles untrusted bundles, for a fuzzer.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::bundle::Bundle;
use super::flags::Flags;
use super::here::Here;
use super::user::Users;
use super::{SpecFacts, compile, complete};

/// Makes an order of the bundle in a directory.
pub fn bundle(directory: &Path) {
    let (Ok(bundle), Ok(flags)) = (Bundle::read(directory), Flags::none()) else {
        return;
    };
    let found = SpecFacts {
        name: "web".to_owned(),
        here: Here::look(),
        variables: HashMap::new(),
        containers: BTreeMap::new(),
        devices: HashMap::new(),
        device_nodes: HashMap::new(),
        env_files: Vec::new(),
        hard_limits: HashMap::new(),
        subordinate: Err("there are none".to_owned()),
        capabilities: caps::all(),
        cpus: Some(4),
        rootless: false,
        bundle: Some(bundle),
    };
    if let Ok(mut order) = compile(&flags, &found) {
        let _ = complete::complete(&mut order, None, &Users::default());
    }
}
