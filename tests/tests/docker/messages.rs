//! Containers of docker's, where those of `agent run` are wanted: who does it, and how.

use std::process::Stdio;

use serde_json::Value;
use tests::agent::agent;
use tests::docker::{Docker, namespace};

#[test]
#[ignore = "needs root"]
fn what_is_dockers_is_said_to_be_and_what_a_server_knows_is_used() {
    let docker = Docker::start();
    // It hears an engine that no other command hears by itself.
    let serve = docker.serve();
    let name = format!("messages-{}", std::process::id());
    let container = docker.run(&["--name", &name], &["sleep", "1000"]);
    let call = |words: &[&str]| {
        let mut call = agent(words);
        call.env("AGENT_SOCKET", serve.socket())
            .stdin(Stdio::null());
        let output = call.output().expect("agent can be run");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().expect("an exit status"), printed, said)
    };
    for (words, status, does) in [
        (
            &["exec", &name, "ps", "a b"][..],
            125,
            format!("docker exec {name} ps 'a b'"),
        ),
        (&["stop", &name], 1, format!("docker stop {name}")),
        (&["logs", &name], 1, format!("docker logs {name}")),
        (&["wait", &name], 1, format!("docker wait {name}")),
        (&["rm", "-f", &name], 1, format!("docker rm {name}")),
        // By its id too, which no container of agent run can have.
        (&["stop", container.id()], 1, format!("docker stop {name}")),
    ] {
        let (found, printed, said) = call(words);
        assert_eq!((found, &*printed), (status, ""), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        let whose = format!("{name:?} is a container of docker");
        assert!(
            said.contains(&whose) && said.trim_end().ends_with(&does),
            "{said}"
        );
    }
    let (status, printed, said) = call(&["inspect", &name, "--output", "json"]);
    assert_eq!(status, 0, "{said}");
    let report: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(report["pid"], container.pid());
    let (status, printed, said) = call(&["ns", "--container", &name]);
    assert!(status == 0 && printed.contains(&name), "{said}");
    let join = format!("container:{name}");
    for (flag, kind) in [("--pid", "pid"), ("--net", "net")] {
        let link = format!("readlink /proc/self/ns/{kind}");
        let words = ["run", "--rootfs", "host", flag, &join, "sh", "-c", &link];
        let (status, printed, said) = call(&words);
        assert_eq!(status, 0, "{said}");
        let wanted = format!("{kind}:[{}]", namespace(&container.pid().to_string(), kind));
        assert_eq!(printed.trim_end(), wanted);
    }
}
