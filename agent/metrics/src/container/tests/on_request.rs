//! The series of threads, of each CPU, of file systems and of connections.

use agent_host::connections::{Connections, UdpSockets};
use agent_host::filesystems::Filesystem;
use agent_host::open_files::OpenFiles;

use super::*;

fn with_tasks(tasks: Tasks) -> Cgroup {
    let mut cgroup = living("/a");
    if let Some(live) = &mut cgroup.live {
        live.tasks = Some(tasks);
    }
    cgroup
}

#[test]
fn threads_by_state_with_load_and_descriptors() {
    let tasks = Tasks {
        processes: 3,
        doing: [4, 3, 2, 1, 0],
        load: Some([1500, 20]),
        open: Some(OpenFiles {
            descriptors: 9,
            sockets: 2,
        }),
    };
    let mut cgroup = with_tasks(tasks);
    cgroup.on_request.descriptors = Some(Limit::Max);
    let text = written(&[cgroup, with_tasks(Tasks::default()), cgroup_without_tasks()]);
    let states = samples(&text, &catalogue::TASKS_STATE);
    let wanted = [
        "sleeping",
        "running",
        "stopped",
        "uninterruptible",
        "iowaiting",
    ];
    let wanted = wanted.iter().zip([4, 3, 2, 1, 0]);
    let wanted = wanted
        .map(|(state, count)| format!(r#"{{state="{state}",id="/a",image="",name=""}} {count}"#));
    assert_eq!(states[..5], wanted.collect::<Vec<_>>());
    assert_eq!(states.len(), 10);
    let own = r#"{id="/a",image="",name=""}"#;
    for (metric, value) in [
        (&catalogue::CPU_LOAD_AVERAGE, "1500"),
        (&catalogue::CPU_LOAD_D_AVERAGE, "20"),
        (&catalogue::FILE_DESCRIPTORS, "9"),
        (&catalogue::SOCKETS, "2"),
    ] {
        // Of the others they are not known.
        assert_eq!(samples(&text, metric), [format!("{own} {value}")]);
    }
    let limit = r#"{ulimit="max_open_files",id="/a",image="",name=""} -1"#;
    assert_eq!(samples(&text, &catalogue::ULIMITS_SOFT), [limit]);
}

fn cgroup_without_tasks() -> Cgroup {
    let mut cgroup = living("/b");
    if let Some(live) = &mut cgroup.live {
        live.tasks = None;
    }
    cgroup
}

#[test]
fn each_cpu_that_was_used_is_in_place_of_the_total() {
    let mut cgroup = living("/a");
    cgroup.reading.set(Field::CpuUsage, 3_000_000_000);
    cgroup.reading.cpus = vec![1_000_000_000, 0, 2_000_000_000];
    let text = written(&[cgroup]);
    let wanted = [("cpu00", 1), ("cpu02", 2)];
    let wanted = wanted
        .map(|(cpu, seconds)| format!(r#"{{cpu="{cpu}",id="/a",image="",name=""}} {seconds}"#));
    assert_eq!(samples(&text, &catalogue::CPU_USAGE), wanted);
}

#[test]
fn a_layer_has_no_free_inodes_and_no_disk() {
    let mut cgroup = living("/a");
    cgroup.filesystems = vec![Filesystem {
        device: "/dev/vda".into(),
        size: 4096,
        used: 512,
        inodes: 7,
        inodes_free: None,
        io: None,
    }];
    let text = written(&[cgroup]);
    let one = |value: &str| {
        vec![format!(
            r#"{{device="/dev/vda",id="/a",image="",name=""}} {value}"#
        )]
    };
    for (metric, wanted) in [
        (&catalogue::FS_LIMIT, one("4096")),
        (&catalogue::FS_USAGE, one("512")),
        (&catalogue::FS_INODES_TOTAL, one("7")),
        (&catalogue::FS_INODES_FREE, vec![]),
        (&catalogue::FS_IO_CURRENT, vec![]),
        (&catalogue::FS_READS, vec![]),
    ] {
        assert_eq!(samples(&text, metric), wanted, "{}", metric.name);
    }
}

#[test]
fn connections_of_a_protocol_that_the_kernel_has() {
    let mut cgroup = living("/a");
    let mut tcp = [0; 11];
    tcp[9] = 3;
    cgroup.on_request.connections = Connections {
        tcp: [Some(tcp), None],
        udp: [
            None,
            Some(UdpSockets {
                listen: 1,
                dropped: 2,
                rx_queued: 3,
                tx_queued: 4,
            }),
        ],
    };
    let text = written(&[cgroup]);
    let listen = r#"{tcp_state="listen",id="/a",image="",name=""} 3"#;
    assert!(samples(&text, &catalogue::TCP_USAGE).contains(&listen));
    assert_eq!(samples(&text, &catalogue::TCP_USAGE).len(), 11);
    assert_eq!(samples(&text, &catalogue::TCP6_USAGE), [""; 0]);
    assert_eq!(samples(&text, &catalogue::UDP_USAGE), [""; 0]);
    let queued = r#"{udp_state="rxqueued",id="/a",image="",name=""} 3"#;
    assert_eq!(samples(&text, &catalogue::UDP6_USAGE)[2], queued);
}

#[test]
fn families_of_a_group_that_is_off_are_not_written() {
    let all = sources(MetricGroups::default());
    let is_there = |metric: &Metric| all.iter().any(|source| source.metric == metric);
    assert!(is_there(&catalogue::TASKS_STATE) && is_there(&catalogue::SPEC_CPU_SHARES));
    assert!(!is_there(&catalogue::SOCKETS) && !is_there(&catalogue::TCP_USAGE));
    let cgroup = with_tasks(Tasks::default());
    let of_group = all.iter().copied();
    let of_group: Vec<_> = of_group
        .filter(|it| it.metric.group == MetricGroup::CpuLoad)
        .collect();
    assert_eq!(count_series(&cgroup, &of_group), 5);
}
