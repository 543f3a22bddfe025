//! Programs and what their loaders need: `--bin`, and `agent rootfs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tests::agent::agent;
use tests::program::{self, program};

use crate::{Came, run};

/// `agent rootfs`.
fn rootfs(directory: &Path, programs: &str) -> Came {
    let mut rootfs = agent(["rootfs"]);
    rootfs.arg(directory).args(["--bin", programs]);
    Came::of(rootfs)
}

#[test]
#[ignore = "needs root"]
fn only_what_was_asked_for_is_there() {
    let script = "ls /usr/bin /tmp /home; echo mine >/etc/own; echo $(</etc/own)";
    let came = run(&["--bin", "bash,ls"], &["bash", "-c", script]);
    assert_eq!(came.status, Some(0), "{}", came.err);
    assert_eq!(came.out, "/tmp:\n\n/usr/bin:\nbash\nls\nmine\n");
    assert!(came.err.contains("/home"), "{}", came.err);
}

/// What the loader itself says that it takes. Of what is in no package, such as tests, this is not safe.
fn according_to_the_loader(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .expect("ldd can be run");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let words = text.lines().filter_map(|line| {
        // `NAME => PATH (ADDRESS)`, or `PATH (ADDRESS)`.
        line.split_whitespace().find(|word| word.starts_with('/'))
    });
    words.map(PathBuf::from).collect()
}

#[test]
fn it_finds_what_the_loader_does() {
    let mut libraries = 0;
    for name in [
        "bash",
        "ls",
        "tmux",
        "perl",
        "ip",
        "stress-ng",
        "apt-get",
        "dockerd",
    ] {
        let at = program(name);
        let place = tempfile::tempdir().expect("a directory");
        rootfs(place.path(), at.to_str().expect("UTF-8")).well();
        for library in according_to_the_loader(&at) {
            let inside = place
                .path()
                .join(library.strip_prefix("/").expect("absolute"));
            // The links of it lead on inside, where `exists` would look outside.
            assert!(
                fs::symlink_metadata(&inside).is_ok(),
                "{name} has no {}",
                library.display()
            );
            libraries += 1;
        }
    }
    assert!(libraries > 20, "only {libraries}");
}

/// A program with a library that needs another one, each found in its own way.
struct Linked(TempDir);

impl Linked {
    /// `paths` are what the linker is told of the program, and of the library that it needs.
    fn new(paths: [&[&str]; 2]) -> Self {
        let linked = Self(tempfile::tempdir().expect("a directory"));
        let [program, library] = paths;
        fs::create_dir(linked.0.path().join("near")).expect("a directory");
        linked.source("deep.c", "int deep(void) { return 40; }");
        linked.source(
            "mid.c",
            "int deep(void); int mid(void) { return deep() + 2; }",
        );
        linked.source("main.c", "int mid(void); int main(void) { return mid(); }");
        linked.cc(&["-shared", "-fPIC", "deep.c", "-o", "near/libdeep-test.so"]);
        let mid = [
            "-shared",
            "-fPIC",
            "mid.c",
            "-Lnear",
            "-ldeep-test",
            "-o",
            "near/libmid-test.so",
        ];
        linked.cc(&[&mid[..], library].concat());
        let main = [
            "main.c",
            "-Lnear",
            "-lmid-test",
            "-Wl,-rpath-link,near",
            "-o",
            "main",
        ];
        linked.cc(&[&main[..], program].concat());
        linked
    }

    fn source(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).expect("a file");
    }

    fn cc(&self, arguments: &[&str]) {
        let cc = Command::new(program("cc"))
            .args(arguments)
            .current_dir(self.0.path())
            .output();
        let cc = cc.expect("cc can be run");
        assert!(
            cc.status.success(),
            "{}",
            String::from_utf8_lossy(&cc.stderr)
        );
    }

    fn main(&self) -> PathBuf {
        self.0.path().join("main")
    }

    fn run(&self) -> Came {
        run(&["--bin", self.main().to_str().expect("UTF-8")], &["main"])
    }
}

const OLD: &str = "-Wl,--disable-new-dtags";
const NEW: &str = "-Wl,--enable-new-dtags";

#[test]
#[ignore = "needs root"]
fn libraries_beside_the_program() {
    let found: [[&[&str]; 2]; 4] = [
        // DT_RPATH is for what libraries need too.
        [&[OLD, "-Wl,-rpath,$ORIGIN/near"], &[]],
        [&[OLD, "-Wl,-rpath,/nowhere:${ORIGIN}/near"], &[OLD]],
        // DT_RUNPATH is for what has it.
        [
            &[NEW, "-Wl,-rpath,$ORIGIN/near"],
            &[NEW, "-Wl,-rpath,$ORIGIN"],
        ],
        [
            &[NEW, "-Wl,-rpath,$ORIGIN/./near"],
            &[OLD, "-Wl,-rpath,$ORIGIN/../near"],
        ],
    ];
    for paths in found {
        let linked = Linked::new(paths);
        let alone = Command::new(linked.main()).status().expect("it can be run");
        assert_eq!(alone.code(), Some(42), "{paths:?}");
        let came = linked.run();
        assert_eq!(came.status, Some(42), "{paths:?}: {}", came.err);
    }
}

#[test]
#[ignore = "needs root"]
fn a_library_that_the_loader_would_not_find() {
    let missed: [[&[&str]; 2]; 2] = [
        [&[NEW, "-Wl,-rpath,$ORIGIN/near"], &[]],
        // A DT_RUNPATH of its own hides the program's DT_RPATH.
        [
            &[OLD, "-Wl,-rpath,$ORIGIN/near"],
            &[NEW, "-Wl,-rpath,/nowhere"],
        ],
    ];
    for paths in missed {
        let linked = Linked::new(paths);
        let alone = Command::new(linked.main()).output().expect("it can be run");
        assert_eq!(alone.status.code(), Some(127), "{paths:?}");
        let said = linked.run().badly(125);
        assert!(said.contains("libdeep-test.so, which "), "{said}");
        assert!(
            said.contains("near/libmid-test.so needs, is in none"),
            "{said}"
        );
    }
}

#[test]
#[ignore = "needs root"]
fn a_static_program_needs_nothing() {
    let place = tempfile::tempdir().expect("a directory");
    rootfs(place.path(), "busybox").well();
    assert!(!place.path().join("etc/ld.so.cache").exists());
    let said = run(&["--bin", "busybox"], &["busybox", "echo", "alone"]).well();
    assert_eq!(said, "alone\n");
}

fn script(text: &str) -> (TempDir, String) {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("script");
    program::script(&path, text);
    let path = path.to_str().expect("UTF-8").to_owned();
    (place, path)
}

#[test]
#[ignore = "needs root"]
fn a_script_brings_its_interpreter() {
    for first in [
        "#!/bin/bash -e",
        "#! /usr/bin/env bash",
        "#!/usr/bin/env -S A=b bash",
    ] {
        let (_place, path) = script(&format!("{first}\necho $0 $1\n"));
        // Its directory is in no PATH: it is called by its name all the same.
        let said = run(&["--bin", &path], &["script", "runs"]).well();
        assert!(said.ends_with("script runs\n"), "{said}");
    }
}

#[test]
#[ignore = "needs root"]
fn what_is_no_program_is_said() {
    let (_text, text) = script("neither ELF nor #!\n");
    let (_lost, lost) = script("#!/nowhere/interpreter\n");
    let (_relative, relative) = script("#!bash\n");
    let whole = fs::read(program("bash")).expect("bash");
    let (place, damaged) = script("");
    fs::write(&damaged, &whole[..4096]).expect("a file");
    let dull = place.path().join("dull");
    fs::write(&dull, "").expect("a file");
    let dull = dull.to_str().expect("UTF-8");
    let cases = [
        (
            "no-such-program",
            127,
            "there is no such program in any directory of PATH",
        ),
        ("/no/such/program", 127, "there is no such file"),
        (dull, 126, "not executable"),
        ("/etc", 126, "not executable"),
        (&text, 126, "neither an ELF program nor a script"),
        (&lost, 127, "/nowhere/interpreter: there is no such file"),
        (&relative, 126, "names no interpreter by its path"),
        (&damaged, 125, "damaged"),
    ];
    for (name, status, wanted) in cases {
        let said = run(&["--bin", name], &["true"]).badly(status);
        assert!(said.contains(wanted), "{name}: {said}");
        let place = tempfile::tempdir().expect("a directory");
        let said = rootfs(&place.path().join("new"), name).badly(1);
        assert!(said.contains(wanted), "{name}: {said}");
        assert!(
            !place.path().join("new").exists(),
            "{name}: something was made"
        );
    }
}

#[test]
fn a_directory_that_holds_something_is_left_alone() {
    let place = tempfile::tempdir().expect("a directory");
    fs::write(place.path().join("mine"), "").expect("a file");
    let said = rootfs(place.path(), "ls").badly(1);
    assert!(said.contains("is not empty"), "{said}");
    assert_eq!(fs::read_dir(place.path()).expect("a directory").count(), 1);
}
