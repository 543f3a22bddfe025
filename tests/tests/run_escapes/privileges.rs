//! CVE-2022-27650: capabilities that can be inherited become a user's by a program that has them in its file.

use std::process::Command;

use rustix::fs::{XattrFlags, setxattr};
use tests::agent::binary;
use tests::program::{copy, program};

use super::attacker::{name, rootfs, said, works_unguarded};

/// `struct vfs_ns_cap_data` without a user (`include/uapi/linux/capability.h`): CAP_NET_RAW may be inherited, and is
/// effective then.
fn file_capability() -> Vec<u8> {
    let revision_2_effective = 0x0200_0001_u32;
    let net_raw = 1_u32 << 13;
    [revision_2_effective, 0, net_raw, 0, 0]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect()
}

/// The set of a name in what `cat /proc/self/status` said.
fn set(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let digits = line.unwrap_or_else(|| panic!("no {name} in {status}"));
    u64::from_str_radix(digits.trim(), 16).expect("a set of capabilities")
}

#[test]
#[ignore = "needs root"]
fn nothing_is_inherited() {
    let rootfs = rootfs();
    let capable = rootfs.path().join("bin/busybox-capable");
    copy(&program("busybox"), &capable);
    let value = file_capability();
    setxattr(&capable, "security.capability", &value, XattrFlags::empty()).expect("an attribute");

    let inheriting = |words: &[&str]| {
        let mut call = Command::new(program("setpriv"));
        call.args(["--inh-caps=+net_raw,+sys_admin", "--clear-groups"])
            .args(words);
        call
    };
    let busybox = capable.to_str().expect("a path");
    let there = [
        "--reuid=1000",
        "--regid=1000",
        busybox,
        "cat",
        "/proc/self/status",
    ];
    let there = said(&mut inheriting(&there));
    assert_ne!(set(&there, "CapEff:"), 0, "{there}");
    works_unguarded("CVE-2022-27650");

    let binary = binary().to_str().expect("a path");
    let directory = rootfs.path();
    let directory = directory.to_str().expect("a path");
    for (user, effective) in [("0", true), ("1000", false)] {
        for command in ["/bin/busybox", "/bin/busybox-capable"] {
            let name = name();
            let run = [
                binary,
                "run",
                "--rm",
                "--name",
                &name,
                "--rootfs",
                directory,
                "--user",
                user,
                "--",
                command,
                "cat",
                "/proc/self/status",
            ];
            let here = said(&mut inheriting(&run));
            for none in ["CapInh:", "CapAmb:"] {
                assert_eq!(set(&here, none), 0, "{user} {command}: {here}");
            }
            assert_eq!(
                set(&here, "CapEff:") != 0,
                effective,
                "{user} {command}: {here}"
            );
            assert!(here.contains("NoNewPrivs:\t1"), "{here}");
        }
    }
}
