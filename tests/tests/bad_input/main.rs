//! What cannot be done is refused in one line, with the right exit status, and leaves nothing behind.

mod doctor;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tests::agent::{agent, binary};
use tests::mounts::Mounts;
use tests::process::{Log, kill, wait_for_end};
use tests::program::copy;
use tests::wait::{PATIENCE, poll, wait_for};

const MISUSE: i32 = 64;
const FAILURE: i32 = 1;

/// Any but root: `nobody` of Debian.
const NOBODY: u32 = 65534;

/// A directory for what must not be left behind.
struct Clean(TempDir);

impl Clean {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("made/for/agent.sock")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).expect("the directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }

    /// Nothing is in it.
    fn assert_clean(&self) {
        assert_eq!(self.names(), [""; 0]);
    }
}

/// Runs a command to its end: its exit status, and what it wrote.
fn outcome(command: &mut Command) -> (i32, String, String) {
    let command = command.stdin(Stdio::null());
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("a command can be run");
    let ended = poll(PATIENCE, || child.try_wait().expect("a child's state"));
    kill(&mut child);
    // Little enough to have waited in the pipes.
    let output = child.wait_with_output().expect("what it wrote");
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|it| String::from_utf8(it).expect("UTF-8"));
    let code = ended.and_then(|status| status.code());
    let code = code.unwrap_or_else(|| panic!("{command:?}: {ended:?}: {stderr}"));
    (code, stdout, stderr)
}

/// Checks that a command is refused as it should be, in one line that has these words.
fn assert_refused(command: &mut Command, status: i32, words: &[&str]) {
    let (code, stdout, stderr) = outcome(command);
    let said = format!("{command:?}: {code}: {stderr:?}");
    assert_eq!(code, status, "{said}");
    assert_eq!(stdout, "", "{said}");
    assert!(stderr.starts_with("agent: "), "{said}");
    assert_eq!(stderr.matches('\n').count(), 1, "{said}");
    assert!(!stderr.contains("panicked"), "{said}");
    assert!(!stderr.contains('\x1b'), "{said}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is missing in {said}");
    }
}

#[test]
fn misuse_is_told_with_what_was_wanted() {
    for (line, words) in [
        ("fly", &["'fly'"][..]),
        ("serve --fly", &["'--fly'"]),
        ("serve now", &["'now'"]),
        (
            "serve --listen here",
            &["'here'", "--listen", "ADDRESS:PORT"],
        ),
        ("serve --listen 127.0.0.1:70000", &["'127.0.0.1:70000'"]),
        (
            "serve --syscall-probes maybe",
            &["'maybe'", "--syscall-probes"],
        ),
        (
            "serve --mechanism fast",
            &["'fast'", "--mechanism", "trampoline or btf or syscall"],
        ),
        (
            "watch --mechanism oom=syscall",
            &["'oom=syscall'", "--mechanism", "oom has trampoline or btf"],
        ),
        (
            "doctor --mechanism exec=btf",
            &["'exec=btf'", "oom or unshare or setns"],
        ),
        ("serve --pin-path", &["--pin-path"]),
        ("watch --kind oom,oops", &["'oops'", "--kind", "container"]),
        ("watch --for ten", &["'ten'", "--for", "10s"]),
        ("watch --for 0s", &["'0s'", "--for"]),
        ("watch --pid 0", &["'0'", "--pid", "above 0"]),
        ("watch --pid 4294967296", &["'4294967296'"]),
        ("watch --pid init", &["'init'"]),
        ("watch --limit 0", &["'0'", "--limit"]),
        ("watch --namespace network", &["'network'", "net"]),
        ("watch --comm a-very-long-worker", &["15 bytes"]),
        ("watch --output yaml", &["'yaml'", "json"]),
        ("watch --socket", &["--socket"]),
        (
            "serve --socket agent.sock",
            &["'agent.sock'", "--socket", "./agent.sock"],
        ),
        ("serve --socket off", &["'off'", "always has a socket"]),
        ("serve --socket .", &["'.'", "a path with a slash"]),
        ("watch --socket of", &["'of'", "want off or a path", "./of"]),
        ("ps --socket off.sock", &["./off.sock"]),
        ("inspect 1 --socket Off", &["'Off'", "want off"]),
        ("verify --pid 1 --socket sock", &["./sock"]),
        (
            "ns --docker-socket docker.sock",
            &["'docker.sock'", "./docker.sock"],
        ),
        ("doctor --output yaml", &["'yaml'", "json"]),
        ("ps --output dot", &["'dot'", "json"]),
        ("ps web", &["'web'"]),
        ("inspect", &["NAME|ID|PID"]),
        ("inspect web --output dot", &["'dot'", "json"]),
        ("inspect web db", &["'db'"]),
        ("ns --type network", &["'network'", "--type", "net"]),
        ("ns --pid 0", &["'0'", "--pid", "above 0"]),
        ("ns --container=", &["--container", "name or id"]),
        ("ns --output yaml", &["'yaml'", "dot"]),
        ("serve --docker-socket", &["--docker-socket"]),
    ] {
        assert_refused(&mut agent(line.split(' ')), MISUSE, words);
    }
    // The environment's word is a flag's.
    let place = Clean::new();
    for (command, words) in [
        ("serve --listen 127.0.0.1:0", ["'off'", "AGENT_SOCKET"]),
        ("watch --for 1ms", ["'agent.sock'", "./agent.sock"]),
    ] {
        let mut by = agent(command.split(' '));
        let value = words[0].trim_matches('\'');
        by.env("AGENT_SOCKET", value).current_dir(place.0.path());
        assert_refused(&mut by, MISUSE, &words);
    }
    place.assert_clean();
    // Any bytes, and what could forge a line.
    assert_refused(
        &mut agent(["watch", "--kind", "a\nagent: \x1b[31m"]),
        MISUSE,
        &[],
    );
    let bytes: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff\xfe");
    assert_refused(&mut agent([bytes]), MISUSE, &[]);
    let (status, stdout, stderr) = outcome(&mut agent([""; 0]));
    assert_eq!((status, &*stdout), (MISUSE, ""));
    assert!(stderr.contains("Usage: agent <COMMAND>"), "{stderr}");
}

/// The program in a directory that anybody may use, as somebody who may not trace.
struct Unprivileged {
    directory: TempDir,
    drop: bool,
}

impl Unprivileged {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let everybody = fs::Permissions::from_mode(0o777);
        fs::set_permissions(directory.path(), everybody).expect("own directory");
        copy(binary(), &directory.path().join("agent"));
        let drop = rustix::process::geteuid().is_root();
        Self { directory, drop }
    }

    fn agent(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.directory.path().join("agent"));
        if self.drop {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.args(arguments).current_dir(self.directory.path());
        command
    }
}

#[test]
fn without_root_it_says_so() {
    let nobody = Unprivileged::new();
    let root = ["needs root", "CAP_BPF"];
    let serve = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--socket",
        "./agent.sock",
    ];
    assert_refused(&mut nobody.agent(&serve), FAILURE, &root);
    let watch = ["watch", "--socket", "./agent.sock"];
    assert_refused(
        &mut nobody.agent(&watch),
        FAILURE,
        &["agent.sock", "needs root"],
    );
    for arguments in [&["ps"][..], &["ns", "--pid", "1"], &["inspect", "1"]] {
        let without_server = format!("agent {} without a server needs root", arguments[0]);
        assert_refused(
            &mut nobody.agent(&[arguments, &["--socket", "./agent.sock"]].concat()),
            FAILURE,
            &["no agent serve on ./agent.sock", &without_server],
        );
    }
    let left = fs::read_dir(nobody.directory.path()).expect("the directory");
    assert_eq!(left.count(), 1, "something was left beside the program");
    assert_not_ready(|arguments| nobody.agent(arguments), "root");
}

#[test]
#[ignore = "needs root"]
fn without_type_information_it_says_so() {
    // An empty file system hides it.
    let mounts = Mounts::new("tmpfs", "/sys/kernel/btf");
    let clean = Clean::new();
    let agent = |arguments: &[&str]| {
        let mut command = mounts.command(binary());
        command.args(arguments);
        command
    };
    let words = ["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF=y"];
    let mut serve = agent(&["serve", "--listen", "127.0.0.1:0", "--socket"]);
    assert_refused(serve.arg(clean.socket()), FAILURE, &words);
    let mut watch = agent(&["watch", "--socket"]);
    assert_refused(watch.arg(clean.socket()), FAILURE, &words);
    clean.assert_clean();
    assert_not_ready(agent, "BTF");
}

/// `agent doctor` says why nothing can be traced.
fn assert_not_ready(agent: impl Fn(&[&str]) -> Command, reason: &str) {
    let (status, json, stderr) = outcome(&mut agent(&["doctor", "--output", "json"]));
    assert_eq!((status, &*stderr), (FAILURE, ""));
    let report: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(report["ready"], false);
    let said = report["reason"].as_str().expect("a reason");
    assert!(said.contains(reason), "{said}");
    let (status, text, stderr) = outcome(&mut agent(&["doctor"]));
    assert_eq!((status, &*stderr), (FAILURE, ""));
    let (_, said) = text.split_once("\nnot ready: ").expect("a verdict");
    assert!(said.contains(reason), "{text}");
    assert_plain(&text);
}

/// Lines fit a screen, and have nothing that a terminal would obey.
fn assert_plain(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert!(!line.contains('\x1b'), "{line:?}");
    }
}

fn serve(listen: &str, socket: &Path) -> Command {
    let mut command = agent(["serve", "--listen", listen, "--socket"]);
    command.arg(socket);
    command
}

#[test]
#[ignore = "needs root"]
fn a_port_in_use_is_told() {
    let clean = Clean::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let words = ["--listen", &*address, "in use"];
    assert_refused(&mut serve(&address, &clean.socket()), FAILURE, &words);
    clean.assert_clean();
}

#[test]
#[ignore = "needs root"]
fn a_socket_that_cannot_be_made_is_told() {
    let clean = Clean::new();
    let file = clean.0.path().join("precious");
    fs::write(&file, "data").expect("a file");
    let too_long = clean.0.path().join("a".repeat(200));
    for path in [
        // No socket: it stays.
        &file,
        // No directory.
        &file.join("agent.sock"),
        Path::new("/proc/agent/agent.sock"),
        &too_long,
    ] {
        let words = ["--socket", path.to_str().expect("UTF-8")];
        assert_refused(&mut serve("127.0.0.1:0", path), FAILURE, &words);
    }
    assert_eq!(clean.names(), ["precious"]);
    assert_eq!(fs::read_to_string(&file).expect("the file"), "data");
}

#[test]
#[ignore = "needs root"]
fn a_pin_path_elsewhere_is_told() {
    let clean = Clean::new();
    let path = clean.0.path().join("pins");
    let mut serve = serve("127.0.0.1:0", &clean.socket());
    let words = ["--pin-path", path.to_str().expect("UTF-8"), "bpffs"];
    assert_refused(serve.arg("--pin-path").arg(&path), FAILURE, &words);
    clean.assert_clean();
}

/// `agent serve` on a socket that the test chose. Dropping it kills it.
struct Running {
    child: Child,
    log: Log,
}

impl Running {
    fn start(socket: &Path) -> Self {
        let mut command = serve("127.0.0.1:0", socket);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("agent serve");
        let log = Log::of(child.stderr.take().expect("a pipe"));
        wait_for("agent serve traces", PATIENCE, || {
            log.text().contains("tracing; metrics on").then_some(())
        });
        Self { child, log }
    }

    fn end_by(mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal");
        let status = wait_for_end(&mut self.child, "agent serve ends");
        let log = self.log.text();
        assert!(status.success(), "{status}: {log}");
        assert!(!log.contains('\x1b'), "{log:?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

#[test]
#[ignore = "needs root"]
fn a_second_server_is_told_who_is_the_first() {
    let clean = Clean::new();
    let first = Running::start(&clean.socket());
    let pid = format!("pid {};", first.child.id());
    let words = ["--socket", &*pid];
    assert_refused(&mut serve("127.0.0.1:0", &clean.socket()), FAILURE, &words);
    let mut watch = agent(["watch", "--for", "10ms", "--socket"]);
    let (status, ..) = outcome(watch.arg(clean.socket()));
    assert_eq!(status, 0, "the first one goes on");
    first.end_by(Signal::TERM);
    clean.assert_clean();
}

#[test]
#[ignore = "needs root"]
fn what_a_killed_server_left_is_replaced() {
    let clean = Clean::new();
    let mut first = Running::start(&clean.socket());
    kill(&mut first.child);
    assert!(clean.socket().exists(), "nothing is left of it");
    let second = Running::start(&clean.socket());
    second.end_by(Signal::INT);
    assert!(!clean.socket().exists());
}

#[test]
#[ignore = "needs root"]
fn both_signals_end_it_well() {
    for signal in [Signal::TERM, Signal::INT] {
        let clean = Clean::new();
        Running::start(&clean.socket()).end_by(signal);
        clean.assert_clean();
    }
}

/// A pipe that nobody reads.
fn closed_pipe() -> Stdio {
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    drop(reader);
    Stdio::from(writer)
}

#[test]
fn nobody_who_reads_is_no_error() {
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["serve", "--help"],
        &["watch", "--help"],
        &["doctor", "--help"],
    ] {
        let mut help = agent(arguments);
        let help = help.stdout(closed_pipe()).stderr(Stdio::piped());
        let output = help.output().expect("agent can be run");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(output.stderr, b"", "{arguments:?}");
    }
    let misused = agent(["fly"]).stderr(closed_pipe()).status();
    assert_eq!(misused.expect("agent can be run").code(), Some(MISUSE));
}

#[test]
#[ignore = "needs root"]
fn a_server_goes_on_when_nobody_reads_its_log() {
    let clean = Clean::new();
    let mut command = serve("127.0.0.1:0", &clean.socket());
    let mut child = command.stderr(closed_pipe()).spawn().expect("agent serve");
    let watches = || {
        let mut watch = agent(["watch", "--for", "1ms", "--socket"]);
        outcome(watch.arg(clean.socket())).0 == 0
    };
    wait_for("it serves", PATIENCE, || {
        (clean.socket().exists() && watches()).then_some(())
    });
    kill_process(Pid::from_child(&child), Signal::TERM).expect("a signal");
    let status = wait_for_end(&mut child, "agent serve ends");
    assert_eq!(status.code(), Some(0));
    clean.assert_clean();
}

/// A socket on which every client gets this answer.
fn answering(answer: &'static str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("agent.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = stream;
            let mut request = [0; 4096];
            // A request is shorter, and comes at once.
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (directory, socket)
}

#[test]
fn a_server_that_cannot_be_understood_is_told() {
    let ok = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n[{\"id\": 1}]";
    let missing = "HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nnone\n";
    for (answer, words) in [
        (ok, &["another version", "restart"][..]),
        (missing, &["404", "none"]),
        ("220 mail.example ESMTP\r\n", &["does not speak HTTP"]),
    ] {
        let (_directory, socket) = answering(answer);
        for arguments in [&["ps"][..], &["ns", "--pid", "1"], &["inspect", "1"]] {
            let mut agent = agent(arguments);
            assert_refused(agent.arg("--socket").arg(&socket), FAILURE, words);
        }
    }
}
