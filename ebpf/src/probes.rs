//! The hooks, one a file. Each says the prototype of what it hooks.

mod attach;
mod cgroup;
mod exec;
mod exit;
mod fork;
mod oom;
mod snapshot;
mod syscall;
mod trampoline;
