//! Bounds the number of connections of each peer.
//!
//! The server refuses a connection of a peer at its bound. When a listener is full, the peer with the most connections
//! loses one, so no peer can lock another out. Where each peer has only one, the server closes only a connection
//! without a recent request.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use agent_metrics::traffic::{Reason, Side, Traffic};
use agent_model::lock::lock;

use super::patience::Patience;

/// The peer to whom a connection is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Peer {
    /// A user of this host.
    User(u32),
    /// The unknown user of this host who has the range of user ids that begins with this one.
    Range(u32),
    /// All users of this host, where the kernel does not report which of them made the connection.
    Somebody,
    /// An address of another host. For IPv6 it is the address of the /64 network, because a host can use any address of
    /// that.
    Network(IpAddr),
}

impl Peer {
    /// Returns the peer for an address of another host.
    pub(super) fn at(address: IpAddr) -> Self {
        Self::Network(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// The most connections that may be open at once, of one peer and of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub peer: usize,
    pub side: usize,
}

impl Bounds {
    /// Returns the bounds of a side. `descriptors` is the number that this process may have open.
    ///
    /// Both sides together have at most a quarter of the descriptors, and the files of cgroups half. So at least a
    /// quarter remains for the agent itself, whatever clients do.
    pub(super) fn of(side: Side, descriptors: usize) -> Self {
        let share = descriptors / 8;
        match side {
            Side::Tcp => {
                let side = share.min(512);
                let peer = (side / 4).min(64);
                Self { peer, side }
            }
            // The clients of the unix socket are root, or the one user who runs the agent.
            Side::Unix => {
                let side = share.min(256);
                let peer = side - side / 4;
                Self { peer, side }
            }
        }
    }
}

/// The connections of one side.
#[derive(Debug)]
pub(super) struct Admission {
    side: Side,
    bounds: Bounds,
    traffic: Arc<Traffic>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// The connections, in the order in which they were admitted.
    connections: BTreeMap<u64, (Peer, Patience)>,
    by_peer: HashMap<Peer, usize>,
    next: u64,
}

/// An admitted connection. Dropping it makes room.
#[derive(Debug)]
pub(super) struct Admitted {
    admission: Arc<Admission>,
    number: u64,
    pub patience: Patience,
}

impl Admission {
    pub(super) fn new(side: Side, bounds: Bounds, traffic: Arc<Traffic>) -> Arc<Self> {
        Arc::new(Self {
            side,
            bounds,
            traffic,
            open: Mutex::default(),
        })
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    pub(super) fn count(&self, reason: Reason) {
        self.traffic.count(self.side, reason);
    }

    /// Admits a connection of `peer`, or returns why not.
    pub(super) fn admit(self: &Arc<Self>, peer: Peer) -> Result<Admitted, Reason> {
        let mut open = lock(&self.open);
        let has = open.by_peer.get(&peer).copied().unwrap_or_default();
        // The bound does not apply to [`Peer::Somebody`]: one of these users could lock the others out.
        let is_full = has >= self.bounds.peer && peer != Peer::Somebody;
        let admitted = if is_full {
            Err(Reason::Peer)
        } else if open.connections.len() < self.bounds.side {
            Ok(())
        } else {
            open.make_room(peer, has).ok_or(Reason::Side)
        };
        if let Err(reason) = admitted {
            self.count(reason);
            return Err(reason);
        }
        let number = open.next;
        let patience = Patience::new();
        open.next += 1;
        *open.by_peer.entry(peer).or_default() += 1;
        open.connections.insert(number, (peer, patience.clone()));
        self.traffic.set_open(self.side, open.connections.len());
        Ok(Admitted {
            admission: Arc::clone(self),
            number,
            patience,
        })
    }
}

impl Open {
    /// Ends a connection of a peer with the most connections, if these are more than the `has` that `peer` has.
    ///
    /// It ends the oldest one without a recent request, or else the oldest one. A connection with a recent request
    /// stays if it is its peer's only one, because the new connection has not requested anything yet.
    fn make_room(&mut self, peer: Peer, has: usize) -> Option<()> {
        let most = self.by_peer.values().copied().max()?;
        let of_many = |other: &Peer| self.by_peer.get(other) == Some(&most);
        let own_turn = peer == Peer::Somebody && of_many(&peer);
        if most <= has && !own_turn {
            return None;
        }
        let of_many = || {
            let connections = self.connections.iter();
            connections.filter(|(_, (other, _))| of_many(other))
        };
        let waiting = of_many().find(|(_, (_, patience))| !patience.is_answered());
        let (&number, _) = waiting.or_else(|| of_many().next().filter(|_| most > 1))?;
        self.remove(number)?.cut(Reason::GaveWay);
        Some(())
    }

    fn remove(&mut self, number: u64) -> Option<Patience> {
        let (peer, patience) = self.connections.remove(&number)?;
        if let Some(has) = self.by_peer.get_mut(&peer) {
            *has -= 1;
            if *has == 0 {
                self.by_peer.remove(&peer);
            }
        }
        Some(patience)
    }
}

impl Admitted {
    /// Counts the close of this connection.
    pub(super) fn count(&self, reason: Reason) {
        self.admission.count(reason);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = lock(&self.admission.open);
        open.remove(self.number);
        let Admission { traffic, side, .. } = &*self.admission;
        traffic.set_open(*side, open.connections.len());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BOUNDS: Bounds = Bounds { peer: 3, side: 5 };

    fn admission() -> Arc<Admission> {
        Admission::new(Side::Tcp, BOUNDS, Arc::default())
    }

    fn admit(admission: &Arc<Admission>, users: &[u32]) -> Vec<Admitted> {
        let admitted = users.iter().map(|user| admission.admit(Peer::User(*user)));
        admitted.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn a_peer_has_so_many_and_no_more() {
        let admission = admission();
        let mut open = admit(&admission, &[1, 1, 1]);
        assert_eq!(admission.admit(Peer::User(1)).unwrap_err(), Reason::Peer);
        open.pop();
        open.push(admission.admit(Peer::User(1)).unwrap());
        assert_eq!(admission.traffic.closed(Side::Tcp, Reason::Peer), 1);
        assert_eq!(admission.traffic.open(Side::Tcp), 3);
        drop(open);
        assert_eq!(admission.traffic.open(Side::Tcp), 0);
        assert!(lock(&admission.open).by_peer.is_empty());
    }

    #[tokio::test]
    async fn of_a_full_side_the_peer_with_the_most_makes_room() {
        let admission = admission();
        let open = admit(&admission, &[2, 1, 1, 1, 2]);
        let newcomer = admission.admit(Peer::User(3)).unwrap();
        let mut ended = Vec::new();
        for admitted in &open {
            ended.push(admitted.patience.has_ended().await);
        }
        // The oldest connection of user 1 was closed.
        assert_eq!(ended, [false, true, false, false, false]);
        assert!(!newcomer.patience.has_ended().await);
        // No peer has more connections than user 2 has.
        assert_eq!(admission.admit(Peer::User(2)).unwrap_err(), Reason::Side);
        drop(open);
        drop(newcomer);
        assert!(lock(&admission.open).connections.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_being_answered_does_not_give_way_to_who_has_not_asked() {
        let admission = admission();
        let open = admit(&admission, &[1, 2, 3, 4, 5]);
        for admitted in &open[..2] {
            admitted.patience.answer();
        }
        let mut newcomers = admit(&admission, &[6, 7, 8]);
        assert!(!open[0].patience.has_ended().await && !open[1].patience.has_ended().await);
        assert!(open[2].patience.has_ended().await && open[4].patience.has_ended().await);
        for admitted in &newcomers {
            admitted.patience.answer();
        }
        assert_eq!(admission.admit(Peer::User(9)).unwrap_err(), Reason::Side);
        // A peer with more than one connection loses one, even with recent requests.
        newcomers.pop();
        let second = admission.admit(Peer::User(1)).unwrap();
        second.patience.answer();
        let _nine = admission.admit(Peer::User(9)).unwrap();
        assert!(open[0].patience.has_ended().await);
        // A request counts as recent only for 10 seconds.
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(admission.admit(Peer::User(10)).is_ok());
    }

    #[tokio::test]
    async fn of_those_who_cannot_be_told_apart_the_oldest_makes_room() {
        let admission = admission();
        let open: Vec<_> = (0..BOUNDS.side)
            .map(|_| admission.admit(Peer::Somebody).unwrap())
            .collect();
        let _newcomer = admission.admit(Peer::Somebody).unwrap();
        assert!(open[0].patience.has_ended().await);
        assert!(!open[1].patience.has_ended().await);
    }

    #[test]
    fn a_network_of_ipv6_is_one_peer() {
        let at = |address: &str| Peer::at(address.parse().unwrap());
        assert_eq!(at("2001:db8:1:2::3"), at("2001:db8:1:2:9::7"));
        assert_ne!(at("2001:db8:1:2::3"), at("2001:db8:1:3::3"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
        assert_ne!(at("192.0.2.2"), at("192.0.2.1"));
    }

    #[test]
    fn half_of_all_descriptors_are_never_a_clients() {
        for descriptors in [256, 1024, 20_000, 1 << 20] {
            let sides = Side::ALL.map(|side| Bounds::of(side, descriptors));
            let all: usize = sides.iter().map(|bounds| bounds.side).sum();
            assert!(all <= descriptors / 4);
            assert!(sides.iter().all(|it| 0 < it.peer && it.peer < it.side));
        }
    }
}
