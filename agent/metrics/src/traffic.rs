//! Counters of the connections to the agent's HTTP servers. The server counts, and the agent's own metrics export the
//! counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// One of the two servers.
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
    /// The peer had as many connections as one peer may have.
    Peer,
    /// The side had as many connections as it may have, and no peer had more than this one.
    Side,
    /// The connection made room for one of another peer.
    GaveWay,
    /// The client did not send a request, or did not read an answer or the lines of a stream, in time.
    Deadline,
    /// The process or the kernel had no descriptor or memory for the connection.
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

    /// Returns the number of open connections.
    pub fn open(&self, side: Side) -> u64 {
        self.open[side as usize].load(Ordering::Relaxed)
    }

    /// Returns the number of connections that the agent closed by itself.
    pub fn closed(&self, side: Side, reason: Reason) -> u64 {
        self.closed[side as usize][reason as usize].load(Ordering::Relaxed)
    }
}
