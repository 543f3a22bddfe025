//! The hooks, one a file. Each says the prototype of what it hooks.

mod attach;
mod cgroup;
mod clone;
mod exec;
mod exit;
mod fork;
mod namespace_call;
mod oom;
mod snapshot;
