//! Opens the file that `--image` names: a regular file or a pipe, as in `<(docker save web)`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use agent_host::regular::{self, Links};
use rustix::fs::FileType;

use super::interruption::Stop;
use crate::Error;

/// How long a writer may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

const WANTED: &str =
    "--image wants a file that `docker save` wrote, or an OCI layout in a tar archive";

/// The source of an archive.
pub(super) enum Input<'a> {
    /// A regular file, which can be read at any offset.
    File(File),
    Pipe(InputPipe<'a>),
}

impl<'a> Input<'a> {
    /// Opens the input. A FIFO is opened at once; the first read waits for a writer.
    ///
    /// # Errors
    /// The file does not exist, or is neither a regular file nor a pipe.
    pub(super) fn open(path: &Path, stop: &'a dyn Stop) -> Result<Self, Error> {
        let opened = regular::open_any(path, Links::Followed);
        let file = opened.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::Missing {
                path: path.to_owned(),
                wanted: WANTED,
            },
            _ => Error::io("open", path)(source),
        })?;
        match regular::kind(&file).map_err(Error::io("read", path))? {
            FileType::RegularFile => Ok(Self::File(file)),
            FileType::Fifo => Ok(Self::Pipe(InputPipe { file, stop })),
            FileType::Directory => Err(Error::Other {
                path: path.to_owned(),
                wanted: "an archive; --rootfs takes directories, and `tar -C DIR -cf FILE .` makes an archive of an OCI \
                         layout",
            }),
            other => Err(Error::Image {
                path: path.to_owned(),
                what: format!("{}; wanted a regular file or a pipe", regular::name(other)),
            }),
        }
    }
}

/// A non-blocking pipe. A read fails if the writer is silent for too long.
pub(super) struct InputPipe<'a> {
    file: File,
    stop: &'a dyn Stop,
}

impl Read for InputPipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // poll(2) reports a hang-up after a writer has left, and nothing before one has come.
            if !self.stop.wait(Some(self.file.as_fd()), PATIENCE)? {
                let text = format!(
                    "nobody wrote into this pipe for {} seconds; write an image into it, or name a file",
                    PATIENCE.as_secs()
                );
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            match self.file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }
}
