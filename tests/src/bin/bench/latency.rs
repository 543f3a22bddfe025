//! How soon the agent tells, is ready, and ends.

use std::io::{BufRead as _, BufReader};
use std::process::{ChildStdout, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;
use tests::agent::agent as program;
use tests::memory::{Hog, set_limit};
use tests::process::kill;
use tests::wait::PATIENCE;

use crate::agent::{self, ending_with_us};
use crate::cgroups::Guard;
use crate::report::{Figure, Unit, median};
use crate::{ROUNDS, Size, console};

const KILLS: u32 = 50;

/// Bytes that a victim may have, and that it wants.
const LIMIT: u64 = 16 << 20;
const TOO_MUCH: u64 = 64 << 20;

/// Tasks of a host that does something.
const TASKS: u32 = 2600;

/// Between looks at whether the agent is ready.
const PAUSE: Duration = Duration::from_micros(200);

const NANOSECONDS_OF_DAY: i128 = 86_400_000_000_000;

pub fn measure(size: Size) -> Vec<Figure> {
    let count = size.count.unwrap_or(KILLS);
    let guard = Guard::start();
    let as_it_is = median(kills(&guard, count));
    console::silence();
    let mut oom = kills(&guard, count);
    drop(guard);
    oom.sort_by(f64::total_cmp);
    let slowest = oom.last().copied().unwrap_or_default();
    let (ready, end) = starts(size.rounds.unwrap_or(ROUNDS));
    vec![
        Figure::new("latency: OOM kill to line", Unit::Seconds, median(oom)).at_most(0.001),
        Figure::new("latency: the slowest of these", Unit::Seconds, slowest),
        Figure::new(
            "latency: where the console shows the kernel's messages",
            Unit::Seconds,
            as_it_is,
        ),
        Figure::new("latency: start to ready", Unit::Seconds, median(ready)).at_most(0.200),
        Figure::new("latency: SIGTERM to end", Unit::Seconds, median(end)).at_most(0.500),
    ]
}

/// Seconds from each OOM kill to its line in the output of `agent watch`.
fn kills(guard: &Guard, count: u32) -> Vec<f64> {
    let cgroup = guard.cgroup();
    set_limit(&cgroup, LIMIT);
    let serve = agent::start();
    let mut watch = program(["watch", "--kind", "oom", "--output", "json", "--container"]);
    watch.arg(cgroup.name()).arg("--socket").arg(serve.socket());
    let before = serve.watchers();
    let mut watch = ending_with_us(&watch)
        .stdout(Stdio::piped())
        .spawn()
        .expect("agent watch can be run");
    serve.wait_for_watchers(before + 1);
    let mut lines = BufReader::new(watch.stdout.take().expect("a pipe"));
    let seconds = (0..count)
        .map(|_| {
            let mut hog = Hog::start(&cgroup, 1, TOO_MUCH);
            let seconds = until_told(&mut lines, hog.pid());
            hog.wait_until_killed();
            seconds
        })
        .collect();
    kill(&mut watch);
    serve.stop();
    seconds
}

/// Seconds from the kill of `victim` to its line, which comes next.
fn until_told(lines: &mut BufReader<ChildStdout>, victim: u32) -> f64 {
    assert!(is_readable(lines), "the kill is not told");
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line of text");
    let arrived = SystemTime::now().duration_since(UNIX_EPOCH);
    let arrived = arrived.expect("a time after 1970").as_nanos() as i128;
    let record: Value =
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!(record["victim"]["process"]["pid"], victim, "{line}");
    let killed = time_of_day(&record["time"]).unwrap_or_else(|| panic!("no time: {line}"));
    let nanoseconds = (arrived - killed).rem_euclid(NANOSECONDS_OF_DAY);
    let told = Duration::from_nanos(u64::try_from(nanoseconds).expect("a part of a day"));
    assert!(told < PATIENCE, "told {told:?} after the kill: {line}");
    told.as_secs_f64()
}

fn is_readable(lines: &BufReader<ChildStdout>) -> bool {
    let mut fds = [PollFd::new(lines.get_ref(), PollFlags::IN)];
    let timeout = Timespec::try_from(PATIENCE).expect("a short time");
    !lines.buffer().is_empty() || poll(&mut fds, Some(&timeout)).expect("poll") == 1
}

/// Nanoseconds since midnight of an RFC 3339 time in UTC.
fn time_of_day(time: &Value) -> Option<i128> {
    let (_, clock) = time.as_str()?.split_once('T')?;
    let (seconds, nanoseconds) = clock.strip_suffix('Z')?.split_once('.')?;
    let mut of_day = 0;
    for part in seconds.split(':') {
        of_day = of_day * 60 + part.parse::<i128>().ok()?;
    }
    Some(of_day * 1_000_000_000 + format!("{nanoseconds:0<9}").parse::<i128>().ok()?)
}

/// Seconds from each start until it traces, and from each SIGTERM to the end.
fn starts(rounds: u32) -> (Vec<f64>, Vec<f64>) {
    let crowd = Crowd::up_to(TASKS);
    let times = (0..rounds).map(|_| {
        let started = Instant::now();
        let serve = agent::spawn();
        while serve.address().is_none() {
            assert!(
                started.elapsed() < PATIENCE,
                "it does not trace: {}",
                serve.log()
            );
            thread::sleep(PAUSE);
        }
        let ready = started.elapsed().as_secs_f64();
        let pid = i32::try_from(serve.pid()).ok().and_then(Pid::from_raw);
        let process = pidfd_open(pid.expect("a pid"), PidfdFlags::empty()).expect("a pidfd");
        let told_to_end = Instant::now();
        pidfd_send_signal(&process, Signal::TERM).expect("a signal to agent serve");
        let mut fds = [PollFd::new(&process, PollFlags::IN)];
        let timeout = Timespec::try_from(PATIENCE).expect("a short time");
        assert_eq!(
            poll(&mut fds, Some(&timeout)),
            Ok(1),
            "agent serve does not end"
        );
        let end = told_to_end.elapsed().as_secs_f64();
        serve.stop();
        (ready, end)
    });
    let times = times.unzip();
    drop(crowd);
    times
}

/// Threads of this process that do nothing. Dropping it ends them.
struct Crowd {
    end: Arc<Barrier>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Crowd {
    /// As many as the host lacks to have so many tasks.
    fn up_to(tasks: u32) -> Self {
        let lacking = tasks.saturating_sub(self::tasks()) as usize;
        let end = Arc::new(Barrier::new(lacking + 1));
        let thread = || {
            let end = Arc::clone(&end);
            let thread = thread::Builder::new().stack_size(64 << 10);
            thread
                .spawn(move || {
                    end.wait();
                })
                .expect("one more thread")
        };
        let threads = (0..lacking).map(|_| thread()).collect();
        Self { end, threads }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.end.wait();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// How many tasks the host has (proc_loadavg(5)).
fn tasks() -> u32 {
    let load = std::fs::read_to_string("/proc/loadavg").expect("the load");
    let tasks = load.split(['/', ' ']).nth(4).and_then(|it| it.parse().ok());
    tasks.expect("a number of tasks")
}

#[cfg(test)]
mod tests_of_time {
    use super::*;

    #[test]
    fn a_time_of_day_is_in_nanoseconds() {
        let time = |text: &str| time_of_day(&Value::from(text));
        assert_eq!(time("2026-11-22T00:01:02.5Z"), Some(62_500_000_000));
        assert_eq!(
            time("2026-11-22T10:11:12.345678901Z"),
            Some(36_672_345_678_901)
        );
        assert_eq!(time("2026-11-22"), None);
    }
}
