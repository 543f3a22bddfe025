//! Finds the user who holds the other end of a TCP connection, where that end is on this host: the kernel reports it by
//! sock_diag(7).

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags,
};
use netlink_packet_sock_diag::{AF_INET, AF_INET6, IPPROTO_TCP, SockDiagMessage};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as NetlinkAddress};
use rustix::net::{RecvFlags, SendFlags};

/// The cookie of a request for any socket with the addresses (`INET_DIAG_NOCOOKIE`).
const ANY_COOKIE: [u8; 8] = [0xff; 8];

/// The most bytes of an answer about one socket, with its attributes.
const ANSWER_MAX: usize = 4096;

/// The holder of the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FarEnd {
    /// A process of this user made the socket.
    User(u32),
    /// The socket is closed: no process holds it.
    Gone,
    /// The socket is not in this network namespace, so the connection came over a network.
    Elsewhere,
}

/// Asks the kernel for the holders of the other ends of connections.
pub struct FarEnds {
    kernel: Socket,
    sequence: u32,
}

impl FarEnds {
    /// Returns None where this kernel does not report the holders, as its modules inet_diag and tcp_diag are missing.
    pub fn new() -> Option<Self> {
        let mut holders = Self::connect().ok()?;
        // A kernel without the modules answers that there is no such socket, whether or not there is one.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
        let client = TcpStream::connect(listener.local_addr().ok()?).ok()?;
        let told = holders.of(client.local_addr().ok()?, listener.local_addr().ok()?);
        matches!(told, Ok(FarEnd::User(_))).then_some(holders)
    }

    fn connect() -> io::Result<Self> {
        let mut kernel = Socket::new(NETLINK_SOCK_DIAG)?;
        kernel.bind_auto()?;
        kernel.connect(&NetlinkAddress::new(0, 0))?;
        Ok(Self {
            kernel,
            sequence: 0,
        })
    }

    /// Returns the holder of the socket that has the address `peer` and is connected to `local`. Does not wait.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn of(&mut self, peer: SocketAddr, local: SocketAddr) -> io::Result<FarEnd> {
        self.sequence = self.sequence.wrapping_add(1);
        self.ask(peer, local)?;
        let mut answer = [0; ANSWER_MAX];
        loop {
            // The kernel answers before `send` returns.
            let (length, _) =
                rustix::net::recv(self.kernel.as_fd(), &mut answer[..], RecvFlags::DONTWAIT)?;
            let answer = answer.get(..length).unwrap_or_default();
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(answer);
            let message = message.map_err(|error| io::Error::other(error.to_string()))?;
            // An error may have left the answer to an earlier request unread.
            if message.header.sequence_number == self.sequence {
                return holder(message.payload, peer, local);
            }
        }
    }

    fn ask(&self, peer: SocketAddr, local: SocketAddr) -> io::Result<()> {
        // A client's IPv4 socket may be connected to an IPv6 listener.
        let (source_address, destination_address) =
            (peer.ip().to_canonical(), local.ip().to_canonical());
        let family = match source_address {
            IpAddr::V4(_) => AF_INET,
            IpAddr::V6(_) => AF_INET6,
        };
        let request = InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::all(),
            socket_id: SocketId {
                source_port: peer.port(),
                destination_port: local.port(),
                source_address,
                destination_address,
                interface_id: scope(peer),
                cookie: ANY_COOKIE,
            },
        };
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        rustix::net::send(self.kernel.as_fd(), &bytes, SendFlags::DONTWAIT)?;
        Ok(())
    }
}

/// The interface of a link-local address; 0 for any other address.
fn scope(address: SocketAddr) -> u32 {
    match address {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(address) => address.scope_id(),
    }
}

fn holder(
    answer: NetlinkPayload<SockDiagMessage>,
    peer: SocketAddr,
    local: SocketAddr,
) -> io::Result<FarEnd> {
    match answer {
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found))
            if is_connected(&found.header, local) =>
        {
            Ok(FarEnd::User(found.header.uid))
        }
        // The socket is a listener on the client's port, or what is left of a closed socket.
        NetlinkPayload::InnerMessage(_) => Ok(FarEnd::Gone),
        NetlinkPayload::Error(error) if error.raw_code() == -libc::ENOENT => {
            let same = peer.ip() == local.ip() || peer.ip().to_canonical().is_loopback();
            Ok(if same {
                FarEnd::Gone
            } else {
                FarEnd::Elsewhere
            })
        }
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Whether a process holds the socket, and the socket is connected to `local`. A closed socket has no inode, and its
/// uid is root's.
fn is_connected(socket: &InetResponseHeader, local: SocketAddr) -> bool {
    socket.inode != 0 && socket.socket_id.destination_port == local.port()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    /// Returns None where the kernel's modules are missing: then the tests check nothing.
    fn told(listen: IpAddr, connect: IpAddr) -> Option<[FarEnd; 2]> {
        let mut holders = FarEnds::new()?;
        let listener = TcpListener::bind((listen, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect((connect, port)).unwrap();
        let (served, peer) = listener.accept().unwrap();
        let local = served.local_addr().unwrap();
        let open = holders.of(peer, local).unwrap();
        drop(client);
        Some([open, holders.of(peer, local).unwrap()])
    }

    #[test]
    fn a_connection_is_of_the_user_who_holds_its_socket() {
        let (v4, v6) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped().into();
        let any = Ipv6Addr::UNSPECIFIED.into();
        let own = rustix::process::getuid().as_raw();
        for (listen, connect) in [(v4, v4), (v6, v6), (v4, mapped), (any, v4), (any, v6)] {
            if let Some(told) = told(listen, connect) {
                let wanted = [FarEnd::User(own), FarEnd::Gone];
                assert_eq!(told, wanted, "{listen} {connect}");
            }
        }
    }

    #[test]
    fn what_no_socket_here_has_came_over_a_network() {
        if let Some(mut holders) = FarEnds::new() {
            let peer = "192.0.2.7:4000".parse().unwrap();
            let local = "192.0.2.8:9464".parse().unwrap();
            assert_eq!(holders.of(peer, local).unwrap(), FarEnd::Elsewhere);
        }
    }
}
