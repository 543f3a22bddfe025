//! bpftrace, printing what `agent watch --all` prints of the births and ends of processes.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tests::process::{Log, kill, wait_for_end};
use tests::program::program;
use tests::wait::{PATIENCE, wait_for};

use crate::agent::ending_with_us;

/// The fields of a line. The tracepoint of a birth has the child's pid and name; threads are not processes.
const SCRIPT: &str = r#"
tracepoint:task:task_newtask /!(args->clone_flags & 0x10000)/ {
    printf("fork %llu %d %d %s %d %llu %d %s\n", nsecs, pid, tid, comm, uid, cgroup, args->pid, args->comm);
}
tracepoint:sched:sched_process_exit /pid == tid/ {
    printf("exit %llu %d %d %s %d %llu %d\n", nsecs, pid, ((struct task_struct *)curtask)->real_parent->tgid, comm, uid,
        cgroup, ((struct task_struct *)curtask)->exit_code);
}"#;

/// It finds tracepoints through tracefs, which need not be mounted: it gets one of its own.
const WITH_TRACEFS: &str = r#"mount -t tracefs tracefs /sys/kernel/tracing && exec "$@""#;

/// bpftrace at work. Dropping it kills it.
pub struct Bpftrace {
    child: Child,
    log: Log,
}

impl Bpftrace {
    /// Starts it, and waits until it writes events into the file.
    pub fn start(into: &Path) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", WITH_TRACEFS, "sh"]);
        command.arg(program("bpftrace"));
        // What is fastest: it writes when its buffer is full.
        command.args(["-B", "full", "-e", SCRIPT, "-o"]).arg(into);
        let mut child = ending_with_us(&command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("bpftrace can be run");
        let log = Log::of(child.stderr.take().expect("a pipe"));
        let bpftrace = Self { child, log };
        wait_for("bpftrace writes events", PATIENCE, || {
            let _ = Command::new("true").status();
            let text = fs::read_to_string(into).unwrap_or_default();
            (text.contains("fork ") && text.contains("exit ")).then_some(())
        });
        bpftrace
    }

    /// Lets it write what it has, and end: how many events it says that it lost.
    pub fn stop(mut self) -> u64 {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::INT).expect("a signal to bpftrace");
        let status: ExitStatus = wait_for_end(&mut self.child, "bpftrace ends");
        assert!(status.success(), "bpftrace: {status}: {}", self.log.text());
        lost(&self.log.text())
    }
}

impl Drop for Bpftrace {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

/// The sum of its lines `Lost N events`.
fn lost(said: &str) -> u64 {
    let numbers = said.lines().filter_map(|line| {
        let number = line.strip_prefix("Lost ")?.strip_suffix(" events")?;
        number.parse::<u64>().ok()
    });
    numbers.sum()
}
