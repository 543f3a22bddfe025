//! Docker's default profile.

use caps::Capability;
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator,
};

use super::{calls, compile, profile, rule};

/// All flags of clone(2) that make a namespace.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// The allowed arguments of personality(2): `PER_LINUX`, `PER_LINUX32`, `UNAME26`, these two together, and 0xffffffff,
/// which reads the current one.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The allowed families of sockets, as mask and value: all but `AF_ALG` (38) and `AF_VSOCK` (40). The kernel uses only
/// the lower half of the argument, so the mask must too. 38 with a bit in the upper half is still 38.
const FAMILIES: [(u64, u64); 7] = [
    (0xffff_ffe0, 0),
    (0xffff_fffc, 32),
    (0xffff_fffe, 36),
    (0xffff_ffff, 39),
    (0xffff_ffff, 41),
    (0xffff_fffe, 42),
    (0xffff_fffc, 44),
];

/// Returns docker's default profile for a container with these capabilities. Calls that it does not allow fail with
/// EPERM.
#[must_use]
pub fn default_profile(capabilities: &[Capability]) -> LinuxSeccomp {
    let allow = LinuxSeccompAction::ScmpActAllow;
    let always = calls::allowed(capabilities)
        .map(|call| call.name.to_owned())
        .collect();
    let mut rules = vec![rule(always, allow, None, Vec::new())];
    let mut allow_if = |name: &str, argument| {
        rules.push(rule(vec![name.to_owned()], allow, None, vec![argument]));
    };
    for (mask, value) in FAMILIES {
        allow_if("socket", masked(mask, value));
    }
    for value in PERSONALITIES {
        allow_if("personality", equal(value));
    }
    if !capabilities.contains(&Capability::CAP_SYS_ADMIN) {
        allow_if("clone", masked(NEW_NAMESPACES, 0));
        // The flags of clone3 are in memory, where no filter sees them. After ENOSYS, C libraries fall back to clone.
        rules.push(rule(
            vec!["clone3".to_owned()],
            LinuxSeccompAction::ScmpActErrno,
            Some(libc::ENOSYS as u32),
            Vec::new(),
        ));
    } else {
        rules.push(rule(vec!["clone3".to_owned()], allow, None, Vec::new()));
    }
    profile(
        LinuxSeccompAction::ScmpActErrno,
        Some(libc::EPERM as u32),
        compile::native_architectures(),
        rules,
    )
}

fn masked(mask: u64, value: u64) -> LinuxSeccompArg {
    first(LinuxSeccompOperator::ScmpCmpMaskedEq, mask, value)
}

fn equal(value: u64) -> LinuxSeccompArg {
    first(LinuxSeccompOperator::ScmpCmpEq, value, 0)
}

fn first(operator: LinuxSeccompOperator, value: u64, masked: u64) -> LinuxSeccompArg {
    LinuxSeccompArgBuilder::default()
        .index(0_usize)
        .op(operator)
        .value(value)
        .value_two(masked)
        .build()
        // The builder cannot fail, because each field has a value.
        .unwrap_or_default()
}
