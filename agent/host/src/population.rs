//! The processes in a cgroup and in those below it, and which of them run or wait for a CPU.

use std::path::{Path, PathBuf};

use super::control::PROCESSES;
use super::file::File;

/// How many levels below the given cgroup are read. Processes in deeper cgroups are not found.
const DEEPEST: usize = 64;

/// Returns the pids of the processes in the cgroup with this directory, and in those below it.
pub fn processes(directory: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    add(directory, DEEPEST, &mut found);
    found
}

fn add(directory: &Path, depth: usize, found: &mut Vec<i32>) {
    // A cgroup that is removed meanwhile has no processes.
    let text = File::read(directory.join(PROCESSES)).and_then(|file| file.string());
    let text = text.unwrap_or_default();
    found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    for below in below(directory) {
        add(&below, depth, found);
    }
}

/// Returns the directories of a cgroup's children.
pub fn below(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|it| it.is_dir()));
    directories.map(|entry| entry.path())
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
    use crate::fixture::tree;

    #[test]
    fn those_below_are_in_it() {
        let root = tree(&[
            ("cg/a/cgroup.procs", "7\n8\n"),
            ("cg/a/b/cgroup.procs", "9\n"),
            ("cg/a/b/c/cgroup.procs", "\n"),
            ("cg/d/cgroup.procs", "10\n"),
        ]);
        let mut found = processes(&root.path().join("cg/a"));
        found.sort_unstable();
        assert_eq!(found, [7, 8, 9]);
        assert!(processes(&root.path().join("cg/none")).is_empty());
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
