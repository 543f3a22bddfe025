//! The life of containers of `agent run`: streams, signals, ends, and that nothing is left of them.

mod detached;
mod foreground;
mod former;
mod killed;
mod many;
mod renumbered;
mod signals;
mod sweep;
mod terminal;
mod waits;
