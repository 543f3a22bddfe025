//! `agent ps`: containers, their state and use, through the server and alone.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::{Value, json};
use tests::agent::{agent, binary};
use tests::cgroup::{Cgroup, directory};
use tests::container::{Container, First};
use tests::memory::{Hog, oom_kills, set_limit};
use tests::process::kill;
use tests::run;
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};

/// A whole number of pages of any size.
const LIMIT: u64 = 64 << 20;

/// What changes from look to look.
const IN_MOTION: [&str; 5] = [
    "cpu_percent",
    "cpu_usage_seconds",
    "memory_usage_bytes",
    "memory_working_set_bytes",
    // By the clock of each: to the microsecond.
    "started",
];

/// What the command writes.
fn ps(socket: &Path, arguments: &[&str]) -> String {
    let output = agent(["ps", "--docker-socket", "off", "--socket"])
        .arg(socket)
        .args(arguments)
        .env("COLUMNS", "80")
        .output()
        .expect("agent ps can be run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    assert_eq!(stderr, "");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What it says of one container.
fn state(socket: &Path, arguments: &[&str], name: &str) -> Option<Value> {
    let arguments = [&["--output", "json"], arguments].concat();
    let all: Vec<Value> = serde_json::from_str(&ps(socket, &arguments)).expect("a list");
    let mut found = all.into_iter().filter(|state| state["name"] == name);
    let state = found.next();
    assert_eq!(found.next(), None);
    state
}

/// A process that uses one CPU. Dropping it kills it.
struct Busy(Child);

impl Busy {
    fn start(cgroup: &Cgroup) -> Self {
        let mut sh = cgroup.command("sh");
        let sh = sh.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
        Self(sh.spawn().expect("sh can be run"))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        kill(&mut self.0);
    }
}

#[test]
#[ignore = "needs root"]
fn a_container_s_state_and_use_are_those_of_the_kernel() {
    let parent = Cgroup::new("limits");
    set_limit(&parent, LIMIT);
    let serve = Serve::start(&["--docker-socket", "off"]);
    let container = Container::start(parent, "mnt,net");
    let below = container.cgroup.child("below");
    let busy = Busy::start(&below);
    // Killed for the container's limit, in a cgroup below it.
    let mut hog = Hog::start(&below, 1, 2 * LIMIT);
    hog.wait_until_killed();
    let kills = oom_kills(&below);
    assert_eq!(kills, 1);
    let exported = |cgroup: &Cgroup| {
        let path = cgroup.path();
        let labels = [("role", "victim"), ("id", &*path)];
        serve.metrics().find("container_oom_kills_total", &labels)
    };
    assert_eq!(exported(&below), None);
    assert_eq!(exported(&container.cgroup), Some(1.0));

    let nobody = Path::new("off");
    let name = container.cgroup.name();
    let (own, socket) = (serve.socket(), serve.socket());
    let [served, alone] = [&*own, nobody].map(|socket| {
        wait_for("all is told", PATIENCE, || {
            let state = state(socket, &[], name)?;
            (state["processes"] == 2 && state["cpu_percent"].as_f64()? > 20.0).then_some(state)
        })
    });
    for state in [&served, &alone] {
        assert_eq!(state["id"], name, "{state}");
        assert_eq!(state["runtime"], "agent", "{state}");
        assert_eq!(state["cgroup"], container.cgroup.path(), "{state}");
        assert_eq!(state["running"], true, "{state}");
        assert_eq!(state["pid"], container.pid, "{state}");
        assert_eq!(state["oom_kills"], kills, "{state}");
        assert_eq!(state["memory_limit_bytes"], LIMIT, "{state}");
        assert_eq!(state["memory_effective_limit_bytes"], LIMIT, "{state}");
        assert_eq!(
            state["namespaces"]["net"],
            container.inode("net"),
            "{state}"
        );
        let percent = state["cpu_percent"].as_f64().expect("a share");
        assert!(percent < 130.0, "one process uses one CPU: {state}");
        let usage = state["memory_usage_bytes"].as_u64().expect("a size");
        assert!((1..LIMIT).contains(&usage), "{state}");
    }
    let still = |state: &Value| {
        let mut state = state.as_object().expect("an object").clone();
        IN_MOTION.iter().for_each(|name| drop(state.remove(*name)));
        state
    };
    assert_eq!(still(&served), still(&alone));
    let second = |state: &Value| state["started"].as_str().map(|time| time[..19].to_owned());
    assert!(second(&served).is_some(), "{served}");
    assert_eq!(second(&served), second(&alone));

    drop(busy);
    // What the server counted stays when the cgroup is gone; the files do not tell of it.
    drop(below);
    for (socket, kills) in [(&*socket, kills), (nobody, 0)] {
        wait_for("kills in what is gone", PATIENCE, || {
            let state = state(socket, &[], name)?;
            (state["processes"] == 1 && state["oom_kills"] == kills).then_some(())
        });
    }

    for table in [ps(&socket, &[]), ps(nobody, &[])] {
        assert!(
            table.lines().all(|line| line.chars().count() <= 80),
            "{table}"
        );
        let mut lines = table.lines();
        let header: Vec<&str> = lines.next().expect("a header").split_whitespace().collect();
        let titles = "NAME RUNTIME PID STATE MEMORY / LIMIT CPU PROCESSES OOM KILLS";
        assert_eq!(header.join(" "), titles);
        let pid = container.pid.to_string();
        let line = lines.find(|line| line.split_whitespace().any(|word| word == pid));
        let line = line.unwrap_or_else(|| panic!("{pid}: {table}"));
        assert!(line.contains(" running "), "{line}");
        assert!(line.contains(" / 64.0M "), "{line}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_tighter_limit_above_is_told_as_in_the_metrics() {
    let (above, cgroup) = Cgroup::below_another("tight");
    set_limit(&above, LIMIT);
    set_limit(&cgroup, 2 * LIMIT);
    let serve = Serve::start(&["--docker-socket", "off"]);
    let container = Container::start(cgroup, "mnt");
    let id = container.cgroup.path();
    let exported = wait_for("it is exported", PATIENCE, || {
        let metrics = serve.metrics();
        let value = |name| metrics.find(name, &[("id", &id)]);
        let own = value("container_spec_memory_limit_bytes")?;
        Some([own, value("container_effective_memory_limit_bytes")?])
    });
    assert_eq!(exported, [(2 * LIMIT) as f64, LIMIT as f64]);
    for socket in [&*serve.socket(), Path::new("off")] {
        let state = state(socket, &[], container.cgroup.name()).expect("it runs");
        assert_eq!(state["memory_limit_bytes"], 2 * LIMIT, "{state}");
        assert_eq!(state["memory_effective_limit_bytes"], LIMIT, "{state}");
    }
}

#[test]
#[ignore = "needs root"]
fn what_is_gone_is_shown_to_who_asks() {
    let serve = Serve::start(&["--docker-socket", "off"]);
    let first = First {
        script: "read",
        ..First::default()
    };
    let cgroup = Cgroup::new("ends");
    let name = cgroup.name().to_owned();
    let mut container = Container::run(cgroup, first);
    container.tell("end");
    container.wait_for_first();
    let socket = serve.socket();
    let stopped = wait_for("it stops", PATIENCE, || {
        let state = state(&socket, &[], &name).expect("its cgroup is there");
        (state["running"] == false).then_some(state)
    });
    assert_eq!(
        (&stopped["pid"], &stopped["processes"], &stopped["removed"]),
        (&Value::Null, &json!(0), &Value::Null)
    );
    drop(container);
    wait_for("it is gone", PATIENCE, || {
        state(&socket, &[], &name).is_none().then_some(())
    });
    let removed = state(&socket, &["--all"], &name).expect("it is remembered");
    assert!(removed["removed"].is_string(), "{removed}");
    assert!(ps(&socket, &["--all"]).contains(" removed "));
}

/// A container of `agent run` is kept when it ends, until somebody removes it.
#[test]
#[ignore = "needs root"]
fn each_state_has_its_word() {
    let serve = Serve::start(&["--docker-socket", "off"]);
    let socket = serve.socket();
    let run = run::Container::new("states");
    run.start(&[], &["sleep", "1000"]);
    let wait_for_word = |word: &str| {
        wait_for(word, PATIENCE, || {
            let state = state(&socket, &["--all"], &run.name)?;
            (state["state"] == word).then_some(())
        });
        let table = ps(&socket, &["--all"]);
        let line = table.lines().find(|it| it.starts_with(&run.name));
        assert!(line.is_some_and(|it| it.contains(word)), "{table}");
    };
    wait_for_word("running");
    let (file, frozen, thawed) = if Cgroup::is_v1("freezer") {
        ("freezer.state", "FROZEN", "THAWED")
    } else {
        ("cgroup.freeze", "1", "0")
    };
    let path = format!("/agent/{}", run.name);
    let file = directory("freezer", &path).join(file);
    fs::write(&file, frozen).expect("it can be frozen");
    wait_for_word("paused");
    fs::write(&file, thawed).expect("it can be thawed");
    wait_for_word("running");
    let agent = |arguments: &[&str]| {
        let output = agent(arguments).output().expect("agent can be run");
        assert!(output.status.success(), "{output:?}");
    };
    agent(&["stop", "-t", "0", &run.name]);
    wait_for_word("exited");
    agent(&["rm", &run.name]);
    wait_for_word("removed");
    serve.stop();
}

/// Its cgroup was gone before anybody looked; its record is there.
#[test]
#[ignore = "needs root"]
fn one_that_ended_before_the_server_started_is_listed() {
    let kept = run::Container::new("kept");
    kept.start(&[], &["true"]);
    wait_for("it has ended", PATIENCE, || {
        let wait = agent(["wait", &kept.name]).output().expect("agent wait");
        wait.status.success().then_some(())
    });
    let serve = Serve::start(&["--docker-socket", "off"]);
    for socket in [&*serve.socket(), Path::new("off")] {
        assert_eq!(state(socket, &[], &kept.name), None);
        for all in ["--all", "-a"] {
            let found = state(socket, &[all], &kept.name).expect("it is kept");
            assert_eq!(found["state"], "exited", "{found}");
            assert_eq!(found["runtime"], "agent", "{found}");
            assert_eq!(found["pid"], Value::Null, "{found}");
        }
        let table = ps(socket, &["-a"]);
        let line = table.lines().find(|it| it.starts_with(&kept.name));
        assert!(line.is_some_and(|it| it.contains(" exited ")), "{table}");
    }
    let removed = agent(["rm", &kept.name]).output().expect("agent rm");
    assert!(removed.status.success(), "{removed:?}");
    for socket in [&*serve.socket(), Path::new("off")] {
        assert_eq!(state(socket, &["-a"], &kept.name), None);
    }
    serve.stop();
}

/// A server of before there were states.
#[test]
#[ignore = "needs root"]
fn a_server_that_says_no_state_is_understood() {
    let cgroup = Cgroup::new("older");
    let name = cgroup.name().to_owned();
    let _container = Container::run(cgroup, First::default());
    let serve = Serve::start(&["--docker-socket", "off"]);
    let mut all: Vec<Value> =
        serde_json::from_str(&serve.get("/v1/containers").body).expect("a list");
    all.retain(|it| it["name"] == *name);
    let [own] = &mut all[..] else {
        panic!("one container");
    };
    own.as_object_mut().expect("an object").remove("state");
    let body = serde_json::to_string(&all).expect("JSON");
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("older.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).expect("a request");
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            // Whoever asked may be gone.
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    let found = state(&socket, &[], &name).expect("it is told of");
    assert_eq!(found["state"], "unknown", "{found}");
    let table = ps(&socket, &[]);
    let line = table.lines().find(|it| it.starts_with(&name));
    assert!(line.is_some_and(|it| it.contains(" unknown ")), "{table}");
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn an_engine_that_does_not_answer_is_said() {
    let place = tempfile::tempdir().expect("a directory");
    let socket = place.path().join("docker.sock");
    // The kernel takes the connections.
    let _listener = UnixListener::bind(&socket).expect("a socket");
    let calls: [&[&str]; 3] = [
        &["ps"],
        &["inspect", "no-such-container"],
        &["verify", "--container", "no-such-container"],
    ];
    std::thread::scope(|scope| {
        for call in calls {
            let socket = socket.to_str().expect("UTF-8");
            let words = [call, &["--socket", "off", "--docker-socket", socket]].concat();
            scope.spawn(move || {
                let output = agent(words).output().expect("agent can be run");
                let said = String::from_utf8_lossy(&output.stderr);
                let note = format!("note: docker on {socket}: it did not answer within");
                assert_eq!(said.matches(&note).count(), 1, "{call:?}: {said}");
            });
        }
    });
}

#[test]
#[ignore = "needs root"]
fn a_reader_that_goes_is_no_error() {
    let mut ps = agent(["ps", "--docker-socket", "off", "--socket", "off"]);
    let mut ps = ps.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let ps = ps.as_mut().expect("agent ps can be run");
    drop(ps.stdout.take());
    let status = tests::process::wait_for_end(ps, "agent ps ends");
    assert!(status.success(), "{status}");
}

#[test]
#[ignore = "needs root"]
fn colours_are_for_terminals() {
    let serve = Serve::start(&["--docker-socket", "off"]);
    assert!(!ps(&serve.socket(), &[]).contains('\x1b'));
    let line = format!(
        "{} ps --docker-socket off --socket {}",
        binary().display(),
        serve.socket().display()
    );
    for (term, no_color, coloured) in [
        ("xterm", "", true),
        ("xterm", "1", false),
        ("dumb", "", false),
    ] {
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        let script = script.env("TERM", term).env("NO_COLOR", no_color);
        let output = script.stdin(Stdio::null()).output();
        let output = output.expect("script can be run").stdout;
        let text = String::from_utf8_lossy(&output);
        assert!(text.contains("NAME"), "{text:?}");
        assert_eq!(text.contains("\x1b[2mNAME"), coloured, "{text:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn the_labels_of_agent_run_are_there_while_it_runs_and_afterwards() {
    let serve = Serve::start(&["--docker-socket", "off", "--label", "team*"]);
    let container = run::Container::new("labelled");
    let flags = ["--label", "team=blue", "-l", "other=x"];
    container.start(&flags, &["sleep", "1000"]);
    let chosen = |socket: &Path| {
        let name = format!("name={}", container.name);
        let format = "{{.State}} {{.Label \"team\"}}";
        let flags = [
            "-a",
            "-f",
            &name,
            "-f",
            "label=team=blue",
            "--format",
            format,
        ];
        ps(socket, &flags)
    };
    let sockets = [&*serve.socket(), Path::new("off")];
    for socket in sockets {
        assert_eq!(chosen(socket), "running blue\n");
    }
    let labels = [("name", &*container.name), ("container_label_team", "blue")];
    assert_eq!(serve.metrics().count("container_threads", &labels), 1);
    assert!(!serve.metrics().text().contains("container_label_other"));
    run::text(&mut container.agent("stop", &["-s", "KILL"], &[]));
    for socket in sockets {
        assert_eq!(chosen(socket), "exited blue\n");
    }
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn containers_are_chosen_formatted_and_sorted() {
    let serve = Serve::start(&["--docker-socket", "off"]);
    let socket = serve.socket();
    let [one, two, ended] = ["one", "two", "ended"].map(run::Container::new);
    one.start(&[], &["sleep", "1000"]);
    two.start(&[], &["sleep", "1000"]);
    ended.start(&[], &["true"]);
    run::text(&mut ended.agent("wait", &[], &[]));
    let name = |container: &run::Container| format!("name={}", container.name);
    let ids = ps(&socket, &["-q", "--filter", &name(&one), "-f", &name(&two)]);
    let mut ids: Vec<&str> = ids.lines().collect();
    ids.sort_unstable();
    assert_eq!(ids, [&*one.name, &*two.name]);
    // An id is what other commands take.
    run::text(agent(["kill", "-s", "CONT"]).args(&ids));
    let format = "{{.Names}} {{.State}} {{.Runtime}}";
    let line = ps(&socket, &["--filter", &name(&one), "--format", format]);
    assert_eq!(line, format!("{} running agent\n", one.name));
    let table = ps(
        &socket,
        &["-f", &name(&one), "--format", r"table {{.Names}}\t{{.Pid}}"],
    );
    let words: Vec<&str> = table.split_whitespace().collect();
    assert_eq!(words, ["NAME", "PID", &one.name, &one.pid().to_string()]);
    let json = ps(&socket, &["-f", &name(&one), "--format", "json"]);
    let json: Value = serde_json::from_str(&json).expect("an object on one line");
    assert_eq!(json["name"], one.name);
    // A state that containers have that do not run shows them.
    let flags = ["-q", "-f", "status=exited", "-f", &name(&ended)];
    let exited = ps(&socket, &flags);
    assert_eq!(exited, format!("{}\n", ended.name));
    for (flag, value, wanted) in [
        ("--filter", "colour=red", "label"),
        ("--filter", "status=asleep", "running"),
        ("--format", "{{.Colour}}", "Names"),
        ("--format", "{{.Names", "no end"),
        ("--sort", "colour", "Memory"),
    ] {
        let refused = run::output(&mut agent(["ps", flag, value]));
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(64), "{said}");
        assert!(said.contains(flag) && said.contains(wanted), "{said}");
    }
    // On a narrow screen the names stay whole.
    let narrow = agent(["ps", "--docker-socket", "off", "--socket"])
        .arg(&socket)
        .env("COLUMNS", "40")
        .output()
        .expect("agent ps can be run");
    let narrow = String::from_utf8_lossy(&narrow.stdout);
    assert!(
        narrow.lines().all(|it| it.chars().count() <= 40),
        "{narrow}"
    );
    let line = narrow.lines().find(|it| it.starts_with(&one.name));
    assert!(line.is_some_and(|it| it.contains(" running")), "{narrow}");
    let versions = agent(["version", "--output", "json", "--socket"])
        .arg(&socket)
        .output();
    let versions = versions.expect("agent version can be run").stdout;
    let versions: Value = serde_json::from_slice(&versions).expect("an object");
    assert_eq!(versions["agent"], versions["server"], "{versions}");
    serve.stop();
}
