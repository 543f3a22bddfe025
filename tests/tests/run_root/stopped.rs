//! Unpacking an image ends at a signal, wherever it is, and nothing of it stays; what is left of one that was killed, the
//! next command removes.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tests::archive::{file, gzip, layer, saved, shell, write};
use tests::mounts::Mounts;
use tests::process::wait_for_end;
use tests::run::{Container, next_command};
use tests::wait::{PATIENCE, wait_for};

use crate::bounds::{has_disk, left_by};

const SIGNALS: [Signal; 4] = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT];

/// Long before a pipe that is silent is given up.
const AT_ONCE: Duration = Duration::from_secs(10);

fn start(container: &Container, flags: &[&str], image: &str, hold: &str) -> Child {
    let mut run = tests::agent::agent(["run", "--name", &container.name]);
    run.args(flags).args(["--image", image, "true"]);
    run.env("AGENT_HOLD", hold).stdin(Stdio::null());
    run.stderr(Stdio::piped()).spawn().expect("the program")
}

fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.contains(") T ")
}

/// The process of the launcher that unpacks into memory, once it is held.
fn filler(launcher: u32) -> Pid {
    let children = format!("/proc/{launcher}/task/{launcher}/children");
    wait_for("a process that unpacks is held", PATIENCE, || {
        let children = fs::read_to_string(&children).ok()?;
        let child = children.split_whitespace().next()?.parse().ok()?;
        is_stopped(child).then(|| Pid::from_raw(child.cast_signed()))?
    })
}

fn assert_ended(mut run: Child, signal: Signal, container: &Container) {
    let pid = run.id();
    let began = Instant::now();
    let ended = wait_for_end(&mut run, "a signal ends it");
    let said = std::io::read_to_string(run.stderr.take().expect("a pipe")).expect("UTF-8");
    assert_eq!(ended.code(), Some(128 + signal.as_raw()), "{said}");
    assert!(said.contains("interrupted by signal"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(began.elapsed() < tests::slow::longer(AT_ONCE));
    assert_eq!(left_by(pid), [] as [PathBuf; 0]);
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn a_pipe_that_is_silent_is_left_at_a_signal() {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("image");
    mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).expect("a FIFO");
    for (signal, is_packed) in SIGNALS.into_iter().zip([true, false, true, false]) {
        let whole = saved(&[shell()], &json!({}));
        let whole = if is_packed { gzip(&whole) } else { whole };
        let container = Container::new("silent");
        let run = start(&container, &[], path.to_str().expect("UTF-8"), "");
        let mut writer = OpenOptions::new().write(true).open(&path).expect("a pipe");
        writer
            .write_all(&whole[..whole.len() / 2])
            .expect("it reads");
        kill_process(Pid::from_child(&run), signal).expect("a process");
        assert_ended(run, signal, &container);
        drop(writer);
    }
}

#[test]
#[ignore = "needs root"]
fn unpacking_into_memory_ends_at_a_signal() {
    let place = tempfile::tempdir().expect("a directory");
    let image = write(place.path(), "image.tar", &saved(&[shell()], &json!({})));
    for signal in SIGNALS {
        let container = Container::new("memory");
        let run = start(&container, &[], &image, "layer");
        filler(run.id());
        kill_process(Pid::from_child(&run), signal).expect("a process");
        assert_ended(run, signal, &container);
    }
}

/// Holds a launcher while it writes layers to disk.
fn on_disk(container: &Container, place: &Path) -> Child {
    let large: Vec<u8> = (0..30_u32 << 20)
        .map(|it| (it.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let layers = [shell(), layer(&[file("large", &large)])];
    let image = write(place, "image.tar", &saved(&layers, &json!({})));
    let run = start(container, &["-m", "64m"], &image, "layer");
    // There is too little room in memory for the second.
    let filler = filler(run.id());
    wait_for("the launcher is held", PATIENCE, || {
        let _ = kill_process(filler, Signal::CONT);
        is_stopped(run.id()).then_some(())
    });
    run
}

#[test]
#[ignore = "needs root"]
fn unpacking_to_disk_ends_at_a_signal_and_when_it_is_killed() {
    if !has_disk() {
        tests::skip("needs /var/lib/agent on a disk");
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    for signal in SIGNALS {
        let container = Container::new("disk");
        let run = on_disk(&container, place.path());
        let pid = Pid::from_child(&run);
        kill_process(pid, signal).expect("a process");
        kill_process(pid, Signal::CONT).expect("a process");
        assert_ended(run, signal, &container);
    }
    let container = Container::new("killed");
    let mut run = on_disk(&container, place.path());
    let pid = run.id();
    tests::process::kill(&mut run);
    assert!(!left_by(pid).is_empty());
    next_command();
    assert_eq!(left_by(pid), [] as [PathBuf; 0]);
    container.assert_gone();
}

/// The copy of an archive that comes through a pipe, where there is no disk: the container pays for it.
#[test]
#[ignore = "needs root"]
fn a_copy_in_memory_is_charged_to_the_container() {
    let large: Vec<u8> = (0..20_u32 << 20)
        .map(|it| (it.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let packed = gzip(&saved(
        &[shell(), layer(&[file("large", &large)])],
        &json!({}),
    ));
    let place = tempfile::tempdir().expect("a directory");
    let image = write(place.path(), "image.tar.gz", &packed);
    let no_disk = Mounts::new("tmpfs", "/var/lib");
    let container = Container::new("copied");
    let mut run = no_disk.command(tests::agent::binary());
    run.args(["run", "--name", &container.name, "-m", "200m"]);
    run.args(["--image", &image, "cat"])
        .arg("/sys/fs/cgroup/none");
    run.env("AGENT_HOLD", "prepared").stdin(Stdio::null());
    let mut run = run.stderr(Stdio::null()).spawn().expect("the program");
    wait_for("it is unpacked", PATIENCE, || {
        is_stopped(run.id()).then_some(())
    });
    let path = format!("/agent/{}", container.name);
    let directory = tests::cgroup::directory("memory", path);
    let files = ["memory.max_usage_in_bytes", "memory.peak"].map(|it| directory.join(it));
    let peak = files.iter().find_map(|it| fs::read_to_string(it).ok());
    let pid = Pid::from_child(&run);
    kill_process(pid, Signal::CONT).expect("a process");
    wait_for_end(&mut run, "it runs to its end");
    container.assert_gone();
    let Some(peak) = peak else {
        tests::skip("this kernel tells no highest use of memory");
        return;
    };
    let peak: usize = peak.trim().parse().expect("a number");
    assert!(peak > 2 * large.len(), "{peak}");
}
