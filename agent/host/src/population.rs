//! The processes in a cgroup and in those below it, and which of them run or wait for a CPU.

use std::path::Path;

use super::cgroup::Directory;
use super::control::Control;
use super::file::File;

/// Returns the pids of the processes in the cgroup with this directory, and in those below it.
pub fn processes(directory: &Directory) -> Vec<i32> {
    let mut found = Vec::new();
    let mut add = |cgroup: &Control| {
        // A cgroup whose processes cannot be read is one that is removed meanwhile.
        found.extend(cgroup.processes().unwrap_or_default());
        Ok(true)
    };
    let cgroup = Control::open(directory.version, &directory.path);
    let _ = cgroup.and_then(|it| it.walk(&mut add, &mut |_, _| Ok(())));
    found
}

/// Returns how many threads of these processes run or wait for a CPU at this moment, counted up to `enough`. Returns
/// `None` where there are processes and none of them can be read.
pub fn runnable(root: &Path, pids: &[i32], enough: usize) -> Option<usize> {
    let mut seen = pids.is_empty();
    let mut count = 0;
    for pid in pids {
        let threads = std::fs::read_dir(root.join(format!("proc/{pid}/task")));
        for thread in threads.into_iter().flatten().flatten() {
            let Ok(status) = File::read(thread.path().join("status")) else {
                continue;
            };
            seen = true;
            count += usize::from(status.word_of("State:") == Some(b"R"));
            if count >= enough {
                return Some(count);
            }
        }
    }
    seen.then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::PROCESSES;
    use crate::fixture::{deep, directory, tree};

    #[test]
    fn those_below_are_in_it() {
        let root = tree(&[
            ("cg/a/cgroup.procs", "7\n8\n"),
            ("cg/a/b/cgroup.procs", "9\n"),
            ("cg/a/b/c/cgroup.procs", "\n"),
            ("cg/d/cgroup.procs", "10\n"),
        ]);
        let mut found = processes(&directory(&root, "cg/a"));
        found.sort_unstable();
        assert_eq!(found, [7, 8, 9]);
        assert!(processes(&directory(&root, "cg/none")).is_empty());
    }

    #[test]
    fn no_depth_hides_a_process() {
        let root = tree(&[("cg/", "")]);
        let cgroup = directory(&root, "cg");
        deep(&cgroup, &[(PROCESSES, "7\n")], || {
            assert_eq!(processes(&cgroup), [7]);
        });
    }

    #[test]
    fn threads_that_want_a_cpu() {
        let root = tree(&[
            ("proc/7/task/7/status", "State:\tR (running)\n"),
            ("proc/7/task/17/status", "State:\tR (running)\n"),
            ("proc/8/task/8/status", "State:\tS (sleeping)\n"),
        ]);
        let of = |pids: &[i32], enough| runnable(root.path(), pids, enough);
        assert_eq!(of(&[7, 8], 9), Some(2));
        assert_eq!(of(&[7, 8], 1), Some(1));
        assert_eq!(of(&[], 1), Some(0));
        assert_eq!(of(&[9], 1), None);
    }
}
