//! What foreign bytes can reach, as functions of bytes: a fuzzer calls them (`cargo xtask fuzz`), and `tests/corpora.rs` calls
//! them with the inputs in `corpus/`. Each panics where the agent would, and where the agent does harm.

mod directory;
mod host;
mod tar;

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use agent_registry::path::identify;
use agent_tracer::decode::{decode, time};
use agent_tracer::kernel::config;
pub use host::host;

use directory::with_directory;

/// A function of bytes.
pub type Target = fn(&[u8]);

/// All of them, by the names of their programs and of their directories in `corpus/`.
pub const TARGETS: [(&str, Target); 11] = [
    ("records", records),
    ("cgroup_paths", cgroup_paths),
    ("host", host),
    ("btf", btf),
    ("seccomp", seccomp),
    ("archives", archives),
    ("layers", layers),
    ("bundles", bundles),
    ("elf", elf),
    ("ld_so_cache", ld_so_cache),
    ("http", http),
];

/// A record of the kernel's rings.
pub fn records(bytes: &[u8]) {
    let _ = (time(bytes), decode(bytes));
}

/// The path of a cgroup.
pub fn cgroup_paths(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = identify(&text);
    let _ = agent_host::path::to_bytes(&agent_host::path::to_text(bytes));
}

/// The kernel's description of its types.
pub fn btf(bytes: &[u8]) {
    let _ = config::find(bytes, ["unshare_nsproxy_namespaces"].into_iter());
}

/// A seccomp profile in docker's format.
pub fn seccomp(bytes: &[u8]) {
    with_directory(|directory| {
        let path = directory.join("profile.json");
        fs::write(&path, bytes).expect("a file");
        if let Ok(profile) = agent_seccomp::read_profile(&path, &[]) {
            let _ = agent_seccomp::compile(&profile);
        }
    });
}

/// An image in an archive, compressed or not. Its headers get the right sums.
pub fn archives(bytes: &[u8]) {
    agent_rootfs::fuzz::archive(&tar::with_sums(bytes));
}

/// A layer of an image. Its headers get the right sums.
///
/// # Panics
/// Where a file is beside the root that the layer is applied to.
pub fn layers(bytes: &[u8]) {
    with_directory(|directory| {
        let root = directory.join("root");
        fs::create_dir(&root).expect("a directory");
        let opened = fs::File::open(&root).expect("a directory");
        agent_rootfs::fuzz::layer(&tar::with_sums(bytes), opened.as_fd());
        let names = fs::read_dir(directory).expect("a directory");
        let names: Vec<_> = names.flatten().map(|it| it.file_name()).collect();
        assert_eq!(names, ["root"], "something is outside");
    });
}

/// The configuration of an OCI bundle.
pub fn bundles(bytes: &[u8]) {
    with_directory(|directory| {
        fs::write(directory.join("config.json"), bytes).expect("a file");
        agent_runtime::spec::fuzz::bundle(directory);
    });
}

/// A program or a library.
pub fn elf(bytes: &[u8]) {
    agent_rootfs::fuzz::elf(bytes);
}

/// `/etc/ld.so.cache`, behind the name of the library that is looked for and a newline.
pub fn ld_so_cache(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (library, cache) = bytes.split_at(end.unwrap_or(0));
    agent_rootfs::fuzz::library_cache(
        cache.get(1..).unwrap_or_default(),
        OsStr::from_bytes(library),
    );
}

/// Requests on a connection to `agent serve`.
pub fn http(bytes: &[u8]) {
    agent::fuzz_requests(bytes);
}

/// The inputs of a target that are kept.
pub fn corpus(target: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target)
}
