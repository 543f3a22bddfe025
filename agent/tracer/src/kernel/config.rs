//! Finds the constants of the BPF programs, such as the offsets of kernel fields, in the kernel's type information.

use std::collections::{HashMap, HashSet};

use agent_ebpf::{ABSENT, FIELD_COUNT, FIELDS, Lookup, Need, ProgramConfig};

use super::btf::{Btf, BtfError};

/// The tracepoint `mark_victim`, which has another prototype in old kernels.
pub(crate) const MARK_VICTIM: &str = "btf_trace_mark_victim";

/// Why there is no configuration for this kernel.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the messages say what each variant and its fields are"
)]
pub enum ConfigError {
    #[error("the kernel's type information cannot be read")]
    Btf(#[from] BtfError),
    #[error("the kernel's type information lacks {0}; this kernel is too old (5.10 is the oldest)")]
    Missing(String),
}

/// What the agent needs to know of this kernel's type information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelFacts {
    /// The constants that the programs are loaded with.
    pub config: ProgramConfig,
    /// Whether `mark_victim` passes the task; old kernels pass only its pid.
    pub mark_victim_gives_task: bool,
    /// The BTF ids of the typedefs and functions that programs hook, by their names.
    pub hooks: HashMap<&'static str, u32>,
    /// The BTF id of `bpf_rdonly_cast`; `None` if this kernel does not have it.
    pub cast: Option<u32>,
}

const CAST: &str = "bpf_rdonly_cast";
const PROCESS_EXIT: &str = "btf_trace_sched_process_exit";

/// Finds the fields and the `hooks` in `btf`, the contents of `/sys/kernel/btf/vmlinux`.
///
/// # Errors
/// `btf` is not BTF, or lacks a required field. A hook that it lacks is no error.
pub fn find(
    btf: &[u8],
    hooks: impl Iterator<Item = &'static str>,
) -> Result<KernelFacts, ConfigError> {
    let hooks: HashSet<&'static str> = hooks.collect();
    let wanted: HashSet<&'static str> = FIELDS
        .iter()
        .map(|(_, _, lookup)| type_name(*lookup))
        .chain([MARK_VICTIM, PROCESS_EXIT, CAST])
        .chain(hooks.iter().copied())
        .collect();
    let btf = Btf::parse(btf, &wanted)?;
    let mut fields = [ABSENT; FIELD_COUNT];
    for (field, need, lookup) in FIELDS {
        let found = match *lookup {
            Lookup::Member(of, path) => btf.member(of, path),
            Lookup::Renamed(of, name, before) => {
                btf.member(of, name).or_else(|| btf.member(of, before))
            }
            Lookup::Bit(of, name) => btf.bit(of, name),
            Lookup::Size(of) => btf.size(of),
            Lookup::Id(of) => btf.structure(of),
            Lookup::Enumerator(of, name) => btf.enumerator(of, name),
        };
        match (found, need) {
            (Some(value), _) => fields[*field as usize] = value,
            (None, Need::Optional) => {}
            (None, Need::Required) => return Err(ConfigError::Missing(format!("{lookup:?}"))),
        }
    }
    let exit = btf.tracepoint(PROCESS_EXIT).unwrap_or_default();
    let mark_victim = btf.tracepoint(MARK_VICTIM).unwrap_or_default();
    let ids = hooks.into_iter().filter_map(|name| {
        let id = btf.typedef(name).or_else(|| btf.function(name))?;
        Some((name, id))
    });
    Ok(KernelFacts {
        config: ProgramConfig {
            generation: 0,
            rings_mask: 0,
            page_shift: u64::from(rustix::param::page_size().trailing_zeros()),
            fields,
            rss_percpu: u32::from(btf.is_array("mm_struct", "rss_stat") == Some(true)),
            exit_group_dead: u32::from(exit.len() == 2),
        },
        mark_victim_gives_task: mark_victim.first() == Some(&true),
        hooks: ids.collect(),
        cast: btf.function(CAST),
    })
}

const fn type_name(lookup: Lookup) -> &'static str {
    match lookup {
        Lookup::Member(name, _)
        | Lookup::Renamed(name, ..)
        | Lookup::Bit(name, _)
        | Lookup::Size(name)
        | Lookup::Id(name)
        | Lookup::Enumerator(name, _) => name,
    }
}

#[cfg(test)]
mod tests {
    use aya_obj::btf::{Btf as OthersBtf, BtfKind};

    use super::*;
    use crate::kernel::BTF_PATH;
    use crate::kernel::probes::{MechanismPrograms, PROBES};
    use crate::kernel::program::Hook;

    /// Compares with aya's reader of the same type information.
    #[test]
    fn what_is_hooked_has_the_id_that_others_find() {
        let bytes = std::fs::read(BTF_PATH).expect("the kernel's type information");
        let ways = PROBES.iter().flat_map(|probe| probe.ways);
        let hooks: HashSet<_> = ways
            .flat_map(MechanismPrograms::hooks)
            .filter_map(Hook::name)
            .collect();
        let facts = find(&bytes, hooks.iter().copied()).expect("facts");
        let others = OthersBtf::from_sys_fs().expect("the kernel's type information");
        for name in hooks {
            let typedef = others.id_by_type_name_kind(name, BtfKind::Typedef);
            let id = typedef.or_else(|_| others.id_by_type_name_kind(name, BtfKind::Func));
            assert_eq!(facts.hooks.get(name).copied(), id.ok(), "{name}");
        }
        assert!(facts.hooks.contains_key("btf_trace_sched_process_exec"));
        let cast = others.id_by_type_name_kind(CAST, BtfKind::Func);
        assert_eq!(facts.cast, cast.ok());
    }
}
