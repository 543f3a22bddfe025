//! Where there is no more room, a container's end is told all the same.

use std::process::Command;

use tests::agent::binary;
use tests::program::program;
use tests::run::{Container, STATE, output, rootfs};
use tests::slow::longer;
use tests::wait::PATIENCE;

/// A script on the host, among mounts of its own: `$A` is the program, `$R` a root file system, `$S` the directory of all
/// state, `$N` a name for a container.
fn among_own_mounts(container: &Container, script: &str) -> Command {
    let mut call = Command::new(program("timeout"));
    let seconds = longer(2 * PATIENCE).as_secs().to_string();
    call.args(["--kill-after=5", &seconds, "unshare", "--mount"]);
    call.args(["--propagation", "private", "sh", "-euc", script]);
    call.env("A", binary()).env("R", rootfs()).env("S", STATE);
    call.env("N", &container.name);
    call
}

#[test]
#[ignore = "needs root"]
fn the_exit_status_has_its_room() {
    let container = Container::new("room");
    let go = tempfile::tempdir().expect("a directory");
    let script = "
        mkdir -p -m 700 $S; mount -t tmpfs -o size=256k,mode=700 none $S
        for status in 7 0; do
            rm -f $G/go
            $A run -d --name $N -v $G:/tmp --rootfs $R sh -c \"while test ! -e /tmp/go; do sleep 0.02; done; exit $status\"
            dd if=/dev/zero of=$S/fill bs=4k 2>/dev/null || echo full
            touch $G/go
            $A wait $N; $A wait $N
            rm $S/fill; $A wait $N; $A rm $N
        done";
    let mut call = among_own_mounts(&container, script);
    let ended = output(call.env("G", go.path()));
    let name = &container.name;
    let wanted = format!("{name}\nfull\n7\n7\n7\n{name}\nfull\n0\n0\n0\n");
    assert_eq!(String::from_utf8_lossy(&ended.stdout), wanted, "{ended:?}");
    assert!(ended.status.success(), "{ended:?}");
}

#[test]
#[ignore = "needs root"]
fn a_log_without_room_costs_nothing_else() {
    let container = Container::new("nolog");
    let script = "
        mkdir -p -m 700 /var/lib/agent/logs
        mount -t tmpfs -o size=256k,mode=700 none /var/lib/agent/logs
        $A run -d --name $N --rootfs $R sh -c '/bin/busybox seq 1 200000; exit 5'
        $A wait $N
        # All that is there is whole.
        $A logs $N | head -n 1; $A logs $N >/dev/null; $A rm $N";
    let ended = output(&mut among_own_mounts(&container, script));
    let wanted = format!("{}\n5\n1\n", container.name);
    assert_eq!(String::from_utf8_lossy(&ended.stdout), wanted, "{ended:?}");
    assert!(ended.status.success(), "{ended:?}");
}
