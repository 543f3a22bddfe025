//! The grammar of cgroup paths.
