//! Every kind of file that a caller may have as a standard stream.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write, pipe};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use rustix::fs::{CWD, Mode, OFlags, fcntl_getfl, fcntl_setfl, mkfifoat};
use tests::process::{Lines, wait_for_end};
use tests::pty::Pty;
use tests::run::{Container, output, text};
use tests::wait::PATIENCE;

/// All bytes, and more than all that is on the way holds.
fn bytes() -> Vec<u8> {
    (0..1 << 20).map(|n: u32| (n ^ (n >> 8)) as u8).collect()
}

/// Writes it as fast as it is read.
fn feed(mut to: impl Write + Send + 'static) {
    // Its reader may have ended.
    thread::spawn(move || drop(to.write_all(&bytes())));
}

fn fifo(path: &Path) {
    mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).expect("a FIFO");
}

/// What `cat` makes of this input.
fn cat(input: impl Into<Stdio>) -> Vec<u8> {
    let container = Container::new("kinds");
    let read = output(container.run(&["-i"], &["cat"]).stdin(input));
    assert!(read.status.success(), "{:?}", read.status);
    container.assert_gone();
    read.stdout
}

#[test]
#[ignore = "needs root"]
fn input_of_every_kind() {
    let bytes = bytes();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("file");
    fs::write(&path, &bytes).expect("a file");
    let mut file = File::open(&path).expect("a file");
    file.seek(SeekFrom::Start(1000)).expect("a place");
    assert!(cat(file) == bytes[1000..], "a file from a place on");

    let (from, to) = pipe().expect("a pipe");
    feed(to);
    assert!(cat(from) == bytes, "a pipe");

    let path = directory.path().join("fifo");
    fifo(&path);
    let both = OpenOptions::new().read(true).write(true).open(&path);
    let both = both.expect("a FIFO");
    let from = File::open(&path).expect("a FIFO");
    feed(both);
    assert!(cat(from) == bytes, "a FIFO");

    let (from, to) = UnixStream::pair().expect("sockets");
    feed(to);
    assert!(cat(OwnedFd::from(from)) == bytes, "a socket");

    let written = OpenOptions::new().write(true).open("/dev/null");
    assert_eq!(
        cat(written.expect("a device")),
        b"",
        "none that can be read"
    );
}

/// What arrives of `cat`'s output.
fn arrives(output: impl Into<Stdio>) {
    let container = Container::new("kinds");
    let (from, to) = pipe().expect("a pipe");
    feed(to);
    let mut cat = container.run(&["-i"], &["cat"]);
    let mut cat = cat.stdin(from).stdout(output).spawn().expect("agent");
    assert!(wait_for_end(&mut cat, "cat ends").success());
    container.assert_gone();
}

fn all_of(mut from: impl std::io::Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).expect("bytes");
        all
    })
}

#[test]
#[ignore = "needs root"]
fn output_of_every_kind() {
    let bytes = bytes();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("file");
    let mut file = File::create(&path).expect("a file");
    file.write_all(b"first").expect("a file");
    arrives(file);
    assert!(fs::read(&path).expect("a file") == [b"first", &bytes[..]].concat());

    fs::write(&path, "first").expect("a file");
    let appended = OpenOptions::new().append(true).open(&path);
    arrives(appended.expect("a file"));
    assert!(fs::read(&path).expect("a file") == [b"first", &bytes[..]].concat());

    let (from, to) = pipe().expect("a pipe");
    // Who has it open may have said that it is not to block, and nobody changes that.
    fcntl_setfl(&to, OFlags::NONBLOCK).expect("flags");
    let kept = to.try_clone().expect("a descriptor");
    let read = all_of(from);
    arrives(to);
    let flags = fcntl_getfl(&kept).expect("flags");
    assert!(flags.contains(OFlags::NONBLOCK), "{flags:?}");
    drop(kept);
    assert!(
        read.join().expect("a thread") == bytes,
        "a pipe that does not block"
    );

    let (from, to) = pipe().expect("a pipe");
    let kept = to.try_clone().expect("a descriptor");
    let read = all_of(from);
    arrives(to);
    let flags = fcntl_getfl(&kept).expect("flags");
    assert!(!flags.contains(OFlags::NONBLOCK), "{flags:?}");
    drop(kept);
    assert!(read.join().expect("a thread") == bytes, "a pipe");

    let path = directory.path().join("fifo");
    fifo(&path);
    let both = OpenOptions::new().read(true).write(true).open(&path);
    let both = both.expect("a FIFO");
    let to = OpenOptions::new().write(true).open(&path);
    let read = all_of(File::open(&path).expect("a FIFO"));
    drop(both);
    arrives(to.expect("a FIFO"));
    assert!(read.join().expect("a thread") == bytes, "a FIFO");

    let (from, to) = UnixStream::pair().expect("sockets");
    from.shutdown(Shutdown::Write).expect("a socket");
    let read = all_of(from);
    arrives(OwnedFd::from(to));
    assert!(read.join().expect("a thread") == bytes, "a socket");
}

#[test]
#[ignore = "needs root"]
fn a_terminal_that_is_not_the_containers() {
    let container = Container::new("kinds");
    let pty = Pty::new();
    let terminal = || pty.terminal.try_clone().expect("a descriptor");
    let script = "read line; echo got $line; readlink /proc/self/fd/0; readlink /proc/self/fd/1";
    let mut run = container.run(&["-i"], &["sh", "-c", script]);
    run.stdin(terminal()).stdout(terminal()).stderr(terminal());
    let mut run = run.spawn().expect("agent");
    let mut controller = File::from(pty.controller.try_clone().expect("a descriptor"));
    let lines = Lines::of(controller.try_clone().expect("a descriptor"));
    controller.write_all(b"typed\n").expect("a terminal");
    for wanted in ["typed", "got typed", "pipe:", "pipe:"] {
        let line = lines.next(PATIENCE).expect("a line");
        assert!(line.starts_with(wanted), "{line:?} for {wanted:?}");
    }
    assert!(wait_for_end(&mut run, "it ends").success());
    let flags = fcntl_getfl(&pty.terminal).expect("flags");
    assert!(!flags.contains(OFlags::NONBLOCK), "{flags:?}");
    container.assert_gone();
}

/// A shell's line with `RUN` in it, which stands for the call that runs a container.
fn shell(container: &Container, flags: &str, line: &str) -> Command {
    let agent = tests::agent::binary().display();
    let root = tests::run::rootfs().display();
    let run = format!(
        "{agent} run {flags} --name {} --rootfs {root}",
        container.name
    );
    let mut sh = Command::new("sh");
    sh.args(["-c", &line.replace("RUN", &run)]);
    sh
}

#[test]
#[ignore = "needs root"]
fn streams_that_are_closed() {
    let container = Container::new("closed");
    assert_eq!(
        text(&mut shell(&container, "-i", "RUN cat <&-; echo $?")),
        "0\n"
    );
    assert_eq!(
        text(&mut shell(&container, "", "RUN echo a >&-; echo $?")),
        "0\n"
    );
    let both = "RUN sh -c 'echo a; echo b >&2; exit 3' >&- 2>&-; echo $?";
    assert_eq!(text(&mut shell(&container, "", both)), "3\n");
    container.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn what_is_written_to_one_file_keeps_its_order() {
    let script = "i=0; while test $i -lt 300; do echo o$i; echo e$i >&2; i=$((i+1)); done";
    let wanted: String = (0..300).map(|n| format!("o{n}\ne{n}\n")).collect();
    let container = Container::new("order");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    for redirected in [
        "RUN sh -c \"$SCRIPT\" 2>&1 | cat",
        "RUN sh -c \"$SCRIPT\" >$FILE 2>&1; cat $FILE",
        "RUN sh -c \"$SCRIPT\" >>$FILE 2>>$FILE; cat $FILE",
    ] {
        fs::write(&file, "").expect("a file");
        let mut sh = shell(&container, "", redirected);
        sh.env("SCRIPT", script).env("FILE", &file);
        assert_eq!(text(&mut sh), wanted, "{redirected}");
    }
    container.assert_gone();
}
