//! Clients that cost the server as much as they can: they pay for it, and nobody else does.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Resource, getrlimit};
use tempfile::TempDir;
use tests::agent::{agent, profile};
use tests::cgroup::Cgroup;
use tests::process::kill;
use tests::program::copy;
use tests::serve::{Serve, exchange};
use tests::slow::{fewer, longer};
use tests::wait::{PATIENCE, poll, wait_for};

/// Users of this host. That they have no name is no matter.
const FLOODER: u32 = 65_534;
const SLOW: u32 = 64_001;
const OTHER: u32 = 64_002;

/// In which the next client is served.
const SOON: Duration = Duration::from_secs(1);

/// The program of the clients, where every user may execute it.
struct Clients(TempDir);

/// A call of it. Dropping it kills it.
struct Held {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Clients {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let everybody = fs::Permissions::from_mode(0o777);
        fs::set_permissions(directory.path(), everybody).expect("own directory");
        copy(
            &profile().join("clients"),
            &directory.path().join("clients"),
        );
        Self(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn spawn(&self, user: u32, arguments: &[&str]) -> Held {
        let mut command = Command::new(self.path("clients"));
        command.args(arguments).uid(user).gid(user);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program of the clients");
        let said = BufReader::new(child.stdout.take().expect("a pipe"));
        Held { child, said }
    }

    /// Connections of a user's, once all of them are made.
    fn hold(&self, user: u32, how: &str, count: usize, address: SocketAddr) -> Held {
        let mut held = self.spawn(user, &[how, &count.to_string(), &address.to_string()]);
        held.wait_until_ready();
        held
    }
}

impl Held {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("its output");
        line
    }

    fn wait_until_ready(&mut self) {
        assert_eq!(self.line(), "ready\n");
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

/// Cgroups that are no containers, in one hierarchy, so that an answer is longer than what the kernel takes for a client that
/// does not read. Dropping the one that they are in removes them.
fn many(cgroup: &Cgroup, count: usize) {
    for number in 0..count {
        fs::create_dir(cgroup.directory("pids").join(format!("plain-{number}"))).expect("a cgroup");
    }
}

/// The time that a call takes.
fn timed<T>(what: &str, call: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let value = call();
    let took = begun.elapsed();
    println!("{what}: {took:?}");
    (value, took)
}

/// What a call gives, soon: where a scrape takes long by itself, as on an emulated machine, it may wait for one and be another.
fn soon<T>(what: &str, alone: Duration, call: impl FnOnce() -> T) -> T {
    let (value, took) = timed(what, call);
    assert!(
        took < longer(SOON).max(4 * alone),
        "{what}: {took:?}, alone {alone:?}"
    );
    value
}

/// Connections that are made at all, and that one process may have open.
fn share() -> (usize, usize) {
    let all = fewer(20_000, 4_000);
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(20_000);
    (all, (all / 2).min(limit as usize - 100))
}

#[test]
#[ignore = "needs root"]
fn a_flood_of_connections_and_slow_readers_hold_up_nobody() {
    let _alone = tests::alone();
    let (outer, _inner) = Cgroup::below_another("clients");
    many(&outer, 1000);
    let serve = Serve::start(&[]);
    let address = serve.address().expect("it traces");
    let whole = serve.metrics().text().len();
    let (_, alone) = timed("a scrape alone", || serve.metrics());
    assert!(
        whole > 1 << 20,
        "{whole} bytes fit into the kernel's buffers"
    );

    let clients = Clients::new();
    let _slow = clients.hold(SLOW, "slow", 64, address);
    soon("a scrape beside 64 slow readers", alone, || serve.metrics());
    // As many as one process may have open are less than there are to be.
    let (all, share) = share();
    let flood: Vec<_> = thread::scope(|scope| {
        let clients = &clients;
        let parts = (0..all).step_by(share).map(|begin| share.min(all - begin));
        let parts: Vec<_> = parts
            .map(|part| scope.spawn(move || clients.hold(FLOODER, "idle", part, address)))
            .collect();
        let held = parts.into_iter().map(ScopedJoinHandle::join);
        held.map(|held| held.expect("all connections are made"))
            .collect()
    });
    let metrics = soon("a scrape beside 20,000 connections", alone, || {
        serve.metrics()
    });
    let ok = soon("a page", alone, || {
        exchange(
            TcpStream::connect(address).expect("a connection"),
            "/healthz",
        )
    });
    assert_eq!(ok.status, 200);
    let mut other = clients.spawn(OTHER, &["once", "1", &address.to_string()]);
    let said = soon("another user's scrape", alone, || other.line());
    assert!(said.ends_with(" bytes\n"), "{said}");

    let refused = metrics.count(
        "agent_http_connections_closed_total",
        &[("side", "tcp"), ("reason", "peer")],
    );
    let made_room = metrics.count(
        "agent_http_connections_closed_total",
        &[("side", "tcp"), ("reason", "gave_way")],
    );
    // Where the kernel does not tell whose they are, the oldest made room.
    assert!(
        refused + made_room >= all as u64 - 1_000,
        "{refused} {made_room}"
    );
    let open = metrics.count("agent_http_connections", &[("side", "tcp")]);
    assert!((1..=512).contains(&open), "{open} connections are open");

    // The socket has descriptors of its own.
    let sockets: Vec<_> = (0..100)
        .map(|_| UnixStream::connect(serve.socket()).expect("the socket"))
        .collect();
    for socket in sockets {
        assert_eq!(exchange(socket, "/healthz").status, 200);
    }
    soon("the containers", alone, || serve.get("/v1/containers"));
    drop((flood, other));
    serve.stop();
}

/// How long the server leaves a connection open, once `send` has sent something.
fn open_for(address: SocketAddr, send: impl Fn(&mut TcpStream)) -> Duration {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_millis(500)))
        .expect("a socket");
    let begun = Instant::now();
    let deadline = longer(2 * PATIENCE);
    let mut piece = [0; 4096];
    while begun.elapsed() < deadline {
        send(&mut stream);
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    begun.elapsed()
}

#[test]
#[ignore = "needs root"]
fn what_a_client_does_not_end_the_server_ends() {
    let serve = Serve::start(&[]);
    let address = serve.address().expect("it traces");
    let (head, idle) = thread::scope(|scope| {
        // A head that goes on and on.
        let head = scope.spawn(|| open_for(address, |stream| drop(stream.write_all(b"X"))));
        let idle = scope.spawn(|| {
            let is_first = std::cell::Cell::new(true);
            open_for(address, |stream| {
                if is_first.take() {
                    stream
                        .write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
                        .expect("a request");
                }
            })
        });
        (head.join().expect("an end"), idle.join().expect("an end"))
    });
    let slack = longer(Duration::from_secs(10)).as_secs();
    let seconds = |range: std::ops::Range<u64>, time: Duration| range.contains(&time.as_secs());
    assert!(seconds(9..10 + slack, head), "an endless head: {head:?}");
    assert!(
        seconds(39..40 + slack, idle),
        "an idle connection: {idle:?}"
    );
    let closed = [("side", "tcp"), ("reason", "deadline")];
    let metrics = serve.metrics();
    assert_eq!(
        metrics.count("agent_http_connections_closed_total", &closed),
        2
    );
    serve.stop();
}

/// The open connections of the unix socket.
fn open_on_socket(serve: &Serve) -> u64 {
    serve
        .metrics()
        .count("agent_http_connections", &[("side", "unix")])
}

#[test]
#[ignore = "needs root"]
fn an_idle_stream_ends_with_its_client_whatever_that_sent_before() {
    let serve = Serve::start(&["--docker-socket", "off"]);
    let before = open_on_socket(&serve);
    let request = "GET /v1/events?kind=oom HTTP/1.1\r\nHost: a\r\n\r\n";
    for further in ["", "GET /hea", "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut client = UnixStream::connect(serve.socket()).expect("the socket");
        let sent = format!("{request}{further}");
        client.write_all(sent.as_bytes()).expect("a request");
        let mut head = [0; 12];
        client.read_exact(&mut head).expect("an answer");
        assert_eq!(&head, b"HTTP/1.1 200", "{further:?}");
        assert_eq!(open_on_socket(&serve), before + 1, "{further:?}");
        drop(client);
        let what = format!("the stream before {further:?} ends");
        wait_for(&what, PATIENCE, || {
            (open_on_socket(&serve) == before).then_some(())
        });
    }
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn what_lies_in_the_way_of_a_lock_is_no_wait() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("agent.sock");
    let lock = directory.path().join("agent.sock.lock");
    mknodat(CWD, &lock, FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
    let mut serve = agent(["serve", "--listen", "127.0.0.1:0", "--socket"]);
    let mut serve = serve
        .arg(&socket)
        .stderr(Stdio::piped())
        .spawn()
        .expect("agent serve");
    let status = poll(PATIENCE, || serve.try_wait().expect("its state"));
    kill(&mut serve);
    let status = status.expect("agent serve does not wait for a reader of the pipe");
    let mut said = String::new();
    let stderr = serve.stderr.as_mut().expect("a pipe");
    stderr.read_to_string(&mut said).expect("its errors");
    assert_eq!(status.code(), Some(1), "{said}");
    let wanted = format!("{} is not a file of this user's", lock.display());
    assert!(said.contains(&wanted), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
#[ignore = "needs root"]
fn another_users_server_is_told_and_does_nothing_to_the_terminal() {
    let clients = Clients::new();
    for (name, line, commands) in [
        (
            "raw",
            r#"{"kind":"exec","x":"\e]0;owned"}"#,
            &[&["watch", "--output", "json"][..]][..],
        ),
        (
            "record",
            r#"{"kind":"exec","x":"\u009b2J"}"#,
            &[&["watch", "--output", "json"], &["watch"]],
        ),
        (
            "list",
            r#"["\e[2J"]"#,
            &[
                &["ps"],
                &["ns"],
                &["inspect", "1"],
                &["verify", "--container", "a"],
            ],
        ),
    ] {
        let socket = clients.path(name);
        let path = socket.to_str().expect("a path");
        let mut server = clients.spawn(FLOODER, &["serve", path, line]);
        server.wait_until_ready();
        for command in commands {
            let output = agent(command.iter())
                .args(["--socket", path])
                .output()
                .expect("agent");
            let told = String::from_utf8(output.stderr).expect("text");
            let shown = String::from_utf8(output.stdout).expect("text");
            let note = format!("{path} is served by uid {FLOODER}, not by root or this user");
            assert!(told.contains(&note), "{command:?}: {told}");
            assert!(told.matches(&note).count() == 1, "{command:?}: {told}");
            let is_safe = |text: &str| text.chars().all(|c| c == '\n' || !c.is_control());
            assert!(
                is_safe(&told) && is_safe(&shown),
                "{command:?}: {told:?} {shown:?}"
            );
        }
    }
}

/// The paths of cgroups that have series, the root and what is not known excepted, and how many series they have.
fn with_series(serve: &Serve) -> (BTreeSet<String>, usize) {
    let metrics = serve.metrics();
    let lines = metrics.text().lines();
    let ids =
        lines.filter_map(|line| Some(line.split_once("id=\"")?.1.split_once('"')?.0.to_owned()));
    let ids: Vec<_> = ids
        .filter(|id| !["/", "unknown"].contains(&&**id))
        .collect();
    (ids.iter().cloned().collect(), ids.len())
}

#[test]
#[ignore = "needs root"]
fn series_are_bounded_and_the_same_ones_are_left_out() {
    let (outer, inner) = Cgroup::below_another("series");
    many(&outer, 100);
    let bound = 1200;
    let serve = Serve::start(&["--max-series", &bound.to_string()]);
    let (before, count) = with_series(&serve);
    assert!(count <= bound, "{count} series");
    assert!(count > 0, "none is left");
    // What is born later than others is left out before them.
    many(&inner, 5);
    let metrics = serve.metrics();
    let left_out = metrics.count(
        "agent_cgroups_left_out",
        &[("kind", "cgroup"), ("bound", "all")],
    );
    assert!(left_out >= 90, "{left_out}");
    wait_for("the cgroups are known", PATIENCE, || {
        let metrics = serve.metrics();
        let live = metrics.count("agent_registry_cgroups", &[("state", "live")]);
        (live >= 105).then_some(())
    });
    let plain = |paths: BTreeSet<String>| {
        let own = format!("{}/plain-", outer.path());
        paths
            .into_iter()
            .filter(|path| path.starts_with(&own))
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(plain(with_series(&serve).0), plain(before));
    serve.stop();
}
