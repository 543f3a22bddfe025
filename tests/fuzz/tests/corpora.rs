//! Every input that is kept is read to its end, whether it is what it should be or not.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fuzz::{TARGETS, corpus};

/// More than the slowest input takes on a busy machine.
const AT_MOST: Duration = Duration::from_secs(20);

/// The inputs of a target, in order.
fn inputs(target: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(corpus(target)).expect("each target has a corpus");
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_input_is_read_to_its_end() {
    for (name, target) in TARGETS {
        let inputs = inputs(name);
        assert!(!inputs.is_empty(), "{name} has no inputs");
        for path in inputs {
            let bytes = fs::read(&path).expect("an input");
            let begun = Instant::now();
            // A panic's message does not say which input it was.
            println!("{}", path.display());
            target(&bytes);
            let took = begun.elapsed();
            assert!(took < AT_MOST, "{}: {took:?}", path.display());
        }
    }
}

#[test]
fn every_directory_of_inputs_is_a_targets() {
    let directory = corpus("");
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let name = entry.file_name();
        let is_target = TARGETS.iter().any(|(target, _)| name == *target);
        assert!(is_target, "no target is called {}", name.display());
    }
}
