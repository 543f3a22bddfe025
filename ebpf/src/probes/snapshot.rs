//! All processes there are: for the scan at start, and to look again for escapes.
//!
//! A task iterator (`kernel/bpf/task_iter.c`), with the context
//! `struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; }`; `meta` begins
//! with the `seq_file` to write to. It sees the tasks of the reader's pid namespace.

use core::ffi::c_void;

use agent_ebpf::{Field, Task};
use aya_ebpf::helpers::generated::bpf_seq_write;

use crate::{
    escape,
    task::{self, Probed},
};

#[unsafe(link_section = "iter/task")]
#[unsafe(no_mangle)]
pub extern "C" fn snapshot(context: *const *const *mut c_void) -> i32 {
    // SAFETY: the context is two pointers; the verifier knows their types.
    let (meta, task) = unsafe { (*context, (*context.add(1)).cast::<u8>()) };
    if task.is_null() {
        return 0;
    }
    // Newer verifiers look through all of the kernel's types for each pointer of a type that they
    // follow: half a millisecond, before which nothing can start.
    let task = Probed::new(task);
    let (pid, tid): (u32, u32) = (task.load(Field::TaskTgid), task.load(Field::TaskPid));
    if pid != tid {
        return 0;
    }
    let mut out = Task::EMPTY;
    task::capture(task, &raw mut out);
    // SAFETY: the verifier knows `seq`; `out` is initialized and has no padding.
    unsafe {
        bpf_seq_write(
            (*meta).cast(),
            (&raw mut out).cast(),
            size_of::<Task>() as u32,
        )
    };
    0
}

/// Looks at every task for an escape that no other program saw, or could tell of. Nothing is read from it.
#[unsafe(link_section = "iter/task")]
#[unsafe(no_mangle)]
pub extern "C" fn recheck(context: *const *const *mut c_void) -> i32 {
    // SAFETY: as in `snapshot`.
    let task = unsafe { (*context.add(1)).cast::<u8>() };
    if !task.is_null() {
        let task = Probed::new(task);
        escape::find(task, &task::counted_cgroup(task));
    }
    0
}
