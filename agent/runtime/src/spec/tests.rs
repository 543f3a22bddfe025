//! Tests the compilation of flags to orders.

use agent_network::Network;
use clap::Parser as _;
use oci_spec::runtime::LinuxNamespaceType;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

mod habits;

#[derive(clap::Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Line {
    #[command(flatten)]
    flags: Flags,
}

fn this_process() -> Pinned {
    Pinned::open(std::process::id().cast_signed()).unwrap()
}

fn found() -> SpecFacts {
    SpecFacts {
        name: "web".to_owned(),
        here: Here::at("/home/me"),
        variables: HashMap::from([("LANG".to_owned(), "C".to_owned())]),
        containers: BTreeMap::from([("db".to_owned(), Ok(this_process()))]),
        devices: HashMap::from([("/dev/sda".to_owned(), (8, 0))]),
        device_nodes: habits::device_nodes(),
        env_files: Vec::new(),
        hard_limits: HashMap::from([("nofile", 4096)]),
        subordinate: Ok((
            vec!["0:100000:65536".parse().unwrap()],
            vec!["0:200000:65536".parse().unwrap()],
        )),
        capabilities: caps::all(),
        cpus: Some(4),
        rootless: false,
        bundle: None,
    }
}

fn flags(line: &str) -> Result<Flags, clap::Error> {
    Line::try_parse_from(line.split_whitespace()).map(|line| line.flags)
}

#[track_caller]
fn order(line: &str) -> Order {
    let mut order = compile(&flags(line).unwrap(), &found()).unwrap();
    complete::complete(&mut order, None, &user::Users::default()).unwrap();
    order
}

/// Returns the configuration that flags before `--rootfs / ls` are compiled to.
#[track_caller]
fn config(line: &str) -> Value {
    serde_json::from_str(&to_json(&order(&format!("{line} --rootfs / ls")).spec)).unwrap()
}

/// Returns why these flags before `--rootfs / ls` are refused.
#[track_caller]
fn refused(line: &str) -> String {
    let line = format!("{line} --rootfs / ls");
    let compiled = compile(&flags(&line).unwrap(), &found());
    agent_model::text::error_line(&compiled.expect_err(&line))
}

#[test]
fn the_default_container_is_dockers() {
    let config = config("");
    let names = |pointer: &str, name: &str| -> Vec<String> {
        let list = config.pointer(pointer).unwrap().as_array().unwrap();
        list.iter()
            .map(|it| it[name].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        names("/linux/namespaces", "type"),
        ["pid", "network", "ipc", "uts", "mount", "cgroup"]
    );
    assert_eq!(
        names("/mounts", "destination"),
        [
            "/proc",
            "/dev",
            "/dev/pts",
            "/sys",
            "/sys/fs/cgroup",
            "/dev/mqueue",
            "/dev/shm"
        ]
    );
    let process = &config["process"];
    let sets = &process["capabilities"];
    assert_eq!(sets["bounding"].as_array().unwrap().len(), 14);
    assert_eq!(sets["effective"], sets["bounding"]);
    assert_eq!(
        (&sets["inheritable"], &sets["ambient"]),
        (&json!([]), &json!([]))
    );
    assert_eq!(process["noNewPrivileges"], true);
    assert_eq!(process["cwd"], "/");
    assert_eq!(process["user"], json!({"uid": 0, "gid": 0}));
    assert_eq!(config["hostname"], "web");
    assert_eq!(config["linux"]["cgroupsPath"], "/agent/web");
    assert_eq!(
        config["linux"]["seccomp"]["defaultAction"],
        "SCMP_ACT_ERRNO"
    );
    assert_eq!(config["root"], json!({"path": "/", "readonly": false}));
    assert_eq!(
        config["linux"]["resources"]["devices"][0],
        json!({"allow": false, "type": "a", "access": "rwm"})
    );
}

#[test]
fn limits() {
    let of = |line: &str| config(line)["linux"]["resources"].clone();
    let mib = 1_u64 << 20;
    assert_eq!(
        of("-m 64m")["memory"],
        json!({"limit": 64 * mib, "swap": 128 * mib})
    );
    assert_eq!(
        of("-m 64m --memory-swap -1 --memory-reservation 32m")["memory"],
        json!({"limit": 64 * mib, "swap": -1, "reservation": 32 * mib})
    );
    assert_eq!(
        of("--cpus 1.5")["cpu"],
        json!({"quota": 150_000, "period": 100_000})
    );
    assert_eq!(
        of("--cpu-quota 5000 --cpu-period 20000 -c 512 --cpuset-cpus 0-1 --cpuset-mems 0")["cpu"],
        json!({"quota": 5000, "period": 20_000, "shares": 512, "cpus": "0-1", "mems": "0"})
    );
    assert_eq!(of("--pids-limit 7")["pids"], json!({"limit": 7}));
    assert_eq!(of("--pids-limit -1")["pids"], json!({"limit": -1}));
    assert_eq!(
        of("--memory-high 1g --cpu-weight 50")["unified"],
        json!({"memory.high": (1024 * mib).to_string(), "cpu.weight": "50"})
    );
    assert_eq!(
        of("--device-read-bps /dev/sda:1m --device-write-iops /dev/sda:10")["blockIO"],
        json!({
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": mib}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 10}],
        })
    );
    let implied = |line: &str| order(&format!("{line} --rootfs / ls")).swap_implied;
    assert!(implied("-m 64m"));
    assert!(!implied("-m 64m --memory-swap 128m") && !implied("--memory-reservation 8m"));
    assert_eq!(
        config("--cgroup-parent /batch")["linux"]["cgroupsPath"],
        "/batch/agent/web"
    );
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    for (line, said) in [
        ("-m 1m", "--memory 1048576: wanted: at least 6m"),
        ("--memory-swap 64m", "--memory-swap wants --memory"),
        (
            "-m 64m --memory-swap 32m",
            "--memory-swap 33554432: wanted: at least --memory",
        ),
        (
            "-m 64m --memory-reservation 65m",
            "--memory-reservation 68157440: wanted: at most --memory",
        ),
        ("--cpus 5", "--cpus 5: this host has 4"),
        (
            "--cpus 1 --cpu-quota 5000",
            "--cpus and --cpu-quota exclude each other",
        ),
        ("--cpu-quota 999", "--cpu-quota 999: at least 1000"),
        (
            "--cpu-shares 2 --cpu-weight 1",
            "--cpu-shares and --cpu-weight exclude each other",
        ),
        (
            "--device-read-bps /dev/tty:1m",
            "--device-read-bps /dev/tty: no block device",
        ),
        (
            "--device-read-bps /dev/sda:0",
            "--device-read-bps /dev/sda:0: wanted: a rate",
        ),
        ("--cgroup-parent ../x", "--cgroup-parent ../x: wanted"),
        (
            "--ulimit nofile=5000",
            "--ulimit nofile=5000: the hard limit of this command is 4096",
        ),
        (
            "--net container:web",
            "--net container:web: no container of that name is known here",
        ),
        ("--ip 10.0.0.2/24", "--ip wants --net veth"),
        ("--net veth --bridge a/b", "--bridge a/b: wanted"),
        ("--uts host -h x", "--hostname and --uts exclude each other"),
        ("--userns private", "--userns private: wants --uid-map"),
        (
            "--userns auto --uid-map 0:1:1",
            "--userns auto and --uid-map or --gid-map exclude each other",
        ),
        (
            "--uid-map 0:1000:10 --uid-map 5:3000:10",
            "--uid-map 5:3000:10: it overlaps",
        ),
        (
            "--uid-map 0:1000:10 --uid-map 10:1009:10",
            "--uid-map 10:1009:10: it overlaps",
        ),
        (
            "--sysctl kernel.panic=1",
            "--sysctl kernel.panic: it belongs to the whole host",
        ),
        (
            "--sysctl net.ipv4.ip_forward=1 --net host",
            "--sysctl net.ipv4.ip_forward: it would be changed for others",
        ),
        (
            "-v /a:/x --tmpfs /x",
            "--volume, --mount or --tmpfs /x: two mounts at one path",
        ),
        ("-e =x", "--env =x: wanted"),
    ] {
        let found = refused(line);
        assert!(found.starts_with(said), "{line}: {found}");
    }
    for (line, said) in [
        ("-w rel", "--workdir rel: wanted: an absolute path"),
        (
            "-u nobody",
            "--user nobody: the container's /etc/passwd has no \"nobody\"",
        ),
        (
            "--group-add x",
            "--group-add x: the container's /etc/group has no",
        ),
    ] {
        let line = format!("{line} --rootfs / ls");
        let mut order = compile(&flags(&line).unwrap(), &found()).unwrap();
        let error = complete::complete(&mut order, None, &user::Users::default()).unwrap_err();
        assert!(error.to_string().starts_with(said), "{line}: {error}");
    }
    for line in [
        "--memory x",
        "--net private",
        "--pid container:",
        "--pid ns:relative",
        "-v data:/x",
        "-v /a:relative",
        "-v /a:/",
        "-v /a:/x/../y",
        "-v /a:/x:zz",
        "--tmpfs x",
        "--ulimit nofile",
        "--ulimit nofile=2:1",
        "--ulimit nothing=1",
        "--cap-add CAP_NONE",
        "--security-opt x",
        "--oom-score-adj 1001",
        "--cpu-period 999",
        "--cpu-shares 1",
        "--cpu-weight 10001",
        "--time-offset 1x",
        "--uid-map 0:0",
        "--rootfs /x --bin ls",
        "--time host --time-offset 1",
        "--ip 10.0.0.2",
        "--ip 10.0.0.2/33",
        "--pids-limit 0",
        "--bundle /x -m 1g",
        "--rootfs / --nonsense ls",
        "--rootfs / -x ls",
    ] {
        assert!(flags(line).is_err(), "{line}");
    }
}

#[test]
fn namespaces_are_shared_as_asked() {
    let found = |line: &str| -> Vec<(LinuxNamespaceType, Option<String>)> {
        let order = order(&format!("{line} --rootfs / ls"));
        let list = order
            .spec
            .linux()
            .as_ref()
            .unwrap()
            .namespaces()
            .clone()
            .unwrap();
        let path = |it: &oci_spec::runtime::LinuxNamespace| {
            it.path().as_ref().map(|path| path.display().to_string())
        };
        list.iter().map(|it| (it.typ(), path(it))).collect()
    };
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Time, User, Uts};
    assert_eq!(
        found("--pid host --net host --ipc host --uts host --cgroupns host"),
        [(Mount, None)]
    );
    let path = |file: &str| Some(format!("/proc/{}/ns/{file}", std::process::id()));
    assert_eq!(
        found(
            "--pid container:db --net ns:/run/netns/a --ipc container:db --uts container:db --cgroupns container:db --time container:db --userns container:db"
        ),
        [
            (User, path("user")),
            (Pid, path("pid")),
            (Network, Some("/run/netns/a".to_owned())),
            (Ipc, path("ipc")),
            (Uts, path("uts")),
            (Mount, None),
            (Cgroup, path("cgroup")),
            (Time, path("time")),
        ]
    );
    assert!(found("--userns auto").contains(&(User, None)));
    assert!(found("--time-offset 1d").contains(&(Time, None)));
    let network = |line: &str| order(&format!("{line} --rootfs / ls")).network;
    assert_eq!(network(""), agent_network::Network::None);
    assert_eq!(network("--net host"), agent_network::Network::Joined);
    assert!(matches!(
        network("--net veth --ip 10.0.3.2/24 --bridge b0"),
        agent_network::Network::Veth {
            address: Some((_, 24)),
            bridge: Some(_)
        }
    ));
}

#[test]
fn users_have_the_ids_that_were_asked_for() {
    let linux = config("--userns auto")["linux"].clone();
    let map = |first: u32| json!([{"containerID": 0, "hostID": first, "size": 65536}]);
    assert_eq!(
        (&linux["uidMappings"], &linux["gidMappings"]),
        (&map(100_000), &map(200_000))
    );
    let linux = config("--uid-map 0:1000:1")["linux"].clone();
    assert_eq!(linux["uidMappings"], linux["gidMappings"]);
}

#[test]
fn capabilities_are_added_and_dropped_as_docker_does() {
    let bounding = |line: &str| -> Vec<String> {
        let set = config(line)["process"]["capabilities"]["bounding"].clone();
        serde_json::from_value(set).unwrap()
    };
    assert_eq!(bounding("--cap-drop ALL"), [""; 0]);
    assert_eq!(
        bounding("--cap-drop all --cap-add net_admin"),
        ["CAP_NET_ADMIN"]
    );
    assert_eq!(bounding("--cap-drop CAP_MKNOD").len(), 13);
    assert_eq!(bounding("--cap-add ALL").len(), caps::all().len());
    assert_eq!(
        bounding("--cap-add ALL --cap-drop SYS_ADMIN").len(),
        caps::all().len() - 1
    );
    let mut poor = found();
    poor.capabilities.remove(&Capability::CAP_SYS_RESOURCE);
    let asked = flags("--cap-add SYS_RESOURCE --rootfs / ls").unwrap();
    let error = compile(&asked, &poor).unwrap_err().to_string();
    assert!(error.starts_with("--cap-add CAP_SYS_RESOURCE: this command does not have it"));
    let other = config("-u 1000:1000")["process"]["capabilities"].clone();
    assert_eq!(
        (&other["effective"], &other["permitted"]),
        (&json!([]), &json!([]))
    );
    assert_eq!(other["bounding"].as_array().unwrap().len(), 14);
}

#[test]
fn mounts_stand_in_for_the_usual() {
    let mounts =
        config("-v ./data:/data:ro,rslave --tmpfs /dev/shm:exec,size=1m --shm-size 1m")["mounts"]
            .clone();
    let at = |place: &str| -> Vec<&Value> {
        let list = mounts.as_array().unwrap().iter();
        list.filter(|it| it["destination"] == place).collect()
    };
    assert_eq!(
        at("/data"),
        [
            &json!({"destination": "/data", "type": "bind", "source": "/home/me/./data", "options": ["rbind", "ro", "rslave"]})
        ]
    );
    assert_eq!(
        at("/dev/shm"),
        [
            &json!({"destination": "/dev/shm", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "exec", "size=1m"]})
        ]
    );
}

#[test]
fn the_rest_of_the_flags() {
    let order = order(
        "--rm -d -i --init --chroot --bin sh,./tool -e LANG -e NONE -e A=1 -t tool -x --name",
    );
    assert!(order.remove && order.detach && order.interactive && order.init);
    assert_eq!(order.change_root, ChangeRoot::Chroot);
    assert_eq!(
        order.root,
        RootSource::Binaries(vec!["sh".into(), "/home/me/./tool".into()])
    );
    assert_eq!(order.root.name(), "sh,tool");
    let process = order.spec.process().as_ref().unwrap();
    assert_eq!(process.args().as_ref().unwrap(), &["tool", "-x", "--name"]);
    let environment = process.env().as_ref().unwrap();
    assert_eq!(
        environment[1..],
        ["HOSTNAME=web", "TERM=xterm", "HOME=/", "LANG=C", "A=1"]
    );
    let config = config(
        "--read-only --sysctl net/core/somaxconn=9 --oom-score-adj -5 --ulimit nofile=10:20 --security-opt seccomp=unconfined --security-opt no-new-privileges=false --security-opt systempaths=unconfined --time-offset boottime=-1.5",
    );
    assert_eq!(config["root"]["readonly"], true);
    assert_eq!(
        config["linux"]["sysctl"],
        json!({"net.core.somaxconn": "9"})
    );
    assert_eq!(
        config["linux"]["timeOffsets"],
        json!({"boottime": {"secs": -2, "nanosecs": 500_000_000}})
    );
    assert_eq!(config["linux"]["maskedPaths"], json!([]));
    assert!(config["linux"].get("seccomp").is_none());
    let process = &config["process"];
    assert_eq!(
        process["rlimits"],
        json!([{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20}])
    );
    assert_eq!(
        (&process["oomScoreAdj"], &process["noNewPrivileges"]),
        (&json!(-5), &json!(false))
    );
    assert_eq!(
        Network::Joined,
        compile(
            &flags("--net container:db --rootfs host x").unwrap(),
            &found()
        )
        .unwrap()
        .network
    );
}

proptest! {
    #[test]
    fn no_text_makes_a_flag_panic(value in "\\PC{0,24}", flag in prop::sample::select(&[
        "-m", "--memory-swap", "--cpus", "--pids-limit", "--device-read-bps", "--ulimit", "-v", "--tmpfs", "--net", "--pid",
        "--userns", "--uid-map", "--time-offset", "--ip", "--bridge", "--cap-add", "--security-opt", "--sysctl", "-e", "-h",
        "-u", "-w", "--cgroup-parent", "--cpuset-cpus", "--device", "--mount", "--label",
    ][..])) {
        let line = [flag, &value, "--rootfs", "/", "ls"];
        if let Ok(line) = Line::try_parse_from(line)
            && let Ok(mut order) = compile(&line.flags, &found())
        {
            let _ = complete::complete(&mut order, None, &user::Users::default());
            to_json(&order.spec);
        }
    }
}

#[test]
fn an_error_about_a_value_of_several_lines_says_the_reason() {
    let mut flags = flags("--rootfs / ls").unwrap();
    flags.process.user = Some("a\n\x1b[2Jb".to_owned());
    let mut order = compile(&flags, &found()).unwrap();
    let error = complete::complete(&mut order, None, &user::Users::default()).unwrap_err();
    assert_eq!(
        agent_model::text::error_line(&error),
        r#"--user a\x0a\x1b[2Jb: the container's /etc/passwd has no "a\n\u{1b}[2Jb""#
    );
}
