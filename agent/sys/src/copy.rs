//! memcpy(3) and memmove(3) of the shipped program, in place of musl's.
//!
//! musl copies by `rep movsq` whatever the length, and the CPU takes a dozen nanoseconds to begin each such copy. A
//! line of JSON consists of a hundred pieces of some ten bytes. With musl's memcpy, a sixth of the server's time is
//! spent on these beginnings.

use std::arch::asm;
use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_storeu_si128};

/// The length from which on `rep movsb` is used: its time to begin is then small against that of the copy.
const LONG: usize = 1024;

/// Copies `bytes` bytes between two ranges of memory that do not overlap.
///
/// # Safety
/// `bytes` bytes must be readable at `from` and writable at `to`, and the ranges must not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: the caller guarantees both ranges.
    unsafe {
        if bytes <= 128 {
            short(to, from, bytes);
        } else {
            forward(to, from, bytes);
        }
    }
    to
}

/// Copies `bytes` bytes between two ranges of memory that may overlap.
///
/// # Safety
/// `bytes` bytes must be readable at `from` and writable at `to`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: the caller guarantees both ranges. A forward copy overwrites no byte that it has still to read, unless
    // `to` is in the range that begins at `from`.
    unsafe {
        if bytes <= 128 {
            short(to, from, bytes);
        } else if (to as usize).wrapping_sub(from as usize) >= bytes {
            forward(to, from, bytes);
        } else {
            backward(to, from, bytes);
        }
    }
    to
}

/// Copies up to 128 bytes. It reads all of them before it writes any, so the ranges may overlap.
#[inline(always)]
unsafe fn short(to: *mut u8, from: *const u8, bytes: usize) {
    /// Copies the first and the last value of a type, which together cover all bytes.
    macro_rules! ends {
        ($type:ty) => {{
            let last = bytes - size_of::<$type>();
            let head = from.cast::<$type>().read_unaligned();
            let tail = from.add(last).cast::<$type>().read_unaligned();
            to.cast::<$type>().write_unaligned(head);
            to.add(last).cast::<$type>().write_unaligned(tail);
        }};
    }
    // SAFETY: the caller guarantees both ranges, and no more than `bytes` bytes are read and written.
    unsafe {
        match bytes {
            0 => {}
            1 => to.write(from.read()),
            2..=3 => ends!(u16),
            4..=7 => ends!(u32),
            8..=15 => ends!(u64),
            16..=32 => ends!(__m128i),
            33..=64 => ends!([__m128i; 2]),
            _ => {
                let head = load(from);
                let tail = load(from.add(bytes - 64));
                store(to, head);
                store(to.add(bytes - 64), tail);
            }
        }
    }
}

/// Copies more than 64 bytes, from the first to the last.
#[inline(always)]
unsafe fn forward(to: *mut u8, from: *const u8, bytes: usize) {
    // SAFETY: the caller guarantees both ranges, and no more than `bytes` bytes are read and written. The last 64 bytes
    // are read before they may be overwritten.
    unsafe {
        if bytes >= LONG {
            asm!(
                "rep movsb",
                inout("rcx") bytes => _,
                inout("rdi") to => _,
                inout("rsi") from => _,
                options(nostack, preserves_flags),
            );
            return;
        }
        let tail = load(from.add(bytes - 64));
        let mut done = 0;
        while done < bytes - 64 {
            store(to.add(done), load(from.add(done)));
            done += 64;
        }
        store(to.add(bytes - 64), tail);
    }
}

/// Copies more than 64 bytes, from the last to the first.
unsafe fn backward(to: *mut u8, from: *const u8, bytes: usize) {
    // SAFETY: the caller guarantees both ranges, and no more than `bytes` bytes are read and written. The first 64
    // bytes are read before they may be overwritten.
    unsafe {
        let head = load(from);
        let mut left = bytes;
        while left > 64 {
            left -= 64;
            store(to.add(left), load(from.add(left)));
        }
        store(to, head);
    }
}

/// Loads 64 bytes by vector instructions: the compiler would turn a loop into a call of memcpy, which calls this.
/// Without optimization, it calls memcpy even for these, so all profiles of this workspace optimize.
#[inline(always)]
unsafe fn load(from: *const u8) -> [__m128i; 4] {
    let from = from.cast::<__m128i>();
    // SAFETY: the caller guarantees that 64 bytes can be read.
    unsafe {
        [
            _mm_loadu_si128(from),
            _mm_loadu_si128(from.add(1)),
            _mm_loadu_si128(from.add(2)),
            _mm_loadu_si128(from.add(3)),
        ]
    }
}

/// Stores 64 bytes by vector instructions.
#[inline(always)]
unsafe fn store(to: *mut u8, [a, b, c, d]: [__m128i; 4]) {
    let to = to.cast::<__m128i>();
    // SAFETY: the caller guarantees that 64 bytes can be written.
    unsafe {
        _mm_storeu_si128(to, a);
        _mm_storeu_si128(to.add(1), b);
        _mm_storeu_si128(to.add(2), c);
        _mm_storeu_si128(to.add(3), d);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns 3 KiB of memory in which `bytes` bytes were copied from the offset `from` to the offset `to`.
    fn copied(
        copy: unsafe extern "C" fn(*mut u8, *const u8, usize) -> *mut u8,
        to: usize,
        from: usize,
        bytes: usize,
    ) -> Vec<u8> {
        let mut memory: Vec<u8> = (0..3072_u32).map(|at| ((at * 7) >> 2) as u8).collect();
        let start = memory.as_mut_ptr();
        assert!(to.max(from) + bytes <= memory.len());
        // SAFETY: both ranges are in `memory`.
        unsafe { copy(start.add(to), start.add(from), bytes) };
        memory
    }

    #[test]
    fn every_length_is_copied_and_nothing_beside_it() {
        for bytes in (0..300).chain([511, 512, 1023, 1024, 1025, 1400]) {
            for (to, from) in [(1500, 3), (17, 1600), (0, 1500), (1501, 64)] {
                let mut wanted = copied(memmove, 0, 0, 0);
                wanted.copy_within(from..from + bytes, to);
                assert_eq!(copied(memcpy, to, from, bytes), wanted, "{bytes}");
                assert_eq!(copied(memmove, to, from, bytes), wanted, "{bytes}");
            }
        }
    }

    #[test]
    fn places_may_overlap() {
        for bytes in (0..200).chain([640, 1023, 1024, 1025, 1500]) {
            for apart in [0, 1, 2, 7, 15, 16, 33, 63, 64, 65, 128, 700] {
                for (to, from) in [(100, 100 + apart), (100 + apart, 100)] {
                    let mut wanted = copied(memmove, 0, 0, 0);
                    wanted.copy_within(from..from + bytes, to);
                    assert_eq!(copied(memmove, to, from, bytes), wanted, "{bytes} {apart}");
                }
            }
        }
    }
}
