//! The hooks, one a file. Each says the prototype of what it hooks.

mod cgroup;
mod clone;
mod exec;
mod exit;
mod namespace_call;
mod oom;
mod snapshot;
