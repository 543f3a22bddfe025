//! The cgroup of a container, in every hierarchy: made, limited, read back, killed, removed.
