//! More cgroups than the kernel side counts apart.

use std::fs;
use std::process::Command;

use agent_ebpf::COUNTED_CGROUPS;
use tests::cgroup::Cgroup;
use tests::nscall;
use tests::serve::Serve;

/// One more than there is room for, and some.
const CGROUPS: u32 = COUNTED_CGROUPS + 100;

#[test]
fn what_finds_no_room_is_counted_together() {
    if !tests::root() {
        return;
    }
    let cgroup = Cgroup::new("full");
    let below = cgroup.directory("memory");
    for name in 0..CGROUPS {
        fs::create_dir(below.join(name.to_string())).expect("a cgroup can be made");
    }
    let serve = Serve::start(&[]);
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
    drop(cgroup);
    let together = serve.metrics().value("agent_counts_overflow_total", &[]);
    // Other cgroups of the host have places too, and its other calls may find no room either.
    assert!(
        (100.0..1000.0).contains(&together),
        "{together} were counted together"
    );
    serve.stop();
}
