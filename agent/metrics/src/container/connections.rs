//! The families of TCP connections and UDP sockets.

use agent_host::connections::{TCP_STATES, TcpConnections, UdpSockets};

use super::{Samples, Source};
use crate::catalogue;
use crate::text::Value;

pub const SOURCES: &[Source] = &[
    Source {
        metric: &catalogue::TCP_USAGE,
        write: |cgroup, out| tcp(cgroup.on_request.connections.tcp[0], out),
    },
    Source {
        metric: &catalogue::TCP6_USAGE,
        write: |cgroup, out| tcp(cgroup.on_request.connections.tcp[1], out),
    },
    Source {
        metric: &catalogue::UDP_USAGE,
        write: |cgroup, out| udp(cgroup.on_request.connections.udp[0], out),
    },
    Source {
        metric: &catalogue::UDP6_USAGE,
        write: |cgroup, out| udp(cgroup.on_request.connections.udp[1], out),
    },
];

fn tcp(connections: Option<TcpConnections>, out: &mut Samples<'_, '_>) {
    for (state, count) in TCP_STATES.iter().zip(connections.iter().flatten()) {
        out.push(&[state], Value::Number(*count));
    }
}

fn udp(sockets: Option<UdpSockets>, out: &mut Samples<'_, '_>) {
    let Some(sockets) = sockets else { return };
    for (state, count) in [
        ("listen", sockets.listen),
        ("dropped", sockets.dropped),
        ("rxqueued", sockets.rx_queued),
        ("txqueued", sockets.tx_queued),
    ] {
        out.push(&[state], Value::Number(count));
    }
}
