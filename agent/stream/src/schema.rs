//! The committed JSON schema of the stream is the one that the types make.

use std::path::Path;
use std::{env, fs};

use proptest::prelude::*;
use schemars::generate::SchemaSettings;

use super::samples;
use super::stream_event::StreamEvent;

const PATH: &str = "agent/schema/event.json";
const UPDATE: &str = "UPDATE_SCHEMA";

#[test]
fn the_committed_schema_is_that_of_the_types() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap();
    let path = workspace.join(PATH);
    // The schema of what is written, in which a field that may be null is there all the same.
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let schema = settings
        .into_generator()
        .into_root_schema_for::<StreamEvent>();
    let mut schema = serde_json::to_string_pretty(&schema).unwrap();
    schema.push('\n');
    if env::var_os(UPDATE).is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &schema).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == schema,
        "{PATH} is not the schema of the types in agent/stream/src/stream_event.rs; write it anew \
         with `{UPDATE}=1 cargo test -p agent-stream schema`, and read what changed for consumers"
    );
}

proptest! {
    #[test]
    fn a_record_is_read_as_it_was_written(event in samples::event()) {
        let line = serde_json::to_string(&event).unwrap();
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(serde_json::from_str::<StreamEvent>(&line).unwrap(), event);
    }
}
