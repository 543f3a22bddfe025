//! Sends requests to the kernel by rtnetlink(7). Each request waits for its answer.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::process::Pid;

use super::GROUP;

/// A netlink socket in a network namespace.
pub(super) struct LinkSocket(Socket);

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NetworkLink {
    pub index: u32,
    pub name: String,
    pub kind: LinkKind,
    pub group: u32,
    pub alias: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkKind {
    Bridge,
    Pair,
    Other,
}

/// A default route.
pub(super) struct Route {
    pub gateway: Ipv4Addr,
}

impl AsFd for LinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl LinkSocket {
    /// Opens a socket in this thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    pub(crate) fn find(&self, name: &str) -> io::Result<Option<NetworkLink>> {
        let mut wanted = LinkMessage::default();
        wanted
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        match self.ask(Message::GetLink(wanted), NLM_F_ACK) {
            Ok(answers) => Ok(answers.links().next()),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the interfaces of a kind. An interface that the crate cannot parse is left out; it is none of the
    /// agent's.
    pub(crate) fn all(&self, kind: LinkKind) -> io::Result<Vec<NetworkLink>> {
        let mut wanted = LinkMessage::default();
        if kind == LinkKind::Bridge {
            wanted
                .attributes
                .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(
                    InfoKind::Bridge,
                )]));
        }
        let answers = self.ask(Message::GetLink(wanted), NLM_F_DUMP)?;
        Ok(answers.links().filter(|link| link.kind == kind).collect())
    }

    /// Whether a bridge has ports. A message that cannot be parsed counts as a port.
    pub(crate) fn has_ports(&self, bridge: u32) -> io::Result<bool> {
        let mut wanted = LinkMessage::default();
        wanted.attributes.push(LinkAttribute::Controller(bridge));
        let answers = self.ask(Message::GetLink(wanted), NLM_F_DUMP)?;
        Ok(answers.unreadable
            || answers.messages.iter().any(|message| match message {
                Message::NewLink(link) => {
                    link.attributes.contains(&LinkAttribute::Controller(bridge))
                }
                _ => false,
            }))
    }

    /// Makes a pair of interfaces. `outside` is in this namespace and up. `inside` is in the namespace of `pid` and not
    /// up, because the kernel cannot bring it up before its peer exists.
    pub(crate) fn add_pair(
        &self,
        outside: &str,
        inside: &str,
        pid: Pid,
        bridge: Option<u32>,
    ) -> io::Result<()> {
        let mut peer = LinkMessage::default();
        peer.attributes
            .push(LinkAttribute::IfName(inside.to_owned()));
        peer.attributes
            .push(LinkAttribute::NetNsPid(pid.as_raw_nonzero().get() as u32));
        let mut link = up();
        link.attributes
            .push(LinkAttribute::IfName(outside.to_owned()));
        link.attributes.push(LinkAttribute::Group(GROUP));
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        link.attributes
            .extend(bridge.map(LinkAttribute::Controller));
        self.make(Message::NewLink(link))
    }

    pub(crate) fn add_bridge(&self, name: &str) -> io::Result<()> {
        let mut link = up();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        link.attributes.push(LinkAttribute::Group(GROUP));
        link.attributes
            .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(
                InfoKind::Bridge,
            )]));
        self.make(Message::NewLink(link))
    }

    pub(crate) fn set_up(&self, index: u32) -> io::Result<()> {
        let mut link = up();
        link.header.index = index;
        self.ask(Message::SetLink(link), NLM_F_ACK).map(drop)
    }

    pub(crate) fn set_alias(&self, name: &str, alias: &str) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        link.attributes
            .push(LinkAttribute::IfAlias(alias.to_owned()));
        self.ask(Message::SetLink(link), NLM_F_ACK).map(drop)
    }

    pub(crate) fn remove(&self, index: u32) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        self.ask(Message::DelLink(link), NLM_F_ACK).map(drop)
    }

    pub(crate) fn addresses(&self, index: u32) -> io::Result<Vec<Ipv4Addr>> {
        let mut wanted = AddressMessage::default();
        wanted.header.family = AddressFamily::Inet;
        let answers = self.ask(Message::GetAddress(wanted), NLM_F_DUMP)?;
        let of_link = answers.messages.iter().filter_map(|message| match message {
            Message::NewAddress(address) if address.header.index == index => Some(address),
            _ => None,
        });
        Ok(of_link
            .flat_map(|address| &address.attributes)
            .filter_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
                _ => None,
            })
            .collect())
    }

    pub(crate) fn add_address(&self, index: u32, address: Ipv4Addr, length: u8) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = length;
        message.header.index = index;
        message
            .attributes
            .push(AddressAttribute::Local(address.into()));
        message
            .attributes
            .push(AddressAttribute::Address(address.into()));
        if length < 31 {
            let broadcast = address.to_bits() | (u32::MAX >> length);
            let broadcast = Ipv4Addr::from_bits(broadcast);
            message
                .attributes
                .push(AddressAttribute::Broadcast(broadcast));
        }
        self.make(Message::NewAddress(message))
    }

    pub(crate) fn add_route(&self, route: &Route) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = netlink_packet_route::route::RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        message
            .attributes
            .push(RouteAttribute::Gateway(RouteAddress::Inet(route.gateway)));
        self.make(Message::NewRoute(message))
    }

    fn make(&self, message: Message) -> io::Result<()> {
        self.ask(message, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
            .map(drop)
    }

    /// Sends a request and reads all of its answer.
    fn ask(&self, message: Message, flags: u16) -> io::Result<Answers> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = 1;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        let sent = rustix::io::retry_on_intr(|| {
            rustix::net::send(self.0.as_fd(), &bytes, rustix::net::SendFlags::empty())
        })?;
        if sent != bytes.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let mut answers = Answers::default();
        loop {
            let datagram = self.receive()?;
            if answers.add(&datagram)? {
                return Ok(answers);
            }
        }
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        loop {
            match self.0.recv_from_full() {
                Ok((datagram, _)) => return Ok(datagram),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The messages of the kernel's answer.
#[derive(Default)]
struct Answers {
    messages: Vec<Message>,
    /// Whether the kernel sent a message that the crate cannot parse.
    unreadable: bool,
}

impl Answers {
    /// Adds a datagram. Returns whether it was the last one.
    fn add(&mut self, datagram: &[u8]) -> io::Result<bool> {
        /// Returns the length that each message begins with.
        fn length(message: &[u8]) -> Option<usize> {
            let bytes = message.first_chunk::<4>()?;
            let length = u32::from_ne_bytes(*bytes) as usize;
            (length >= 16 && length <= message.len()).then_some(length)
        }
        let mut rest = datagram;
        while !rest.is_empty() {
            let length = length(rest).ok_or(io::ErrorKind::InvalidData)?;
            let (message, behind) = rest.split_at(length);
            rest = behind
                .get(length.next_multiple_of(4) - length..)
                .unwrap_or_default();
            match NetlinkMessage::<Message>::deserialize(message).map(|message| message.payload) {
                Ok(NetlinkPayload::InnerMessage(message)) => self.messages.push(message),
                Ok(NetlinkPayload::Done(_)) => return Ok(true),
                Ok(NetlinkPayload::Error(error)) if error.code.is_none() => return Ok(true),
                Ok(NetlinkPayload::Error(error)) => return Err(error.to_io()),
                Ok(_) => {}
                Err(_) => self.unreadable = true,
            }
        }
        Ok(false)
    }

    fn links(&self) -> impl Iterator<Item = NetworkLink> {
        self.messages.iter().filter_map(|message| match message {
            Message::NewLink(link) => Some(read(link)),
            _ => None,
        })
    }
}

fn up() -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link
}

fn read(message: &LinkMessage) -> NetworkLink {
    let mut link = NetworkLink {
        index: message.header.index,
        name: String::new(),
        kind: LinkKind::Other,
        group: 0,
        alias: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Group(group) => link.group = *group,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
            LinkAttribute::LinkInfo(all) => {
                for info in all {
                    match info {
                        LinkInfo::Kind(InfoKind::Bridge) => link.kind = LinkKind::Bridge,
                        LinkInfo::Kind(InfoKind::Veth) => link.kind = LinkKind::Pair,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    link
}
