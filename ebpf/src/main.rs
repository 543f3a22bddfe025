//! The BPF programs, which run in the kernel. The files in `probes` have the hooks.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// The target has atomic additions, but not all the operations that `AtomicU64` needs: the programs use the intrinsic.
#![cfg_attr(
    target_arch = "bpf",
    feature(core_intrinsics),
    allow(internal_features)
)]

#[cfg(target_arch = "bpf")]
mod config;
#[cfg(target_arch = "bpf")]
mod counts;
#[cfg(target_arch = "bpf")]
mod emit;
#[cfg(target_arch = "bpf")]
mod escape;
#[cfg(target_arch = "bpf")]
mod namespace_call;
#[cfg(target_arch = "bpf")]
mod plain;
#[cfg(target_arch = "bpf")]
mod probes;
#[cfg(target_arch = "bpf")]
mod task;
#[cfg(target_arch = "bpf")]
mod wanted;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The kernel lets programs call GPL-only helpers if this names a licence that is compatible with the GPL
/// (`license_is_gpl_compatible`, `include/linux/license.h`). CONTRIBUTING.md explains the licence.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
