//! A process that stays where others may look into its memory, and was the copy of one that had what is theirs not to see.

use std::ffi::CStr;
use std::os::fd::AsFd as _;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use super::launch::{exit, wait_for_signal};
use super::start_area::StartArea;
use super::threads;

/// More than the mappings of this program.
const MAPPINGS: usize = 256;

/// A line of `/proc/PID/maps` without its path is shorter.
const LINE_BYTES: usize = 512;

/// The private, writable mappings of no file that a process has: first and last address of each.
#[derive(Debug)]
pub struct Memory {
    mappings: [(usize, usize); MAPPINGS],
    count: usize,
    /// The stack that the process began with.
    stack: Option<(usize, usize)>,
}

/// Round the address of what the C library keeps for the thread: it stays. More than that has on any platform.
const OF_THREAD: usize = 16 * 1024;
/// Below the frame that goes on: the frames of what it calls.
const OF_FRAMES: usize = 64 * 1024;

/// The exit status of a reaper that could not begin.
const FAILED: u8 = 125;
/// What a shell adds to a signal's number.
const KILLED: i32 = 128;

/// Becomes pid 1 of a container, whose command is this child: waits for whatever dies, hands signals on to the command, and
/// ends as it does. All signals are blocked ([`super::launch::block_signals`]). No descriptor stays open.
///
/// Where `memory` is given, this process's heap is emptied first, and the stack above. What stays then is the program's
/// static variables, and the pages round what the C library keeps for the thread.
pub fn reap(command: Pid, memory: Option<(&Memory, StartArea)>) -> ! {
    if threads::expect_one().is_err() {
        exit(FAILED)
    }
    match memory {
        Some((memory, area)) => leave_memory(memory, area, command),
        None => serve(command),
    }
}

/// Uses nothing but the kernel, its stack, and its argument.
fn serve(command: Pid) -> ! {
    // SAFETY: the call takes no pointer. Nothing below has a descriptor, and no caller runs again.
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

fn leave_memory(memory: &Memory, area: StartArea, command: Pid) -> ! {
    let marker = 0u8;
    let above = (&raw const marker).expose_provenance();
    // SAFETY: the call takes no pointer.
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
    // What earlier calls left there.
    if let Some((start, _)) = memory
        .stack
        .filter(|(start, end)| (start..end).contains(&&above))
    {
        give_back(start, pages(above.saturating_sub(OF_FRAMES)));
    }
    beneath(above, area.start(), command)
}

/// The first address of the page that an address is in.
fn pages(address: usize) -> usize {
    const PAGE: usize = 4096;
    address - address % PAGE
}

/// Gives private pages back to the kernel; they read as zeros then.
fn give_back(start: usize, end: usize) {
    if start >= end {
        return;
    }
    // SAFETY: the kernel says that this process alone has these pages, which are no part of the stack that is in use. All
    // that pointed into them is in the frames above, to which nothing returns, or is not used by `serve`.
    unsafe {
        let start_of = std::ptr::with_exposed_provenance_mut(start);
        libc::madvise(start_of, end - start, libc::MADV_DONTNEED);
    }
}

/// Empties the stack from `above` up to the strings that the process was started with.
#[inline(never)]
fn beneath(above: usize, end: usize, command: Pid) -> ! {
    // Of the stack of another thread nothing is known.
    if above < end {
        // SAFETY: this is the stack on which the process began, from a frame above this one on. This function does not
        // return, nor does `serve`, so that no frame there is used again.
        unsafe {
            let from = std::ptr::with_exposed_provenance_mut::<u8>(above);
            std::ptr::write_bytes(from, 0, end - above);
        }
    }
    serve(command)
}

impl Memory {
    pub const FILE: &CStr = c"/proc/self/maps";

    /// As this process's own proc_pid_maps(5) reports it. Nothing is allocated, and until [`reap`] nothing may be: what the
    /// heap has grown by is not emptied.
    ///
    /// # Errors
    /// Those of reading it; E2BIG where there are more mappings than this program has.
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

/// The addresses of a line such as `55e0-55f0 rw-p 00000000 00:00 0  [heap]`, where it is one of those.
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
