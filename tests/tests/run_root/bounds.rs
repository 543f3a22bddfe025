//! Archives that claim or hold more than they should: each is refused with one line, before much memory is spent, and
//! nothing stays of it.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, mknodat, statfs};
use serde_json::json;
use tests::agent::agent;
use tests::archive::{
    Entry, directory, file, gzip, layer, layout, saved, shell, symbolic_link, write,
};
use tests::bounded::Bounded;
use tests::program::program;
use tests::run::next_command;
use tests::wait::{PATIENCE, wait_for};

use crate::Came;

/// Where the layers of root's images are that go to disk.
const IMAGES: &str = "/var/lib/agent/images";

/// Directories on disk that a process made for images.
pub fn left_by(pid: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(IMAGES).into_iter().flatten().flatten();
    let of_it = |path: &PathBuf| path.file_stem().is_some_and(|it| it == &*pid.to_string());
    entries.map(|entry| entry.path()).filter(of_it).collect()
}

/// Whether images go to a disk here: a directory in memory is no disk.
pub fn has_disk() -> bool {
    const TMPFS: i64 = 0x0102_1994;
    fs::create_dir_all("/var/lib/agent").expect("a directory");
    statfs("/var/lib/agent").expect("a file system").f_type != TMPFS
}

/// Runs an image in a container that may have 64 MiB, by an agent that may have little more.
pub fn bounded(image: &str) -> Came {
    bounded_by(64, image)
}

/// The same with so many MiB.
pub fn bounded_by(memory: u32, image: &str) -> Came {
    let memory = format!("{memory}m");
    let mut run = agent(["run", "-m", &memory]);
    run.args(["--image", image, "/bin/true"]);
    let bounded = Bounded::start(&run);
    let pid = bounded.pid();
    let came = Came::from(bounded.output());
    assert_eq!(left_by(pid), [] as [PathBuf; 0]);
    came
}

/// A header with these twelve bytes for its size.
fn sized(bytes: &[u8; 12]) -> Vec<u8> {
    let mut archive = layer(&[file("lies", b"")]);
    archive[124..136].copy_from_slice(bytes);
    let sum: u32 = (0..512)
        .map(|at| match at {
            148..156 => u32::from(b' '),
            at => u32::from(archive[at]),
        })
        .sum();
    archive[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    archive
}

/// One record of pax: its length, a space, `key=value` and a line feed.
fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let digits = |length: usize| length.to_string().len();
    let length = rest + digits(rest + digits(rest));
    format!("{length} {key}={value}\n")
}

fn about<'a>(kind: tar::EntryType, bytes: &'a [u8]) -> Entry<'a> {
    Entry {
        kind,
        ..file("about", bytes)
    }
}

#[test]
#[ignore = "needs root"]
fn layers_that_claim_or_hold_too_much() {
    use tar::EntryType::{GNULongName, GNUSparse, XHeader};

    let long = "n".repeat(1 << 20);
    let path = record("path", &"p".repeat(5000));
    let comment = record("comment", &"c".repeat(600 << 10));
    let huge = record("comment", &"c".repeat(2 << 20));
    let sparse = record("GNU.sparse.major", "1");
    let deep = "d/".repeat(300);
    let bomb = gzip(&layer(&[file("zeros", &vec![0; 80 << 20])]));
    let terabyte = Entry {
        kind: GNUSparse,
        ..file("sparse", b"")
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("negative", sized(&[0xff; 12]), "size overflow"),
        ("no number", sized(b"zzzzzzzzzzz\0"), "not a tar archive"),
        (
            "over the end of numbers",
            sized(&[
                0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ]),
            "size overflow",
        ),
        (
            "a name of 1 MB",
            layer(&[about(GNULongName, long.as_bytes()), file("a", b"")]),
            "name or attributes have 1048576 bytes; wanted at most 4096",
        ),
        (
            "a record of 2 MB",
            layer(&[about(XHeader, huge.as_bytes()), file("a", b"")]),
            "wanted at most 1048576",
        ),
        (
            "records without end",
            layer(&vec![about(XHeader, comment.as_bytes()); 20]),
            "wanted at most 1048576",
        ),
        (
            "a path in a record",
            layer(&[about(XHeader, path.as_bytes()), file("a", b"")]),
            "a path of 5000 bytes",
        ),
        (
            "a sparse file",
            layer(&[about(XHeader, sparse.as_bytes()), file("a", b"")]),
            "a sparse file",
        ),
        ("GNU's sparse file", layer(&[terabyte]), "a sparse file"),
        (
            "nested directories",
            layer(&[about(GNULongName, deep.as_bytes()), directory("d")]),
            "300 nested directories",
        ),
        (
            "more than there is",
            layer(&[Entry {
                size: Some(1 << 40),
                ..file("a", b"")
            }]),
            "1.0T at least",
        ),
        ("a bomb", bomb, "100 times as much"),
        (
            "packed twice",
            gzip(&gzip(&layer(&[file("a", b"")]))),
            "not a tar archive",
        ),
    ];
    let place = tempfile::tempdir().expect("a directory");
    for (name, hostile, wanted) in cases {
        let bytes = saved(&[shell(), hostile], &json!({}));
        let image = write(place.path(), "image.tar", &bytes);
        let said = bounded(&image).badly(125);
        assert!(said.contains(wanted), "{name}: {said}");
        assert!(said.len() < 1024, "{name}: {said}");
    }
}

#[test]
#[ignore = "needs root"]
fn archives_that_claim_or_hold_too_much() {
    let place = tempfile::tempdir().expect("a directory");
    let manifest = |bytes: &[u8]| layer(&[file("manifest.json", bytes)]);
    let names: Vec<String> = (0..100_000)
        .map(|it| format!("{}{it:06}", "n".repeat(90)))
        .collect();
    let many: Vec<Entry<'_>> = names.iter().map(|name| file(name, b"")).collect();
    let layers = vec!["l"; 300];
    let layers = json!([{"Config": "c", "RepoTags": [], "Layers": layers}]).to_string();
    let images = vec![json!({"Config": "c", "RepoTags": ["n".repeat(30)], "Layers": []}); 40_000];
    let images = json!(images).to_string();
    let config = br#"{"config": {}}"#;
    let nested = [&br#"[{"unknown":"#[..], &[b'['; 100_000]].concat();
    let mut claims = layout(&[shell()], &json!({}));
    let at = memchr::memmem::find(&claims, br#""layers":[{"#).expect("a manifest");
    let size = memchr::memmem::find(&claims[at..], br#""size":"#).expect("a size") + at + 7;
    claims[size] = if claims[size] == b'9' { b'8' } else { b'9' };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("a hundred thousand files", layer(&many), "of names"),
        (
            "a bomb",
            gzip(&layer(&[file("zeros", &vec![0; 80 << 20])])),
            "100 times as much",
        ),
        ("nested", manifest(&nested), "manifest.json: EOF"),
        (
            "layers",
            layer(&[file("manifest.json", layers.as_bytes()), file("c", config)]),
            "300 layers; wanted at most 256",
        ),
        ("images", manifest(images.as_bytes()), "several images"),
        ("a layer of another size", claims, "and the manifest says"),
    ];
    for (name, hostile, wanted) in cases {
        let image = write(place.path(), "image.tar", &hostile);
        let said = bounded(&image).badly(125);
        assert!(said.contains(wanted), "{name}: {said}");
        assert!(said.len() < 1024, "{name}: {said}");
    }
    // Its bytes are a hole in the file.
    let path = place.path().join("hole.tar");
    let entry = Entry {
        size: Some(1 << 30),
        ..file("manifest.json", b"")
    };
    let mut hole = File::create(&path).expect("a file");
    hole.write_all(&layer(&[entry])[..512]).expect("a file");
    hole.set_len(2 << 30).expect("a file");
    let said = bounded(path.to_str().expect("UTF-8")).badly(125);
    assert!(said.contains("manifest.json: larger than"), "{said}");
}

#[test]
#[ignore = "needs root"]
fn what_is_large_beside_the_limit_goes_to_disk() {
    // No more compressible than programs are.
    let bytes: Vec<u8> = (0..40_u32 << 20)
        .map(|it| (it.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let place = tempfile::tempdir().expect("a directory");
    let layers = [
        shell(),
        layer(&[file("below", b"below"), file("large", &bytes)]),
        layer(&[file(".wh.below", b""), symbolic_link("bin/wc", "busybox")]),
    ];
    let image = write(place.path(), "image.tar", &saved(&layers, &json!({})));
    let script = "ls /; wc -c </large; echo new >/new; cat /new; echo more >>/bin/new; \
                  touch /bin/cat; ls -l /bin/cat | wc -l";
    for memory in ["64m", "1g"] {
        let run = agent(["run", "-m", memory, "--image", &image, "sh", "-c", script]);
        let bounded = Bounded::start(&run);
        let pid = bounded.pid();
        let came = Came::from(bounded.output());
        assert_eq!(came.status, Some(0), "{}", came.err);
        let wanted = format!("{}\nnew\n1\n", bytes.len());
        assert!(came.out.ends_with(&wanted), "{memory}: {}", came.out);
        assert!(!came.out.contains("below"), "{memory}: {}", came.out);
        assert_eq!(left_by(pid), [] as [PathBuf; 0]);
    }
    // What is in memory, the container is charged for.
    let usage = "cat /sys/fs/cgroup/memory/memory.usage_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.current";
    let said = crate::run(&["-m", "1g", "--image", &image], &["sh", "-c", usage]).well();
    let charged: usize = said.trim().parse().expect("a number");
    assert!(charged > bytes.len(), "{charged}");
    // Where no disk is there, it is memory, of which the container may have too little.
    let script = "mkdir -p /var/lib/agent && mount -t tmpfs none /var/lib/agent && exec \"$@\"";
    let mut alone = Command::new(program("unshare"));
    alone.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        "sh",
    ]);
    alone.arg(tests::agent::binary());
    alone.args(["run", "-m", "32m", "--image", &image, "true"]);
    let said = Came::of(alone).badly(125);
    assert!(said.contains("larger than 32.0M unpacked"), "{said}");
    assert!(
        said.contains("-m allows") && said.contains("at least"),
        "{said}"
    );
}

#[test]
#[ignore = "needs root"]
fn an_image_comes_through_a_pipe() {
    let place = tempfile::tempdir().expect("a directory");
    for (name, bytes) in [
        ("plain", saved(&[shell()], &json!({}))),
        ("packed", gzip(&saved(&[shell()], &json!({})))),
    ] {
        let path = fifo(place.path(), name);
        let writer = std::thread::spawn({
            let path = path.clone();
            move || fs::write(path, bytes)
        });
        let image = path.to_str().expect("UTF-8");
        let said = crate::run(&["--image", image], &["sh", "-c", "echo ran"]).well();
        assert_eq!(said, "ran\n", "{name}");
        writer.join().expect("a thread").expect("all is read");
    }
}

#[test]
#[ignore = "needs root"]
fn one_that_is_killed_leaves_nothing() {
    let place = tempfile::tempdir().expect("a directory");
    let path = fifo(place.path(), "image");
    let mut run = agent(["run", "--image"]);
    run.arg(&path).arg("true");
    let running = Bounded::start(&run);
    let pid = running.pid();
    let whole = saved(&[shell()], &json!({}));
    // It blocks until the agent reads.
    let mut writer = OpenOptions::new().write(true).open(&path).expect("a pipe");
    writer
        .write_all(&whole[..whole.len() / 2])
        .expect("it reads");
    if has_disk() {
        wait_for("a directory for the image is there", PATIENCE, || {
            (!left_by(pid).is_empty()).then_some(())
        });
    }
    running.kill();
    assert_eq!(!left_by(pid).is_empty(), has_disk());
    next_command();
    assert_eq!(left_by(pid), [] as [PathBuf; 0]);
}

fn fifo(place: &Path, name: &str) -> PathBuf {
    let path = place.join(name);
    mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).expect("a FIFO");
    path
}
