//! Builds the BPF object, `$OUT_DIR/agent-ebpf`, from the package in `../../ebpf`.
//!
//! The BPF programs compile with the pinned stable toolchain. `RUSTC_BOOTSTRAP=1` lets it build `core` for their target
//! from the component rust-src, as the Linux kernel builds its Rust code. No other compilation sees that variable.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, iter};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use aya_build::{Package, Toolchain, build_ebpf};

const SOURCE: &str = "../../ebpf";
/// The files that the object depends on beside its source: they have the versions of its dependencies and the profile.
const MANIFESTS: [&str; 2] = ["../../Cargo.toml", "../../Cargo.lock"];
const TOOLS: &str = "../../target/tools/bin";

fn main() {
    if let Err(error) = object() {
        println!("cargo::error={error:#}");
    }
}

fn object() -> Result<()> {
    for path in [SOURCE].iter().chain(&MANIFESTS) {
        println!("cargo::rerun-if-changed={path}");
    }
    // The source that the object was built from is kept beside the object in OUT_DIR.
    let out = PathBuf::from(env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);
    let (object, built_from) = (out.join("agent-ebpf"), out.join("agent-ebpf.source"));
    let source = text_below(Path::new(SOURCE))?;

    let sysroot = sysroot()?;
    // The toolchain has the standard library's source here if it has the component rust-src.
    if !sysroot.join("lib/rustlib/src/rust/library").is_dir() {
        if object.is_file() && fs::read(&built_from).is_ok_and(|earlier| earlier == source) {
            println!(
                "cargo::warning=the toolchain has no rust-src: the BPF object built earlier from this source serves"
            );
            return Ok(());
        }
        bail!(
            "the toolchain has no rust-src, which the BPF programs need: run `cargo xtask setup`"
        );
    }
    build(&path_with_linker()?)?;
    strip(&object, &sysroot)?;
    fs::write(&built_from, source).with_context(|| format!("cannot write {}", built_from.display()))
}

fn build(path: &OsString) -> Result<()> {
    // SAFETY: no other thread may read the environment during the call, and this program has only one thread so far.
    unsafe {
        env::set_var("PATH", path);
        env::set_var("RUSTC_BOOTSTRAP", "1");
        // aya-build prints each line of cargo's output as a warning. This leaves out "Compiling" and "Finished".
        env::set_var("CARGO_TERM_QUIET", "true");
    }
    let package = Package {
        name: "agent-ebpf",
        root_dir: SOURCE,
        ..Package::default()
    };
    build_ebpf([package], Toolchain::Custom(&toolchain()?))
        .context("the BPF programs did not build")
}

/// The toolchain that runs this build script, or the pinned one if that is unknown.
fn toolchain() -> Result<String> {
    if let Ok(running) = env::var("RUSTUP_TOOLCHAIN") {
        return Ok(running);
    }
    let pinned = fs::read_to_string("../../rust-toolchain.toml")
        .context("cannot read rust-toolchain.toml")?;
    let channel = pinned
        .lines()
        .find_map(|line| line.strip_prefix("channel = "))
        .map(|channel| channel.trim_matches('"'));
    channel
        .map(str::to_owned)
        .ok_or_else(|| anyhow!("rust-toolchain.toml has no line `channel = \"…\"`"))
}

/// Removes debugging information, which is nine tenths of the object. `.BTF.ext` says which line of the source an
/// instruction comes from.
fn strip(object: &Path, sysroot: &Path) -> Result<()> {
    let host = env::var("HOST").context("cargo sets HOST")?;
    let status = Command::new(
        sysroot
            .join("lib/rustlib")
            .join(host)
            .join("bin/rust-objcopy"),
    )
    .env("LD_LIBRARY_PATH", sysroot.join("lib"))
    .args(["--strip-debug", "--remove-section=.BTF.ext"])
    .arg(object)
    .status()
    .context("cannot run the toolchain's rust-objcopy")?;
    ensure!(status.success(), "rust-objcopy failed ({status})");
    Ok(())
}

/// The directory of the toolchain.
fn sysroot() -> Result<PathBuf> {
    let rustc = env::var_os("RUSTC").context("cargo sets RUSTC")?;
    let answer = Command::new(&rustc)
        .args(["--print", "sysroot"])
        .output()
        .with_context(|| format!("cannot run {rustc:?}"))?;
    ensure!(
        answer.status.success(),
        "{rustc:?} --print sysroot failed ({})",
        answer.status
    );
    let sysroot =
        String::from_utf8(answer.stdout).context("the path of the toolchain is not UTF-8")?;
    Ok(PathBuf::from(sysroot.trim_end()))
}

/// Returns a PATH with the directory that `cargo xtask setup` fills before the present PATH.
///
/// # Errors
/// No directory in it has bpf-linker.
fn path_with_linker() -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let tools = env::current_dir()?.join(TOOLS);
    let places: Vec<PathBuf> = iter::once(tools).chain(env::split_paths(&path)).collect();
    let linker = places
        .iter()
        .map(|place| place.join("bpf-linker"))
        .find(|linker| linker.is_file());
    let linker = linker.context(
        "bpf-linker is neither in target/tools/bin nor in PATH: run `cargo xtask setup`",
    )?;
    println!("cargo::rerun-if-changed={}", linker.display());
    env::join_paths(places).context("PATH cannot take target/tools/bin")
}

/// The paths and contents of all files below `directory`, in the order of the paths, as one text.
fn text_below(directory: &Path) -> Result<Vec<u8>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    let mut text = Vec::new();
    for path in paths {
        if path.is_dir() {
            text.extend(text_below(&path)?);
        } else {
            text.extend(path.as_os_str().as_encoded_bytes());
            text.extend(
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?,
            );
        }
    }
    Ok(text)
}
