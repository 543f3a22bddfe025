//! ELF files whose headers lie: each is refused with one line, before much memory is spent.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tests::agent::agent;
use tests::bounded::Bounded;

use crate::Came;

const HEADER: usize = 64;
const SEGMENT: usize = 56;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;

/// An ELF header for x86-64, with this many program headers behind it.
fn header(segments: u16) -> Vec<u8> {
    let mut header = b"\x7fELF\x02\x01\x01".to_vec();
    header.resize(16, 0);
    header.extend(3_u16.to_le_bytes());
    header.extend(62_u16.to_le_bytes());
    header.extend(1_u32.to_le_bytes());
    header.extend(0_u64.to_le_bytes());
    header.extend((HEADER as u64).to_le_bytes());
    // The section headers would be far behind the end.
    header.extend((1_u64 << 50).to_le_bytes());
    header.extend(0_u32.to_le_bytes());
    for number in [HEADER as u16, SEGMENT as u16, segments, 64, 1, 0] {
        header.extend(number.to_le_bytes());
    }
    header
}

fn segment(kind: u32, offset: u64, size: u64) -> Vec<u8> {
    let mut segment = [kind, 4].map(u32::to_le_bytes).concat();
    segment.extend(
        [offset, offset, offset, size, size, 8]
            .map(u64::to_le_bytes)
            .concat(),
    );
    segment
}

/// A program whose segments are these, with what follows its headers.
fn program(segments: &[Vec<u8>], rest: &[u8]) -> Vec<u8> {
    let mut program = header(segments.len() as u16);
    program.extend(segments.concat());
    program.extend(rest);
    program
}

/// A file with a loader and names in its dynamic section.
fn dynamic(loader: &str, entries: &[(u64, u64)], strings: &[u8]) -> Vec<u8> {
    let start = (HEADER + 3 * SEGMENT) as u64;
    let loader = [loader.as_bytes(), b"\0"].concat();
    let table = start + loader.len() as u64;
    let text = table + 16 * (entries.len() as u64 + 3);
    let mut all = entries.to_vec();
    all.extend([(DT_STRTAB, text), (DT_STRSZ, strings.len() as u64), (0, 0)]);
    let all: Vec<u8> = all
        .iter()
        .flat_map(|(tag, value)| [tag.to_le_bytes(), value.to_le_bytes()].concat())
        .collect();
    let segments = [
        segment(PT_LOAD, 0, text + strings.len() as u64),
        segment(PT_INTERP, start, loader.len() as u64),
        segment(PT_DYNAMIC, table, all.len() as u64),
    ];
    program(&segments, &[&loader, &all, strings].concat())
}

fn write(path: &Path, bytes: &[u8], size: Option<u64>) {
    let mut file = File::create(path).expect("a file");
    file.write_all(bytes).expect("a file");
    if let Some(size) = size {
        file.set_len(size).expect("a file");
    }
    file.set_permissions(Permissions::from_mode(0o755))
        .expect("a mode");
}

fn refused(path: &Path) -> String {
    let mut run = agent(["run", "--bin"]);
    run.arg(path).arg("true");
    Came::from(Bounded::start(&run).output()).badly(125)
}

#[test]
#[ignore = "needs root"]
fn headers_that_lie() {
    let loader = "/lib64/ld-linux-x86-64.so.2";
    let needed = vec![(DT_NEEDED, 0); 100_000];
    let far = 1 << 40;
    let cases: Vec<(&str, Vec<u8>, Option<u64>, &str)> = vec![
        (
            "65535 segments",
            header(0xfffe),
            Some(far),
            "program headers",
        ),
        (
            "more segments than numbers",
            header(0xffff),
            Some(far),
            "damaged",
        ),
        (
            "segments behind the end",
            header(8),
            None,
            "program headers",
        ),
        (
            "a dynamic section of 1 TB",
            program(&[segment(PT_DYNAMIC, 4096, far - 8192)], b""),
            Some(far),
            "dynamic section",
        ),
        (
            "a loader's name of 1 TB",
            program(&[segment(PT_INTERP, 4096, far - 8192)], b""),
            Some(far),
            "loader",
        ),
        (
            "segments that overflow",
            program(&[segment(PT_INTERP, u64::MAX - 8, u64::MAX)], b""),
            None,
            "loader",
        ),
        (
            "a name without an end",
            dynamic(loader, &[(DT_NEEDED, 0)], &[b'n'; 100_000]),
            None,
            "a name in the dynamic section",
        ),
        (
            "100,000 libraries",
            dynamic(loader, &needed, b"\0"),
            None,
            "wanted a whole ELF file",
        ),
        (
            "1 TB of nothing",
            program(&[], b""),
            Some(far),
            "larger than",
        ),
    ];
    let place = tempfile::tempdir().expect("a directory");
    for (name, bytes, size, wanted) in cases {
        let path = place.path().join("program");
        write(&path, &bytes, size);
        let said = refused(&path);
        assert!(said.contains(wanted), "{name}: {said}");
        fs::remove_file(path).expect("a file");
    }
}

#[test]
#[ignore = "needs root"]
fn libraries_that_need_one_another_without_end() {
    let place = tempfile::tempdir().expect("a directory");
    let path = |number: usize| -> PathBuf { place.path().join(format!("l{number}")) };
    for number in 0..4200 {
        let next = path(number + 1);
        let strings = [next.as_os_str().as_encoded_bytes(), b"\0"].concat();
        // The loader is a file of this kind too.
        let loader = path(4199);
        let loader = loader.to_str().expect("UTF-8");
        write(
            &path(number),
            &dynamic(loader, &[(DT_NEEDED, 0)], &strings),
            None,
        );
    }
    let said = refused(&path(0));
    assert!(said.contains("more than 4096 libraries"), "{said}");
}
