//! What the agent says at load time, and whether this program is the one to run.

use agent_ebpf::{FIELD_COUNT, Field, Namespace, NamespaceInodes, ProgramConfig};
use aya_ebpf::{macros::map, maps::Array};

/// Written by the agent before the programs are loaded; constants to the verifier.
#[unsafe(no_mangle)]
pub static CONFIG: ProgramConfig = ProgramConfig {
    generation: 0,
    page_shift: 0,
    rings_mask: 0,
    fields: [0; FIELD_COUNT],
    rss_percpu: 0,
    exit_group_dead: 0,
};

/// The generation that runs. Its layout never changes, so that any later version can take over
/// with one write.
#[map]
static ACTIVE: Array<u64> = Array::with_max_entries(1, 0);

/// The namespaces of the host: those of its init process.
#[map]
static HOST: Array<NamespaceInodes> = Array::with_max_entries(1, 0);

/// The namespaces of the host, once the agent has written them.
#[inline(always)]
pub fn host() -> Option<&'static NamespaceInodes> {
    HOST.get(0)
}

/// Whether `inode` is the host's namespace of this name.
#[inline(always)]
pub fn is_host(namespace: Namespace, inode: u32) -> bool {
    host().is_some_and(|host| host[namespace as usize] == inode)
}

/// Reads one value of [`CONFIG`], which the compiler must not fold: the agent replaces it.
macro_rules! config {
    ($($path:tt)+) => {
        // SAFETY: a field of an immutable static.
        unsafe { core::ptr::read_volatile(&raw const $crate::config::CONFIG.$($path)+) }
    };
}
pub(crate) use config;

/// The offset, size or number that the agent found for `field`.
#[inline(always)]
pub fn field(field: Field) -> u32 {
    config!(fields[field as usize])
}

/// Whether this is the generation that runs.
#[inline(always)]
pub fn active() -> bool {
    ACTIVE.get(0).copied() == Some(config!(generation))
}
