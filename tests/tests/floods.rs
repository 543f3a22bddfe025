//! More events than anybody can read: what is lost is counted to the last one, and nobody else loses any.
//!
//! One test at a time: the kernel's probes see all of the host, so that the flood of one is in the ring of another.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::cgroup::Cgroup;
use tests::law::assert_law;
use tests::metrics::Metrics;
use tests::nscall::{nscall, outcome};
use tests::process::{Lines, kill};
use tests::program::program;
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};

/// More than fits into what is between the kernel and a reader: some 9,000 records, most of them in the server's queue.
const MORE_THAN_FITS: u64 = 15_000;

/// More calls than one cgroup may send records of before the ring is read, and more than fit into the ring.
const MORE_THAN_SENT: u64 = 20_000;

/// As fast as what is seen at once is seen, on a machine that is busy.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Where the machine is busy with a flood.
const SOON: Duration = Duration::from_secs(10);

fn call(cgroup: &Cgroup, words: &str) -> Value {
    outcome(&mut nscall(cgroup, words))
}

/// Records of a kind that the kernel did not send.
fn unsent(metrics: &Metrics, kind: &str) -> u64 {
    metrics.events("kernel", kind, "suppressed") + metrics.events("kernel", kind, "no_room")
}

#[test]
#[ignore = "needs root"]
fn a_full_pipe() {
    let _alone = tests::alone();
    let serve = Serve::start(&[]);
    let (cgroup, other) = (Cgroup::new("full"), Cgroup::new("other"));
    let mut full = serve.watch_unread(&["--kind", "clone", "--container", cgroup.name()]);
    let mut watch = serve.watch(&["--kind", "unshare", "--container", other.name()]);
    call(&cgroup, &format!("--times {MORE_THAN_FITS} clone uts"));
    call(&other, "unshare uts");
    watch.next(AT_ONCE, |record| record["kind"] == "unshare");
    let metrics = serve.metrics();
    assert_ne!(metrics.events("sink", "clone", "lost"), 0, "all fitted");
    assert_eq!(metrics.events("sink", "unshare", "lost"), 0);
    assert!(full.try_wait().expect("its state").is_none(), "it ended");
    kill(&mut full);
    serve.wait_for_watchers(1);
    // What waited for it is lost too.
    assert_law(&serve);
    serve.stop();
}

/// Makes cgroups whose paths claim to be containers of `agent run`, and removes each once there are 500; says so once.
const FORGE: &str = r#"
    $| = 1;
    for (my $number = 0; ; $number++) {
        mkdir "$ARGV[0]/n$number" or die "$!";
        rmdir "$ARGV[0]/n" . ($number - 500);
        print "forged\n" if $number == 2000;
    }
"#;

/// Directories in /tmp in which a user's state could be.
struct Stores(Vec<PathBuf>);

impl Stores {
    fn new(user: u32) -> Self {
        let paths = (0..3000).map(|it| PathBuf::from(format!("/tmp/agent-{user}-{it:016x}")));
        let stores = Self(paths.collect());
        for path in &stores.0 {
            fs::create_dir_all(path).expect("a directory");
            fs::set_permissions(path, Permissions::from_mode(0o700)).expect("root may");
            chown(path, Some(user), Some(user)).expect("root may");
        }
        stores
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = fs::remove_dir(path);
        }
    }
}

/// A user makes claims without end, and does all to make looking for what confirms them slow.
#[test]
#[ignore = "needs root"]
fn claims_without_end_hold_up_nothing() {
    const USER: u32 = 64_713;
    let _alone = tests::alone();
    let _stores = Stores::new(USER);
    let serve = Serve::start(&["--docker-socket", "off"]);
    let (forger, other) = (Cgroup::strangers("forger", "agent"), Cgroup::new("other"));
    let directory = forger.directory("memory");
    chown(&directory, Some(USER), Some(USER)).expect("root may");
    let mut watch = serve.watch(&["--kind", "unshare", "--container", other.name()]);
    let mut forge = Command::new(program("setpriv"));
    let user = USER.to_string();
    forge.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
    forge.args(["perl", "-e", FORGE]).arg(&directory);
    let mut forge = forge.stdout(Stdio::piped()).spawn().expect("util-linux");
    let said = Lines::of(forge.stdout.take().expect("a pipe"));
    assert_eq!(said.next(PATIENCE).as_deref(), Some("forged"));
    for _ in 0..5 {
        call(&other, "unshare uts");
        watch.next(SOON, |record| record["kind"] == "unshare");
    }
    let honest = tests::run::Container::new("honest");
    honest.start(&[], &["sleep", "1000"]);
    let name = format!("name=\"{}\"", honest.name);
    wait_for("the container is confirmed", PATIENCE, || {
        serve.metrics().text().contains(&name).then_some(())
    });
    assert!(forge.try_wait().expect("its state").is_none(), "it ended");
    kill(&mut forge);
    let metrics = serve.metrics();
    assert_eq!(unsent(&metrics, "unshare"), 0);
    tests::run::text(&mut honest.agent("rm", &["-f"], &[]));
    honest.assert_gone();
    serve.stop();
}

/// Reads until so many records were received or told to be lost: both numbers.
fn read(watch: &mut Child, kind: &str, wanted: u64) -> [u64; 2] {
    let stdout = watch.stdout.take().expect("a pipe");
    let [mut received, mut lost] = [0, 0];
    for line in BufReader::new(stdout).lines() {
        let record: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        match record["kind"].as_str() {
            Some("lost") => lost += record["kinds"][kind].as_u64().unwrap_or(0),
            _ => received += 1,
        }
        if received + lost >= wanted {
            break;
        }
    }
    [received, lost]
}

#[test]
#[ignore = "needs root"]
fn a_slow_reader() {
    let _alone = tests::alone();
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("slow");
    let mut slow = serve.watch_unread(&["--kind", "clone", "--container", cgroup.name()]);
    call(&cgroup, &format!("--times {MORE_THAN_FITS} clone uts"));
    let [received, lost] = read(&mut slow, "clone", MORE_THAN_FITS);
    assert_eq!(
        received + lost,
        MORE_THAN_FITS,
        "{received} received, {lost} lost"
    );
    let metrics = serve.metrics();
    let at_sink = metrics.events("sink", "clone", "lost");
    assert_ne!(at_sink, 0, "all fitted");
    assert_eq!(lost, at_sink + unsent(&metrics, "clone"));
    kill(&mut slow);
    serve.wait_for_watchers(0);
    assert_law(&serve);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn calls_without_end() {
    let _alone = tests::alone();
    let serve = Serve::start(&[]);
    let (flooding, other) = (Cgroup::new("flooding"), Cgroup::new("other"));
    let mut watch = serve.watch(&["--kind", "unshare,oom", "--container", other.name()]);
    let mut flood = nscall(
        &flooding,
        &format!("--times {} setns /dev/null uts", u32::MAX),
    )
    .stdout(Stdio::null())
    .spawn()
    .expect("nscall can be run");
    wait_for("the flood is under way", PATIENCE, || {
        (serve.metrics().events("kernel", "setns", "seen") > MORE_THAN_SENT).then_some(())
    });
    // What the host loses elsewhere is told to every watcher.
    let is_told = |record: &Value| record["kind"] != "lost";
    // Longer than the second after which the kernel sends again.
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        call(&other, "unshare uts");
        let record = watch.next(AT_ONCE, is_told);
        assert_eq!(record["kind"], "unshare", "{record}");
    }
    kill_by_oom(&other);
    let record = watch.next(AT_ONCE, is_told);
    assert_is_oom_of(&record, &other);
    assert!(
        flood.try_wait().expect("its state").is_none(),
        "the flood ended"
    );
    flooding.kill();
    flood.wait().expect("it was killed");
    assert_law(&serve);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn calls_while_the_server_gets_no_time() {
    let _alone = tests::alone();
    let serve = Serve::start(&[]);
    let (flooding, other) = (Cgroup::new("flooding"), Cgroup::new("other"));
    let mut flooded = serve.watch_unread(&["--kind", "setns", "--container", flooding.name()]);
    let mut watch = serve.watch(&["--kind", "unshare,oom", "--container", other.name()]);
    serve.signal(Signal::STOP);
    let failed = call(
        &flooding,
        &format!("--times {MORE_THAN_SENT} setns /dev/null uts"),
    );
    call(&other, "unshare uts");
    kill_by_oom(&other);
    serve.signal(Signal::CONT);
    // Others lose nothing, not even what came behind the flood.
    let record = watch.next(PATIENCE, |_| true);
    assert_eq!(record["kind"], "unshare", "{record}");
    let record = watch.next(PATIENCE, |_| true);
    assert_is_oom_of(&record, &other);
    // Of the flood, what was not sent is counted and told.
    let [received, lost] = read(&mut flooded, "setns", MORE_THAN_SENT);
    assert_eq!(
        received + lost,
        MORE_THAN_SENT,
        "{received} received, {lost} lost"
    );
    let metrics = serve.metrics();
    assert_ne!(
        metrics.events("kernel", "setns", "suppressed"),
        0,
        "all were sent"
    );
    assert_eq!(
        lost,
        metrics.events("sink", "setns", "lost") + unsent(&metrics, "setns")
    );
    let labels = [("call", "setns"), ("name", flooding.name())];
    let counted = metrics.count("container_namespace_call_errors_total", &labels);
    assert_eq!(
        (counted, &failed["failed"]),
        (MORE_THAN_SENT, &json!(MORE_THAN_SENT))
    );
    kill(&mut flooded);
    assert_law(&serve);
    serve.stop();
}

/// Has a process in the container killed by the OOM killer.
fn kill_by_oom(cgroup: &Cgroup) {
    let limit = if Cgroup::is_v1("memory") {
        "memory.limit_in_bytes"
    } else {
        "memory.max"
    };
    cgroup.write("memory", limit, "20000000");
    // It looks for the end of a line that has none, and keeps all of it.
    let status = cgroup
        .command("tail")
        .arg("/dev/zero")
        .stderr(Stdio::null())
        .status();
    let status = status.expect("tail can be run");
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{status}");
}

fn assert_is_oom_of(record: &Value, cgroup: &Cgroup) {
    assert_eq!(record["kind"], "oom", "{record}");
    assert_eq!(
        record["victim"]["container"]["name"],
        cgroup.name(),
        "{record}"
    );
}
