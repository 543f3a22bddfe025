//! From order to end: the process that stays with a container.
