//! Tests of writing a log and of reading it, meanwhile and afterwards.

use std::fs;
use std::path::Path;

use super::*;
use crate::order::LogLimits;

fn writer(directory: &Path, file_bytes: u64, files: u32) -> Writer {
    let limits = LogLimits { file_bytes, files };
    Writer::create(place::open(directory).unwrap(), limits).unwrap()
}

/// Reads all pieces that are available.
fn read(reader: &mut Reader) -> Vec<(Stream, Vec<u8>)> {
    let mut all = Vec::new();
    reader
        .read(|stream, piece| {
            all.push((stream, piece.to_vec()));
            Ok(())
        })
        .unwrap();
    all
}

fn pieces(number: u8) -> Vec<(Stream, Vec<u8>)> {
    (0..number).map(|n| (Stream::Output, vec![n; 92])).collect()
}

#[test]
fn streams_stay_apart_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path(), 1 << 20, 2);
    let mut reader = Reader::open(directory.path()).unwrap();
    assert_eq!(read(&mut reader), []);
    writer.write(Stream::Output, b"a\0\xff");
    writer.write(Stream::Errors, b"b");
    let wanted = [
        (Stream::Output, b"a\0\xff".to_vec()),
        (Stream::Errors, b"b".to_vec()),
    ];
    assert_eq!(read(&mut reader), wanted);
    writer.write(Stream::Errors, &[7; 100_000]);
    assert_eq!(read(&mut reader), [(Stream::Errors, vec![7; 100_000])]);
    assert_eq!(read(&mut reader), []);
}

#[test]
fn a_log_is_bounded_and_followed() {
    for (files, kept) in [(1, 90..), (2, 80..), (5, 50..), (20, 0..)] {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = writer(directory.path(), 1016, files);
        let mut follower = Reader::open(directory.path()).unwrap();
        let mut followed = Vec::new();
        let pieces = pieces(100);
        for (stream, piece) in &pieces {
            writer.write(*stream, piece);
            followed.extend(read(&mut follower));
        }
        assert_eq!(followed, pieces);
        assert!(!follower.has_missed());
        let late = read(&mut Reader::open(directory.path()).unwrap());
        assert_eq!(late, pieces[kept], "{files}");
        let sizes = fs::read_dir(directory.path()).unwrap();
        let sizes = sizes.map(|entry| entry.unwrap().metadata().unwrap().len());
        assert!(sizes.sum::<u64>() <= 1016 * u64::from(files));
    }
}

#[test]
fn a_follower_that_is_left_behind_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path(), 1016, 3);
    let pieces = pieces(100);
    let mut reader = Reader::open(directory.path()).unwrap();
    for (stream, piece) in &pieces[..5] {
        writer.write(*stream, piece);
    }
    assert_eq!(read(&mut reader), pieces[..5]);
    for (stream, piece) in &pieces[5..25] {
        writer.write(*stream, piece);
    }
    // The files were renamed twice, and none was removed.
    assert_eq!(read(&mut reader), pieces[5..25]);
    assert!(!reader.has_missed());
    for (stream, piece) in &pieces[25..] {
        writer.write(*stream, piece);
    }
    let late = read(&mut reader);
    // The reader gets the rest of the file that it had open, and the three files that exist.
    assert_eq!(late, [&pieces[25..30], &pieces[70..]].concat());
    assert!(reader.has_missed());
}

#[test]
fn a_piece_is_no_longer_than_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path(), 1000, 50);
    writer.write(Stream::Errors, &[1; 10_000]);
    let all = read(&mut Reader::open(directory.path()).unwrap());
    let bytes: Vec<u8> = all.into_iter().flat_map(|(_, bytes)| bytes).collect();
    assert_eq!(bytes, [1; 10_000]);
}

#[test]
fn what_is_cut_off_is_left_out_and_garbage_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(CURRENT);
    fs::write(&path, b"\x01\0\0\0\0\0\0\x02ab\x01\0\0\0\0\0").unwrap();
    let mut reader = Reader::open(directory.path()).unwrap();
    assert_eq!(read(&mut reader), [(Stream::Output, b"ab".to_vec())]);
    for garbage in [
        &b"\x03\0\0\0\0\0\0\0"[..],
        b"abcdefgh",
        b"\x01\0\0\0\xff\0\0\0",
    ] {
        fs::write(&path, garbage).unwrap();
        let mut reader = Reader::open(directory.path()).unwrap();
        assert!(reader.read(|_, _| Ok(())).is_err(), "{garbage:?}");
    }
}

#[test]
fn a_link_is_no_log() {
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join(CURRENT), b"\x01\0\0\0\0\0\0\x01a").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("web");
    std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();
    assert!(Reader::open(&link).is_err());
    assert!(place::open(&link).is_err());
    // `make` removes the link, and not what it leads to.
    drop(place::make(&link).unwrap());
    assert!(link.is_dir() && !link.is_symlink());
    assert!(elsewhere.path().join(CURRENT).exists());
    let current = link.join(CURRENT);
    std::os::unix::fs::symlink(elsewhere.path().join(CURRENT), current).unwrap();
    assert!(Reader::open(&link).is_err());
    writer(&link, 1000, 2).write(Stream::Output, b"b");
    let there = fs::read(elsewhere.path().join(CURRENT)).unwrap();
    assert_eq!(there, b"\x01\0\0\0\0\0\0\x01a");
}
