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
        .read(|piece| {
            all.push((piece.stream, piece.bytes.to_vec()));
            Ok(())
        })
        .unwrap();
    all
}

fn pieces(number: u8) -> Vec<(Stream, Vec<u8>)> {
    (0..number).map(|n| (Stream::Output, vec![n; 84])).collect()
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
        b"\x04\0\0\0\0\0\0\x08abcdefgh",
        b"\x05\0\0\0\0\0\0\x07abcdefg",
    ] {
        fs::write(&path, garbage).unwrap();
        let mut reader = Reader::open(directory.path()).unwrap();
        assert!(reader.read(|_| Ok(())).is_err(), "{garbage:?}");
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

/// A log with a line of an older agent, and lines that begin 1 s, 2 s and 3 s after the epoch. The second line of
/// standard error is in two pieces.
fn timed_log(directory: &Path) {
    let timed = |stream, seconds, bytes: &'static [u8]| {
        let time = Some(UNIX_EPOCH + Duration::from_secs(seconds));
        Piece {
            stream,
            time,
            bytes,
        }
    };
    let old = Piece {
        stream: Stream::Output,
        time: None,
        bytes: b"old\n",
    };
    let older = [old, timed(Stream::Output, 1, b"one\n")];
    let newer = [
        timed(Stream::Errors, 2, b"two\ntw"),
        timed(Stream::Output, 3, b"three\nend"),
        timed(Stream::Errors, 4, b"o\n"),
    ];
    for (age, pieces) in [(1, &older[..]), (0, &newer)] {
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_bytes()).collect();
        fs::write(directory.join(name(age)), bytes).unwrap();
    }
}

#[test]
fn lines_are_chosen_by_time_and_number() {
    let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
    let all = LinesWanted::default();
    let directory = tempfile::tempdir().unwrap();
    timed_log(directory.path());
    for (tail, since, until, wanted, has_timeless) in [
        (None, None, None, "old one two tw three end o", false),
        (Some(9), None, None, "old one two tw three end o", false),
        (Some(4), None, None, "two tw three end o", false),
        (Some(3), None, None, "tw three end o", false),
        (Some(2), None, None, "three end", false),
        (Some(0), None, None, "", false),
        (None, at(2), None, "two tw three end o", true),
        (None, None, at(2), "one two tw o", true),
        (None, at(3), at(3), "three end", true),
        (Some(4), at(3), None, "three end", false),
        (None, at(5), None, "", true),
    ] {
        let mut reader = Reader::open(directory.path()).unwrap();
        let wanted_lines = LinesWanted {
            tail,
            since,
            until,
            ..all
        };
        let mut lines = Lines::new(wanted_lines, &reader).unwrap();
        let mut text = Vec::new();
        reader
            .read(|piece| {
                text.extend(lines.of(piece));
                text.push(b' ');
                Ok(())
            })
            .unwrap();
        let text = String::from_utf8(text).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words.join(" "), wanted, "{wanted_lines:?}");
        assert_eq!(lines.has_timeless(), has_timeless, "{wanted_lines:?}");
    }
}

#[test]
fn each_line_has_one_time() {
    let directory = tempfile::tempdir().unwrap();
    timed_log(directory.path());
    let mut reader = Reader::open(directory.path()).unwrap();
    let wanted = LinesWanted {
        timestamps: true,
        ..LinesWanted::default()
    };
    let mut lines = Lines::new(wanted, &reader).unwrap();
    let mut streams = [const { String::new() }; 3];
    reader
        .read(|piece| {
            let text = String::from_utf8(lines.of(piece)).unwrap();
            streams[piece.stream as usize].push_str(&text);
            Ok(())
        })
        .unwrap();
    let time = |seconds| format!("1970-01-01T00:00:0{seconds}.000000000Z");
    let [_, output, errors] = streams;
    let wanted = format!("- old\n{} one\n{} three\n{} end", time(1), time(3), time(3));
    assert_eq!(output, wanted);
    assert_eq!(errors, format!("{0} two\n{0} two\n", time(2)));
}

#[test]
fn each_piece_is_written_with_its_time() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path(), 1 << 20, 2);
    let before = SystemTime::now();
    writer.write(Stream::Output, b"a");
    let mut times = Vec::new();
    let mut reader = Reader::open(directory.path()).unwrap();
    reader
        .read(|piece| {
            times.extend(piece.time);
            Ok(())
        })
        .unwrap();
    let [time] = times[..] else {
        panic!("{times:?}")
    };
    assert!(before <= time && time <= SystemTime::now(), "{time:?}");
}
