//! A process that stays where others may look into its memory, and was the copy of one that had what is theirs not to see.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::process::Pid;

use super::launch::StartArea;

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

/// Goes on as `then`, without the memory that this process has: its heap and the stack above are emptied. `then` uses
/// nothing but the kernel, and its argument.
///
/// What stays is the program's static variables, and the pages round what the C library keeps for the thread.
pub fn leave_memory(memory: &Memory, area: StartArea, pid: Pid, then: fn(Pid) -> !) -> ! {
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
    beneath(above, area.start(), pid, then)
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
    // that pointed into them is in the frames above, to which nothing returns, or is not used by `then`, as the caller of
    // `leave_memory` says.
    unsafe {
        let start_of = std::ptr::with_exposed_provenance_mut(start);
        libc::madvise(start_of, end - start, libc::MADV_DONTNEED);
    }
}

/// Empties the stack from `above` up to the strings that the process was started with.
#[inline(never)]
fn beneath(above: usize, end: usize, pid: Pid, then: fn(Pid) -> !) -> ! {
    // Of the stack of another thread nothing is known.
    if above < end {
        // SAFETY: this is the stack on which the process began, from a frame above this one on. This function does not
        // return, nor does `then`, so that no frame there is used again.
        unsafe {
            let from = std::ptr::with_exposed_provenance_mut::<u8>(above);
            std::ptr::write_bytes(from, 0, end - above);
        }
    }
    then(pid)
}

impl Memory {
    /// As this process's own proc_pid_maps(5) tells it. Nothing is allocated.
    ///
    /// # Errors
    /// Those of reading it; E2BIG where there are more mappings than this program has.
    pub fn read(maps: &OwnedFd) -> Result<Self, Errno> {
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
