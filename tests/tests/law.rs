//! Something of every kind happens, and all of it is accounted for.

use tests::cgroup::Cgroup;
use tests::container::{Container, First};
use tests::law::assert_law_of_every_kind;
use tests::limited::{Limited, TOO_MUCH};
use tests::memory::Hog;
use tests::nscall;
use tests::serve::Serve;

#[test]
#[ignore = "needs root"]
fn nothing_of_any_kind_is_lost_uncounted() {
    let serve = Serve::start(&[]);
    let _watch = serve.watch(&["--all"]);
    let limited = Limited::new("killed");
    Hog::start(&limited.below, 1, TOO_MUCH).wait_until_killed();
    drop(limited);
    // A clone with namespaces, an unshare, and a setns that is an escape.
    let script = format!(
        "read; unshare -i true; {} setns-pid {} mnt; echo over; read",
        nscall::binary().display(),
        std::process::id()
    );
    let mut container = Container::run(
        Cgroup::new("law"),
        First {
            script: &script,
            ..First::default()
        },
    );
    container.tell("go");
    while container.line() != "over" {}
    drop(container);
    assert_law_of_every_kind(&serve);
    serve.stop();
}
