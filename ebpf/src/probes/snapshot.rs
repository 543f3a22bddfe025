//! Task iterators: one lists all processes for the agent's scan, one all threads for a scrape, and one checks all
//! processes for escapes.
//!
//! The kernel runs the program for each task in the reader's pid namespace (`kernel/bpf/task_iter.c`). The context is
//! `struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; }`; `meta` begins with the `seq_file`
//! to write to.

use core::ffi::c_void;

use agent_ebpf::{Field, Task, ThreadState};
use aya_ebpf::helpers::generated::bpf_seq_write;

use crate::{
    escape,
    task::{self, Probed},
};

/// Writes the [`Task`] of each process, in the state of its leader, to the reader.
#[unsafe(link_section = "iter/task")]
#[unsafe(no_mangle)]
pub extern "C" fn snapshot(context: *const *const *mut c_void) -> i32 {
    // SAFETY: the context is two pointers; the verifier knows their types.
    let (meta, task) = unsafe { (*context, (*context.add(1)).cast::<u8>()) };
    if task.is_null() {
        return 0;
    }
    // `Probed`, since newer verifiers search all of the kernel's types for each typed pointer that a program follows.
    // Each search takes half a millisecond, and delays the start of the agent.
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

/// Writes the [`ThreadState`] of each thread to the reader.
#[unsafe(link_section = "iter/task")]
#[unsafe(no_mangle)]
pub extern "C" fn threads(context: *const *const *mut c_void) -> i32 {
    // SAFETY: the context is two pointers; the verifier knows their types.
    let (meta, task) = unsafe { (*context, (*context.add(1)).cast::<u8>()) };
    if task.is_null() {
        return 0;
    }
    let task = Probed::new(task);
    let mut out = ThreadState {
        cgroup: task::counted_cgroup(task),
        pid: task.load(Field::TaskTgid),
        tid: task.load(Field::TaskPid),
        state: task.load(Field::TaskState),
        in_iowait: task::in_iowait(task),
    };
    // SAFETY: the verifier knows `seq`; `out` is initialized and has no padding.
    unsafe {
        bpf_seq_write(
            (*meta).cast(),
            (&raw mut out).cast(),
            size_of::<ThreadState>() as u32,
        )
    };
    0
}

/// Checks every task for escapes that no other program saw, or whose record found no room. It writes nothing to the
/// reader.
#[unsafe(link_section = "iter/task")]
#[unsafe(no_mangle)]
pub extern "C" fn recheck(context: *const *const *mut c_void) -> i32 {
    // SAFETY: the context is two pointers; the verifier knows their types.
    let task = unsafe { (*context.add(1)).cast::<u8>() };
    if !task.is_null() {
        let task = Probed::new(task);
        escape::find(task, &task::counted_cgroup(task));
    }
    0
}
