//! Every command first removes what killed supervisors left.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use tests::agent::binary;
use tests::mounts::Mounts;
use tests::process::kill;
use tests::run::{Container, STATE, output, rootfs, text};
use tests::slow::some;
use tests::wait::{PATIENCE, poll};

/// A line of words for each command; ROOT is a root file system, and NEW a directory that is not there.
const COMMANDS: [&str; 13] = [
    "serve --listen 127.0.0.1:0 --docker-socket off",
    "watch --docker-socket off",
    "ps",
    "ns",
    "run --rootfs ROOT true",
    "run --print-spec --rootfs ROOT true",
    "exec nobody true",
    "logs nobody",
    "stop nobody",
    "wait nobody",
    "rm nobody",
    "rootfs NEW --bin true",
    "doctor",
];

#[test]
#[ignore = "needs root"]
fn any_command_removes_what_was_left() {
    // Other tests' commands would do it too: here they do not find it.
    let run = Mounts::new("tmpfs", "/run");
    let root = rootfs().to_str().expect("UTF-8");
    let place = tempfile::tempdir().expect("a directory");
    let new = place.path().join("new").display().to_string();
    for line in some(COMMANDS, 5) {
        let container = Container::new("swept");
        let mut launch = run.command(binary());
        launch.args(["run", "--name", &container.name, "--rootfs", root, "true"]);
        let ended = output(launch.env("AGENT_FAULT", "running"));
        assert_eq!(ended.status.signal(), Some(9), "{ended:?}");
        let states = || text(run.command("ls").arg(STATE));
        assert!(states().contains(&container.name), "nothing is left");

        let mut command = run.command(binary());
        for word in line.split(' ') {
            command.arg(match word {
                "ROOT" => root,
                "NEW" => &new,
                word => word,
            });
        }
        // How it ends is another matter.
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut command = command.spawn().expect("the program can be run");
        let gone = poll(PATIENCE, || {
            let gone = container.remains().is_empty() && !states().contains(&container.name);
            gone.then_some(())
        });
        kill(&mut command);
        // For a test that fails, and for a launch that was killed here.
        output(run.command(binary()).args(["rm", "nobody"]));
        assert!(gone.is_some(), "{line}");
    }
}
