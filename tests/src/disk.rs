//! A block device of the tests' own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::program::program;
use crate::wait::{PATIENCE, wait_for};

/// A small block device with an empty file system.
#[derive(Debug)]
pub struct Disk {
    /// Its file in `/dev`.
    pub device: PathBuf,
    /// Where it can be mounted.
    pub directory: tempfile::TempDir,
    _file: tempfile::NamedTempFile,
}

impl Disk {
    /// One that nobody else has.
    ///
    /// # Panics
    /// Where there is none to be had.
    #[must_use]
    pub fn new() -> Self {
        let place = crate::agent::profile();
        let file = tempfile::NamedTempFile::new_in(place).expect("a file");
        file.as_file().set_len(64 << 20).expect("room");
        let busybox = || Command::new(program("busybox"));
        crate::run::text(busybox().args(["mke2fs", "-F"]).arg(file.path()));
        // Another test may take the free one meanwhile.
        let device = wait_for("a loop device", PATIENCE, || {
            let free = crate::run::text(busybox().args(["losetup", "-f"]));
            let free = PathBuf::from(free.trim());
            let taken = busybox()
                .arg("losetup")
                .arg(&free)
                .arg(file.path())
                .output();
            taken.is_ok_and(|it| it.status.success()).then_some(free)
        });
        Self {
            device,
            directory: tempfile::tempdir().expect("a directory"),
            _file: file,
        }
    }

    /// `MAJOR:MINOR`.
    ///
    /// # Panics
    /// Never: it is there.
    pub fn number(&self) -> String {
        let name = self.device.file_name().unwrap_or_default();
        let path = Path::new("/sys/block").join(name).join("dev");
        let number = fs::read_to_string(path).expect("a block device");
        number.trim().to_owned()
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let detach = || {
            let mut losetup = Command::new(program("busybox"));
            let losetup = losetup.arg("losetup").arg("-d").arg(&self.device);
            losetup
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        crate::wait::poll(PATIENCE, || detach().then_some(()));
    }
}
