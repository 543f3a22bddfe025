//! The table of all metrics of the agent. A metric that cAdvisor exports too has cAdvisor's name, type, labels and help
//! text, so that dashboards and alerts for cAdvisor work. `METRICS.md` is generated from this table.

use std::fmt;

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value that starts at 0 and only grows.
    Counter,
    Gauge,
}

impl fmt::Display for Kind {
    /// Writes the name of the type in the text format.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        })
    }
}

/// A metric: the name, type and labels of a family of series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    /// The help text. It has no backslashes and newlines, which the text format would escape.
    pub help: &'static str,
    pub kind: Kind,
    /// The names of the labels. The labels of a cgroup come last, in the order of [`Labels`](super::text::Labels).
    pub labels: &'static [&'static str],
}

impl Metric {
    /// Returns the options of the metric for the prometheus crate.
    pub fn opts(&self) -> prometheus::Opts {
        prometheus::Opts::new(self.name, self.help)
    }
}

macro_rules! catalogue {
    ($($(#[$meta:meta])* $constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $($(#[$meta])*
        pub const $constant: Metric = Metric {
            name: $name,
            help: $help,
            kind: Kind::$kind,
            labels: &[$($label),*],
        };)*

        /// All metrics.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

catalogue! {
    // Metrics that cAdvisor exports too.
    CPU_USAGE = Counter "container_cpu_usage_seconds_total" ["cpu", "id", "image", "name"]
        "Cumulative cpu time consumed in seconds.";
    CPU_USER = Counter "container_cpu_user_seconds_total" ["id", "image", "name"]
        "Cumulative user cpu time consumed in seconds.";
    CPU_SYSTEM = Counter "container_cpu_system_seconds_total" ["id", "image", "name"]
        "Cumulative system cpu time consumed in seconds.";
    CFS_PERIODS = Counter "container_cpu_cfs_periods_total" ["id", "image", "name"]
        "Number of elapsed enforcement period intervals.";
    CFS_THROTTLED_PERIODS = Counter "container_cpu_cfs_throttled_periods_total" ["id", "image", "name"]
        "Number of throttled period intervals.";
    CFS_THROTTLED_TIME = Counter "container_cpu_cfs_throttled_seconds_total" ["id", "image", "name"]
        "Total time duration the container has been throttled.";
    MEMORY_USAGE = Gauge "container_memory_usage_bytes" ["id", "image", "name"]
        "Current memory usage in bytes, including all memory regardless of when it was accessed";
    MEMORY_WORKING_SET = Gauge "container_memory_working_set_bytes" ["id", "image", "name"]
        "Current working set in bytes.";
    MEMORY_RSS = Gauge "container_memory_rss" ["id", "image", "name"]
        "Size of RSS in bytes.";
    MEMORY_CACHE = Gauge "container_memory_cache" ["id", "image", "name"]
        "Number of bytes of page cache memory.";
    MEMORY_SWAP = Gauge "container_memory_swap" ["id", "image", "name"]
        "Container swap usage in bytes.";
    MEMORY_MAPPED_FILE = Gauge "container_memory_mapped_file" ["id", "image", "name"]
        "Size of memory mapped files in bytes.";
    MEMORY_ACTIVE_FILE = Gauge "container_memory_total_active_file_bytes" ["id", "image", "name"]
        "Current total active file in bytes.";
    MEMORY_INACTIVE_FILE = Gauge "container_memory_total_inactive_file_bytes" ["id", "image", "name"]
        "Current total inactive file in bytes.";
    MEMORY_MAX_USAGE = Gauge "container_memory_max_usage_bytes" ["id", "image", "name"]
        "Maximum memory usage recorded in bytes";
    MEMORY_FAILCNT = Counter "container_memory_failcnt" ["id", "image", "name"]
        "Number of memory usage hits limits";
    MEMORY_FAILURES = Counter "container_memory_failures_total" ["failure_type", "scope", "id", "image", "name"]
        "Cumulative count of memory allocation failures.";
    OOM_EVENTS = Counter "container_oom_events_total" ["id", "image", "name"]
        "Count of out of memory events observed for the container";
    PROCESSES = Gauge "container_processes" ["id", "image", "name"]
        "Number of processes running inside the container.";
    THREADS = Gauge "container_threads" ["id", "image", "name"]
        "Number of threads running inside the container";
    THREADS_MAX = Gauge "container_threads_max" ["id", "image", "name"]
        "Maximum number of threads allowed inside the container, infinity if value is zero";
    FS_READS_BYTES = Counter "container_fs_reads_bytes_total" ["device", "id", "image", "name"]
        "Cumulative count of bytes read";
    FS_READS = Counter "container_fs_reads_total" ["device", "id", "image", "name"]
        "Cumulative count of reads completed";
    FS_WRITES_BYTES = Counter "container_fs_writes_bytes_total" ["device", "id", "image", "name"]
        "Cumulative count of bytes written";
    FS_WRITES = Counter "container_fs_writes_total" ["device", "id", "image", "name"]
        "Cumulative count of writes completed";
    BLKIO_USAGE = Counter "container_blkio_device_usage_total" ["device", "major", "minor", "operation", "id", "image", "name"]
        "Blkio Device bytes usage";
    NETWORK_RECEIVE_BYTES = Counter "container_network_receive_bytes_total" ["interface", "id", "image", "name"]
        "Cumulative count of bytes received";
    NETWORK_RECEIVE_PACKETS = Counter "container_network_receive_packets_total" ["interface", "id", "image", "name"]
        "Cumulative count of packets received";
    NETWORK_RECEIVE_DROPPED = Counter "container_network_receive_packets_dropped_total" ["interface", "id", "image", "name"]
        "Cumulative count of packets dropped while receiving";
    NETWORK_RECEIVE_ERRORS = Counter "container_network_receive_errors_total" ["interface", "id", "image", "name"]
        "Cumulative count of errors encountered while receiving";
    NETWORK_TRANSMIT_BYTES = Counter "container_network_transmit_bytes_total" ["interface", "id", "image", "name"]
        "Cumulative count of bytes transmitted";
    NETWORK_TRANSMIT_PACKETS = Counter "container_network_transmit_packets_total" ["interface", "id", "image", "name"]
        "Cumulative count of packets transmitted";
    NETWORK_TRANSMIT_DROPPED = Counter "container_network_transmit_packets_dropped_total" ["interface", "id", "image", "name"]
        "Cumulative count of packets dropped while transmitting";
    NETWORK_TRANSMIT_ERRORS = Counter "container_network_transmit_errors_total" ["interface", "id", "image", "name"]
        "Cumulative count of errors encountered while transmitting";
    PRESSURE_CPU_WAITING = Counter "container_pressure_cpu_waiting_seconds_total" ["id", "image", "name"]
        "Total time duration tasks in the container have waited due to CPU congestion.";
    PRESSURE_CPU_STALLED = Counter "container_pressure_cpu_stalled_seconds_total" ["id", "image", "name"]
        "Total time duration no tasks in the container could make progress due to CPU congestion.";
    PRESSURE_MEMORY_WAITING = Counter "container_pressure_memory_waiting_seconds_total" ["id", "image", "name"]
        "Total time duration tasks in the container have waited due to memory congestion.";
    PRESSURE_MEMORY_STALLED = Counter "container_pressure_memory_stalled_seconds_total" ["id", "image", "name"]
        "Total time duration no tasks in the container could make progress due to memory congestion.";
    PRESSURE_IO_WAITING = Counter "container_pressure_io_waiting_seconds_total" ["id", "image", "name"]
        "Total time duration tasks in the container have waited due to IO congestion.";
    PRESSURE_IO_STALLED = Counter "container_pressure_io_stalled_seconds_total" ["id", "image", "name"]
        "Total time duration no tasks in the container could make progress due to IO congestion.";
    SPEC_CPU_PERIOD = Gauge "container_spec_cpu_period" ["id", "image", "name"]
        "CPU period of the container.";
    SPEC_CPU_QUOTA = Gauge "container_spec_cpu_quota" ["id", "image", "name"]
        "CPU quota of the container.";
    SPEC_CPU_SHARES = Gauge "container_spec_cpu_shares" ["id", "image", "name"]
        "CPU share of the container.";
    MEMORY_LIMIT = Gauge "container_spec_memory_limit_bytes" ["id", "image", "name"]
        "Memory limit for the container.";
    MEMORY_RESERVATION = Gauge "container_spec_memory_reservation_limit_bytes" ["id", "image", "name"]
        "Memory reservation limit for the container.";
    MEMORY_SWAP_LIMIT = Gauge "container_spec_memory_swap_limit_bytes" ["id", "image", "name"]
        "Memory swap limit for the container.";
    START_TIME = Gauge "container_start_time_seconds" ["id", "image", "name"]
        "Start time of the container since unix epoch in seconds.";
    LAST_SEEN = Gauge "container_last_seen" ["id", "image", "name"]
        "Last time a container was seen by the exporter";

    // Metrics that cAdvisor lacks.
    EFFECTIVE_MEMORY_LIMIT = Gauge "container_effective_memory_limit_bytes" ["id", "image", "name"]
        "The tightest memory limit of the cgroup and its ancestors; absent where none of them has one, or one cannot be read.";
    EFFECTIVE_CPU_LIMIT = Gauge "container_effective_cpu_limit_cores" ["id", "image", "name"]
        "The tightest CPU quota of the cgroup and its ancestors, in CPUs; absent where none of them has one, or one cannot be read.";
    EFFECTIVE_THREADS_MAX = Gauge "container_effective_threads_max" ["id", "image", "name"]
        "The tightest limit of threads of the cgroup and its ancestors; absent where none of them has one, or one cannot be read.";
    LIMIT_DRIFT = Gauge "agent_limit_drift" ["limit", "drift", "id", "image", "name"]
        "1 if a container's limit is not the one that its maker was asked for: docker, agent run, or whoever started it from an OCI bundle, by the bundle: its cgroup cannot have it (missing), its file holds another value (written), or the limit of an ancestor is tighter (shadowed); 0 if it is. Absent where the requested limit is not known, or a file cannot be read.";
    FORKS = Counter "container_forks_total" ["id", "image", "name"]
        "Processes created, by the cgroup of their parent. Events in cgroups below a container's own count for the container, here and in the next families down to container_oom_kills_total; those cgroups have no series of their own.";
    THREADS_CREATED = Counter "container_threads_created_total" ["id", "image", "name"]
        "Threads created, without the main thread of each process.";
    EXECS = Counter "container_execs_total" ["id", "image", "name"]
        "Programs executed.";
    EXITS = Counter "container_exits_total" ["how", "id", "image", "name"]
        "Processes that ended, by how: exit code 0 (success), another exit code (failure), a signal (signal), or the OOM killer (oom_killed).";
    ESCAPES = Counter "container_escapes_total" ["type", "id", "image", "name"]
        "Times that a process of the container was found in a namespace of the host that the container does not have, by the type of namespace.";
    UNWATCHED = Counter "container_unwatched_cgroups_total" ["id", "image", "name"]
        "Cgroups of the container whose processes are not watched for escapes, for want of room: its own, or those made below it beyond 1,024. Absent while there are none.";
    NAMESPACE_CALLS = Counter "container_namespace_calls_total" ["call", "type", "id", "image", "name"]
        "Calls of clone, unshare and setns by each type of namespace asked for: a call that asks for two types counts in both, and a setns that asks for none in the one that it changed.";
    NAMESPACE_CALL_ERRORS = Counter "container_namespace_call_errors_total" ["call", "id", "image", "name"]
        "Calls of clone, unshare and setns for namespaces that failed, as far as the probe's mechanism sees failures.";
    OOM_KILLS = Counter "container_oom_kills_total" ["role", "id", "image", "name"]
        "Kills by the OOM killer of processes in this cgroup (victim), and in it or below it because its memory limit was hit (limit_owner), both since the agent's start (with --pin-path, those that an agent saw since the first start). Kills in cgroups below a container's own one, and for their limits, are the container's.";
    HOST_OOM_KILLS = Counter "machine_oom_kills_total" ["constraint"]
        "Kills by the OOM killer on the host, by what was short: the limit of a memory cgroup (memcg), the host's memory (none), or that of a cpuset or a memory policy.";

    // Metrics of the agent itself.
    BUILD_INFO = Gauge "agent_build_info" ["version", "kernel"]
        "A metric with a constant '1' value labeled by the agent's version and the kernel's release.";
    PROBE_ATTACHED = Gauge "agent_probe_attached" ["probe", "mechanism"]
        "1 if the probe is attached by this mechanism, 0 if it is not.";
    PROBE_MISSED = Counter "agent_probe_missed_total" ["probe"]
        "Runs of the probe that the kernel skipped because it was running on that CPU already; what they would have seen is in no other count.";
    EVENTS = Counter "agent_events_total" ["stage", "kind", "outcome"]
        "Events by outcome at each stage: the BPF programs (kernel), the decoder (decode), and the streams (sink).";
    WATCHERS = Gauge "agent_watchers" []
        "Streams of events being served.";
    QUEUE_LENGTH = Gauge "agent_queue_length" ["queue"]
        "Entries waiting in the queue.";
    QUEUE_CAPACITY = Gauge "agent_queue_capacity" ["queue"]
        "Entries that the queue has room for.";
    REGISTRY_CGROUPS = Gauge "agent_registry_cgroups" ["state"]
        "Cgroups known: those that exist (live), and those remembered after their removal (dead).";
    REGISTRY_CONTAINERS = Gauge "agent_registry_containers" []
        "Containers known that exist.";
    REGISTRY_FULL = Counter "agent_registry_full_total" []
        "Cgroups not taken into the registry because it was full.";
    COUNTS_OVERFLOW = Counter "agent_counts_overflow_total" []
        "Namespace calls, OOM kills, forks, threads, execs, exits and escapes attributed to no cgroup because the BPF map of counts was full.";
    BPF_MAP_BYTES = Gauge "agent_bpf_map_bytes" ["map"]
        "Kernel memory that the BPF map holds.";
    SCRAPE_DURATION = Gauge "agent_scrape_duration_seconds" []
        "Time that the answer to the last scrape took.";
    SCRAPES = Counter "agent_scrapes_total" []
        "Scrapes made; requests that wait at the same time share one.";
    KEPT_DESCRIPTORS = Gauge "agent_kept_descriptors" []
        "Descriptors of cgroups' files kept open between scrapes.";
    KEPT_DESCRIPTORS_LIMIT = Gauge "agent_kept_descriptors_limit" []
        "Descriptors of cgroups' files that may be kept open: half of the limit of open files, 32768 at most. Files beyond are opened at each scrape.";
    WATCHED_DIRECTORIES = Gauge "agent_watched_directories" []
        "Directories of cgroups where a change of a setting is seen by inotify: half of fs.inotify.max_user_watches at most.";
    UNWATCHED_DIRECTORIES = Gauge "agent_unwatched_directories" []
        "Directories of cgroups with settings that are read at each scrape, as no more can be watched.";
    LEFT_OUT = Counter "agent_left_out_total" ["what"]
        "What was left out of a scrape: network interfaces and block devices because one namespace or cgroup had too many, and labels of containers (label) because there were too many, or two have the same name in metrics.";
    CGROUPS_LEFT_OUT = Gauge "agent_cgroups_left_out" ["kind", "bound"]
        "Cgroups without series in this scrape, because it has as many series as are allowed. By kind: a container's own cgroup (container), that of an ordinary user's container (user_container), a cgroup below a container's (below), a systemd unit (unit), another cgroup (cgroup). By bound: --max-series (all) or --max-series-per-container (container).";
    BPF_RUN_COUNT = Counter "agent_bpf_run_count_total" ["probe"]
        "Runs of the probe's programs; only while the kernel measures them (kernel.bpf_stats_enabled, --bpf-stats).";
    BPF_RUN_TIME = Counter "agent_bpf_run_seconds_total" ["probe"]
        "Time that the probe's programs ran; only while the kernel measures them (kernel.bpf_stats_enabled, --bpf-stats).";
    CGROUP_READ_ERRORS = Counter "agent_cgroup_read_errors_total" []
        "Files that could not be read or parsed, except those of cgroups that were removed meanwhile.";
    HTTP_CONNECTIONS = Gauge "agent_http_connections" ["side"]
        "Connections of clients that are open, by side: that of TCP, and the unix socket.";
    HTTP_CLOSED = Counter "agent_http_connections_closed_total" ["side", "reason"]
        "Connections that the agent closed by itself: one client had too many (peer), all had too many (side), one made room for another client's (gave_way), its client did not send or read in time (deadline), or there was no descriptor for it (descriptors).";
    ENGINE_CONNECTED = Gauge "agent_engine_connected" ["engine"]
        "1 while the engine reports its containers, 0 while it does not; absent where no engine is asked.";
    ENGINE_ERRORS = Counter "agent_engine_errors_total" ["engine"]
        "Failed attempts to follow an engine that listens on its socket, and connections to it that broke.";
    ENGINE_UNANSWERED = Counter "agent_engine_unanswered_total" ["engine"]
        "Containers whose intended limits the engine did not report: it did not answer, its answer had an invalid limit, or too many requests were waiting.";
    UNCONFIRMED_CONTAINERS = Gauge "agent_unconfirmed_containers" []
        "Cgroups whose path has the form of a container's, and which neither an engine nor an engine's record confirms. Their series have an empty name, and the image unknown.";
    ENGINE_NAMES = Gauge "agent_engine_names" []
        "Containers whose name is known from their engine, those removed a while ago included.";
    ENGINE_NAMES_REFUSED = Counter "agent_engine_names_refused_total" []
        "Names of containers that the registry had no room for.";
}

/// Formats the catalogue as `METRICS.md`.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         Generated from `agent/metrics/src/catalogue.rs`: change it there, then run\n\
         `UPDATE_METRICS=1 cargo test -p agent-metrics catalogue`.\n\n\
         A metric that cAdvisor exports too has cAdvisor's name, labels and help. One value differs on cgroup v2:\n\
         `container_spec_cpu_shares` is the value that docker or `agent run` was asked for, if one of the runtimes' two formulas\n\
         converts it to the weight in the file. Otherwise it is cAdvisor's value, 2 + (weight - 1) * 262142 / 9999.\n\n\
         The series of a container also have a label `container_label_NAME` for each label that `--label` allows, with `_`\n\
         for each character that no name of a label in Prometheus may have. In a Kubernetes pod they have the kubelet's labels\n\
         `namespace`, `pod` and `container`; the pod's cgroup has the first two. A label without a value is left out.\n\n\
         | Metric | Type | Labels | What it is |\n\
         |---|---|---|---|\n",
    );
    for metric in ALL {
        let labels: Vec<_> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
        let Metric {
            name, kind, help, ..
        } = metric;
        text += &format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;
    use std::{env, fs};

    use super::*;

    const CADVISOR: &str = include_str!("../../../tests/fixtures/cadvisor-0.51-families.tsv");

    #[test]
    fn what_cadvisor_has_is_as_there() {
        let mut theirs = BTreeMap::new();
        for line in CADVISOR.lines() {
            let fields: Vec<_> = line.split('\t').collect();
            let [name, kind, labels, _series, help] = fields[..] else {
                panic!("{line}");
            };
            theirs.insert(name, (kind, labels, help));
        }
        let mut shared = 0;
        for metric in ALL {
            if let Some(&theirs) = theirs.get(metric.name) {
                let mut labels = metric.labels.to_vec();
                labels.sort_unstable();
                let (kind, labels) = (metric.kind.to_string(), labels.join(","));
                assert_eq!((&*kind, &*labels, metric.help), theirs, "{}", metric.name);
                shared += 1;
            }
        }
        // What of the recorded scrape comes later.
        let later = |name: &str| {
            let others = [
                "container_cpu_load",
                "container_tasks",
                "container_fs_",
                "machine_",
                "cadvisor_",
            ];
            others.iter().any(|prefix| name.starts_with(prefix))
                || ["container_memory_kernel_usage", "container_scrape_error"].contains(&name)
        };
        let ours: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        let missing = theirs
            .keys()
            .filter(|name| !ours.contains(*name) && !later(name));
        assert_eq!(missing.collect::<Vec<_>>(), [&""; 0]);
        assert_eq!(shared, 32);
    }

    #[test]
    fn names_are_as_prometheus_wants_them() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len(), "a name is there twice");
        for Metric {
            name,
            help,
            kind,
            labels,
        } in ALL
        {
            let is_word = |word: &str| {
                !word.is_empty()
                    && word
                        .bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            };
            assert!(is_word(name), "{name}");
            assert!(
                labels.iter().all(|label| is_word(label)),
                "{name}: {labels:?}"
            );
            // The one that cAdvisor calls otherwise.
            let counted = name.ends_with("_total") || *name == MEMORY_FAILCNT.name;
            assert_eq!(counted, *kind == Kind::Counter, "{name}");
            assert!(
                ["container_", "machine_", "agent_"]
                    .iter()
                    .any(|room| name.starts_with(room)),
                "{name}"
            );
            assert!(
                !help.is_empty() && !help.contains(['\\', '\n', '|']),
                "{name}"
            );
        }
    }

    #[test]
    fn the_document_is_up_to_date() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .unwrap();
        let path = workspace.join("METRICS.md");
        if env::var_os("UPDATE_METRICS").is_some() {
            fs::write(&path, markdown()).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        let hint = "run `UPDATE_METRICS=1 cargo test -p agent-metrics catalogue`";
        assert!(
            found == markdown(),
            "METRICS.md is not what the catalogue gives: {hint}"
        );
    }
}
