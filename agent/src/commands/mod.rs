//! One file a subcommand: its arguments, and how its parts are put together.

pub mod watch;
