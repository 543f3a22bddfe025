//! Tests profiles by the results of their filters.

use std::fs;

use caps::Capability;

use super::*;

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | 1;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | 38;

/// Returns the result that the kernel would get.
fn answer(program: &FilterProgram, architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    program.answer(architecture, number, arguments).unwrap()
}

fn default(capabilities: &[Capability]) -> FilterProgram {
    compile(&default_profile(capabilities)).unwrap()
}

fn from_text(text: &str, capabilities: &[Capability]) -> Result<FilterProgram, Error> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("profile.json");
    fs::write(&path, text).unwrap();
    compile(&read_profile(&path, capabilities)?)
}

fn first(value: u64) -> [u64; 6] {
    [value, 0, 0, 0, 0, 0]
}

#[test]
fn every_call_is_answered_as_the_table_says() {
    let program = default(&[]);
    let allowed: Vec<&str> = calls::allowed(&[]).map(|call| call.name).collect();
    for call in calls::all() {
        if ["clone", "clone3", "socket", "personality"].contains(&call.name) {
            continue;
        }
        let is_allowed = allowed.contains(&call.name);
        let wanted = if is_allowed { ALLOW } else { EPERM };
        let x32 = call.x32.map(|number| number | 0x4000_0000);
        for (architecture, number) in [(X86_64, call.x86_64), (X86, call.x86), (X86_64, x32)] {
            let Some(number) = number else { continue };
            let got = answer(&program, architecture, number, [0; 6]);
            let newer = got == ENOSYS && wanted == EPERM && number & 0xffff > 460;
            assert!(got == wanted || newer, "{} {number}: {got:#x}", call.name);
        }
    }
}

#[test]
fn arguments_decide() {
    let program = default(&[]);
    let (socket, personality, clone) = (41, 135, 56);
    for family in 0..48 {
        let wanted = if [38, 40].contains(&family) {
            EPERM
        } else {
            ALLOW
        };
        for upper in [0, 1 << 32, u64::MAX << 32] {
            let got = answer(&program, X86_64, socket, first(family | upper));
            assert_eq!(got, wanted, "family {family}");
        }
    }
    for (value, wanted) in [
        (0, ALLOW),
        (8, ALLOW),
        (0x2_0008, ALLOW),
        (0xffff_ffff, ALLOW),
        (0x40_0000, EPERM),
        (1 << 32, EPERM),
    ] {
        assert_eq!(answer(&program, X86_64, personality, first(value)), wanted);
    }
    for (flags, wanted) in [
        (0x11, ALLOW),
        (0x3d_0f00, ALLOW),
        (0x1000_0000, EPERM),
        (0x2_0000, EPERM),
        (0x0200_0011, EPERM),
    ] {
        assert_eq!(
            answer(&program, X86_64, clone, first(flags)),
            wanted,
            "{flags:#x}"
        );
    }
}

#[test]
fn clone3_is_unknown_and_so_is_what_is_newer() {
    let program = default(&[]);
    assert_eq!(answer(&program, X86_64, 435, [0; 6]), ENOSYS);
    assert_eq!(answer(&program, X86_64, 4000, [0; 6]), ENOSYS);
    assert_eq!(answer(&program, X86, 435, [0; 6]), ENOSYS);
    assert_eq!(answer(&program, X86_64, 0xffff_ffff, [0; 6]), ENOSYS);
    let powerful = default(&[Capability::CAP_SYS_ADMIN]);
    assert_eq!(answer(&powerful, X86_64, 435, [0; 6]), ALLOW);
    assert_eq!(answer(&powerful, X86_64, 56, first(0x1000_0000)), ALLOW);
}

#[test]
fn capabilities_open_calls() {
    for (capability, number) in [
        (Capability::CAP_SYS_ADMIN, 165),
        (Capability::CAP_SYS_TIME, 227),
        (Capability::CAP_SYS_MODULE, 313),
        (Capability::CAP_BPF, 321),
        (Capability::CAP_SYS_CHROOT, 161),
        (Capability::CAP_DAC_READ_SEARCH, 304),
    ] {
        assert_eq!(answer(&default(&[]), X86_64, number, [0; 6]), EPERM);
        assert_eq!(
            answer(&default(&[capability]), X86_64, number, [0; 6]),
            ALLOW
        );
    }
}

#[test]
fn other_architectures_kill() {
    assert_eq!(
        answer(&default(&[]), 0xc000_00b7, 0, [0; 6]),
        libc::SECCOMP_RET_KILL_PROCESS
    );
}

#[test]
fn a_program_is_small_enough_to_be_fast() {
    assert!(default(&[]).instructions.len() < 1000);
}

#[test]
fn every_operator_compares_all_of_its_64_bits() {
    let value: u64 = 0x2_0000_0005;
    type Holds = fn(u64, u64) -> bool;
    let operators: [(&str, Holds); 6] = [
        ("NE", |a, b| a != b),
        ("LT", |a, b| a < b),
        ("LE", |a, b| a <= b),
        ("EQ", |a, b| a == b),
        ("GE", |a, b| a >= b),
        ("GT", |a, b| a > b),
    ];
    for (name, holds) in operators {
        let text = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["read"],"action":"SCMP_ACT_ERRNO",
            "errnoRet":7,"args":[{{"index":2,"value":{value},"op":"SCMP_CMP_{name}"}},
            {{"index":3,"value":3,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"}}]}}]}}"#
        );
        let program = from_text(&text, &[]).unwrap();
        for argument in [
            0,
            5,
            value - 1,
            value,
            value + 1,
            0x1_0000_0006,
            0x3_0000_0000,
            u64::MAX,
        ] {
            for (other, masked) in [(1, true), (5, true), (2, false)] {
                let got = answer(&program, X86_64, 0, [0, 0, argument, other, 0, 0]);
                let hit = holds(argument, value) && masked;
                let wanted = if hit {
                    libc::SECCOMP_RET_ERRNO | 7
                } else {
                    ALLOW
                };
                assert_eq!(got, wanted, "{argument:#x} {name} {value:#x}");
            }
        }
    }
}

#[test]
fn conditions_of_a_file_are_dockers() {
    let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
    "syscalls":[
    {"names":["read","no_such_call"],"action":"SCMP_ACT_ALLOW"},
    {"names":["write"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_BPF"]}},
    {"name":"open","action":"SCMP_ACT_KILL_PROCESS","excludes":{"caps":["CAP_BPF"]},"comment":"old form"},
    {"names":["close"],"action":"SCMP_ACT_LOG","includes":{"minKernel":"4.8","arches":["amd64"]}},
    {"names":["stat"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"99.0"}},
    {"names":["fstat"],"action":"SCMP_ACT_ALLOW","excludes":{"arches":["amd64"]}}]}"#;
    let poor = from_text(text, &[]).unwrap();
    let rich = from_text(text, &[Capability::CAP_BPF]).unwrap();
    for (number, without, with) in [
        (0, ALLOW, ALLOW),
        (1, EPERM, ALLOW),
        (2, libc::SECCOMP_RET_KILL_PROCESS, EPERM),
        (3, libc::SECCOMP_RET_LOG, libc::SECCOMP_RET_LOG),
        (4, ENOSYS, ENOSYS),
    ] {
        assert_eq!(answer(&poor, X86_64, number, [0; 6]), without, "{number}");
        assert_eq!(answer(&rich, X86_64, number, [0; 6]), with, "{number}");
    }
    assert_eq!(answer(&poor, X86, 3, [0; 6]), ALLOW);
}

#[test]
fn several_conditions_on_one_argument_are_alternatives() {
    let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW",
    "args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]}]}"#;
    let program = from_text(text, &[]).unwrap();
    for (value, wanted) in [(1, ALLOW), (2, ALLOW), (3, EPERM)] {
        assert_eq!(answer(&program, X86_64, 0, first(value)), wanted);
    }
}

#[test]
fn bad_files_are_told_in_one_line() {
    for (text, wanted) in [
        ("", "docker's JSON format"),
        ("[]", "docker's JSON format"),
        (r#"{"defaultAction":"SCMP_ACT_MAYBE"}"#, "SCMP_ACT_MAYBE"),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","sycalls":[]}"#,
            "sycalls",
        ),
        (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY"),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mont"],"action":"SCMP_ACT_ERRNO"}]}"#,
            "mont",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
            "argument 6",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_ALL"]}}]}"#,
            "CAP_ALL",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"action":"SCMP_ACT_ALLOW"}]}"#,
            "wanted: one of them",
        ),
    ] {
        let error = from_text(text, &[]).unwrap_err().to_string();
        assert!(error.contains(wanted) && !error.contains('\n'), "{error}");
    }
    let error = read_profile(std::path::Path::new("/nowhere.json"), &[]).unwrap_err();
    assert!(error.to_string().contains("/nowhere.json"));
}

#[test]
fn a_filter_but_for_a_call_lets_that_one_through_alone() {
    let text = r#"{"defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#;
    let strict = from_text(text, &[]).unwrap();
    let clone = Call::new("clone", libc::SYS_clone, [Some(0x4000), None]);
    let read = Call::new("read", libc::SYS_read, [None; 2]);
    let prctl = Call::new("prctl", libc::SYS_prctl, [Some(1), Some(9)]);
    assert!(!strict.allows(&clone) && strict.allows(&read));
    let relaxed = strict.but_for(&[clone, prctl]).unwrap();
    for call in [&clone, &read, &prctl] {
        assert!(relaxed.allows(call), "{call:?}");
    }
    for other in [
        Call::new("clone", libc::SYS_clone, [Some(0x4001), None]),
        Call::new("getpid", libc::SYS_getpid, [Some(0x4000), None]),
        Call::new("prctl", libc::SYS_prctl, [Some(1), Some(15)]),
    ] {
        assert!(!relaxed.allows(&other), "{other:?}");
    }
    assert!(default(&[]).allows(&clone));
}
