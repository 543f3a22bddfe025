//! The commands of bpf(2) that the agent needs and no crate offers: they load and attach programs, and make and write
//! maps.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use aya::maps::MapData;
use aya_obj::generated::bpf_insn;

/// `enum bpf_attach_type` (`include/uapi/linux/bpf.h`).
pub const BPF_TRACE_RAW_TP: u32 = 23;
pub const BPF_TRACE_FENTRY: u32 = 24;
pub const BPF_TRACE_FEXIT: u32 = 25;
pub const BPF_TRACE_ITER: u32 = 28;

/// A BPF program, as BPF_PROG_LOAD takes it (`include/uapi/linux/bpf.h`).
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// A `BPF_PROG_TYPE_*`.
    pub kind: u32,
    /// A `BPF_TRACE_*` if the kind is `BPF_PROG_TYPE_TRACING`, else 0.
    pub attach: u32,
    /// The BTF id, in the kernel's type information, of what the program traces; 0 if it has none.
    pub traced: u32,
    pub name: &'a CStr,
    pub license: &'a CStr,
    pub instructions: &'a [bpf_insn],
}

/// Loads a BPF program. The verifier writes its log to `log`, unless that is empty.
///
/// # Errors
/// bpf(2)'s; EPERM without CAP_BPF and CAP_PERFMON.
pub fn load_program(program: &Program<'_>, log: &mut [u8]) -> io::Result<OwnedFd> {
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        kind: u32,
        instruction_count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
        interface: u32,
        attach: u32,
        own_btf: [u64; 4],
        line_count: u32,
        traced: u32,
    }
    const BPF_PROG_LOAD: libc::c_int = 5;
    let mut attributes = Attributes {
        kind: program.kind,
        instruction_count: program.instructions.len() as u32,
        instructions: program.instructions.as_ptr() as u64,
        license: program.license.as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: log.len() as u32,
        log: if log.is_empty() {
            0
        } else {
            log.as_mut_ptr() as u64
        },
        attach: program.attach,
        traced: program.traced,
        ..Attributes::default()
    };
    // The last byte stays the NUL that the kernel requires.
    for (to, from) in attributes.name[..15]
        .iter_mut()
        .zip(program.name.to_bytes())
    {
        *to = *from;
    }
    // SAFETY: the slices and strings that the attributes point to outlive the call. The kernel writes only to `log`,
    // which is borrowed mutably.
    unsafe { bpf_descriptor(BPF_PROG_LOAD, &attributes) }
}

/// Attaches a loaded program to what it traces, until the returned descriptor is closed.
///
/// # Errors
/// bpf(2)'s.
pub fn attach_tracing(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        name: u64,
        program: u32,
        zero: u32,
    }
    const BPF_RAW_TRACEPOINT_OPEN: libc::c_int = 17;
    let attributes = Attributes {
        name: 0,
        program: program.as_raw_fd() as u32,
        zero: 0,
    };
    // SAFETY: the attributes have no pointer.
    unsafe { bpf_descriptor(BPF_RAW_TRACEPOINT_OPEN, &attributes) }
}

/// Attaches a loaded program of type `BPF_PROG_TYPE_CGROUP_DEVICE` to a v2 cgroup. The programs that are attached there
/// already stay.
///
/// # Errors
/// bpf(2)'s.
pub fn attach_to_cgroup(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        cgroup: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }
    const BPF_PROG_ATTACH: libc::c_int = 8;
    const BPF_CGROUP_DEVICE: u32 = 6;
    const BPF_F_ALLOW_MULTI: u32 = 2;
    let attributes = Attributes {
        cgroup: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: the attributes have no pointer.
    unsafe { bpf(BPF_PROG_ATTACH, &attributes) }.map(drop)
}

/// Attaches a BPF program to the tracepoint with this id (tracefs, `events/*/*/id`), on all CPUs, until the returned
/// descriptor is closed.
///
/// # Errors
/// perf_event_open(2)'s and those of its ioctls; EACCES without CAP_PERFMON.
pub fn attach_tracepoint(id: u64, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    /// `struct perf_event_attr` as of `PERF_ATTR_SIZE_VER0` (`include/uapi/linux/perf_event.h`).
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        kind: u32,
        size: u32,
        config: u64,
        sample_period: u64,
        sample_type: u64,
        read_format: u64,
        flags: u64,
        wakeup_events: u32,
        bp_type: u32,
        bp_address: u64,
    }
    const PERF_TYPE_TRACEPOINT: u32 = 2;
    const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
    const PERF_EVENT_IOC_ENABLE: libc::Ioctl = 0x2400;
    const PERF_EVENT_IOC_SET_BPF: libc::Ioctl = 0x4004_2408;

    let attributes = Attributes {
        kind: PERF_TYPE_TRACEPOINT,
        size: size_of::<Attributes>() as u32,
        config: id,
        sample_period: 1,
        wakeup_events: 1,
        ..Attributes::default()
    };
    // A program on a tracepoint runs on every CPU, whichever the event was opened on.
    let (any_process, cpu, no_group) = (-1, 0, -1);
    // SAFETY: `attributes` is a valid perf_event_attr of the size that it states, and outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            any_process,
            cpu,
            no_group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned a new descriptor that nothing else owns.
    let event = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    for (request, argument) in [
        (PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()),
        (PERF_EVENT_IOC_ENABLE, 0),
    ] {
        // SAFETY: both requests take an integer, and the descriptor is open.
        if unsafe { libc::ioctl(event.as_raw_fd(), request, argument) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(event)
}

/// Opens a loaded iterator as a file. The program runs as the file is read.
///
/// # Errors
/// bpf(2)'s.
pub fn iterate(program: BorrowedFd<'_>) -> io::Result<std::fs::File> {
    #[repr(C)]
    struct Link {
        program: u32,
        target: u32,
        attach: u32,
        flags: u32,
    }
    #[repr(C)]
    struct Iterator {
        link: u32,
        flags: u32,
    }
    const BPF_LINK_CREATE: libc::c_int = 28;
    const BPF_ITER_CREATE: libc::c_int = 33;
    let link = Link {
        program: program.as_raw_fd() as u32,
        target: 0,
        attach: BPF_TRACE_ITER,
        flags: 0,
    };
    // SAFETY: the attributes have no pointer.
    let link = unsafe { bpf_descriptor(BPF_LINK_CREATE, &link) }?;
    let iterator = Iterator {
        link: link.as_raw_fd() as u32,
        flags: 0,
    };
    // SAFETY: the attributes have no pointer.
    unsafe { bpf_descriptor(BPF_ITER_CREATE, &iterator) }.map(std::fs::File::from)
}

/// Makes a BPF map that can hold `entries` maps of the same layout as `one`.
///
/// # Errors
/// bpf(2)'s.
pub fn make_array_of_maps(one: BorrowedFd<'_>, entries: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        kind: u32,
        key_size: u32,
        value_size: u32,
        entries: u32,
        flags: u32,
        inner: u32,
    }
    const BPF_MAP_CREATE: libc::c_int = 0;
    const BPF_MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;
    let attributes = Attributes {
        kind: BPF_MAP_TYPE_ARRAY_OF_MAPS,
        key_size: size_of::<u32>() as u32,
        value_size: size_of::<u32>() as u32,
        entries,
        flags: 0,
        inner: one.as_raw_fd() as u32,
    };
    // SAFETY: the attributes have no pointer.
    unsafe { bpf_descriptor(BPF_MAP_CREATE, &attributes) }
}

/// Puts a map into an array that [`make_array_of_maps`] made.
///
/// # Errors
/// bpf(2)'s.
pub fn set_map(array: BorrowedFd<'_>, at: u32, map: &MapData) -> io::Result<()> {
    let value = (descriptor(map) as u32).to_ne_bytes();
    // SAFETY: the values of an array of maps have four bytes, as `value` has.
    unsafe { set_element(array.as_raw_fd() as u64, at, &value) }
}

/// Writes the first value of an array.
///
/// # Errors
/// bpf(2)'s; `InvalidInput` if the array's values are not as long as `value`.
pub fn set_first(array: &MapData, value: &[u8]) -> io::Result<()> {
    let size = array.info().map_err(io::Error::other)?.value_size();
    if value.len() != size as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: `value` is as long as the array's values: the sizes were compared.
    unsafe { set_element(descriptor(array), 0, value) }
}

/// Makes a map read-only for system calls. The verifier can then rely on the contents of a map that is also read-only
/// for programs.
///
/// # Errors
/// bpf(2)'s.
pub fn freeze(map: &MapData) -> io::Result<()> {
    const BPF_MAP_FREEZE: libc::c_int = 22;
    // SAFETY: the attributes have no pointer.
    unsafe { bpf(BPF_MAP_FREEZE, &descriptor(map)) }.map(drop)
}

/// Writes the value at index `at`.
///
/// # Safety
/// The values of the array, or array of maps, must have as many bytes as `value`.
unsafe fn set_element(array: u64, at: u32, value: &[u8]) -> io::Result<()> {
    #[repr(C)]
    struct Element {
        map: u64,
        key: u64,
        value: u64,
        flags: u64,
    }
    const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
    let element = Element {
        map: array,
        key: &raw const at as u64,
        value: value.as_ptr() as u64,
        flags: 0,
    };
    // SAFETY: key and value outlive the call. The kernel reads as many bytes of them as the map's keys and values have:
    // the keys of an array have four, and the caller guarantees the size of the value.
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &element) }.map(drop)
}

fn descriptor(map: &MapData) -> u64 {
    map.fd().as_fd().as_raw_fd() as u64
}

/// Runs a command of bpf(2) that returns a descriptor.
///
/// # Safety
/// The conditions of [`bpf`] hold, and the command must be one that returns a new descriptor.
unsafe fn bpf_descriptor<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller guarantees the conditions of `bpf`.
    let descriptor = unsafe { bpf(command, attributes) }?;
    // SAFETY: the caller guarantees that the descriptor is a new one, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Runs a command of bpf(2).
///
/// # Safety
/// `attributes` must have the layout that the command expects, without padding. The memory that they point to must be
/// valid during the call.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<i32> {
    let attributes = std::ptr::from_ref(attributes);
    // SAFETY: the caller guarantees the attributes, and the size is theirs.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as i32)
}
