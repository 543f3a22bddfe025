//! The metrics that cAdvisor lacks: more about cgroups, and about the agent itself.

use super::{Kind, Metric, catalogue};
use crate::groups::MetricGroup;

catalogue! {
    OWN:
    Always {
        // About cgroups and the host.
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

        // About the agent itself.
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
            "What was left out of a scrape: network interfaces, block devices and file systems (file_system) because one namespace, one cgroup or the host had too many, and labels of containers (label) because there were too many, or two have the same name in metrics.";
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
        PROCESS_CPU = Counter "process_cpu_seconds_total" []
            "Total user and system CPU time that the agent spent, in seconds.";
        PROCESS_OPEN_FDS = Gauge "process_open_fds" []
            "Number of file descriptors that the agent has open.";
        PROCESS_MAX_FDS = Gauge "process_max_fds" []
            "Maximum number of file descriptors that the agent may have open.";
        PROCESS_VIRTUAL_MEMORY = Gauge "process_virtual_memory_bytes" []
            "Virtual memory size of the agent in bytes.";
        PROCESS_RESIDENT_MEMORY = Gauge "process_resident_memory_bytes" []
            "Resident memory size of the agent in bytes.";
        PROCESS_START_TIME = Gauge "process_start_time_seconds" []
            "Start time of the agent since unix epoch in seconds.";
        PROCESS_THREADS = Gauge "process_threads" []
            "Number of threads of the agent.";
    }
}
