//! Compiles device rules to a BPF program of a cgroup (`BPF_PROG_TYPE_CGROUP_DEVICE`). The last rule that matches
//! decides, so the program tries the last rule first. An access that no rule matches is allowed, as on v1, where a
//! cgroup starts with all devices.

use std::os::fd::AsFd as _;

use agent_host::control::Control;
use agent_model::limit::Limit;
use aya_obj::generated::bpf_insn;

use super::{Access, Kind, Rule};
use crate::cgroup::Error;

/// The program type (`enum bpf_prog_type`), then the offsets in `struct bpf_cgroup_dev_ctx` and its values
/// (`include/uapi/linux/bpf.h`).
const CGROUP_DEVICE: u32 = 15;
const ACCESS_AND_KIND: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;

const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MAKE: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

/// Registers: the result, the context that the kernel passes, the values that the rules compare, and a scratch
/// register.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND_OF: u8 = 2;
const ACCESS_OF: u8 = 3;
const MAJOR_OF: u8 = 4;
const MINOR_OF: u8 = 5;
const SCRATCH: u8 = 6;

/// The operation codes. Each consists of a class, an operation and an operand
/// (Documentation/bpf/standardization/instruction-set.rst).
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const COPY: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_IF_OTHER: u8 = 0x55;
/// A comparison of 32 bits. One of 64 bits would sign-extend a number above 2^31.
const JUMP_IF_OTHER_WORD: u8 = 0x56;
const JUMP_IF_OTHER_THAN_REGISTER: u8 = 0x5d;
const EXIT: u8 = 0x95;

/// Attaches the rules to a cgroup. They hold until the cgroup is removed.
pub(super) fn attach(cgroup: &Control, rules: &[Rule]) -> Result<(), Error> {
    let instructions = compile(rules);
    let program = agent_sys::bpf::Program {
        kind: CGROUP_DEVICE,
        attach: 0,
        traced: 0,
        name: c"agent_devices",
        license: c"GPL",
        instructions: &instructions,
    };
    let attached = agent_sys::bpf::load_program(&program, &mut [])
        .and_then(|program| agent_sys::bpf::attach_to_cgroup(program.as_fd(), cgroup.as_fd()));
    attached.map_err(|source| Error::Refused {
        name: "the rules of devices".to_owned(),
        text: "a BPF program".to_owned(),
        file: cgroup.path.clone(),
        source,
        hint: "; it needs a kernel with CONFIG_CGROUP_BPF",
    })
}

fn compile(rules: &[Rule]) -> Vec<bpf_insn> {
    let mut program = vec![
        instruction(LOAD_WORD, KIND_OF, CONTEXT, ACCESS_AND_KIND, 0),
        instruction(COPY, ACCESS_OF, KIND_OF, 0, 0),
        instruction(AND, KIND_OF, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS_OF, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR_OF, CONTEXT, MAJOR, 0),
        instruction(LOAD_WORD, MINOR_OF, CONTEXT, MINOR, 0),
    ];
    for rule in rules.iter().rev() {
        program.extend(one(rule));
        if rule.is_of_all() {
            // This rule always matches, and the verifier rejects instructions that are never reached.
            return program;
        }
    }
    program.extend(end(true));
    program
}

fn end(allow: bool) -> [bpf_insn; 2] {
    [
        instruction(MOVE, RESULT, 0, 0, i32::from(allow)),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

/// Returns instructions that end the program if the rule matches, and otherwise continue after them.
fn one(rule: &Rule) -> Vec<bpf_insn> {
    let mut steps = Vec::new();
    match rule.kind {
        Kind::All => {}
        Kind::Block => steps.push(instruction(JUMP_IF_OTHER, KIND_OF, 0, 0, BLOCK)),
        Kind::Character => steps.push(instruction(JUMP_IF_OTHER, KIND_OF, 0, 0, CHARACTER)),
    }
    if rule.access != Access::ALL {
        steps.push(instruction(COPY, SCRATCH, ACCESS_OF, 0, 0));
        steps.push(instruction(AND, SCRATCH, 0, 0, mask(rule.access)));
        // A rule that allows matches an access that wants nothing else. A rule that denies matches an access that wants
        // any of it.
        steps.push(match rule.allow {
            true => instruction(JUMP_IF_OTHER_THAN_REGISTER, SCRATCH, ACCESS_OF, 0, 0),
            false => instruction(JUMP_IF_EQUAL, SCRATCH, 0, 0, 0),
        });
    }
    for (register, wanted) in [(MAJOR_OF, rule.major), (MINOR_OF, rule.minor)] {
        if let Limit::Value(number) = wanted {
            let number = (number as u32).cast_signed();
            steps.push(instruction(JUMP_IF_OTHER_WORD, register, 0, 0, number));
        }
    }
    steps.extend(end(rule.allow));
    let length = steps.len();
    for (index, step) in steps.iter_mut().enumerate() {
        let jumps = [
            JUMP_IF_EQUAL,
            JUMP_IF_OTHER,
            JUMP_IF_OTHER_WORD,
            JUMP_IF_OTHER_THAN_REGISTER,
        ];
        if jumps.contains(&step.code) {
            // A rule has fewer than ten instructions.
            step.off = i16::try_from(length - index - 1).unwrap_or_default();
        }
    }
    steps
}

fn mask(access: Access) -> i32 {
    let bits = [
        (access.make, MAKE),
        (access.read, READ),
        (access.write, WRITE),
    ];
    bits.iter()
        .filter(|(may, _)| *may)
        .map(|(_, bit)| bit)
        .sum()
}

fn instruction(code: u8, to: u8, from: u8, off: i16, imm: i32) -> bpf_insn {
    bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(to, from),
        off,
        imm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, kind: Kind, major: Limit) -> Rule {
        Rule {
            allow,
            kind,
            major,
            minor: Limit::Max,
            access: Access::ALL,
        }
    }

    #[test]
    fn a_rule_of_all_ends_the_program() {
        let all = rule(false, Kind::All, Limit::Max);
        let null = rule(true, Kind::Character, Limit::Value(1));
        let program = compile(&[null, all, null]);
        // Six instructions load the values; the rule for `null` has four, and the rule for all devices two.
        assert_eq!(program.len(), 6 + 4 + 2);
        assert_eq!(program[6].off, 3);
        assert_eq!(program[7].off, 2);
        assert_eq!(program[10].imm, 0);
        assert_eq!(compile(&[]).len(), 6 + 2);
    }
}
