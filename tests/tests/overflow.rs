//! More cgroups than the kernel side counts apart.

use std::fs;
use std::process::Command;

use agent_ebpf::COUNTED_CGROUPS;
use tests::cgroup::Cgroup;
use tests::container::{Container, First};
use tests::nscall;
use tests::serve::Serve;
use tests::wait::PATIENCE;

/// One more than there is room for, and some.
const CGROUPS: u32 = COUNTED_CGROUPS + 100;

fn container(name: &str, script: &str) -> Container {
    let first = First {
        types: "mnt,uts",
        script,
        ..First::default()
    };
    Container::run(Cgroup::new(name), first)
}

/// The cgroups are below a container's: none that begins later goes unwatched for them.
#[test]
#[ignore = "needs root"]
fn what_finds_no_room_is_counted_together() {
    let crowd = container("full", "read _");
    let below = crowd.cgroup.directory("memory");
    for name in 0..CGROUPS {
        fs::create_dir(below.join(name.to_string())).expect("a cgroup can be made");
    }
    let serve = Serve::start(&[]);
    let into_host = format!(
        "read _; {} setns-pid {} mnt,uts; read _",
        nscall::binary().display(),
        std::process::id()
    );
    let mut later = container("later", &into_host);
    let name = later.cgroup.name().to_owned();
    let mut watch = serve.watch(&["--kind", "escape", "--container", &name]);
    later.tell("go");
    for _ in 0..2 {
        watch.next(PATIENCE, |record| record["kind"] == "escape");
    }
    drop(later);

    let times = CGROUPS.to_string();
    let call = [
        "--times",
        &times,
        "below",
        below.to_str().expect("UTF-8"),
        "unshare",
        "uts",
    ];
    let outcome = nscall::outcome(Command::new(nscall::binary()).args(call));
    assert_eq!(outcome["failed"], 0);

    // What is gone has few series, and what was counted in it leaves the kernel's map.
    for name in 0..CGROUPS {
        fs::remove_dir(below.join(name.to_string())).expect("it is empty");
    }
    drop(crowd);
    let together = serve.metrics().value("agent_counts_overflow_total", &[]);
    // Other cgroups of the host have places too, and its other calls may find no room either.
    assert!(
        (100.0..1000.0).contains(&together),
        "{together} were counted together"
    );
    serve.stop();
}
