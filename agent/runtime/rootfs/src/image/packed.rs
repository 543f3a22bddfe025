//! Decompresses gzip and zstd, and names other compressions in an error. It bounds the unpacked size by the packed
//! size.

use std::io::{self, BufReader, Read};

use agent_model::units::size;
use flate2::read::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::entries::Bad;

/// A compression that is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
}

/// The compressions, by the magic bytes at the beginning of a file.
const FORMATS: [(&[u8], Result<Compression, &str>); 4] = [
    (b"\x1f\x8b", Ok(Compression::Gzip)),
    (b"\x28\xb5\x2f\xfd", Ok(Compression::Zstd)),
    (b"\xfd7zXZ\0", Err("xz")),
    (b"BZh", Err("bzip2")),
];

/// The length of the longest magic, in bytes.
const LONGEST: u64 = 6;

/// The highest ratio of unpacked to packed bytes. gzip packs zeros to a thousandth, and the files of images to a third.
const HIGHEST_RATIO: u64 = 100;

/// The bytes that may be unpacked at any ratio: a few files of zeros are no attack.
const FREE: u64 = 64 << 20;

/// The number of bytes that are read at a time.
const CHUNK: usize = 64 * 1024;

/// Returns the first bytes of a file, and its compression.
pub(super) fn start_of(file: impl Read) -> Result<(Vec<u8>, Option<Compression>), Bad> {
    let mut start = Vec::new();
    let read = file.take(LONGEST).read_to_end(&mut start);
    read.map_err(Bad::whole)?;
    let mut formats = FORMATS.iter();
    match formats.find(|(magic, _)| start.starts_with(magic)) {
        None => Ok((start, None)),
        Some((_, Ok(format))) => Ok((start, Some(*format))),
        Some((_, Err(other))) => Err(Bad::whole(format!(
            "compressed with {other}; wanted a tar archive as it is, or compressed with gzip or zstd"
        ))),
    }
}

/// A reader of the content of a compressed file.
pub(super) struct Unpacked<R: Read> {
    decoder: Decoder<R>,
    unpacked: u64,
}

type Source<R> = BufReader<Counted<R>>;

enum Decoder<R: Read> {
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    Zstd(Box<Frames<Source<R>>>),
}

impl<R: Read> Unpacked<R> {
    pub(super) fn new(packed: R, format: Compression) -> Self {
        let source = BufReader::with_capacity(CHUNK, Counted::new(packed));
        let decoder = match format {
            Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(source))),
            Compression::Zstd => Decoder::Zstd(Box::new(Frames::new(source))),
        };
        Self {
            decoder,
            unpacked: 0,
        }
    }

    /// Returns the number of packed bytes that were read.
    fn packed(&self) -> u64 {
        let source = match &self.decoder {
            Decoder::Gzip(decoder) => decoder.get_ref(),
            Decoder::Zstd(frames) => &frames.source,
        };
        source.get_ref().read
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.decoder {
            Decoder::Gzip(decoder) => decoder.read(buffer)?,
            Decoder::Zstd(frames) => frames.read(buffer)?,
        };
        self.unpacked += read as u64;
        let packed = self.packed();
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

/// The frames of a zstd file (RFC 8878, section 3). Tools that make parts of a layer addressable write many frames, and
/// tables in skippable frames.
struct Frames<B> {
    source: B,
    /// The decoder. Its window has at most 128 MiB, as with zstd(1).
    decoder: FrameDecoder,
    is_in_frame: bool,
}

impl<B: io::BufRead> Frames<B> {
    fn new(source: B) -> Self {
        Self {
            source,
            decoder: FrameDecoder::new(),
            is_in_frame: false,
        }
    }

    /// Begins the next frame. Returns false at the end of the file.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            let length = match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => u64::from(length),
                Err(error) => return Err(damaged(error)),
            };
            let skipped = io::copy(&mut (&mut self.source).take(length), &mut io::sink())?;
            if skipped < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(false)
    }

    /// Ends a frame. The frame's checksum, if it has one, must be that of the decoded bytes.
    fn end(&self) -> io::Result<()> {
        let sums = (
            self.decoder.get_checksum_from_data(),
            self.decoder.get_calculated_checksum(),
        );
        match sums {
            (Some(wanted), Some(found)) if wanted != found => {
                Err(damaged("zstd: the checksum is that of other data"))
            }
            _ => Ok(()),
        }
    }
}

impl<B: io::BufRead> Read for Frames<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() {
            if !self.is_in_frame {
                self.is_in_frame = self.begin()?;
                if !self.is_in_frame {
                    break;
                }
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                let decoded = self.decoder.decode_blocks(&mut self.source, one);
                decoded.map_err(damaged)?;
            }
            match self.decoder.read(buffer)? {
                0 => self.end()?,
                read => return Ok(read),
            }
            self.is_in_frame = false;
        }
        Ok(0)
    }
}

fn damaged(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Returns the error for a limit that was exceeded during a read.
pub(super) fn refused(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, text)
}

/// A reader that counts the bytes that are read.
#[derive(Debug)]
pub(super) struct Counted<R> {
    from: R,
    pub read: u64,
}

impl<R> Counted<R> {
    pub(super) const fn new(from: R) -> Self {
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

    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::super::entries::is_refused;
    use super::*;

    fn packed(chunk: &[u8], times: usize) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
        for _ in 0..times {
            encoder.write_all(chunk).unwrap();
        }
        encoder.finish().unwrap()
    }

    #[test]
    fn a_bomb_ends_early() {
        let zeros = vec![0; 1 << 20];
        let fine = packed(&zeros, 32);
        let unpack =
            |packed: &[u8], format| io::copy(&mut Unpacked::new(packed, format), &mut io::sink());
        assert_eq!(unpack(&fine, Compression::Gzip).unwrap(), 32 << 20);
        let bombs = [
            (packed(&zeros, 256), Compression::Gzip),
            (frame(&zeros).repeat(256), Compression::Zstd),
        ];
        for (bomb, format) in bombs {
            let error = unpack(&bomb, format).unwrap_err();
            assert!(is_refused(&error), "{error}");
            assert!(error.to_string().contains("100 times as much"), "{error}");
        }
    }

    fn frame(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    fn unpacked(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut unpacked = Unpacked::new(packed, Compression::Zstd);
        unpacked.read_to_end(&mut bytes).map(|_| bytes)
    }

    #[test]
    fn frames_follow_each_other() {
        let skipped = b"\x5a\x2a\x4d\x18\x03\x00\x00\x00abc";
        let one = vec![7; 300_000];
        let all = [&frame(&one)[..], skipped, &frame(b"more"), skipped].concat();
        assert_eq!(unpacked(&all).unwrap(), [&one[..], b"more"].concat());
        assert_eq!(unpacked(b"").unwrap(), b"");
    }

    #[test]
    fn a_damaged_frame_is_an_error() {
        let whole = frame(&vec![7; 300_000]);
        for length in 1..whole.len() {
            assert!(unpacked(&whole[..length]).is_err(), "{length}");
        }
        assert!(unpacked(&[&whole[..], b"junk"].concat()).is_err());
        assert!(unpacked(b"\x5a\x2a\x4d\x18\xff\xff\xff\xffabc").is_err());
    }
}
