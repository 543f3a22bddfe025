//! Archives whose entries point out of the directory that they are for.

use std::fs;
use std::path::Path;
use std::process::Command;

use tests::agent::binary;
use tests::program::program;
use tests::rootfs::Rootfs;

use super::attacker::{limited, name, rootfs, said, works_unguarded};

/// One entry of a tar archive (POSIX ustar); `kind` is its type flag.
fn entry(name: &str, kind: u8, target: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000777\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, target.as_bytes());
    put(257, b"ustar\x0000");
    // The memory of the kernel, where it is a device.
    put(329, b"0000001\0");
    put(337, b"0000001\0");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut entry = header.to_vec();
    entry.extend(content);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut archive = entries.concat();
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// The entries of a root file system that works.
fn honest(rootfs: &Rootfs) -> Vec<u8> {
    let mut tar = Command::new(program("tar"));
    // In records of one block, it ends with two blocks of zeros and no more.
    let tar = tar.arg("-C").arg(rootfs.path());
    let output = tar.args(["--blocking-factor=1", "-c", "."]).output();
    let mut bytes = output.expect("tar can be run").stdout;
    bytes.truncate(bytes.len() - 1024);
    bytes
}

/// What `docker save` would write.
fn image(layer: &[u8]) -> Vec<u8> {
    let manifest = br#"[{"Config":"config.json","RepoTags":["evil:1"],"Layers":["layer.tar"]}]"#;
    let config = br#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    archive(&[
        entry("manifest.json", b'0', "", manifest),
        entry("config.json", b'0', "", config),
        entry("layer.tar", b'0', "", layer),
    ])
}

/// What a hostile layer holds.
fn hostile(outside: &Path) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let target = outside.to_str().expect("a path");
    let up = format!("{}{}/new", "../".repeat(12), target.trim_start_matches('/'));
    let absolute = format!("{target}/new");
    vec![
        ("..", vec![entry(&up, b'0', "", b"evil")]),
        (
            "inner ..",
            vec![entry(&format!("bin/{up}"), b'0', "", b"evil")],
        ),
        (
            "an absolute name",
            vec![entry(&absolute, b'0', "", b"evil")],
        ),
        (
            "a link to a directory",
            vec![
                entry("door", b'2', target, b""),
                entry("door/new", b'0', "", b"evil"),
            ],
        ),
        (
            "a link to a file",
            vec![
                entry("window", b'2', &format!("{target}/file"), b""),
                entry("window", b'0', "", b"evil"),
            ],
        ),
        (
            "a hard link",
            vec![
                entry("hard", b'1', &format!("{target}/file"), b""),
                entry("hard", b'0', "", b"evil"),
            ],
        ),
        (
            "a hard link up",
            vec![entry(
                "hard",
                b'1',
                &format!(
                    "{}{}/file",
                    "../".repeat(12),
                    target.trim_start_matches('/')
                ),
                b"",
            )],
        ),
        ("a device", vec![entry("memory", b'3', "", b"")]),
        (
            "a whiteout",
            vec![
                entry("door", b'2', target, b""),
                entry("door/.wh.file", b'0', "", b""),
            ],
        ),
    ]
}

#[test]
#[ignore = "needs root"]
fn no_entry_gets_out_and_no_device_works() {
    let rootfs = rootfs();
    let (outside, file) = (rootfs.outside(), rootfs.outside().join("file"));
    let reset = || fs::write(&file, "bait").expect("a file");
    reset();

    let careless = tempfile::tempdir().expect("a directory");
    for (what, entries) in hostile(&outside).into_iter().take(4) {
        let path = careless.path().join("layer.tar");
        fs::write(&path, archive(&entries)).expect("a file");
        let mut tar = Command::new(program("tar"));
        tar.args(["--absolute-names", "--keep-directory-symlink", "-x", "-C"]);
        let there = said(tar.arg(careless.path()).arg("-f").arg(&path));
        // The depth of the first one may differ from what it was made for; the others are certain.
        let new = outside.join("new");
        assert!(new.exists() || what.contains(".."), "{what}: {there}");
        let _ = fs::remove_file(new);
    }
    works_unguarded("an archive's links and absolute names");

    let run = |entries: &[Vec<u8>]| {
        let layer = [honest(&rootfs), archive(entries)].concat();
        let path = careless.path().join("image.tar");
        fs::write(&path, image(&layer)).expect("a file");
        let mut call = limited();
        call.arg(binary())
            .args(["run", "--rm", "--name", &name(), "--image"])
            .arg(&path);
        let script = "cat /hard /window; (: < /memory) && echo open; echo ran";
        said(call.args(["--", "/bin/sh", "-c", script]))
    };
    let fine = run(&[entry("hard", b'0', "", b"of the image")]);
    assert!(
        fine.contains("of the image") && fine.contains("ran\n"),
        "{fine}"
    );
    for (what, entries) in hostile(&outside) {
        let here = run(&entries);
        let refused = here.lines().count() == 1 && here.contains("image.tar");
        assert!(here.contains("ran\n") || refused, "{what}: {here}");
        assert!(
            !here.contains("bait") && !here.contains("open\n"),
            "{what}: {here}"
        );
        let names: Vec<_> = fs::read_dir(&outside)
            .expect("a directory")
            .flatten()
            .collect();
        assert_eq!(names.len(), 1, "{what}: {here} {names:?}");
        assert_eq!(
            fs::read_to_string(&file).expect("a file"),
            "bait",
            "{what}: {here}"
        );
    }
}
