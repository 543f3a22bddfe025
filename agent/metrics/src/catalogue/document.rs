//! `METRICS.md`, made of the catalogue.

use super::{Metric, all};
use crate::groups::{GROUPS, MetricGroup};

const BEGIN: &str = "\
# Metrics

Generated from `agent/metrics/src/catalogue.rs` and the files below `catalogue/`: change it there, then run
`UPDATE_METRICS=1 cargo test -p agent-metrics catalogue`.

A metric that cAdvisor exports too has cAdvisor's name, labels and help. Some values differ:

- `container_spec_cpu_shares` on cgroup v2 is the value that docker or `agent run` was asked for, if one of the
  runtimes' two formulas converts it to the weight in the file. Otherwise it is cAdvisor's value,
  2 + (weight - 1) * 262142 / 9999.
- `container_fs_*_seconds_total` are seconds. cAdvisor takes the kernel's milliseconds for nanoseconds.
- `container_fs_*` of file systems and disks are the host's, with `id=\"/\"`. cAdvisor repeats the counts of the whole
  disk for each docker container on it. What one container read and wrote is in `container_fs_reads_bytes_total`,
  `container_fs_writes_bytes_total`, `container_fs_reads_total`, `container_fs_writes_total` and
  `container_blkio_device_usage_total`, of both.
- Of file systems, those on disks and in memory are exported, and the one at `/`. cAdvisor also has those of NFS, whose
  server may never answer, and those of overlayfs, which repeat the sizes of the disk below.
- `container_fs_usage_bytes` of a container is its writable layer. cAdvisor adds docker's log and files of the container.
- `container_tasks_state`, `container_cpu_load_average_10s` and `container_cpu_load_d_average_10s` are always 0 in
  cAdvisor without `--enable_load_reader`. Threads below a container's cgroup count for the container.
  The averages are in thousandths of a thread, of a count every 5 s.
- `container_memory_kernel_usage` on cgroup v2 is `kernel` of `memory.stat` (Linux 5.18 and newer). cAdvisor has 0.
- `machine_cpu_physical_cores` counts the cores of all sockets. cAdvisor counts each number of a core once.
- `cadvisor_version_info` has the versions of the kernel and the operating system. The other labels are empty.
- A value that the agent does not know has no series. cAdvisor exports 0.

The series of a container also have a label `container_label_NAME` for each label that `--label` allows, with `_` for
each character that no name of a label in Prometheus may have. In a Kubernetes pod they have the kubelet's labels
`namespace`, `pod` and `container`; the pod's cgroup has the first two. A label without a value is left out.

The series of the cgroup of a systemd unit have a label `unit` with the unit's name, and, where systemd answers, its
description in `container_label_systemd_description`. Those of a sandbox have its name as `id`.
";

const GROUPS_BEGIN: &str = "
## Groups

`agent serve --enable-metrics GROUP,…` adds groups to the default, and `--disable-metrics GROUP,…` removes some. The
names are cAdvisor's, but for `disk_usage`, which is part of its `disk`. A list replaces the default there. Families
without a group are always exported.

| Group | By default | What it has | What it costs at each scrape |
|---|---|---|---|
";

/// What cAdvisor has and the agent does not, and why.
#[rustfmt::skip]
const MISSING: [(&str, &str); 12] = [
    ("`machine_nvm_capacity`, `machine_nvm_avg_power_budget_watts`", "cAdvisor has them only if it is built with Intel's ipmctl for Optane modules, whose production has ended; otherwise they are 0."),
    ("`machine_dimm_*`", "only on hosts with an EDAC driver; node_exporter has them (`--collector.edac`)."),
    ("`machine_cpu_cache_capacity_bytes`, `machine_thread_siblings_count`, `machine_node_*` (`cpu_topology`)", "hardware that does not change; off by default in cAdvisor. lscpu(1) shows it."),
    ("`container_cpu_schedstat_*` (`sched`)", "off by default in cAdvisor: a file of each process at each scrape, and ended processes are missing. `container_cpu_usage_seconds_total` and, on v2, `container_pressure_cpu_waiting_seconds_total` have the same from the kernel's own counters."),
    ("`container_network_advance_tcp_stats_total` (`advtcp`)", "off by default in cAdvisor: 110 series for each network namespace."),
    ("`container_hugetlb_*` (`hugetlb`)", "off by default in cAdvisor; of use only where huge pages are reserved."),
    ("`container_memory_numa_pages` (`memory_numa`)", "off by default in cAdvisor; of use only on hosts with several NUMA nodes."),
    ("`container_memory_migrate` (`cpuset`)", "off by default in cAdvisor: a setting of v1's cpuset, not a measurement."),
    ("`container_referenced_bytes` (`referenced_memory`)", "off by default in cAdvisor: it clears the referenced bits of all pages of a process, which changes what the kernel reclaims."),
    ("`container_perf_*` (`perf_event`)", "needs a list of hardware counters; of use to one who measures one program."),
    ("`container_memory_bandwidth_*`, `container_llc_occupancy_bytes` (`resctrl`)", "needs Intel RDT, and a monitoring group for each container."),
    ("metrics of applications (`app`)", "Prometheus scrapes them itself."),
];

const MISSING_BEGIN: &str = "
## What cAdvisor has, and the agent does not

| Family (group) | Why |
|---|---|
";

/// Formats the catalogue as `METRICS.md`.
pub fn markdown() -> String {
    let mut text = String::from(BEGIN);
    text += GROUPS_BEGIN;
    for row in &GROUPS {
        let by_default = if row.is_on { "on" } else { "off" };
        let (name, what, cost) = (row.name, row.what, row.cost);
        text += &format!("| `{name}` | {by_default} | {what} | {cost} |\n");
    }
    text += MISSING_BEGIN;
    for (families, why) in MISSING {
        text += &format!("| {families} | {why} |\n");
    }
    text +=
        "\n## Families\n\n| Metric | Type | Labels | Group | What it is |\n|---|---|---|---|---|\n";
    for metric in all() {
        let labels: Vec<_> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
        let Metric {
            name, kind, help, ..
        } = metric;
        let (labels, group) = (labels.join(" "), name_of(metric.group));
        text += &format!("| `{name}` | {kind} | {labels} | {group} | {help} |\n");
    }
    text
}

fn name_of(group: MetricGroup) -> &'static str {
    let row = GROUPS.iter().find(|row| row.group == group);
    row.map_or("", |row| row.name)
}
