//! The heap of the shipped program. musl's own takes twice the time for a launch, whose every microsecond somebody waits
//! for.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use dlmalloc::{Allocator, Dlmalloc};

/// dlmalloc; behind a lock from the second thread on. What launches has one, and the lock would be a tenth of its time.
pub struct Heap {
    lock: Mutex<()>,
    heap: UnsafeCell<Dlmalloc<Pages>>,
}

// SAFETY: `with` lets one caller in at a time.
unsafe impl Sync for Heap {}

/// Whether there has ever been a second thread.
static SHARED: AtomicBool = AtomicBool::new(false);

impl Heap {
    #[must_use]
    pub const fn new() -> Self {
        Self {
            lock: Mutex::new(()),
            heap: UnsafeCell::new(Dlmalloc::new_with_allocator(Pages)),
        }
    }

    #[inline]
    fn with<R>(&self, work: impl FnOnce(&mut Dlmalloc<Pages>) -> R) -> R {
        // The first thread sets it before the second one is there.
        let shared = SHARED.load(Ordering::Relaxed);
        let _alone = shared.then(|| self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        // SAFETY: there is one thread, or this one has the lock. dlmalloc does not call back.
        work(unsafe { &mut *self.heap.get() })
    }
}

/// The kind of function that a thread begins with.
type Start = extern "C" fn(*mut libc::c_void) -> *mut libc::c_void;

unsafe extern "C" {
    /// The C library's, by the name that the linker gives it (`--wrap=pthread_create`, agent/build.rs).
    fn __real_pthread_create(
        thread: *mut libc::pthread_t,
        attributes: *const libc::pthread_attr_t,
        start: Start,
        argument: *mut libc::c_void,
    ) -> libc::c_int;
}

/// pthread_create(3), which all threads of this program come from. Without the linker's part the program does not link.
///
/// # Safety
/// As of pthread_create(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __wrap_pthread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: Start,
    argument: *mut libc::c_void,
) -> libc::c_int {
    SHARED.store(true, Ordering::Relaxed);
    // SAFETY: the caller's own arguments.
    unsafe { __real_pthread_create(thread, attributes, start, argument) }
}

// SAFETY: dlmalloc keeps the contract, and has one caller at a time. It does not allocate by this.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout is what both want.
        self.with(|heap| unsafe { heap.malloc(layout.size(), layout.align()) })
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller says that it is of this heap, with this layout.
        self.with(|heap| unsafe { heap.free(memory, layout.size(), layout.align()) });
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as of `alloc`.
        self.with(|heap| unsafe { heap.calloc(layout.size(), layout.align()) })
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as of `dealloc`.
        self.with(|heap| unsafe { heap.realloc(memory, layout.size(), layout.align(), size) })
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
