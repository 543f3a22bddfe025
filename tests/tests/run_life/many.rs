//! Many containers at once.

use std::collections::BTreeSet;
use std::fs;
use std::thread;

use tests::run::{Container, text};
use tests::slow::fewer;

const CALLERS: usize = 8;
/// Containers of each caller.
fn each() -> usize {
    fewer(25, 2)
}

#[test]
#[ignore = "needs root"]
fn two_hundred_by_eight_callers() {
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            thread::spawn(|| {
                let containers: Vec<_> = (0..each()).map(|_| Container::new("many")).collect();
                for container in &containers {
                    container.start(&["--memory", "32m"], &["sleep", "1000"]);
                }
                containers
            })
        })
        .collect();
    let containers: Vec<Container> = callers
        .into_iter()
        .flat_map(|caller| caller.join().expect("all start"))
        .collect();
    assert_eq!(containers.len(), CALLERS * each());
    // All run, each alone in a namespace of its own.
    let alone: BTreeSet<_> = containers
        .iter()
        .map(|container| {
            let pid = container.pid();
            let command = fs::read(format!("/proc/{pid}/cmdline")).expect("a process");
            assert_eq!(command, b"sleep\x001000\0", "{container:?}");
            fs::read_link(format!("/proc/{pid}/ns/pid")).expect("a namespace")
        })
        .collect();
    assert_eq!(alone.len(), CALLERS * each());
    thread::scope(|scope| {
        for containers in containers.chunks(each()) {
            scope.spawn(move || {
                let (removed, stopped) = containers.split_at(each() / 2);
                let names = removed.iter().map(|container| container.name.as_str());
                let names: Vec<_> = names.collect();
                text(tests::agent::agent(["rm", "-f"]).args(names));
                for container in stopped {
                    text(&mut container.agent("stop", &["-t", "0"], &[]));
                    assert_eq!(text(&mut container.agent("wait", &[], &[])), "137\n");
                    text(&mut container.agent("rm", &[], &[]));
                }
            });
        }
    });
    containers.iter().for_each(Container::assert_gone);
}
