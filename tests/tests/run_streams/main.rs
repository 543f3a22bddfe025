//! Standard streams and logs of containers: they are relayed, and nothing of them is lost, mixed up or the host's.

mod exec;
mod foreground;
mod full;
mod kinds;
mod lines;
mod logs;
mod terminals;
