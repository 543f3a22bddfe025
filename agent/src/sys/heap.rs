//! The heap of the shipped program. musl's own takes twice the time for a launch, whose every microsecond somebody waits
//! for.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::{Allocator, Dlmalloc};

/// dlmalloc, behind a lock that costs less than the C library's as long as nobody waits for it.
pub struct Heap(Mutex<Dlmalloc<Pages>>);

impl Heap {
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Dlmalloc::new_with_allocator(Pages)))
    }

    fn lock(&self) -> MutexGuard<'_, Dlmalloc<Pages>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// SAFETY: dlmalloc keeps the contract, and the lock has one caller in it at a time. Neither of them allocates.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout is what both want.
        unsafe { self.lock().malloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller says that it is of this heap, with this layout.
        unsafe { self.lock().free(memory, layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as of `alloc`.
        unsafe { self.lock().calloc(layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as of `dealloc`.
        unsafe {
            self.lock()
                .realloc(memory, layout.size(), layout.align(), size)
        }
    }
}

/// Memory of the kernel's.
struct Pages;

impl Pages {
    const SIZE: usize = 4096;

    /// What dlmalloc asks for unless it needs more at once: it is used soon, and 16 pages in one call cost a fifth of as
    /// many faults.
    const USUAL: usize = 64 << 10;
}

// SAFETY: what is given is mapped for this alone, readable, writable and zero, until it is given back.
unsafe impl Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let populate = if size == Self::USUAL {
            libc::MAP_POPULATE
        } else {
            0
        };
        // SAFETY: a new mapping, where the kernel likes.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | populate,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return (std::ptr::null_mut(), 0, 0);
        }
        (memory.cast(), size, 0)
    }

    fn remap(&self, memory: *mut u8, old: usize, new: usize, may_move: bool) -> *mut u8 {
        let flags = if may_move { libc::MREMAP_MAYMOVE } else { 0 };
        // SAFETY: dlmalloc gives what it got from `alloc`.
        let memory = unsafe { libc::mremap(memory.cast(), old, new, flags) };
        if memory == libc::MAP_FAILED {
            return std::ptr::null_mut();
        }
        memory.cast()
    }

    fn free_part(&self, memory: *mut u8, old: usize, new: usize) -> bool {
        // SAFETY: dlmalloc gives what it got from `alloc`, and uses the end no more.
        unsafe { libc::munmap(memory.add(new).cast(), old - new) == 0 }
    }

    fn free(&self, memory: *mut u8, size: usize) -> bool {
        // SAFETY: dlmalloc gives what it got from `alloc`, and uses it no more.
        unsafe { libc::munmap(memory.cast(), size) == 0 }
    }

    fn can_release_part(&self, _: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        Self::SIZE
    }
}
