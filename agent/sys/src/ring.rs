//! The reader of a BPF ring buffer (`kernel/bpf/ringbuf.c`).
//!
//! aya's reader maps the ring twice. The kernel counts mapped pages as resident memory of the process.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use rustix::param::page_size;

/// The bytes of the ring's beginning that are mapped again behind its end, so that a record that crosses the end is
/// contiguous. The records are far shorter.
const BEHIND_BYTES: usize = 64 << 10;

/// The bytes that are read before the reader's position is written back; it is also written when all is read.
///
/// The programs read that position for every record, and after each write their CPUs must fetch it anew.
const TOLD_BYTES: usize = 16 << 10;

/// The bytes before each record: its length with two flags, and a page offset for the kernel's own use.
const HEADER_BYTES: usize = 8;
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;

/// A ring that is mapped.
#[derive(Debug)]
pub struct Ring {
    descriptor: OwnedFd,
    /// A page that begins with the position up to which the ring has been read.
    consumer: Mapping,
    /// A page that begins with the position up to which the ring has been written, and behind it the records.
    producer: Mapping,
    /// The size of the ring.
    bytes: usize,
    /// The position up to which this has read.
    read: usize,
    /// The value of `read` that was last written back for the programs.
    told: usize,
    /// The position up to which the ring had been written, when it was last loaded. It is loaded again only when all
    /// before it is read: the programs write its page for every record.
    written: usize,
}

impl Ring {
    /// Maps a ring of this many bytes. The reading starts where the last reader stopped.
    ///
    /// # Errors
    /// mmap(2)'s.
    pub fn map(descriptor: OwnedFd, bytes: u32) -> io::Result<Self> {
        let (page, bytes) = (page_size(), bytes as usize);
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        let consumer = Mapping::new(descriptor.as_fd(), 0, page, writable)?;
        let all = page + bytes + BEHIND_BYTES;
        let producer = Mapping::new(descriptor.as_fd(), page, all, libc::PROT_READ)?;
        let read = consumer.position().load(Ordering::Acquire);
        Ok(Self {
            descriptor,
            consumer,
            producer,
            bytes,
            read,
            told: read,
            written: read,
        })
    }

    /// Passes the next record to `take`, and returns its result. The programs can soon use the record's room again.
    ///
    /// `None` if there is no complete record. The programs can then use the room of everything that was read. To wait
    /// for the next record, use poll(2), which also sees one that has come since.
    pub fn next<T>(&mut self, take: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let header = self.header()?;
        let taken = take(self.record(header));
        self.pass(header);
        Some(taken)
    }

    /// The next record, which stays in the ring; `None` if there is no complete one.
    pub fn peek(&mut self) -> Option<&[u8]> {
        let header = self.header()?;
        Some(self.record(header))
    }

    /// The bytes of the next record, which has this header.
    fn record(&self, header: u32) -> &[u8] {
        let at = self.at() + HEADER_BYTES;
        let length = length(header).min(self.producer.bytes - at);
        // SAFETY: `length` bytes are mapped there. The program wrote them before it cleared the header's `BUSY` flag.
        // No program writes them again before `pass`, which borrows the ring mutably.
        unsafe {
            let start = self.producer.start.add(at);
            std::slice::from_raw_parts(start.as_ptr(), length)
        }
    }

    /// The header of the next record that is complete and not discarded. If there is none, the programs get the room of
    /// everything that was read.
    fn header(&mut self) -> Option<u32> {
        loop {
            match self.any_header() {
                Some(header) if header & DISCARDED != 0 => self.pass(header),
                None => {
                    self.tell();
                    return None;
                }
                header => return header,
            }
        }
    }

    /// The header of the next record, if it is complete; the record may be discarded.
    fn any_header(&mut self) -> Option<u32> {
        if self.read == self.written {
            self.written = self.producer.position().load(Ordering::Acquire);
        }
        if self.read == self.written {
            return None;
        }
        // SAFETY: all of the ring is mapped, headers are aligned to 8 bytes, and both sides access this word
        // atomically.
        let header = unsafe {
            self.producer
                .start
                .add(self.at())
                .cast::<AtomicU32>()
                .as_ref()
        };
        let header = header.load(Ordering::Acquire);
        (header & BUSY == 0).then_some(header)
    }

    /// The offset of the next record's header in the mapping.
    fn at(&self) -> usize {
        page_size() + self.read % self.bytes
    }

    /// Moves on behind the next record, which has this header.
    fn pass(&mut self, header: u32) {
        self.read += (HEADER_BYTES + length(header)).next_multiple_of(HEADER_BYTES);
        if self.read - self.told >= TOLD_BYTES {
            self.tell();
        }
    }

    /// Writes the reader's position back, which gives the programs the room of everything that was read.
    fn tell(&mut self) {
        if self.told != self.read {
            self.told = self.read;
            self.consumer.position().store(self.read, Ordering::Release);
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.tell();
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn length(header: u32) -> usize {
    (header & !(BUSY | DISCARDED)) as usize
}

/// Memory of the kernel that is mapped until this is dropped.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(
        descriptor: BorrowedFd<'_>,
        offset: usize,
        bytes: usize,
        access: libc::c_int,
    ) -> io::Result<Self> {
        // SAFETY: the kernel chooses the address of a new mapping, where no other memory is.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                access,
                libc::MAP_SHARED,
                descriptor.as_raw_fd(),
                offset as libc::off_t,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { start, bytes })
    }

    /// The position with which the mapping begins.
    fn position(&self) -> &AtomicUsize {
        // SAFETY: at least a page is mapped, and both sides access this number atomically.
        unsafe { self.start.cast().as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` mapped these bytes at this address, and no reference into them is left.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.bytes);
        }
    }
}

/// Rings that a test writes to, as the kernel does.
#[cfg(any(test, feature = "fixture"))]
pub mod fixture {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use rustix::io::pwrite;

    use super::*;

    pub const BYTES: usize = 4096;

    /// Memory with the layout of a ring.
    ///
    /// # Panics
    /// The memory cannot be made.
    pub fn memory() -> OwnedFd {
        let memory = memfd_create("ring", MemfdFlags::CLOEXEC).expect("a memfd can be made");
        let bytes = 2 * page_size() + BYTES + BEHIND_BYTES;
        ftruncate(&memory, bytes as u64).expect("it can grow");
        memory
    }

    /// Writes a record as a program does, and returns the position of the next one.
    ///
    /// # Panics
    /// The record cannot be written.
    pub fn put(memory: &OwnedFd, position: usize, record: &[u8], flags: u32) -> usize {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&(record.len() as u32 | flags).to_ne_bytes());
        bytes.extend_from_slice(record);
        let at = 2 * page_size() + position % BYTES;
        pwrite(memory, &bytes, at as u64).expect("the ring has room");
        let next = position + bytes.len().next_multiple_of(HEADER_BYTES);
        pwrite(memory, &next.to_ne_bytes(), page_size() as u64).expect("the ring has a page");
        next
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::pread;

    use super::fixture::{BYTES, memory, put};
    use super::*;

    /// Writes a record of `length` times `byte`, and returns the position of the next one.
    fn write(memory: &OwnedFd, position: usize, length: usize, byte: u8, flags: u32) -> usize {
        put(memory, position, &vec![byte; length], flags)
    }

    fn next(ring: &mut Ring) -> Option<Vec<u8>> {
        ring.next(<[u8]>::to_vec)
    }

    #[test]
    fn records_come_once_and_whole() {
        let memory = memory();
        let map = || Ring::map(memory.try_clone().unwrap(), BYTES as u32).unwrap();
        let mut ring = map();
        assert_eq!(next(&mut ring), None);
        let mut position = 0;
        // The records go around the ring several times, and some cross its end.
        for byte in 0..100 {
            position = write(&memory, position, 300 + usize::from(byte), byte, 0);
            position = write(&memory, position, 16, 0, DISCARDED);
            let record = vec![byte; 300 + usize::from(byte)];
            assert_eq!(next(&mut ring), Some(record));
            assert_eq!(next(&mut ring), None);
        }
        let mut read = [0; 8];
        pread(&memory, &mut read, 0).unwrap();
        assert_eq!(usize::from_ne_bytes(read), position);
        // The next reader starts at the same position.
        drop(ring);
        write(&memory, position, 8, 7, 0);
        assert_eq!(next(&mut map()), Some(vec![7; 8]));
    }

    #[test]
    fn a_record_that_is_being_written_is_waited_for() {
        let memory = memory();
        let mut ring = Ring::map(memory.try_clone().unwrap(), BYTES as u32).unwrap();
        let second = write(&memory, 0, 8, 1, BUSY);
        write(&memory, second, 8, 2, 0);
        assert_eq!(next(&mut ring), None);
        write(&memory, 0, 8, 1, 0);
        write(&memory, second, 8, 2, 0);
        let both = [next(&mut ring), next(&mut ring)];
        assert_eq!(both, [Some(vec![1; 8]), Some(vec![2; 8])]);
    }
}
