//! Escapes: the engine's runtime is among the host's namespaces in every container's cgroup, and is none.

use serde_json::Value;
use tests::docker::{Docker, IMAGE, namespace};
use tests::law::assert_law;
use tests::nscall;
use tests::slow::fewer;
use tests::wait::PATIENCE;

const TIMES: usize = 50;

/// The escapes of a container, by its id.
fn escapes<'a>(records: &'a [Value], id: &'a str) -> impl Iterator<Item = &'a Value> {
    let escapes = records.iter().filter(|it| it["kind"] == "escape");
    escapes.filter(move |it| it["container"]["id"] == id)
}

#[test]
#[ignore = "needs root"]
fn runs_and_execs_are_none() {
    let _alone = tests::alone();
    let docker = Docker::start();
    let serve = docker.serve();
    let mut watch = serve.watch(&["--kind", "escape,exec,container"]);
    let ordinary = docker.run(&[], &["sleep", "1000"]);
    let of_host = docker.run(&["--pid=host", "--net=host"], &["sleep", "1000"]);
    let net = format!("--net=container:{}", ordinary.id());
    let options = [
        "--pid=host",
        &net,
        "--ipc=host",
        "--cap-add=SYS_ADMIN",
        "--uts=host",
    ];
    let times = fewer(TIMES, 2 * options.len());
    for time in 0..times {
        let option = options[time % options.len()];
        docker.call(&["run", "--rm", option, IMAGE, "sh", "-c", "/bin/true"]);
        let container = if time % 2 == 0 { &ordinary } else { &of_host };
        container.exec(&["sh", "-c", "/bin/true"]);
    }
    let records = watch.until_now(PATIENCE);
    // A test of another program may let one escape.
    let escapes = records.iter().filter(|it| it["kind"] == "escape");
    let escapes = escapes.filter(|it| it["container"]["runtime"] == "docker");
    let escapes: Vec<_> = escapes.collect();
    assert!(escapes.is_empty(), "{escapes:#?}");
    // And they were looked at: their programs, and where they started and stopped.
    let execs = records.iter().filter(|it| it["argv"][0] == "/bin/true");
    let execs = execs.filter(|it| it["container"]["runtime"] == "docker");
    assert_eq!(execs.count(), 2 * times);
    assert_law(&serve);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn one_that_may_enter_the_host_and_does_is_one() {
    let _alone = tests::alone();
    let docker = Docker::start();
    let serve = docker.serve();
    let call = nscall::binary();
    let mount = format!("{}:/nscall", call.display());
    let host = std::process::id().to_string();
    // What the host's program is linked with is the host's too.
    let options = [
        "--cap-add=SYS_ADMIN",
        "--cap-add=SYS_PTRACE",
        "--security-opt=seccomp=unconfined",
        "--pid=host",
        "-v",
        &mount,
        "-v",
        "/usr:/usr",
        "-v",
        "/lib:/lib",
        "-v",
        "/lib64:/lib64",
    ];
    let container = docker.run(&options, &["sleep", "1000"]);
    let mut watch = serve.watch(&["--kind", "escape,exec"]);
    container.exec(&["/nscall", "setns-pid", &host, "mnt,uts"]);
    container.exec(&[
        "/nscall",
        "setns-pid32",
        &host,
        "mnt,uts",
        "/bin/sh",
        "-c",
        "/bin/true; /bin/true",
    ]);
    let records = watch.until_now(PATIENCE);
    let escapes: Vec<_> = escapes(&records, container.id()).collect();
    let said: Vec<_> = escapes.iter().map(|it| it["namespace"].as_str()).collect();
    assert_eq!(said, ["mnt", "uts", "mnt", "uts"].map(Some), "{escapes:#?}");
    for escape in &escapes {
        let name = escape["namespace"].as_str().expect("a name");
        assert_eq!(escape["inode"], namespace("self", name), "{escape}");
    }
    assert_eq!(escapes[0]["how"], "setns");
    let labels = [("type", "mnt"), ("id", &*container.cgroup())];
    assert_eq!(serve.metrics().count("container_escapes_total", &labels), 2);
    assert_law(&serve);
    serve.stop();
}
