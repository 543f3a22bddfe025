//! Compiles verdicts to the kernel's classic BPF (`include/uapi/linux/{filter,seccomp}.h`).
//!
//! Neighbouring system calls with the same verdict form a range, and a tree of comparisons finds the range in about
//! eight steps. The kernel runs the filter once for each number when it is installed, and remembers the calls that are
//! always allowed.

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_RET,
    BPF_W, sock_filter,
};
use oci_spec::runtime::LinuxSeccompOperator as Operator;

/// The most instructions of a filter (`BPF_MAXINSNS`).
pub(super) const MOST: usize = 4096;

/// The offsets of the fields of `struct seccomp_data`, in bytes.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The result of a filter, `SECCOMP_RET_*`.
pub(super) type FilterAction = u32;

/// A condition on an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ArgumentCondition {
    /// The index of the argument, less than 6.
    pub argument: u8,
    pub operator: Operator,
    pub value: u64,
    /// What the argument must be under the mask `value`, for `ScmpCmpMaskedEq`.
    pub masked: u64,
}

/// The action that is taken if all conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallRule {
    pub conditions: Vec<ArgumentCondition>,
    pub action: FilterAction,
}

/// The verdict on a system call: the action of the first rule that holds, else `otherwise`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FilterVerdict {
    pub rules: Vec<CallRule>,
    pub otherwise: FilterAction,
}

/// The verdicts by system call number. Each is for the numbers from its own up to the next one's. The first number is
/// 0.
pub(super) type Ranges = Vec<(u32, FilterVerdict)>;

/// Emits the program for these architectures (`AUDIT_ARCH_*`). A call of any other architecture gets `foreign`.
pub(super) fn emit(architectures: &[(u32, Ranges)], foreign: FilterAction) -> Vec<sock_filter> {
    let mut program = vec![load(ARCHITECTURE)];
    for (architecture, ranges) in architectures {
        let mut body = vec![load(NUMBER)];
        body.extend(tree(ranges));
        program.extend(branch(BPF_JEQ, *architecture, body));
    }
    program.push(ret(foreign));
    program
}

/// Emits a comparison, and `body` for the case that it holds. `body` must end with a return; otherwise the program
/// continues after it.
fn branch(comparison: u32, value: u32, body: Vec<sock_filter>) -> Vec<sock_filter> {
    let mut code = match u8::try_from(body.len()) {
        Ok(length) => vec![jump(comparison, value, 0, length)],
        Err(_) => vec![jump(comparison, value, 1, 0), skip(body.len() as u32)],
    };
    code.extend(body);
    code
}

fn tree(ranges: &[(u32, FilterVerdict)]) -> Vec<sock_filter> {
    match ranges {
        [] => Vec::new(),
        [(_, verdict)] => leaf(verdict),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let mut code = branch(BPF_JGE, high[0].0, tree(high));
            code.extend(tree(low));
            code
        }
    }
}

fn leaf(verdict: &FilterVerdict) -> Vec<sock_filter> {
    let mut code = Vec::new();
    for rule in &verdict.rules {
        code.extend(conditional(rule));
    }
    code.push(ret(verdict.otherwise));
    code
}

/// The target of a jump in a condition.
#[derive(Clone, Copy)]
enum To {
    Next,
    /// After skipping this many instructions: in the same condition, or at its end.
    Over(u8),
    /// After the whole rule, which does not hold.
    Fail,
}

/// Emits a rule. It returns if the rule holds, and otherwise continues after the rule.
fn conditional(rule: &CallRule) -> Vec<sock_filter> {
    use To::{Fail, Next, Over};
    #[derive(Clone, Copy)]
    enum BpfStep {
        Plain(sock_filter),
        Jump(u32, u32, To, To),
    }
    let mut steps = Vec::new();
    for condition in &rule.conditions {
        let low_at = ARGUMENTS + 8 * u32::from(condition.argument);
        let (low, high) = (
            BpfStep::Plain(load(low_at)),
            BpfStep::Plain(load(low_at + 4)),
        );
        let (value_low, value_high) = halves(condition.value);
        // A 64-bit comparison of two halves: the higher one decides, unless it is equal.
        let ordered = |above, below, last: BpfStep| {
            [
                high,
                BpfStep::Jump(BPF_JGT, value_high, above, Next),
                BpfStep::Jump(BPF_JEQ, value_high, Next, below),
                low,
                last,
            ]
        };
        match condition.operator {
            Operator::ScmpCmpEq => steps.extend([
                high,
                BpfStep::Jump(BPF_JEQ, value_high, Next, Fail),
                low,
                BpfStep::Jump(BPF_JEQ, value_low, Next, Fail),
            ]),
            Operator::ScmpCmpNe => steps.extend([
                high,
                BpfStep::Jump(BPF_JEQ, value_high, Next, Over(2)),
                low,
                BpfStep::Jump(BPF_JEQ, value_low, Fail, Next),
            ]),
            Operator::ScmpCmpMaskedEq => {
                let (masked_low, masked_high) = halves(condition.masked & condition.value);
                steps.extend([
                    high,
                    BpfStep::Plain(and(value_high)),
                    BpfStep::Jump(BPF_JEQ, masked_high, Next, Fail),
                    low,
                    BpfStep::Plain(and(value_low)),
                    BpfStep::Jump(BPF_JEQ, masked_low, Next, Fail),
                ]);
            }
            Operator::ScmpCmpGt => {
                steps.extend(ordered(
                    Over(3),
                    Fail,
                    BpfStep::Jump(BPF_JGT, value_low, Next, Fail),
                ));
            }
            Operator::ScmpCmpGe => {
                steps.extend(ordered(
                    Over(3),
                    Fail,
                    BpfStep::Jump(BPF_JGE, value_low, Next, Fail),
                ));
            }
            Operator::ScmpCmpLt => {
                steps.extend(ordered(
                    Fail,
                    Over(2),
                    BpfStep::Jump(BPF_JGE, value_low, Fail, Next),
                ));
            }
            Operator::ScmpCmpLe => {
                steps.extend(ordered(
                    Fail,
                    Over(2),
                    BpfStep::Jump(BPF_JGT, value_low, Fail, Next),
                ));
            }
        }
    }
    steps.push(BpfStep::Plain(ret(rule.action)));
    let end = steps.len();
    let place = |at: usize, to| match to {
        Next => 0,
        Over(count) => count,
        // At most six conditions, of six instructions each.
        Fail => (end - at - 1) as u8,
    };
    steps
        .into_iter()
        .enumerate()
        .map(|(at, step)| match step {
            BpfStep::Plain(instruction) => instruction,
            BpfStep::Jump(comparison, value, yes, no) => {
                jump(comparison, value, place(at, yes), place(at, no))
            }
        })
        .collect()
}

fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}

fn load(offset: u32) -> sock_filter {
    plain(BPF_LD | BPF_W | BPF_ABS, offset)
}

fn and(mask: u32) -> sock_filter {
    plain(BPF_ALU | BPF_AND | BPF_K, mask)
}

fn ret(action: FilterAction) -> sock_filter {
    plain(BPF_RET | BPF_K, action)
}

fn skip(count: u32) -> sock_filter {
    plain(BPF_JMP | BPF_JA, count)
}

fn plain(code: u32, k: u32) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

fn jump(comparison: u32, value: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter {
        code: (BPF_JMP | comparison | BPF_K) as u16,
        jt: yes,
        jf: no,
        k: value,
    }
}
