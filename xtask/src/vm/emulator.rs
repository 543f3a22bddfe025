//! The emulator: the machine's own, else Debian's, taken out of its packages. Nothing is installed for it, which could
//! remove what another version of it has here (qemu-utils).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::apt::{Apt, completely};
use crate::command::{command, find, output, path};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";
const SUITE: &str = "trixie";

/// The first version that locks the pages that it translates. Older ones may go on with an instruction that another
/// CPU of the machine has just replaced, as kernels do to attach a probe: the kernel then ends with "Oops: int3".
const SINCE: (u32, u32) = (8, 1);

/// Below the directory of its files: its libraries with their loader, and its firmware.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const LOADER: &str = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
const FIRMWARE: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];

pub struct Emulator {
    /// Where its packages were unpacked; none for the machine's own.
    unpacked: Option<PathBuf>,
}

impl Emulator {
    /// That of the machine, or that which is in `directory` already, else by apt-get.
    pub fn get(directory: &Path) -> Result<Self> {
        if find(PROGRAM, &path()?).is_some() {
            let said = output(&mut command(PROGRAM, &["--version"])?)?;
            if version(&said).is_some_and(|it| it >= SINCE) {
                return Ok(Self { unpacked: None });
            }
        }
        let unpacked = directory.join(format!("emulator-{SUITE}"));
        completely(&unpacked, |partial| {
            println!(
                "   getting {PACKAGE}, to be used from {}",
                unpacked.display()
            );
            Apt::prepare(directory)?
                .unpack_whole(PACKAGE, SUITE, partial)
                .with_context(|| {
                    let (major, minor) = SINCE;
                    format!("put {PROGRAM} {major}.{minor} or newer into PATH by hand, then call this again")
                })
        })?;
        Ok(Self {
            unpacked: Some(unpacked),
        })
    }

    pub fn command(&self) -> Result<Command> {
        let Some(unpacked) = &self.unpacked else {
            return command(PROGRAM, &[]);
        };
        // By the loader of its own C library, which may be newer than the machine's.
        let mut emulator = command(unpacked.join(LOADER), &["--library-path"])?;
        emulator.arg(unpacked.join(LIBRARIES));
        emulator.arg(unpacked.join("usr/bin").join(PROGRAM));
        for firmware in FIRMWARE {
            emulator.arg("-L").arg(unpacked.join(firmware));
        }
        Ok(emulator)
    }
}

/// Major and minor version of what says `QEMU emulator version 10.0.13 (Debian …)`.
fn version(said: &str) -> Option<(u32, u32)> {
    let (_, version) = said.split_once("version ")?;
    let mut numbers = version.split(|it: char| !it.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        let debian = "QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)";
        assert_eq!(version(debian), Some((10, 0)));
        assert!(version(debian) > Some(SINCE));
        assert!(version("QEMU emulator version 7.2.22 (Debian 1)") < Some(SINCE));
        assert_eq!(version("something else"), None);
    }
}
