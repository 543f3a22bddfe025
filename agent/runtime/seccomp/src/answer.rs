//! Computes a filter's result for a system call, and makes a filter that allows a few calls which a later filter
//! refuses.

use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};

use super::{Error, FilterProgram, bpf, compile};

/// A system call of this machine's own architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The name of the system call.
    pub name: &'static str,
    /// The number of the system call on this machine.
    pub number: u32,
    /// The values of the first two arguments; `None` where any value matches.
    pub arguments: [Option<u64>; 2],
}

impl Call {
    /// Describes a call. An argument that is `None` can have any value.
    #[must_use]
    pub const fn new(name: &'static str, number: i64, arguments: [Option<u64>; 2]) -> Self {
        Self {
            name,
            number: number as u32,
            arguments,
        }
    }
}

/// The offsets of the fields of `struct seccomp_data`, and its size, in bytes.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: usize = 16;
const BYTES: usize = 64;

const LOAD: u16 = (BPF_LD | BPF_W | BPF_ABS) as u16;

impl FilterProgram {
    /// Whether the filter allows a call. An argument that is `None` counts as 0.
    #[must_use]
    pub fn allows(&self, call: &Call) -> bool {
        let [first, second] = call.arguments.map(Option::unwrap_or_default);
        let arguments = [first, second, 0, 0, 0, 0];
        let answer = self.answer(compile::own_architecture(), call.number, arguments);
        matches!(
            answer,
            Some(libc::SECCOMP_RET_ALLOW | libc::SECCOMP_RET_LOG)
        )
    }

    /// Returns the filter's result (`SECCOMP_RET_*`); `None` where it has instructions that [`compile::compile`] does
    /// not emit.
    #[must_use]
    pub fn answer(&self, architecture: u32, number: u32, arguments: [u64; 6]) -> Option<u32> {
        let mut data = [0_u8; BYTES];
        let mut put = |at: usize, bytes: &[u8]| {
            for (to, from) in data.iter_mut().skip(at).zip(bytes) {
                *to = *from;
            }
        };
        put(NUMBER as usize, &number.to_ne_bytes());
        put(ARCHITECTURE as usize, &architecture.to_ne_bytes());
        for (at, argument) in (ARGUMENTS..).step_by(8).zip(arguments) {
            put(at, &argument.to_ne_bytes());
        }
        let load = |from: u32| {
            let bytes = data.get(from as usize..)?.first_chunk::<4>()?;
            Some(u32::from_ne_bytes(*bytes))
        };
        let (mut at, mut accumulator) = (0_usize, 0_u32);
        loop {
            let it = self.instructions.get(at)?;
            at += 1;
            let either = |holds: bool| usize::from(if holds { it.jt } else { it.jf });
            match u32::from(it.code) {
                0x20 => accumulator = load(it.k)?,
                0x54 => accumulator &= it.k,
                0x05 => at += it.k as usize,
                0x15 => at += either(accumulator == it.k),
                0x25 => at += either(accumulator > it.k),
                0x35 => at += either(accumulator >= it.k),
                0x06 => return Some(it.k),
                _ => return None,
            }
        }
    }

    /// Returns the same filter, which also allows these calls. Only the lower half of an argument is compared, because
    /// the kernel uses only that half in each of these calls.
    ///
    /// # Errors
    /// The filter is longer than the kernel accepts.
    pub fn but_for(&self, calls: &[Call]) -> Result<Self, Error> {
        let mut instructions = Vec::new();
        for call in calls {
            let mut tests = vec![
                (ARCHITECTURE, compile::own_architecture()),
                (NUMBER, call.number),
            ];
            let fields = (0..).map(argument).zip(call.arguments);
            tests.extend(fields.filter_map(|(field, wanted)| Some((field, wanted? as u32))));
            let count = tests.len();
            for (index, (field, wanted)) in tests.into_iter().enumerate() {
                instructions.push(instruction(LOAD, 0, field));
                // The jump leads behind the return instruction.
                let behind = 2 * (count - index) - 1;
                let equal = (BPF_JMP | BPF_JEQ | BPF_K) as u16;
                instructions.push(instruction(equal, behind as u8, wanted));
            }
            let ret = (BPF_RET | BPF_K) as u16;
            instructions.push(instruction(ret, 0, libc::SECCOMP_RET_ALLOW));
        }
        instructions.extend(&self.instructions);
        if instructions.len() > bpf::MOST {
            return Err(Error::Size(instructions.len()));
        }
        Ok(Self {
            instructions,
            flags: self.flags,
        })
    }
}

const fn argument(index: u32) -> u32 {
    let lower = if cfg!(target_endian = "big") { 4 } else { 0 };
    ARGUMENTS as u32 + 8 * index + lower
}

const fn instruction(code: u16, otherwise: u8, k: u32) -> sock_filter {
    sock_filter {
        code,
        jt: 0,
        jf: otherwise,
        k,
    }
}
