//! Units of systemd by their names, through the server and alone. Their cgroups are made by hand, as systemd makes them, so
//! that these tests need no systemd.

use std::path::Path;
use std::process::{Child, Output, Stdio};

use serde_json::Value;
use tests::agent::agent;
use tests::cgroup::Cgroup;
use tests::container::inode;
use tests::memory::set_limit;
use tests::process::kill;
use tests::run::output;
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};

/// A whole number of pages of any size.
const LIMIT: u64 = 64 << 20;

/// No server is there: the command looks by itself.
const NOBODY: &str = "off";

/// A service with a limit and a process.
struct Service {
    cgroup: Cgroup,
    process: Child,
}

impl Service {
    fn start(name: &str) -> Self {
        let cgroup = Cgroup::service(name);
        set_limit(&cgroup, LIMIT);
        let process = cgroup.command("sleep").arg("1000").spawn();
        let process = process.expect("sleep can be run");
        wait_for("the process is in the service", PATIENCE, || {
            cgroup.holds(process.id()).then_some(())
        });
        Self { cgroup, process }
    }

    fn name(&self) -> String {
        format!("{}.service", self.cgroup.name())
    }

    fn slice(&self) -> String {
        format!("{}.slice", self.cgroup.name())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}

fn call(socket: &Path, arguments: &[&str]) -> Output {
    let mut agent = agent([arguments[0], "--docker-socket", "off", "--socket"]);
    output(agent.arg(socket).args(&arguments[1..]))
}

/// The JSON that the command writes.
fn json(socket: &Path, arguments: &[&str]) -> Value {
    let output = call(socket, &[arguments, &["--output", "json"]].concat());
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"))
}

/// The error with which the command fails.
fn error(socket: &Path, arguments: &[&str]) -> String {
    let output = call(socket, arguments);
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn named<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    let mut all = list.as_array().expect("a list").iter();
    all.find(|it| it["name"] == name)
}

#[test]
#[ignore = "needs root"]
fn a_unit_is_shown_by_its_name() {
    let serve = Serve::start(&["--docker-socket", "off"]);
    let service = Service::start("units");
    let (name, path) = (service.name(), service.cgroup.path());
    let pid = service.process.id();
    for socket in [&*serve.socket(), Path::new(NOBODY)] {
        let list = json(socket, &["ps", "--units"]);
        let unit = named(&list, &name).unwrap_or_else(|| panic!("{list:#}"));
        assert_eq!(unit["kind"], "unit", "{unit}");
        assert_eq!(unit["cgroup"], path, "{unit}");
        assert_eq!(unit["state"], "running", "{unit}");
        assert_eq!(unit["pid"], pid, "{unit}");
        assert_eq!(unit["processes"], 1, "{unit}");
        assert_eq!(unit["memory_limit_bytes"], LIMIT, "{unit}");
        assert!(unit["memory_usage_bytes"].as_u64() > Some(0), "{unit}");
        assert!(unit["cpu_usage_seconds"].is_number(), "{unit}");
        // What is in a unit is in its slice.
        let slice = named(&list, &service.slice()).expect("the slice");
        assert_eq!(slice["processes"], 1, "{slice}");
        assert_eq!(named(&json(socket, &["ps"]), &name), None);
        let kinds = json(socket, &["ps", "--units", "--filter", "kind=unit"]);
        let mut kinds = kinds.as_array().expect("a list").iter();
        assert!(kinds.all(|it| it["kind"] == "unit"));

        for target in [&*name, &*path, &*pid.to_string()] {
            let report = json(socket, &["inspect", target]);
            assert_eq!(report["pid"], pid, "{target}");
            assert_eq!(report["container"]["kind"], "unit", "{target}");
            assert_eq!(report["container"]["name"], *name, "{target}");
            let memory = &report["usage"]["memory_bytes"]["source"];
            assert!(
                memory.as_str().is_some_and(|it| it.contains(&*path)),
                "{memory}"
            );
        }
        let page = call(socket, &["inspect", &name]);
        let page = String::from_utf8_lossy(&page.stdout).into_owned();
        assert!(page.contains("unit ") && page.contains(&*path), "{page}");

        for target in [name.clone(), path.clone(), service.slice()] {
            let all = json(socket, &["ns", "--container", &target]);
            let all = all.as_array().expect("a list");
            let net = all.iter().find(|it| it["type"] == "net").expect("net");
            assert_eq!(net["inode"], inode("/proc/self/ns/net"), "{target}");
            let users = &net["containers"];
            let user = named(users, &name).unwrap_or_else(|| panic!("{target}: {net}"));
            assert_eq!(user["kind"], "unit", "{net}");
        }
        // The host stands for the units in its own namespaces.
        let all = json(socket, &["ns", "--type", "net"]);
        let mut all = all.as_array().expect("a list").iter();
        assert!(all.all(|it| named(&it["containers"], &name).is_none()));

        for (expected, verdict) in [("memory=64m", "pass"), ("memory=32m", "fail")] {
            let arguments = ["verify", "--container", &name, "--expect", expected];
            let report = json(socket, &arguments);
            assert_eq!(report["verdict"], verdict, "{report:#}");
            assert_eq!(report["subject"]["cgroup"], path, "{report:#}");
        }
    }
    drop(service);
    for arguments in [
        &["inspect", &*name][..],
        &["ns", "--container", &name],
        &["verify", "--container", &name],
    ] {
        let said = error(Path::new(NOBODY), arguments);
        assert!(said.contains("no unit of that name"), "{said}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_name_that_means_several_is_an_error_with_all_of_them() {
    let service = Service::start("units");
    let name = service.name();
    // Nobody says systemctl's short name, which means a container.
    let said = error(Path::new(NOBODY), &["inspect", service.cgroup.name()]);
    assert!(said.contains(&name), "{said}");

    let container = tests::container::Container::start(Cgroup::named(&name), "mnt");
    let serve = Serve::start(&["--docker-socket", "off"]);
    let both = [service.cgroup.path(), container.cgroup.path()];
    for socket in [&*serve.socket(), Path::new(NOBODY)] {
        for arguments in [&["inspect", &*name][..], &["verify", "--container", &name]] {
            let said = error(socket, arguments);
            let has_all = both.iter().all(|path| said.contains(&**path));
            assert!(has_all, "{arguments:?}: {said}");
        }
        let said = error(socket, &["ns", "--container", &name]);
        assert!(said.contains(&both[0]) && said.contains("agent "), "{said}");
        // A cgroup means one.
        for (path, pid) in both.iter().zip([service.process.id(), container.pid]) {
            assert_eq!(json(socket, &["inspect", path])["pid"], pid);
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_unit_without_processes_is_stopped() {
    let mut service = Service::start("units");
    let name = service.name();
    kill(&mut service.process);
    let list = json(Path::new(NOBODY), &["ps", "--units"]);
    let unit = named(&list, &name).expect("the unit");
    assert_eq!(unit["state"], "stopped", "{unit}");
    assert_eq!(
        (&unit["pid"], &unit["processes"]),
        (&Value::Null, &0.into())
    );
    for arguments in [&["inspect", &*name][..], &["ns", "--container", &name]] {
        let said = error(Path::new(NOBODY), arguments);
        assert!(said.contains(&*service.cgroup.path()), "{said}");
    }
}

/// A program that systemd runs in a cgroup of its own chooses the names below it.
#[test]
#[ignore = "needs root"]
fn a_cgroup_below_a_service_is_no_unit_of_the_host() {
    let service = Service::start("units");
    let forged = Cgroup::strangers("units", "web.service");
    let mut process = forged.command("sleep");
    let mut process = process
        .arg("1000")
        .stdin(Stdio::null())
        .spawn()
        .expect("it runs");
    let said = error(Path::new(NOBODY), &["inspect", "web.service"]);
    assert!(said.contains(&forged.path()), "{said}");
    kill(&mut process);
    drop(service);
}
