//! What the agent tells the programs: constants at load time, the host's namespaces, and which agent's programs are to
//! run.

use agent_ebpf::{FIELD_COUNT, Field, Namespace, NamespaceInodes, ProgramConfig};
use aya_ebpf::{macros::map, maps::Array};

/// The agent writes these values before it loads the programs. To the verifier they are constants.
#[unsafe(no_mangle)]
pub static CONFIG: ProgramConfig = ProgramConfig {
    generation: 0,
    page_shift: 0,
    rings_mask: 0,
    fields: [0; FIELD_COUNT],
    rss_percpu: 0,
    exit_group_dead: 0,
};

/// The [`ProgramConfig::generation`] whose programs run. The layout of this map never changes, so that a later version
/// of the agent can take over with one write.
#[map]
static ACTIVE: Array<u64> = Array::with_max_entries(1, 0);

/// The namespaces of the host: those of its init process. The agent writes them before it writes [`ACTIVE`].
#[map]
static HOST: Array<NamespaceInodes> = Array::with_max_entries(1, 0);

/// The namespaces of the host.
#[inline(always)]
pub fn host() -> Option<&'static NamespaceInodes> {
    HOST.get(0)
}

/// Whether `inode` is that of the host's `namespace`.
#[inline(always)]
pub fn is_host(namespace: Namespace, inode: u32) -> bool {
    host().is_some_and(|host| host[namespace as usize] == inode)
}

/// Reads one value of [`CONFIG`]. The read is volatile, so that the compiler does not fold the zeros that stand there
/// until the agent replaces them.
macro_rules! config {
    ($($path:tt)+) => {
        // SAFETY: the pointer is to a field of an immutable static, so it is valid and aligned.
        unsafe { core::ptr::read_volatile(&raw const $crate::config::CONFIG.$($path)+) }
    };
}
pub(crate) use config;

/// The offset, size, id or value that the agent found for `field`; [`agent_ebpf::ABSENT`] where the kernel has none.
#[inline(always)]
pub fn field(field: Field) -> u32 {
    config!(fields[field as usize])
}

/// Whether this program is of the generation that runs.
#[inline(always)]
pub fn active() -> bool {
    ACTIVE.get(0).copied() == Some(config!(generation))
}
