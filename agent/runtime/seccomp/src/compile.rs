//! Compiles a profile to a verdict for each system call's number.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSyscall,
};

use super::bpf::{self, ArgumentCondition, CallRule, FilterAction, FilterVerdict, Ranges};
use super::calls::{self, Call};
use super::{Error, FilterProgram};

/// `__X32_SYSCALL_BIT`. The kernel reports calls of x32 as calls of x86-64 with this bit in the number.
const X32: u32 = 0x4000_0000;

/// An architecture that a filter can be for.
struct Architecture {
    arch: Arch,
    /// `AUDIT_ARCH_*` (`include/uapi/linux/audit.h`)
    audit: u32,
    number: fn(&Call) -> Option<u32>,
}

/// The architectures whose programs this machine's kernel runs, the native one first.
const ARCHITECTURES: &[Architecture] = if cfg!(target_arch = "aarch64") {
    &[Architecture {
        arch: Arch::ScmpArchAarch64,
        audit: 0xc000_00b7,
        number: |call| call.aarch64,
    }]
} else {
    &[
        Architecture {
            arch: Arch::ScmpArchX86_64,
            audit: 0xc000_003e,
            number: |call| call.x86_64,
        },
        Architecture {
            arch: Arch::ScmpArchX86,
            audit: 0x4000_0003,
            number: |call| call.x86,
        },
        Architecture {
            arch: Arch::ScmpArchX32,
            audit: 0xc000_003e,
            number: |call| call.x32.map(|number| number | X32),
        },
    ]
};

/// Returns the native architecture (`AUDIT_ARCH_*`).
pub(super) fn own_architecture() -> u32 {
    ARCHITECTURES.first().map_or(0, |known| known.audit)
}

pub(super) fn native_architectures() -> Vec<Arch> {
    ARCHITECTURES.iter().map(|known| known.arch).collect()
}

pub(super) fn known_architectures() -> String {
    let names: Vec<String> = ARCHITECTURES
        .iter()
        .map(|known| known.arch.to_string())
        .collect();
    names.join(", ")
}

/// Compiles a profile to a filter.
///
/// # Errors
/// The profile asks for something that the kernel or this agent does not support.
pub fn compile(profile: &LinuxSeccomp) -> Result<FilterProgram, Error> {
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let strict = !is_permissive(profile.default_action());
    let mut rules = Vec::new();
    let mut known = calls::Finder::default();
    for entry in profile.syscalls().iter().flatten() {
        let alternatives = alternatives(entry)?;
        for name in entry.names() {
            match known.find(name) {
                Some(call) => rules.extend(alternatives.iter().map(|rule| (call, rule.clone()))),
                // The call is of another machine, or newer than the table. Without this rule, it is not more allowed
                // than with it.
                None if strict || is_permissive(entry.action()) => {}
                None => return Err(Error::Call(name.clone())),
            }
        }
    }
    let mut numbered: BTreeMap<u32, CallNumbers> = BTreeMap::new();
    for architecture in wanted(profile)? {
        let numbers = numbered.entry(architecture.audit).or_default();
        let first = if architecture.arch == Arch::ScmpArchX32 {
            X32
        } else {
            0
        };
        let mut newest = first;
        for (call, rule) in &rules {
            if let Some(number) = (architecture.number)(call) {
                newest = newest.max(number + 1);
                numbers.rules.push((number, rule));
            }
        }
        // As with runc, calls that are newer than the profile fail with ENOSYS, so that programs fall back to older
        // ones.
        numbers.spans.push((first, default));
        numbers.spans.push((
            newest,
            if strict {
                errno(libc::ENOSYS as u32)
            } else {
                default
            },
        ));
    }
    let architectures: Vec<(u32, Ranges)> = numbered
        .into_iter()
        .map(|(audit, numbers)| (audit, numbers.ranges(default)))
        .collect();
    // The profile says nothing about an architecture that it does not name.
    let foreign = if strict {
        libc::SECCOMP_RET_KILL_PROCESS
    } else {
        default
    };
    let instructions = bpf::emit(&architectures, foreign);
    if instructions.len() > bpf::MOST {
        return Err(Error::Size(instructions.len()));
    }
    Ok(FilterProgram {
        instructions,
        flags: flags(profile),
    })
}

/// The rules of an architecture by call number, and the actions for numbers without a rule, each from a number on.
#[derive(Default)]
struct CallNumbers<'a> {
    rules: Vec<(u32, &'a CallRule)>,
    spans: Vec<(u32, FilterAction)>,
}

impl CallNumbers<'_> {
    fn ranges(mut self, default: FilterAction) -> Ranges {
        self.spans.sort_unstable();
        // This sort is stable: rules for one call keep their order.
        self.rules.sort_by_key(|(number, _)| *number);
        let mut ranges: Ranges = Vec::new();
        let mut push = |start: u32, verdict: FilterVerdict| match ranges.last_mut() {
            Some((_, last)) if *last == verdict => {}
            Some((at, last)) if *at == start => *last = verdict,
            _ => ranges.push((start, verdict)),
        };
        let mut spans = self.spans.into_iter().peekable();
        let mut around = default;
        let mut next = 0;
        for same in self.rules.chunk_by(|one, other| one.0 == other.0) {
            let number = same[0].0;
            if next < number {
                push(next, FilterVerdict::always(around));
            }
            while let Some((start, action)) = spans.next_if(|(start, _)| *start <= number) {
                around = action;
                if start < number {
                    push(start.max(next), FilterVerdict::always(around));
                }
            }
            let mut verdict = FilterVerdict::always(around);
            for (_, rule) in same {
                verdict.add(rule);
            }
            push(number, verdict);
            next = number + 1;
        }
        push(next, FilterVerdict::always(around));
        for (start, action) in spans {
            push(start.max(next), FilterVerdict::always(action));
        }
        ranges
    }
}

impl FilterVerdict {
    fn always(action: FilterAction) -> Self {
        Self {
            rules: Vec::new(),
            otherwise: action,
        }
    }

    /// Adds a rule. Rules with conditions come before the one without, whatever their order in the profile.
    fn add(&mut self, rule: &CallRule) {
        if rule.conditions.is_empty() {
            self.otherwise = rule.action;
        } else {
            self.rules.push(rule.clone());
        }
    }
}

fn wanted(profile: &LinuxSeccomp) -> Result<Vec<&'static Architecture>, Error> {
    match profile.architectures().as_deref() {
        None | Some([]) => Ok(ARCHITECTURES.iter().take(1).collect()),
        Some(named) => named
            .iter()
            .map(|arch| {
                ARCHITECTURES
                    .iter()
                    .find(|known| known.arch == *arch || *arch == Arch::ScmpArchNative)
                    .ok_or(Error::Architecture(*arch))
            })
            .collect(),
    }
}

/// Returns the rules of an entry. All of its conditions must hold. If two of them are on the same argument, any
/// condition of the entry is enough, as with runc.
fn alternatives(entry: &LinuxSyscall) -> Result<Vec<CallRule>, Error> {
    let action = action(entry.action(), entry.errno_ret())?;
    let mut conditions = Vec::new();
    for wanted in entry.args().iter().flatten() {
        let index = wanted.index();
        let argument = u8::try_from(index)
            .ok()
            .filter(|&index| index < 6)
            .ok_or_else(|| Error::Argument {
                call: entry.names().join(", "),
                index,
            })?;
        conditions.push(ArgumentCondition {
            argument,
            operator: wanted.op(),
            value: wanted.value(),
            masked: wanted.value_two().unwrap_or(0),
        });
    }
    let repeated = conditions.iter().enumerate().any(|(at, condition)| {
        conditions[..at]
            .iter()
            .any(|other| other.argument == condition.argument)
    });
    Ok(if repeated {
        conditions
            .into_iter()
            .map(|condition| CallRule {
                conditions: vec![condition],
                action,
            })
            .collect()
    } else {
        vec![CallRule { conditions, action }]
    })
}

fn is_permissive(action: LinuxSeccompAction) -> bool {
    matches!(
        action,
        LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog
    )
}

fn errno(number: u32) -> FilterAction {
    libc::SECCOMP_RET_ERRNO | (number & libc::SECCOMP_RET_DATA)
}

fn action(action: LinuxSeccompAction, number: Option<u32>) -> Result<FilterAction, Error> {
    let number = number.unwrap_or(libc::EPERM as u32);
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            libc::SECCOMP_RET_KILL_THREAD
        }
        LinuxSeccompAction::ScmpActKillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => libc::SECCOMP_RET_TRAP,
        LinuxSeccompAction::ScmpActErrno => errno(number),
        LinuxSeccompAction::ScmpActTrace => {
            libc::SECCOMP_RET_TRACE | (number & libc::SECCOMP_RET_DATA)
        }
        LinuxSeccompAction::ScmpActLog => libc::SECCOMP_RET_LOG,
        LinuxSeccompAction::ScmpActAllow => libc::SECCOMP_RET_ALLOW,
        LinuxSeccompAction::ScmpActNotify => return Err(Error::Action(action)),
    })
}

fn flags(profile: &LinuxSeccomp) -> u32 {
    let Some(flags) = profile.flags() else {
        // As with runc, a filter alone does not disable speculative store bypass, which would slow the container's
        // memory accesses down.
        return libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32;
    };
    let bit = |flag: &LinuxSeccompFilterFlag| match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => libc::SECCOMP_FILTER_FLAG_TSYNC,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        // Only of use with SCMP_ACT_NOTIFY.
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
    };
    flags.iter().map(bit).fold(0, |all, flag| all | flag) as u32
}
