//! What the agent's HTTP servers did with connections: counted by the server, exported with the agent's own metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Which of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Tcp,
    Unix,
}

impl Side {
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Unix];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
        }
    }
}

/// Why the agent closed a connection by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its peer had as many as one may have.
    Peer,
    /// The side had as many as it may have, and no peer had more than this one.
    Side,
    /// It made room for another peer's.
    GaveWay,
    /// Its client did not send a request, or did not read an answer or the lines of a stream, in time.
    Deadline,
    /// There was no descriptor for it.
    Descriptors,
}

impl Reason {
    pub const ALL: [Self; 5] = [
        Self::Peer,
        Self::Side,
        Self::GaveWay,
        Self::Deadline,
        Self::Descriptors,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Side => "side",
            Self::GaveWay => "gave_way",
            Self::Deadline => "deadline",
            Self::Descriptors => "descriptors",
        }
    }
}

/// The counts of both sides.
#[derive(Debug, Default)]
pub struct Traffic {
    open: [AtomicU64; Side::ALL.len()],
    closed: [[AtomicU64; Reason::ALL.len()]; Side::ALL.len()],
}

impl Traffic {
    pub fn set_open(&self, side: Side, open: usize) {
        self.open[side as usize].store(open as u64, Ordering::Relaxed);
    }

    pub fn count(&self, side: Side, reason: Reason) {
        self.closed[side as usize][reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Connections that are open.
    pub fn open(&self, side: Side) -> u64 {
        self.open[side as usize].load(Ordering::Relaxed)
    }

    /// Connections that the agent closed by itself.
    pub fn closed(&self, side: Side, reason: Reason) -> u64 {
        self.closed[side as usize][reason as usize].load(Ordering::Relaxed)
    }
}
