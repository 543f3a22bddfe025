//! Prepares the ids, capabilities and resource limits of the command.

use std::collections::HashSet;
use std::ffi::CString;
use std::str::FromStr as _;

use oci_spec::runtime::{Capability, LinuxCapabilities, PosixRlimitType, Process};
use rustix::fs::Mode;
use rustix::process::{Gid, Resource, Rlimit, Uid, getrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::text;
use crate::launch::Error;

const DEFAULT_UMASK: u32 = 0o022;

const RESOURCES: [(PosixRlimitType, Resource); 16] = [
    (PosixRlimitType::RlimitCpu, Resource::Cpu),
    (PosixRlimitType::RlimitFsize, Resource::Fsize),
    (PosixRlimitType::RlimitData, Resource::Data),
    (PosixRlimitType::RlimitStack, Resource::Stack),
    (PosixRlimitType::RlimitCore, Resource::Core),
    (PosixRlimitType::RlimitRss, Resource::Rss),
    (PosixRlimitType::RlimitNproc, Resource::Nproc),
    (PosixRlimitType::RlimitNofile, Resource::Nofile),
    (PosixRlimitType::RlimitMemlock, Resource::Memlock),
    (PosixRlimitType::RlimitAs, Resource::As),
    (PosixRlimitType::RlimitLocks, Resource::Locks),
    (PosixRlimitType::RlimitSigpending, Resource::Sigpending),
    (PosixRlimitType::RlimitMsgqueue, Resource::Msgqueue),
    (PosixRlimitType::RlimitNice, Resource::Nice),
    (PosixRlimitType::RlimitRtprio, Resource::Rtprio),
    (PosixRlimitType::RlimitRttime, Resource::Rttime),
];

#[derive(Debug)]
pub(crate) struct ProcessIdentity {
    pub uid: Uid,
    pub gid: Gid,
    pub groups: Vec<Gid>,
    pub umask: Mode,
    pub bounding: u64,
    pub capabilities: CapabilitySets,
    pub ambient: u64,
    pub no_new_privileges: bool,
    pub limits: Vec<Limit>,
}

#[derive(Debug)]
pub(crate) struct Limit {
    pub resource: Resource,
    pub limit: Rlimit,
    pub subject: CString,
}

impl ProcessIdentity {
    pub(crate) fn new(process: &Process) -> Result<Self, Error> {
        let user = process.user();
        let groups = user.additional_gids().as_deref().unwrap_or_default();
        let sets = process.capabilities().as_ref();
        let set = |which: fn(&LinuxCapabilities) -> &Option<HashSet<Capability>>| {
            bits(sets.and_then(|sets| which(sets).as_ref()))
        };
        let (permitted, inheritable) = (
            set(LinuxCapabilities::permitted)?,
            set(LinuxCapabilities::inheritable)?,
        );
        Ok(Self {
            uid: uid(user.uid())?,
            gid: gid(user.gid())?,
            groups: groups
                .iter()
                .map(|group| gid(*group))
                .collect::<Result<_, _>>()?,
            umask: Mode::from_raw_mode(user.umask().unwrap_or(DEFAULT_UMASK)),
            bounding: set(LinuxCapabilities::bounding)?,
            capabilities: CapabilitySets {
                effective: CapabilitySet::from_bits_retain(set(LinuxCapabilities::effective)?),
                permitted: CapabilitySet::from_bits_retain(permitted),
                inheritable: CapabilitySet::from_bits_retain(inheritable),
            },
            // A capability can be ambient only while it is permitted and inheritable (capabilities(7)). The spec that
            // `runc spec` writes lists others as well, and they are left out.
            ambient: set(LinuxCapabilities::ambient)? & permitted & inheritable,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            limits: limits(process)?,
        })
    }
}

/// Refuses `u32::MAX`, which setresuid(2) takes as "leave unchanged".
fn uid(id: u32) -> Result<Uid, Error> {
    if id == u32::MAX {
        return Err(Error::invalid(format!("user {id}: no such user id")));
    }
    Ok(Uid::from_raw(id))
}

fn gid(id: u32) -> Result<Gid, Error> {
    if id == u32::MAX {
        return Err(Error::invalid(format!("group {id}: no such group id")));
    }
    Ok(Gid::from_raw(id))
}

fn bits(set: Option<&HashSet<Capability>>) -> Result<u64, Error> {
    let mut bits = 0;
    for capability in set.into_iter().flatten() {
        let name = format!("CAP_{capability}");
        let capability = caps::Capability::from_str(&name)
            .map_err(|_| Error::invalid(format!("capability {name}: not known")))?;
        bits |= capability.bitmask();
    }
    Ok(bits)
}

/// Prepares the resource limits. Refuses a limit above this process's hard limit here, because the kernel's error would
/// not name that reason.
fn limits(process: &Process) -> Result<Vec<Limit>, Error> {
    let mut limits = Vec::new();
    for wanted in process.rlimits().as_deref().unwrap_or_default() {
        let name = wanted.typ().to_string();
        let Some((_, resource)) = RESOURCES.iter().find(|(typ, _)| *typ == wanted.typ()) else {
            return Err(Error::invalid(format!("{name}: not known")));
        };
        let limit = Rlimit {
            current: value(wanted.soft()),
            maximum: value(wanted.hard()),
        };
        let mine = getrlimit(*resource).maximum;
        let is_above = |limit: Option<u64>| match (limit, mine) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(limit), Some(mine)) => limit > mine,
        };
        if is_above(limit.maximum) && !may_raise() {
            return Err(Error::invalid(format!(
                "ulimit {name}: {} is above this process's hard limit {}; raise that first, with CAP_SYS_RESOURCE",
                shown(limit.maximum),
                shown(mine),
            )));
        }
        if *resource == Resource::Nofile
            && let Some(reason) = too_few_descriptors(wanted.soft())
        {
            return Err(Error::invalid(format!("ulimit {name}: {reason}")));
        }
        limits.push(Limit {
            resource: *resource,
            limit,
            subject: text(&name)?,
        });
    }
    Ok(limits)
}

/// Returns why a process cannot be launched with `soft` descriptors, where they are too few. It needs its three
/// streams, and one descriptor to report that its program cannot be executed.
pub fn too_few_descriptors(soft: u64) -> Option<String> {
    const LEAST: u64 = 4;
    (soft < LEAST).then(|| {
        format!("{soft} descriptors are too few for a program to be executed; wanted are {LEAST} or more")
    })
}

fn may_raise() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RESOURCE))
}

const fn value(limit: u64) -> Option<u64> {
    match limit {
        u64::MAX => None,
        limit => Some(limit),
    }
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}
