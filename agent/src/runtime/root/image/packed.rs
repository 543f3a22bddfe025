//! How files are compressed: gzip is read, others are named. The unpacked size is compared with the packed size.

use std::io::{self, BufReader, Read};

use flate2::read::MultiGzDecoder;

use super::entries::Bad;
use crate::units::size;

/// How files are compressed, by what they begin with.
const FORMATS: [(&[u8], &str); 4] = [
    (b"\x1f\x8b", GZIP),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
];

const GZIP: &str = "gzip";

/// Bytes of the longest of them.
const LONGEST: u64 = 6;

/// gzip makes of zeros a thousandth, and a third of what images hold.
const HIGHEST_RATIO: u64 = 100;

/// Bytes that may be unpacked of anything: a few files of zeros are no attack.
const FREE: u64 = 64 << 20;

/// Bytes that are read at a time.
const CHUNK: usize = 64 * 1024;

/// The first bytes of a file, and whether it is compressed with gzip.
pub fn start_of(file: impl Read) -> Result<(Vec<u8>, bool), Bad> {
    let mut start = Vec::new();
    let read = file.take(LONGEST).read_to_end(&mut start);
    read.map_err(Bad::whole)?;
    match FORMATS.iter().find(|(magic, _)| start.starts_with(magic)) {
        None => Ok((start, false)),
        Some((_, GZIP)) => Ok((start, true)),
        Some((_, other)) => Err(Bad::whole(format!(
            "compressed with {other}; wanted a tar archive as it is, or compressed with gzip"
        ))),
    }
}

/// What a file that is compressed with gzip holds.
#[derive(Debug)]
pub struct Unpacked<R: Read> {
    decoder: MultiGzDecoder<BufReader<Counted<R>>>,
    unpacked: u64,
}

impl<R: Read> Unpacked<R> {
    pub fn new(packed: R) -> Self {
        let counted = Counted::new(packed);
        Self {
            decoder: MultiGzDecoder::new(BufReader::with_capacity(CHUNK, counted)),
            unpacked: 0,
        }
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer)?;
        self.unpacked += read as u64;
        let packed = self.decoder.get_ref().get_ref().read;
        if self.unpacked > packed.saturating_mul(HIGHEST_RATIO).max(FREE) {
            return Err(refused(format!(
                "{} of it unpack to more than {}, {HIGHEST_RATIO} times as much: no image does",
                size(packed),
                size(self.unpacked)
            )));
        }
        Ok(read)
    }
}

/// A limit that was reached while something was read.
pub fn refused(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, text)
}

/// Whether an error is one of [`refused`]: it says all that there is to say.
pub fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::FileTooLarge && error.get_ref().is_some()
}

/// Counts what is read.
#[derive(Debug)]
pub struct Counted<R> {
    from: R,
    pub read: u64,
}

impl<R> Counted<R> {
    pub const fn new(from: R) -> Self {
        Self { from, read: 0 }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.read += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(chunk: &[u8], times: usize) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        for _ in 0..times {
            encoder.write_all(chunk).unwrap();
        }
        encoder.finish().unwrap()
    }

    #[test]
    fn a_bomb_ends_early() {
        let zeros = vec![0; 1 << 20];
        let fine = packed(&zeros, 32);
        let read = io::copy(&mut Unpacked::new(&fine[..]), &mut io::sink());
        assert_eq!(read.unwrap(), 32 << 20);
        let bomb = packed(&zeros, 256);
        let error = io::copy(&mut Unpacked::new(&bomb[..]), &mut io::sink()).unwrap_err();
        assert!(is_refused(&error), "{error}");
        assert!(error.to_string().contains("100 times as much"), "{error}");
    }
}
