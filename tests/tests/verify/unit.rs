//! A unit of systemd's. A host without systemd looks as if it had one: a thread of the test answers in its place.

use std::collections::HashMap;
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::process::{Command, Stdio};
use std::thread;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::agent::binary;
use tests::cgroup::Cgroup;
use tests::mounts::Mounts;
use tokio::net::UnixListener;
use zbus::connection::Builder;
use zbus::{Guid, MessageStream, Variant};

use super::{PIDS, assert_verdict, check, report, write};

/// What systemd has of the unit, beside its cgroup.
type Properties = fn() -> Vec<(&'static str, Variant<'static>)>;

/// Answers every client with the properties of a unit in this cgroup, as long as the test runs.
fn answer(listener: StdListener, cgroup: String, properties: Properties) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let listener = UnixListener::from_std(listener).expect("it does not block");
        while let Ok((client, _)) = listener.accept().await {
            let client = client.into_std().expect("a socket");
            tokio::spawn(answer_one(client, cgroup.clone(), properties));
        }
    });
}

async fn answer_one(client: UnixStream, cgroup: String, properties: Properties) {
    let builder = Builder::unix_stream(client).server(Guid::generate()).p2p();
    let connection = builder.build().await.expect("a client of D-Bus");
    let mut calls = MessageStream::from(&connection);
    while let Some(Ok(call)) = calls.next().await {
        let header = call.header();
        let replied = match header.member().map(zbus::names::MemberName::as_str) {
            Some("GetAll") => {
                let own = ("ControlGroup", Variant::from(cgroup.clone()));
                let all: HashMap<_, _> = properties().into_iter().chain([own]).collect();
                connection.reply(&header, &all).await
            }
            // The description.
            _ => connection.reply(&header, &Variant::from("a unit")).await,
        };
        replied.expect("the client waits for it");
    }
}

/// A host on which systemd has one unit.
struct Host {
    place: TempDir,
    mounts: Mounts,
    unit: Cgroup,
}

impl Host {
    fn new(properties: Properties) -> Self {
        let unit = Cgroup::strangers("verify-unit", "verify-unit.service");
        let place = tempfile::tempdir().expect("a directory");
        let listener = StdListener::bind(place.path().join("private"));
        let listener = listener.expect("a socket");
        listener.set_nonblocking(true).expect("a socket");
        let cgroup = unit.path();
        thread::spawn(move || answer(listener, cgroup, properties));
        let mounts = Mounts::new("tmpfs", "/run");
        Self {
            place,
            mounts,
            unit,
        }
    }

    /// `agent verify` of the unit.
    fn verify(&self, flags: &[&str]) -> Command {
        let script = "mkdir -p /run/systemd/system && ln -sfn \"$1/private\" /run/systemd/ && shift && exec \"$@\"";
        let mut command = self.mounts.command("sh");
        command.args(["-c", script, "sh"]).arg(self.place.path());
        command.arg(binary()).arg("verify").args(flags);
        command.args(["--socket", "off", "--docker-socket", "off", "--cgroup"]);
        command.arg(self.unit.path()).stdin(Stdio::null());
        command
    }

    fn said(&self, flags: &[&str]) -> (String, String) {
        let output = self.verify(flags).output().expect("it can be run");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (text(output.stdout), text(output.stderr))
    }
}

#[test]
#[ignore = "needs root"]
fn what_a_unit_asks_for_and_nothing_judges_is_told() {
    let host = Host::new(|| {
        vec![
            ("TasksMax", Variant::from(50_u64)),
            ("MemoryMax", Variant::from(u64::MAX)),
            ("MemoryMin", Variant::from(16_777_216_u64)),
            (
                "IOWriteBandwidthMax",
                Variant::from(vec![("/dev/vda", 1_048_576_u64)]),
            ),
            ("IOWeight", Variant::from(u64::MAX)),
        ]
    });
    let [controller, files] = PIDS;
    write(&super::file(&host.unit.path(), controller, files), "50");
    let all = json!(["MemoryMin=16777216", "IOWriteBandwidthMax=/dev/vda 1048576"]);
    for flags in [&[][..], &["--expect", "pids-limit=50"], &["--for", "100ms"]] {
        let report = report(host.verify(flags).args(["--output", "json"]));
        assert_eq!(report["not_judged"], all, "{report:#}");
        // It decides nothing.
        if flags.is_empty() {
            assert_verdict(check(&report, "pids-limit"), "pass", &[]);
            assert_eq!(report["verdict"], "pass");
        }
    }
    let (text, _) = host.said(&[]);
    for line in [
        "  unjudged  IOWriteBandwidthMax=/dev/vda 1048576\n",
        "  unjudged  MemoryMin=16777216\n",
    ] {
        assert!(text.contains(line), "{line:?} is missing in {text}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_unit_whose_limits_are_all_of_other_kinds_has_no_verdict_and_they_are_told() {
    let host = Host::new(|| vec![("MemoryMin", Variant::from(16_777_216_u64))]);
    let (text, said) = host.said(&[]);
    assert_eq!(text, "");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("MemoryMin=16777216"), "{said}");
    // What asks for nothing else has nothing to tell.
    let host = Host::new(|| {
        vec![
            ("TasksMax", Variant::from(50_u64)),
            ("MemoryMin", Variant::from(0_u64)),
            (
                "IOWriteBandwidthMax",
                Variant::from(Vec::<(&str, u64)>::new()),
            ),
        ]
    });
    let report = report(host.verify(&["--output", "json"]).args([""; 0]));
    assert_eq!(report["not_judged"], Value::Array(Vec::new()), "{report:#}");
}
