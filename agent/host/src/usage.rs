//! What this process itself uses: proc_pid_stat(5).

use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, getrlimit};

use super::Error;
use super::file::{File, number, words};
use super::open_files;
use super::process::{Process, TICK};
use super::system::page_size;

/// The resources of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnUsage {
    /// CPU time, user and system.
    pub cpu: Duration,
    pub threads: u64,
    /// Bytes.
    pub virtual_memory: u64,
    pub resident_memory: u64,
    pub descriptors: u64,
    /// `None`: no limit.
    pub descriptors_limit: Option<u64>,
    pub started: SystemTime,
}

impl OwnUsage {
    /// Reads the resources of this process.
    ///
    /// # Errors
    /// A file cannot be read or parsed.
    pub fn read(root: &Path) -> Result<Self, Error> {
        let pid = std::process::id();
        let process = Process::new(root, pid);
        let stat = File::read(process.path("stat"))?;
        // Field 2 is the name, which may hold parentheses.
        let end = stat.bytes.iter().rposition(|&byte| byte == b')');
        let rest = &stat.bytes[end.map_or(0, |end| end + 1)..];
        let fields: Vec<&[u8]> = words(rest).collect();
        let field = |at: usize| {
            let field = fields.get(at - 3).and_then(|word| number::<u64>(word));
            field.ok_or_else(|| stat.malformed(&stat.bytes, "the fields of proc_pid_stat(5)"))
        };
        let ticks = field(14)?.saturating_add(field(15)?);
        Ok(Self {
            cpu: Duration::from_nanos(ticks.saturating_mul(TICK)),
            threads: field(20)?,
            virtual_memory: field(23)?,
            resident_memory: field(24)?.saturating_mul(page_size()),
            descriptors: open_files::of_process(root, pid)?.descriptors,
            descriptors_limit: getrlimit(Resource::Nofile).current,
            started: process.started_at()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_this_test() {
        let usage = OwnUsage::read(Path::new("/")).unwrap();
        assert!(usage.threads > 1 && usage.descriptors > 2, "{usage:?}");
        assert!(usage.virtual_memory > usage.resident_memory, "{usage:?}");
        assert!(usage.resident_memory > 1 << 20, "{usage:?}");
        assert!(usage.started < SystemTime::now(), "{usage:?}");
    }
}
