//! Network interfaces of a container.
