//! Units of systemd as subjects: their processes, what systemd says of their limits, and how they end.

use std::path::Path;
use std::process::Command;
use std::{fs, str};

use serde_json::Value;
use tests::agent::agent;
use tests::cgroup::unique;
use tests::run::{output, text};
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};

use super::{USER, by, can_run};

/// No server is there: the command looks by itself.
const NOBODY: &str = "off";

/// A transient service of systemd; it is removed with this.
struct Service {
    user: u32,
    name: String,
}

impl Service {
    fn start(name: String, properties: &[&str], command: &[&str]) -> Self {
        Self::of(0, name, properties, command)
    }

    /// A service of the host's systemd, or of that of a user.
    fn of(user: u32, name: String, properties: &[&str], command: &[&str]) -> Self {
        let service = Self { user, name };
        let mut run = service.call("systemd-run");
        run.args(["--quiet", "--unit", &service.name]);
        run.args(properties.iter().map(|it| format!("--property={it}")));
        text(run.args(command));
        service
    }

    fn call(&self, program: &str) -> Command {
        let mut call = by(self.user, program);
        if self.user != 0 {
            call.arg("--user");
        }
        call
    }

    fn property(&self, name: &str) -> String {
        let mut show = self.call("systemctl");
        let value = text(show.args(["show", "--value", "-p", name, &self.name]));
        value.trim().to_owned()
    }

    fn cgroup(&self) -> String {
        wait_for("it has a cgroup", PATIENCE, || {
            Some(self.property("ControlGroup")).filter(|it| !it.is_empty())
        })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // What ended by itself is gone, or has to be forgotten.
        for action in ["stop", "reset-failed"] {
            let _ = self.call("systemctl").args([action, &self.name]).output();
        }
    }
}

fn service(name: &str) -> String {
    unique(name) + ".service"
}

fn json(socket: &Path, arguments: &[&str]) -> Value {
    let mut agent = agent([arguments[0], "--docker-socket", "off", "--socket"]);
    let output = output(
        agent
            .arg(socket)
            .args(&arguments[1..])
            .args(["--output", "json"]),
    );
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"))
}

/// systemd's results are those of the stops, whichever way the service ends.
#[test]
#[ignore = "needs root"]
fn a_stop_has_the_result_that_systemd_reports() {
    if !can_run() {
        return;
    }
    let serve = Serve::start(&["--docker-socket", "off"]);
    let mut watch = serve.watch(&["--kind", "container"]);
    let memory: &[&str] = &["MemoryMax=20M", "MemorySwapMax=0"];
    // systemd makes one dollar of two.
    for (properties, script, result) in [
        (&[][..], "sleep 0.2", "success"),
        (&[], "sleep 0.2; exit 3", "exit-code"),
        (&[], "sleep 0.2; kill -KILL $$$$", "signal"),
        (memory, "tail /dev/zero", "oom-kill"),
        (&["RuntimeMaxSec=1"], "sleep 1000", "timeout"),
    ] {
        let name = service("result");
        let own = |action: &'static str| {
            let name = name.clone();
            move |it: &Value| {
                it["kind"] == "container"
                    && it["container"]["name"] == *name
                    && it["action"] == action
            }
        };
        let service = Service::start(name.clone(), properties, &["sh", "-c", script]);
        let start = watch.next(PATIENCE, own("start"));
        assert_eq!(start["container"]["kind"], "unit", "{start}");
        assert_eq!(start["result"], Value::Null, "{start}");
        let stop = watch.next(PATIENCE, own("stop"));
        assert_eq!(stop["result"], result, "{script}: {stop}");
        drop(service);
    }
    serve.stop();
}

/// A unit that systemd starts again and again has all of its stops, each before the next start.
#[test]
#[ignore = "needs root"]
fn a_service_that_is_restarted_stops_each_time() {
    if !can_run() {
        return;
    }
    let serve = Serve::start(&["--docker-socket", "off"]);
    let mut watch = serve.watch(&["--kind", "container"]);
    let properties = ["Restart=on-failure", "RestartSec=1"];
    let service = Service::start(
        service("again"),
        &properties,
        &["sh", "-c", "sleep 0.2; exit 3"],
    );
    for _ in 0..2 {
        for action in ["start", "stop"] {
            let event = watch.next(PATIENCE, |it| it["container"]["name"] == *service.name);
            assert_eq!(event["action"], action, "{event}");
            let result = if action == "stop" {
                "exit-code".into()
            } else {
                Value::Null
            };
            assert_eq!(event["result"], result, "{event}");
        }
    }
    drop(service);
    serve.stop();
}

/// What systemd was asked for is compared with the files, also after it was asked for something else.
#[test]
#[ignore = "needs root"]
fn limits_and_description_are_those_that_systemd_reports() {
    if !can_run() {
        return;
    }
    let serve = Serve::start(&["--docker-socket", "off"]);
    let properties = ["MemoryMax=64M", "Description=Sleeps for a while"];
    let service = Service::start(service("limits"), &properties, &["sleep", "1000"]);
    let cgroup = service.cgroup();
    let drift = |drift: &str| {
        let labels = [
            ("id", &*cgroup),
            ("unit", &*service.name),
            ("limit", "memory"),
            ("drift", drift),
            ("container_label_systemd_description", "Sleeps for a while"),
        ];
        serve.metrics().find("agent_limit_drift", &labels)
    };
    let verdict = || json(Path::new(NOBODY), &["verify", "--container", &service.name]);
    let becomes = |value: f64| {
        wait_for(&format!("drift {value}"), PATIENCE, || {
            (drift("written") == Some(value)).then_some(())
        });
    };
    becomes(0.0);
    let report = verdict();
    assert_eq!(report["subject"]["cgroup"], *cgroup, "{report:#}");
    let mut checks = report["checks"].as_array().expect("checks").iter();
    let memory = checks.find(|it| it["limit"] == "memory").expect("a check");
    assert_eq!(memory["intended"]["source"], "systemd", "{report:#}");
    assert_eq!(memory["verdict"], "pass", "{report:#}");

    let file = format!("/sys/fs/cgroup{cgroup}/memory.max");
    fs::write(&file, "33554432").expect("root may");
    becomes(1.0);
    assert_eq!(verdict()["verdict"], "fail");
    // systemd is asked again where a limit is not as intended.
    let mut set = by(0, "systemctl");
    text(set.args(["set-property", "--runtime", &service.name, "MemoryMax=48M"]));
    becomes(0.0);
    serve.stop();
}

/// One name in all commands: of an instance, of a name with escaped bytes, and of a service with a network of its own.
#[test]
#[ignore = "needs root"]
fn a_unit_is_shown_with_its_main_process() {
    if !can_run() {
        return;
    }
    let serve = Serve::start(&["--docker-socket", "off"]);
    for (name, properties) in [
        (format!("{}@x.service", unique("instance")), &[][..]),
        (format!(r"{}-a\x2db.service", unique("escaped")), &[]),
        (service("network"), &["PrivateNetwork=yes"]),
    ] {
        // The oldest process is not the main one.
        let service = Service::start(name, properties, &["sh", "-c", "sleep 1000; true"]);
        let cgroup = service.cgroup();
        let main: u32 = service.property("MainPID").parse().expect("a pid");
        let name = &*service.name;
        for socket in [&*serve.socket(), Path::new(NOBODY)] {
            let list = json(socket, &["ps", "--units"]);
            let mut list = list.as_array().expect("a list").iter();
            let unit = list.find(|it| it["name"] == name);
            let unit = unit.unwrap_or_else(|| panic!("{name}"));
            assert_eq!(unit["cgroup"], *cgroup, "{unit}");
            assert_eq!(unit["state"], "running", "{unit}");
            let report = json(socket, &["inspect", name]);
            assert_eq!(report["pid"], main, "{report:#}");
            assert_eq!(report["container"]["name"], name, "{report:#}");
            let networks = json(socket, &["ns", "--type", "net", "--container", name]);
            let [network] = &networks.as_array().expect("a list")[..] else {
                panic!("{networks:#}");
            };
            assert_eq!(network["host"], properties.is_empty(), "{network}");
            let users = network["containers"].as_array().expect("a list");
            assert!(users.iter().any(|it| it["name"] == name), "{network}");
        }
    }
    serve.stop();
}

/// A user chooses the names of units freely.
#[test]
#[ignore = "needs root"]
fn a_user_s_unit_is_named_by_its_cgroup() {
    if !can_run() {
        return;
    }
    let own = Service::of(USER, service("users"), &[], &["sleep", "1000"]);
    let cgroup = own.cgroup();
    let mut inspect = agent(["inspect", "--docker-socket", "off", "--socket", NOBODY]);
    let refused = output(inspect.arg(&own.name));
    let said = str::from_utf8(&refused.stderr).expect("UTF-8");
    assert!(
        !refused.status.success() && said.contains(&*cgroup),
        "{said}"
    );
    let report = json(Path::new(NOBODY), &["inspect", &cgroup]);
    assert_eq!(report["container"]["name"], *own.name, "{report:#}");
    // The host's unit of that name is meant before a user's.
    let hosts = Service::start(own.name.clone(), &[], &["sleep", "1000"]);
    let report = json(Path::new(NOBODY), &["inspect", &own.name]);
    assert_eq!(report["container"]["cgroup"], *hosts.cgroup(), "{report:#}");
}
