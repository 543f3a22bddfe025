//! Tests of the states of containers and units.

use std::time::Instant;

use agent_host::fixture::tree;

use super::*;

const MOUNTINFO: &str = "\
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct
";
const ID: &str = "9adc5277a29e0d474e8b1b1f44dd6af50352684d11bcb255637520a05f975b59";

fn key(hierarchy: u32, id: u64) -> CgroupKey {
    CgroupKey {
        id,
        hierarchy,
        zero: 0,
    }
}

fn files(name: &str, limit: &str) -> [(String, String); 4] {
    let memory = format!("sys/fs/cgroup/memory/{name}");
    [
        ("memory.usage_in_bytes", "5000"),
        ("memory.limit_in_bytes", limit),
        ("memory.stat", "total_inactive_file 2000\n"),
        ("memory.oom_control", "oom_kill 2\n"),
    ]
    .map(|(file, text)| (format!("{memory}/{file}"), text.to_owned()))
}

#[test]
fn what_the_files_say() {
    let own = format!("docker/{ID}");
    let mut all = vec![
        ("proc/self/mountinfo".to_owned(), MOUNTINFO.to_owned()),
        (
            "proc/self/cgroup".to_owned(),
            "4:memory:/\n2:cpu,cpuacct:/\n".to_owned(),
        ),
        (
            format!("sys/fs/cgroup/cpu/{own}/cpuacct.usage"),
            "1500000000\n".to_owned(),
        ),
    ];
    all.extend(files("docker", "30000"));
    all.extend(files(&own, "40000"));
    all.extend(files(&format!("{own}/below"), "9223372036854771712"));
    let files: Vec<_> = all.iter().map(|(path, text)| (&**path, text)).collect();
    let root = tree(&files);
    let hierarchies = Hierarchies::discover(root.path()).unwrap();
    let mut registry = Registry::new([1; agent_ebpf::NAMESPACES]);
    for (hierarchy, id, path) in [
        (4, 20, format!("/{own}")),
        (2, 30, format!("/{own}")),
        (4, 21, format!("/{own}/below")),
    ] {
        registry.add(key(hierarchy, id), &path, SystemTime::UNIX_EPOCH);
    }
    let found = find(
        &registry,
        &hierarchies,
        &[],
        None,
        ContainerQuery::default(),
    );
    let states: Vec<_> = found.into_iter().map(|it| it.read(&hierarchies)).collect();
    let [state] = &states[..] else {
        panic!("one container");
    };
    assert_eq!(
        (state.memory_usage_bytes, state.memory_working_set_bytes),
        (Some(5000), Some(3000))
    );
    assert_eq!(
        (state.memory_limit_bytes, state.memory_effective_limit_bytes),
        (Some(40_000), Some(30_000))
    );
    assert_eq!((state.oom_kills, state.processes), (Some(4), 0));
    assert_eq!(state.cpu_usage_seconds, Some(1.5));

    // The counts include the kills in a removed cgroup below the container.
    let kills = |oom_kills| Counts {
        oom_kills,
        ..Counts::default()
    };
    registry.remove(key(4, 21), &kills(5), Instant::now());
    let counts = HashMap::from([(key(4, 20), kills(3)), (key(2, 30), kills(0))]);
    let found = find(
        &registry,
        &hierarchies,
        &[],
        Some(&counts),
        ContainerQuery::default(),
    );
    let state_now = found.into_iter().next().unwrap().read(&hierarchies);
    assert_eq!(state_now.oom_kills, Some(8));

    // An older server does not send the state, and a newer one may send a state that is unknown here.
    let mut told = serde_json::to_value(state).unwrap();
    let read = |told: &serde_json::Value| {
        let read: ContainerState = serde_json::from_value(told.clone()).unwrap();
        read.state
    };
    assert_eq!(read(&told), state.state);
    told["state"] = "hibernating".into();
    assert_eq!(read(&told), ContainerCondition::Unknown);
    told.as_object_mut().unwrap().remove("state");
    assert_eq!(read(&told), ContainerCondition::Unknown);

    let mut later = [state.clone()];
    later[0].cpu_usage_seconds = Some(1.6);
    set_cpu_percent(
        &mut later,
        std::slice::from_ref(state),
        Duration::from_millis(200),
    );
    let percent = later[0].cpu_percent.unwrap();
    assert!((percent - 50.0).abs() < 1e-9, "{percent}");
    let mut earlier = [state.clone()];
    set_cpu_percent(&mut earlier, &later, Duration::from_millis(200));
    assert_eq!(earlier[0].cpu_percent, None);
}

/// A task in the cgroup with this id of the memory hierarchy.
fn task(pid: u32, start_time: u64, cgroup: u64) -> Task {
    let mut task = Task {
        pid,
        tid: pid,
        start_time,
        namespaces: [1; agent_ebpf::NAMESPACES],
        ..Task::EMPTY
    };
    task.cgroups.ids[0] = cgroup;
    task.cgroups.hierarchies[0] = 4;
    task.cgroups.levels[0] = 2;
    task
}

#[test]
fn units_and_sandboxes_are_listed_on_request() {
    let mut all = vec![
        ("proc/self/mountinfo".to_owned(), MOUNTINFO.to_owned()),
        (
            "proc/self/cgroup".to_owned(),
            "4:memory:/\n2:cpu,cpuacct:/\n".to_owned(),
        ),
    ];
    all.extend(files("system.slice", "9223372036854771712"));
    all.extend(files("system.slice/web.service", "40000"));
    all.extend(files(
        "system.slice/web.service/below",
        "9223372036854771712",
    ));
    let files: Vec<_> = all.iter().map(|(path, text)| (&**path, text)).collect();
    let root = tree(&files);
    let hierarchies = Hierarchies::discover(root.path()).unwrap();
    let mut registry = Registry::new([1; agent_ebpf::NAMESPACES]);
    let paths = [
        (20, "/system.slice"),
        (21, "/system.slice/web.service"),
        (22, "/system.slice/web.service/below"),
        (23, "/system.slice/idle.service"),
        (24, "/lab"),
    ];
    for (id, path) in paths {
        registry.add(key(4, id), path, SystemTime::UNIX_EPOCH);
    }
    let mut tasks = [
        task(50, 9, 21),
        task(51, 8, 22),
        task(52, 7, 24),
        task(53, 6, 24),
        task(54, 5, 24),
    ];
    for sandboxed in &mut tasks[2..4] {
        sandboxed.outer_pid_namespace = 77;
        sandboxed.namespaces[agent_ebpf::Namespace::Pid as usize] = 77;
    }
    let list = |wanted| {
        let found = find(&registry, &hierarchies, &tasks, None, wanted).into_iter();
        found.map(|it| it.read(&hierarchies)).collect::<Vec<_>>()
    };
    assert_eq!(list(ContainerQuery::default()), []);
    let units = list(ContainerQuery {
        units: true,
        ..ContainerQuery::default()
    });
    let said: Vec<_> = units
        .iter()
        .map(|it| (&*it.container.name, it.state, it.pid, it.processes))
        .collect();
    let (running, stopped) = (ContainerCondition::Running, ContainerCondition::Stopped);
    let wanted = [
        ("system.slice", running, Some(51), 2),
        ("idle.service", stopped, None, 0),
        ("web.service", running, Some(51), 2),
    ];
    assert_eq!(said, wanted);
    let [slice, _, service] = &units[..] else {
        panic!("three units");
    };
    assert_eq!(service.memory_limit_bytes, Some(40_000));
    assert_eq!(service.memory_working_set_bytes, Some(3000));
    // Two kills in each cgroup that has files, for itself and all units around it.
    assert_eq!((service.oom_kills, slice.oom_kills), (Some(4), Some(6)));

    let sandboxes = list(ContainerQuery {
        sandboxes: true,
        ..ContainerQuery::default()
    });
    let [sandbox] = &sandboxes[..] else {
        panic!("one sandbox: {sandboxes:?}");
    };
    assert_eq!(sandbox.container.name, "sandbox-77");
    assert_eq!((sandbox.pid, sandbox.processes), (Some(53), 2));
    assert_eq!(sandbox.namespaces.map(|it| it.pid), Some(77));
    assert_eq!(
        (sandbox.memory_usage_bytes, sandbox.oom_kills),
        (None, None)
    );
}

#[test]
fn a_query_has_what_is_wanted_alone() {
    let query = ContainerQuery {
        removed: true,
        sandboxes: true,
        ..ContainerQuery::default()
    };
    assert_eq!(query.query(), "removed=true&sandboxes=true");
    assert_eq!(ContainerQuery::default().query(), "");
}
