//! Archives that would do harm. Each attack is first shown working, on this kernel, against a tool that trusts the
//! archive, then failing against `agent run --image`.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;
use tests::program::program;

use crate::{Came, run};
use tests::archive::{
    Entry, device, directory, file, hard_link, layer, saved, shell, symbolic_link, write,
};

/// A place with a victim, outside of any root file system.
struct Place(TempDir);

const VICTIM: &[u8] = b"the host's";

impl Place {
    fn new() -> Self {
        let place = tempfile::tempdir().expect("a directory");
        fs::create_dir(place.path().join("outside")).expect("a directory");
        let place = Self(place);
        fs::write(place.victim(), VICTIM).expect("a file");
        place
    }

    fn outside(&self) -> PathBuf {
        self.0.path().join("outside")
    }

    fn victim(&self) -> PathBuf {
        self.outside().join("victim")
    }

    #[track_caller]
    fn assert_untouched(&self) {
        assert_eq!(fs::read(self.victim()).expect("the victim"), VICTIM);
        assert_eq!(fs::metadata(self.victim()).expect("the victim").nlink(), 1);
        let names: Vec<_> = fs::read_dir(self.outside()).expect("a directory").collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    /// Unpacks layers as somebody does who trusts them: into one directory, which comes back.
    fn trusting(&self, layer: &[u8]) -> PathBuf {
        let root = self.0.path().join("trusting");
        fs::create_dir(&root).expect("a directory");
        let mut tar = Command::new(program("tar"))
            .args(["--extract", "--absolute-names", "--directory"])
            .arg(&root)
            .stdin(Stdio::piped())
            .spawn()
            .expect("tar can be run");
        let mut stdin = tar.stdin.take().expect("a pipe");
        stdin.write_all(layer).expect("tar reads");
        drop(stdin);
        assert!(tar.wait().expect("its end").success());
        root
    }

    /// Runs an image with this layer on top of a shell.
    fn agent(&self, hostile: &[u8], script: &str) -> Came {
        let bytes = saved(&[shell(), hostile.to_vec()], &json!({}));
        let image = write(self.0.path(), "image.tar", &bytes);
        run(&["--image", &image], &["sh", "-c", script])
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
#[ignore = "needs root"]
fn a_path_that_climbs_out() {
    let place = Place::new();
    let attack = layer(&[file("../outside/victim", b"owned")]);
    place.trusting(&attack);
    assert_eq!(fs::read(place.victim()).expect("the victim"), b"owned");

    let place = Place::new();
    let said = place.agent(&attack, "true").badly(125);
    assert!(
        said.contains("../outside/victim: a path with `..`"),
        "{said}"
    );
    place.assert_untouched();
}

#[test]
#[ignore = "needs root"]
fn an_absolute_path() {
    let place = Place::new();
    let victim = place.victim();
    let attack = layer(&[file(text(&victim), b"owned")]);
    place.trusting(&attack);
    assert_eq!(fs::read(&victim).expect("the victim"), b"owned");

    // In an image it is a path of the image's own.
    let place = Place::new();
    let victim = place.victim();
    let attack = layer(&[file(text(&victim), b"owned")]);
    let said = place
        .agent(&attack, &format!("cat {}", text(&victim)))
        .well();
    assert_eq!(said, "owned");
    place.assert_untouched();
}

#[test]
#[ignore = "needs root"]
fn a_file_through_a_link() {
    let up = "../../../../../../../..";
    for relative in [false, true] {
        let attack = |outside: &Path| {
            let target = if relative {
                format!("{up}{}", text(outside))
            } else {
                text(outside).to_owned()
            };
            layer(&[
                symbolic_link("link", &target),
                file("link/victim", b"owned"),
            ])
        };
        let place = Place::new();
        place.trusting(&attack(&place.outside()));
        assert_eq!(fs::read(place.victim()).expect("the victim"), b"owned");

        // The link leads to the same path in the image: nothing is there, or what the image has there.
        let place = Place::new();
        place.agent(&attack(&place.outside()), "true").badly(125);
        place.assert_untouched();
        let outside = place.outside();
        let both = [
            layer(&[directory(text(&outside))]),
            attack(&place.outside()),
        ]
        .map(|mut layer| {
            // Two blocks of zeros end an archive.
            layer.truncate(layer.len() - 1024);
            layer
        })
        .concat();
        let script = format!("cat {}", text(&place.victim()));
        assert_eq!(place.agent(&both, &script).well(), "owned");
        place.assert_untouched();
    }
}

#[test]
#[ignore = "needs root"]
fn a_link_in_a_layer_below() {
    let place = Place::new();
    let outside = place.outside();
    let below = layer(&[symbolic_link("link", text(&outside))]);
    let above = layer(&[file("link/victim", b"owned")]);
    let layers = [shell(), below, above];
    let image = write(place.0.path(), "image.tar", &saved(&layers, &json!({})));
    run(&["--image", &image], &["true"]).badly(125);
    place.assert_untouched();
}

#[test]
#[ignore = "needs root"]
fn a_file_written_through_a_link_at_its_end() {
    let place = Place::new();
    let victim = place.victim();
    let attack = layer(&[symbolic_link("link", text(&victim)), file("link", b"mine")]);
    let said = place.agent(&attack, "cat /link").well();
    assert_eq!(said, "mine");
    place.assert_untouched();
}

#[test]
#[ignore = "needs root"]
fn a_hard_link_to_a_file_outside() {
    let place = Place::new();
    let victim = place.victim();
    let attack = layer(&[hard_link("mine", text(&victim))]);
    let root = place.trusting(&attack);
    let inode = |path: &Path| fs::metadata(path).expect("a file").ino();
    assert_eq!(inode(&root.join("mine")), inode(&victim));

    for links in [
        vec![hard_link("mine", text(&victim))],
        vec![hard_link("mine", "../outside/victim")],
        vec![
            symbolic_link("link", text(&victim)),
            hard_link("mine", "link"),
            // It is one more name of the link itself.
            file("mine/below", b""),
        ],
    ] {
        let place = Place::new();
        place.agent(&layer(&links), "true").badly(125);
        place.assert_untouched();
    }
}

#[test]
#[ignore = "needs root"]
fn a_device() {
    // `/dev/zero`, as a disk would be.
    let attack = layer(&[
        device("mine", 1, 5),
        directory("made"),
        device("made/whiteout", 0, 0),
    ]);
    let place = Place::new();
    let root = place.trusting(&attack);
    let made = root.join("mine");
    let kind = fs::symlink_metadata(&made).expect("a file").file_type();
    assert!(kind.is_char_device());
    // Where the file system of the test's directory allows devices, this one reads the machine's memory.
    let read = Came::of(dd(&made));
    assert_eq!((read.status, read.out.len()), (Some(0), 4), "{}", read.err);

    // None is in the image, and one that root in there makes cannot be opened.
    let script = "ls /mine /made/* 2>/dev/null; mknod /own c 1 5; dd if=/own bs=4 count=1 2>/dev/null; echo end";
    let hostile = [attack, layer(&[symbolic_link("bin/mknod", "busybox")])].map(|mut layer| {
        layer.truncate(layer.len() - 1024);
        layer
    });
    let came = place.agent(&hostile.concat(), script);
    assert_eq!(
        (came.status, came.out.as_str()),
        (Some(0), "end\n"),
        "{}",
        came.err
    );
}

fn dd(from: &Path) -> Command {
    let mut dd = Command::new(program("dd"));
    dd.arg(format!("if={}", text(from)))
        .args(["bs=4", "count=1", "status=none"]);
    dd
}

/// Takes away what a layer's marks say, as somebody does who trusts them.
fn take_away_trusting(root: &Path, mark: &str) {
    let mark = root.join(mark);
    let name = mark.file_name().and_then(OsStr::to_str).expect("a name");
    let gone = name.strip_prefix(".wh.").expect("a mark");
    let gone = mark.parent().expect("a directory").join(gone);
    fs::remove_dir_all(&gone)
        .or_else(|_| fs::remove_file(&gone))
        .expect("it is gone");
}

#[test]
#[ignore = "needs root"]
fn a_mark_that_takes_away_what_is_outside() {
    let through = |outside: &Path| {
        layer(&[
            symbolic_link("link", text(outside)),
            file("link/.wh.victim", b""),
        ])
    };
    let place = Place::new();
    let root = place.trusting(&layer(&[symbolic_link("link", text(&place.outside()))]));
    take_away_trusting(&root, "link/.wh.victim");
    assert!(!place.victim().exists());

    let place = Place::new();
    place.agent(&through(&place.outside()), "true").well();
    place.assert_untouched();

    let place = Place::new();
    let root = place.trusting(&layer(&[directory("a")]));
    fs::create_dir(root.join("beside")).expect("a directory");
    // What is taken away is the directory above the mark's.
    take_away_trusting(&root, "a/.wh...");
    assert!(!root.join("beside").exists());

    for mark in ["a/.wh...", "a/.wh..", "a/.wh.", ".wh..."] {
        let place = Place::new();
        let said = place
            .agent(&layer(&[directory("a"), file(mark, b"")]), "true")
            .badly(125);
        assert!(said.contains(mark), "{said}");
        place.assert_untouched();
    }
}

#[test]
#[ignore = "needs root"]
fn more_than_there_is_room_for() {
    let endless = Entry {
        size: Some(1 << 40),
        ..file("endless", b"")
    };
    let place = Place::new();
    let said = place.agent(&layer(&[endless]), "true").badly(125);
    assert!(
        said.contains("larger than") && said.contains("1.0T at least"),
        "{said}"
    );

    let name = Entry {
        kind: tar::EntryType::GNULongName,
        size: Some(1 << 30),
        ..file("././@LongLink", b"")
    };
    let said = place.agent(&layer(&[name]), "true").badly(125);
    assert!(said.contains("name or attributes"), "{said}");
}
