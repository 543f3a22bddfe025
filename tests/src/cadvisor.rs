//! Debian's cAdvisor, to compare with.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::metrics::Metrics;
use crate::process::{Log, kill};
use crate::prometheus::free_address;
use crate::serve::exchange;
use crate::wait::{PATIENCE, poll, wait_for};

/// How often another port is tried: a free one may be taken by others before the server has it.
const ATTEMPTS: u32 = 5;

/// All that the agent has too.
const OFF: &str =
    "-disable_metrics=advtcp,cpu_topology,memory_numa,sched,referenced_memory,hugetlb,resctrl";

/// A cAdvisor that looks at all cgroups once a second. Dropping it ends it.
pub struct Cadvisor {
    child: Child,
    log: Log,
    address: SocketAddr,
}

impl Cadvisor {
    /// Starts one that asks the engine at `docker`, and waits until it answers.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start(docker: &Path) -> Self {
        let mut said = String::new();
        for _ in 0..ATTEMPTS {
            let mut cadvisor = Self::spawn(docker);
            if cadvisor.answers() {
                return cadvisor;
            }
            said = cadvisor.log.text();
        }
        panic!("cadvisor does not start: {said}");
    }

    fn spawn(docker: &Path) -> Self {
        let address = free_address();
        let mut child = Command::new(binary())
            .args(["-logtostderr", "-v=0", OFF])
            .args([
                "-housekeeping_interval=1s",
                "-allow_dynamic_housekeeping=false",
            ])
            .arg(format!("-docker=unix://{}", docker.display()))
            .arg(format!("-listen_ip={}", address.ip()))
            .arg(format!("-port={}", address.port()))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cadvisor can be run");
        Self {
            log: Log::of(child.stderr.take().expect("a pipe")),
            child,
            address,
        }
    }

    fn answers(&mut self) -> bool {
        let answers = poll(PATIENCE, || {
            if self.child.try_wait().expect("its state").is_some() {
                return Some(false);
            }
            TcpStream::connect(self.address).ok().map(|_| true)
        });
        answers.unwrap_or(false)
    }

    /// What it exports of containers that it looked at after `since`.
    ///
    /// # Panics
    /// Where it does not come to that.
    pub fn after(&self, since: SystemTime, ids: &[String]) -> Metrics {
        wait_for("cadvisor has looked at all containers", PATIENCE, || {
            let stream = TcpStream::connect(self.address).expect("cadvisor");
            let text = exchange(stream, "/metrics").body;
            let (text, times) = without_times(&text);
            let metrics = Metrics::parse(&text);
            let is_new = ids.iter().all(|id| {
                let mut times = times
                    .iter()
                    .filter(|(line, _)| line.contains(&**id))
                    .peekable();
                times.peek().is_some() && times.all(|(_, time)| *time > since)
            });
            is_new.then_some(metrics)
        })
    }
}

impl Drop for Cadvisor {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

/// Splits off the time that follows the value of a sample, in milliseconds since the epoch.
fn without_times(text: &str) -> (String, Vec<(&str, SystemTime)>) {
    let mut without = String::new();
    let mut times = Vec::new();
    for line in text.lines() {
        let mut words = line.rsplitn(3, ' ');
        let (last, value, rest) = (words.next(), words.next(), words.next());
        let time = last.and_then(|it| it.parse::<u64>().ok());
        match (rest, value, time) {
            // A label's value may hold a space, and is followed by a quote.
            (Some(rest), Some(value), Some(time)) if rest.ends_with('}') => {
                without += &format!("{rest} {value}\n");
                let time = UNIX_EPOCH + Duration::from_millis(time);
                times.push((rest, time));
            }
            _ => without += &format!("{line}\n"),
        }
    }
    (without, times)
}

fn binary() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let path = target.join("cadvisor/root/usr/bin/cadvisor");
    assert!(
        path.is_file(),
        "{} is not there: `cargo xtask setup` gets it",
        path.display()
    );
    path
}
