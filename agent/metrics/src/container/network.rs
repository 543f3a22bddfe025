//! The families of network traffic, by interface.

use agent_host::network::Interface;

use super::{Cgroup, Samples, Source};
use crate::catalogue;
use crate::text::Value;

pub const SOURCES: &[Source] = &[
    Source {
        metric: &catalogue::NETWORK_RECEIVE_BYTES,
        write: |cgroup, out| each(cgroup, out, |interface| interface.receive.bytes),
    },
    Source {
        metric: &catalogue::NETWORK_RECEIVE_PACKETS,
        write: |cgroup, out| each(cgroup, out, |interface| interface.receive.packets),
    },
    Source {
        metric: &catalogue::NETWORK_RECEIVE_DROPPED,
        write: |cgroup, out| each(cgroup, out, |interface| interface.receive.dropped),
    },
    Source {
        metric: &catalogue::NETWORK_RECEIVE_ERRORS,
        write: |cgroup, out| each(cgroup, out, |interface| interface.receive.errors),
    },
    Source {
        metric: &catalogue::NETWORK_TRANSMIT_BYTES,
        write: |cgroup, out| each(cgroup, out, |interface| interface.transmit.bytes),
    },
    Source {
        metric: &catalogue::NETWORK_TRANSMIT_PACKETS,
        write: |cgroup, out| each(cgroup, out, |interface| interface.transmit.packets),
    },
    Source {
        metric: &catalogue::NETWORK_TRANSMIT_DROPPED,
        write: |cgroup, out| each(cgroup, out, |interface| interface.transmit.dropped),
    },
    Source {
        metric: &catalogue::NETWORK_TRANSMIT_ERRORS,
        write: |cgroup, out| each(cgroup, out, |interface| interface.transmit.errors),
    },
];

fn each(cgroup: &Cgroup, out: &mut Samples<'_, '_>, value: fn(&Interface) -> u64) {
    for interface in &cgroup.interfaces {
        out.push(&[&interface.name], Value::Number(value(interface)));
    }
}
