//! Docker's default profile.

use caps::Capability;
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator,
};

use super::{calls, compile, profile, rule};

/// All bits of `clone` that make a namespace.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// What `personality` may be set to: the usual one, `PER_LINUX32`, `UNAME26`, both; and the question which it is.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Families of sockets, as mask and value: all but `AF_ALG` (38) and `AF_VSOCK` (40). The kernel looks at the lower half
/// of the argument only, so the mask must as well: 38 with a bit in the upper half is 38.
const FAMILIES: [(u64, u64); 7] = [
    (0xffff_ffe0, 0),
    (0xffff_fffc, 32),
    (0xffff_fffe, 36),
    (0xffff_ffff, 39),
    (0xffff_ffff, 41),
    (0xffff_fffe, 42),
    (0xffff_fffc, 44),
];

/// What docker allows by default to a container with these capabilities. All else fails with EPERM.
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
        // Its flags are in memory, where no filter sees them: C libraries fall back to clone.
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
        // Each field has a value, so there is nothing to fail for.
        .unwrap_or_default()
}
