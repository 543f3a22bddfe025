//! Inputs that are small and mean a lot of work: each ends in one line, in bounded time and memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use tests::agent::binary;
use tests::archive::{
    Entry, directory, file, gzip, gzip_small, hard_link, layer, saved, shell, write,
};
use tests::mounts::Mounts;
use tests::program::program;
use tests::slow::{fewer, some};

use crate::Came;
use crate::bounds::{bounded, bounded_by};

/// Far less than to unpack what such an archive holds.
const SOON: Duration = Duration::from_secs(80);

/// The MiB that a container may have. What is refused grows with them.
fn memory() -> u32 {
    fewer(64, 16)
}

/// The same entries over and over, as many files of gzip after each other: `times` times ten thousand.
fn repeated(entry: &Entry<'_>, times: usize, pack: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut headers = layer(&vec![entry.clone(); 10_000]);
    // Without the end of the archive.
    headers.truncate(headers.len() - 1024);
    pack(&headers).repeat(times)
}

#[test]
#[ignore = "needs root"]
fn ten_million_entries_are_refused_soon() {
    let place = tempfile::tempdir().expect("a directory");
    let many = |pack| repeated(&directory("many"), fewer(1000, 40), pack);
    // As small as it gets it unpacks to too much; packed in haste it does not, and has too many names.
    let cases = [
        (
            "a layer",
            saved(&[shell(), many(gzip_small)], &json!({})),
            "100 times as much",
        ),
        (
            "a layer, less packed",
            saved(&[shell(), many(gzip)], &json!({})),
            "more",
        ),
        ("the archive", many(gzip_small), "100 times as much"),
    ];
    for (name, archive, wanted) in some(cases, 2) {
        let image = write(place.path(), "image.tar", &archive);
        let began = Instant::now();
        let said = bounded_by(memory(), &image).badly(125);
        assert!(began.elapsed() < tests::slow::longer(SOON), "{name}");
        assert!(said.contains(wanted), "{name}: {said}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_storm_of_hard_links_is_refused_soon() {
    let place = tempfile::tempdir().expect("a directory");
    let names: Vec<String> = (0..fewer(100_000, 70_000))
        .map(|it| format!("{}{it:06}", "n".repeat(90)))
        .collect();
    // To a file of the layer itself, and to one below it, which has to be copied for that.
    for target in some(["own", "bin/busybox"], 1) {
        let mut entries = vec![file("own", b"own")];
        entries.extend(names.iter().map(|name| hard_link(name, target)));
        let image = saved(&[shell(), layer(&entries)], &json!({}));
        let image = write(place.path(), "image.tar", &image);
        let began = Instant::now();
        let said = bounded(&image).badly(125);
        assert!(began.elapsed() < tests::slow::longer(SOON), "{target}");
        assert!(said.len() < 1024, "{said}");
    }
}

/// Which libraries a program needs is looked up in a file that somebody damaged.
#[test]
#[ignore = "needs root"]
fn a_damaged_cache_of_libraries_hurts_nobody() {
    let whole = fs::read("/etc/ld.so.cache").expect("a cache");
    let magic = b"glibc-ld.so.cache1.1";
    let at = memchr::memmem::find(&whole, magic).expect("its magic");
    let with = |offset: usize, number: u32| {
        let mut cache = whole.clone();
        cache[at + offset..at + offset + 4].copy_from_slice(&number.to_ne_bytes());
        cache
    };
    let mut strings = whole.clone();
    for byte in strings.iter_mut().skip(at + 48) {
        *byte ^= 0x5a;
    }
    let cases: [(&str, Vec<u8>); 6] = [
        ("empty", Vec::new()),
        ("cut off", whole[..at + 50].to_vec()),
        ("more entries than there are", with(magic.len(), u32::MAX)),
        ("a name beyond the end", with(48 + 4, u32::MAX)),
        ("entries that are none", strings),
        ("all ones", vec![0xff; 1 << 20]),
    ];
    let place = tempfile::tempdir().expect("a directory");
    for (number, (name, cache)) in cases.into_iter().enumerate() {
        let cache = PathBuf::from(write(place.path(), "cache", &cache));
        let made = place.path().join(format!("made{number}"));
        let came = damaged(&cache, &made);
        match came.status {
            // The loader's own directories have what is wanted.
            Some(0) => assert!(
                made.join("bin").exists() || made.join("usr").exists(),
                "{name}"
            ),
            _ => drop(came.badly(1)),
        }
    }
}

/// `agent rootfs` where this is the cache.
fn damaged(cache: &Path, made: &Path) -> Came {
    let place = tempfile::tempdir().expect("a directory");
    let mounts = Mounts::new("tmpfs", place.path());
    let mut bind = mounts.command("mount");
    let bind = bind.arg("--bind").arg(cache).arg("/etc/ld.so.cache");
    assert!(bind.status().expect("mount").success());
    let mut rootfs = mounts.command(binary());
    rootfs
        .arg("rootfs")
        .arg(made)
        .arg("--bin")
        .arg(program("ls"));
    Came::of(rootfs)
}
