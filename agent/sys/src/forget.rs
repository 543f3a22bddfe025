//! The reaper: pid 1 of a container, which must leave nothing of the launcher's memory to the container.
//!
//! The process is a copy of the launcher, whose memory has data that the container must not see. Processes of the
//! container may look into the reaper's memory.

use std::ffi::CStr;
use std::os::fd::AsFd as _;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use super::launch::{exit, wait_for_signal};
use super::start_area::StartArea;
use super::threads;

/// The most private mappings that are recorded. The program has fewer.
const MAPPINGS: usize = 256;

/// The bytes of a line of `/proc/PID/maps` that are kept. Without its path, a line is shorter.
const LINE_BYTES: usize = 512;

/// The private, writable mappings of a process that belong to no file: the start and the end of each.
#[derive(Debug)]
pub struct Memory {
    mappings: [(usize, usize); MAPPINGS],
    count: usize,
    /// The stack that the process began with.
    stack: Option<(usize, usize)>,
}

/// The bytes before and behind the address of `errno` that are kept: the C library's data of the thread, which is
/// smaller on all platforms.
const OF_THREAD: usize = 16 * 1024;
/// The bytes of the stack below the running frame that are kept, for the frames of the functions that it calls.
const OF_FRAMES: usize = 64 * 1024;

/// The exit status of a reaper that could not begin.
const FAILED: u8 = 125;
/// The number that a shell adds to a signal's number for the exit status of a process that the signal killed.
const KILLED: i32 = 128;

/// Becomes the pid 1 of a container, whose command is this process's child `command`.
///
/// It waits for every child that ends, passes signals on to the command, and ends when the command does, with its
/// status. The caller must have blocked all signals ([`super::launch::block_signals`]). No descriptor stays open.
///
/// If `memory` is given, the heap and the used part of the stack are emptied first. The static variables that are
/// mapped from the program's file stay, and so do the pages around the C library's data of the thread.
pub fn reap(command: Pid, memory: Option<(&Memory, StartArea)>) -> ! {
    if threads::expect_one().is_err() {
        exit(FAILED)
    }
    match memory {
        Some((memory, area)) => leave_memory(memory, area, command),
        None => serve(command),
    }
}

/// The reaper's loop. It uses only system calls, its stack, and its argument.
fn serve(command: Pid) -> ! {
    // SAFETY: the call takes no pointer. The code below uses no descriptor, and no caller runs again.
    if unsafe { libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) } < 0 {
        exit(FAILED)
    }
    loop {
        let signal = wait_for_signal();
        if signal != Signal::CHILD {
            let _ = kill_process(command, signal);
            continue;
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == command => {
                    let killed = status.terminating_signal().map(|signal| KILLED + signal);
                    let status = killed.or(status.exit_status()).unwrap_or(KILLED);
                    exit(status as u8)
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) | Err(_) => break,
            }
        }
    }
}

/// Empties the memory, then runs the reaper's loop.
fn leave_memory(memory: &Memory, area: StartArea, command: Pid) -> ! {
    let marker = 0u8;
    let above = (&raw const marker).expose_provenance();
    // SAFETY: the call takes no pointer, and returns the address of this thread's `errno`.
    let thread = unsafe { libc::__errno_location() }.expose_provenance();
    for &(start, end) in memory.mappings.iter().take(memory.count) {
        if (start..end).contains(&above) {
            continue;
        }
        if (start..end).contains(&thread) {
            give_back(start, pages(thread.saturating_sub(OF_THREAD)));
            give_back(pages(thread.saturating_add(OF_THREAD)), end);
        } else {
            give_back(start, end);
        }
    }
    // The part of the stack below the frames in use has what earlier calls left there.
    if let Some((start, _)) = memory
        .stack
        .filter(|(start, end)| (start..end).contains(&&above))
    {
        give_back(start, pages(above.saturating_sub(OF_FRAMES)));
    }
    beneath(above, area.start(), command)
}

/// The start of the page that an address is in.
fn pages(address: usize) -> usize {
    const PAGE: usize = 4096;
    address - address % PAGE
}

/// Gives private pages back to the kernel. They read as zeros afterwards.
fn give_back(start: usize, end: usize) {
    if start >= end {
        return;
    }
    // SAFETY: the kernel reports these pages as private to this process, and they have no frame that is in use. All
    // pointers into them are in the callers' frames, to which nothing returns, or are not used by `serve`.
    unsafe {
        let start_of = std::ptr::with_exposed_provenance_mut(start);
        libc::madvise(start_of, end - start, libc::MADV_DONTNEED);
    }
}

/// Empties the stack from the address `above` up to `end`, the strings that the process was started with. Then it runs
/// the reaper's loop.
#[inline(never)]
fn beneath(above: usize, end: usize, command: Pid) -> ! {
    // Otherwise this is not the stack that the process began with.
    if above < end {
        // SAFETY: the bytes are on the stack with which the process began, from a variable in the caller's frame up.
        // Neither this function nor `serve` returns, so no frame there is used again.
        unsafe {
            let from = std::ptr::with_exposed_provenance_mut::<u8>(above);
            std::ptr::write_bytes(from, 0, end - above);
        }
    }
    serve(command)
}

impl Memory {
    /// The file with the mappings of this process.
    pub const FILE: &CStr = c"/proc/self/maps";

    /// Reads the mappings of this process (proc_pid_maps(5)).
    ///
    /// It allocates nothing, and nothing may be allocated between this and [`reap`]: mappings that the heap gains later
    /// are not emptied.
    ///
    /// # Errors
    /// The file cannot be read; E2BIG if there are more than 256 such mappings.
    pub fn of_own() -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let maps = openat(CWD, Self::FILE, flags, Mode::empty())?;
        let mut memory = Self {
            mappings: [(0, 0); MAPPINGS],
            count: 0,
            stack: None,
        };
        let mut line = [0u8; LINE_BYTES];
        let mut length = 0;
        let mut bytes = [0u8; 4096];
        loop {
            let read = match rustix::io::read(maps.as_fd(), &mut bytes) {
                Ok(0) => return Ok(memory),
                Err(Errno::INTR) => continue,
                read => read?,
            };
            for &byte in bytes.get(..read).unwrap_or_default() {
                if byte != b'\n' {
                    if let Some(place) = line.get_mut(length) {
                        *place = byte;
                        length += 1;
                    }
                    continue;
                }
                let text = line.get(..length).unwrap_or_default();
                match private_of(text) {
                    Some(mapping) if text.ends_with(b"[stack]") => memory.stack = Some(mapping),
                    Some(mapping) => memory.add(mapping)?,
                    None => {}
                }
                length = 0;
            }
        }
    }

    fn add(&mut self, mapping: (usize, usize)) -> Result<(), Errno> {
        let place = self.mappings.get_mut(self.count).ok_or(Errno::TOOBIG)?;
        *place = mapping;
        self.count += 1;
        Ok(())
    }
}

/// The addresses of the mapping in a line such as `55e0-55f0 rw-p 00000000 00:00 0  [heap]`; `None` unless it is
/// private, writable and of no file.
fn private_of(line: &[u8]) -> Option<(usize, usize)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_private = fields.next()?.starts_with("rw-p");
    let inode = fields.nth(2)?;
    let name = fields.next().unwrap_or_default();
    let is_memory = matches!(name, "" | "[heap]" | "[stack]") || name.starts_with("[anon");
    let number = |text| usize::from_str_radix(text, 16).ok();
    let mapping = (number(start)?, number(end)?);
    (is_private && inode == "0" && is_memory).then_some(mapping)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_of_no_file_are_told_from_others() {
        let heap = b"55e0-55f0 rw-p 00000000 00:00 0                          [heap]";
        assert_eq!(private_of(heap), Some((0x55e0, 0x55f0)));
        assert_eq!(
            private_of(b"7f00-7f10 rw-p 00000000 00:00 0 "),
            Some((0x7f00, 0x7f10))
        );
        for other in [
            &b"7f00-7f10 rw-s 00000000 00:01 7 /memfd:x"[..],
            b"7f00-7f10 r--p 00000000 00:00 0 ",
            b"7f00-7f10 rw-p 00001000 fe:00 77 /bin/agent",
            b"nonsense",
            b"",
        ] {
            assert_eq!(private_of(other), None);
        }
    }
}
