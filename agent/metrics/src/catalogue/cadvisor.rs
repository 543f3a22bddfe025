//! The metrics that cAdvisor exports too. They have its names, types, labels and help texts.

use super::{Kind, Metric, catalogue};
use crate::groups::MetricGroup;

catalogue! {
    OF_CADVISOR:
    Cpu {
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
    }
    CpuLoad {
        CPU_LOAD_AVERAGE = Gauge "container_cpu_load_average_10s" ["id", "image", "name"]
            "Value of container cpu load average over the last 10 seconds.";
        CPU_LOAD_D_AVERAGE = Gauge "container_cpu_load_d_average_10s" ["id", "image", "name"]
            "Value of container cpu load.d average over the last 10 seconds.";
        TASKS_STATE = Gauge "container_tasks_state" ["state", "id", "image", "name"]
            "Number of tasks in given state";
    }
    Memory {
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
        MEMORY_KERNEL_USAGE = Gauge "container_memory_kernel_usage" ["id", "image", "name"]
            "Size of kernel memory allocated in bytes.";
    }
    OomEvent {
        OOM_EVENTS = Counter "container_oom_events_total" ["id", "image", "name"]
            "Count of out of memory events observed for the container";
    }
    Process {
        FILE_DESCRIPTORS = Gauge "container_file_descriptors" ["id", "image", "name"]
            "Number of open file descriptors for the container.";
        SOCKETS = Gauge "container_sockets" ["id", "image", "name"]
            "Number of open sockets for the container.";
        ULIMITS_SOFT = Gauge "container_ulimits_soft" ["ulimit", "id", "image", "name"]
            "Soft ulimit values for the container root process. Unlimited if -1, except priority and nice";
    }
    DiskIo {
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
        FS_IO_CURRENT = Gauge "container_fs_io_current" ["device", "id", "image", "name"]
            "Number of I/Os currently in progress";
        FS_IO_TIME = Counter "container_fs_io_time_seconds_total" ["device", "id", "image", "name"]
            "Cumulative count of seconds spent doing I/Os";
        FS_IO_TIME_WEIGHTED = Counter "container_fs_io_time_weighted_seconds_total" ["device", "id", "image", "name"]
            "Cumulative weighted I/O time in seconds";
        FS_READ_TIME = Counter "container_fs_read_seconds_total" ["device", "id", "image", "name"]
            "Cumulative count of seconds spent reading";
        FS_READS_MERGED = Counter "container_fs_reads_merged_total" ["device", "id", "image", "name"]
            "Cumulative count of reads merged";
        FS_SECTOR_READS = Counter "container_fs_sector_reads_total" ["device", "id", "image", "name"]
            "Cumulative count of sector reads completed";
        FS_SECTOR_WRITES = Counter "container_fs_sector_writes_total" ["device", "id", "image", "name"]
            "Cumulative count of sector writes completed";
        FS_WRITE_TIME = Counter "container_fs_write_seconds_total" ["device", "id", "image", "name"]
            "Cumulative count of seconds spent writing";
        FS_WRITES_MERGED = Counter "container_fs_writes_merged_total" ["device", "id", "image", "name"]
            "Cumulative count of writes merged";
    }
    Disk {
        FS_INODES_FREE = Gauge "container_fs_inodes_free" ["device", "id", "image", "name"]
            "Number of available Inodes";
        FS_INODES_TOTAL = Gauge "container_fs_inodes_total" ["device", "id", "image", "name"]
            "Number of Inodes";
        FS_LIMIT = Gauge "container_fs_limit_bytes" ["device", "id", "image", "name"]
            "Number of bytes that can be consumed by the container on this filesystem.";
        FS_USAGE = Gauge "container_fs_usage_bytes" ["device", "id", "image", "name"]
            "Number of bytes that are consumed by the container on this filesystem.";
    }
    Network {
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
    }
    Tcp {
        TCP_USAGE = Gauge "container_network_tcp_usage_total" ["tcp_state", "id", "image", "name"]
            "tcp connection usage statistic for container";
        TCP6_USAGE = Gauge "container_network_tcp6_usage_total" ["tcp_state", "id", "image", "name"]
            "tcp6 connection usage statistic for container";
    }
    Udp {
        UDP_USAGE = Gauge "container_network_udp_usage_total" ["udp_state", "id", "image", "name"]
            "udp connection usage statistic for container";
        UDP6_USAGE = Gauge "container_network_udp6_usage_total" ["udp_state", "id", "image", "name"]
            "udp6 connection usage statistic for container";
    }
    Pressure {
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
    }
    Always {
        PROCESSES = Gauge "container_processes" ["id", "image", "name"]
            "Number of processes running inside the container.";
        THREADS = Gauge "container_threads" ["id", "image", "name"]
            "Number of threads running inside the container";
        THREADS_MAX = Gauge "container_threads_max" ["id", "image", "name"]
            "Maximum number of threads allowed inside the container, infinity if value is zero";
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
        MACHINE_CPU_CORES = Gauge "machine_cpu_cores" ["boot_id", "machine_id", "system_uuid"]
            "Number of logical CPU cores.";
        MACHINE_CPU_PHYSICAL_CORES = Gauge "machine_cpu_physical_cores" ["boot_id", "machine_id", "system_uuid"]
            "Number of physical CPU cores.";
        MACHINE_CPU_SOCKETS = Gauge "machine_cpu_sockets" ["boot_id", "machine_id", "system_uuid"]
            "Number of CPU sockets.";
        MACHINE_MEMORY = Gauge "machine_memory_bytes" ["boot_id", "machine_id", "system_uuid"]
            "Amount of memory installed on the machine.";
        MACHINE_SWAP = Gauge "machine_swap_bytes" ["boot_id", "machine_id", "system_uuid"]
            "Amount of swap memory available on the machine.";
        VERSION_INFO = Gauge "cadvisor_version_info" ["kernelVersion", "osVersion", "dockerVersion", "cadvisorVersion", "cadvisorRevision"]
            "A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor version & cadvisor revision.";
        CONTAINER_SCRAPE_ERROR = Gauge "container_scrape_error" []
            "1 if there was an error while getting container metrics, 0 otherwise";
        MACHINE_SCRAPE_ERROR = Gauge "machine_scrape_error" []
            "1 if there was an error while getting machine metrics, 0 otherwise.";
    }
}
