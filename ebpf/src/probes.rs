//! The programs at the kernel's hooks, a file for each group of hooks. Each file states the prototypes of its hooks.

mod attach;
mod cgroup;
mod exec;
mod exit;
mod fork;
mod oom;
mod snapshot;
mod syscall;
mod trampoline;
