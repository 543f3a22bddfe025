//! The protocol between the launcher and the new process, over a pair of sockets that keep message boundaries.
//!
//! Nothing between clone and exec allocates, so a message has a fixed form. The end of the stream is a message too: the
//! launcher has died, or the command runs.

use std::ffi::CStr;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use agent_sys::entry::Shared;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, send, sendmsg, socketpair,
};
use rustix::process::Pid;

/// The most bytes of a subject in a message. A longer subject is cut off.
const TEXT_BYTES: usize = 1024;
/// The bytes before the subject: the kind of message, the step, and the error number.
const HEAD_BYTES: usize = 6;
/// The most v1 cgroups that a new process joins. v1 has fewer hierarchies.
const MOST_CGROUPS: usize = 32;

/// A message of the launcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum LauncherMessage {
    /// The user namespace has its maps.
    Mapped = b'm',
    /// Cgroups and network are ready.
    Go = b'g',
}

/// A message of the new process.
#[derive(Debug)]
pub(super) enum ChildReport {
    /// A step failed: its index in the table, the error, and the subject.
    Failed {
        step: u8,
        errno: Errno,
        subject: String,
    },
    /// The controller of the container's terminal.
    Terminal(OwnedFd),
    /// An intermediate process has cloned the new process, whose pid is of the host's pid namespace.
    Born { pid: Pid, pidfd: OwnedFd },
    /// The process has reached the step at which a test wants the launcher to die.
    Fault,
    /// The container is built, and the command may enter it.
    Built,
    /// The process has closed its side: the command runs, or the process was killed.
    Closed,
}

const FAILED: u8 = b'F';
const TERMINAL: u8 = b'T';
const FAULT: u8 = b'X';
const BORN: u8 = b'B';
const BUILT: u8 = b'C';

/// One side of the protocol.
#[derive(Debug)]
pub(super) struct Channel(ChannelEnd);

#[derive(Debug)]
enum ChannelEnd {
    Socket(OwnedFd),
    /// The side of a process that may hold no descriptor of the host's. It reports through shared memory, and gets no
    /// answer.
    Shared(Shared),
}

/// Returns the launcher's side, and the new process's.
pub(super) fn pair() -> Result<(Channel, Channel), Errno> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok((
        Channel(ChannelEnd::Socket(ours)),
        Channel(ChannelEnd::Socket(theirs)),
    ))
}

impl Channel {
    pub(super) const fn shared(shared: Shared) -> Self {
        Self(ChannelEnd::Shared(shared))
    }

    fn socket(&self) -> Result<&OwnedFd, Errno> {
        match &self.0 {
            ChannelEnd::Socket(socket) => Ok(socket),
            ChannelEnd::Shared(_) => Err(Errno::NOTSOCK),
        }
    }

    /// Returns a descriptor that is readable when the other side has sent a message, or has closed its side.
    pub(super) fn descriptor(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.socket().map(|socket| socket.as_fd())
    }

    pub(super) fn say(&self, word: LauncherMessage) -> Result<(), Errno> {
        send(self.socket()?, &[word as u8], SendFlags::NOSIGNAL).map(drop)
    }

    /// Sends [`LauncherMessage::Go`] with the `tasks` files of the v1 cgroups that the new process joins.
    pub(super) fn say_go(&self, tasks: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        self.give(&[LauncherMessage::Go as u8], tasks)
    }

    /// Waits for [`LauncherMessage::Go`], and passes each file that comes with it to `join`.
    pub(super) fn wait_for_go(
        &self,
        mut join: impl FnMut(OwnedFd) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut said = [0u8];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_CGROUPS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let length = loop {
            let mut into = [IoSliceMut::new(&mut said)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            match recvmsg(self.socket()?, &mut into, &mut ancillary, flags) {
                Ok(received) => break received.bytes,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        };
        match said {
            _ if length == 0 => return Err(Errno::PIPE),
            [word] if word == LauncherMessage::Go as u8 => {}
            _ => return Err(Errno::PROTO),
        }
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(tasks) = message {
                for tasks in tasks {
                    join(tasks)?;
                }
            }
        }
        Ok(())
    }

    /// Waits for a message. Returns EPIPE where the launcher has died.
    pub(super) fn wait_for(&self, word: LauncherMessage) -> Result<(), Errno> {
        let mut said = [0u8];
        loop {
            match rustix::io::read(self.socket()?, &mut said) {
                Ok(1) if said[0] == word as u8 => return Ok(()),
                Ok(0) => return Err(Errno::PIPE),
                Ok(_) => return Err(Errno::PROTO),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Reports a failed step. An error of the report is ignored, because no launcher is left to read it.
    pub(super) fn fail(&self, step: u8, errno: Errno, subject: &CStr) {
        let socket = match &self.0 {
            ChannelEnd::Socket(socket) => socket,
            ChannelEnd::Shared(shared) => return shared.fail(step, errno, subject),
        };
        let mut message = [0u8; HEAD_BYTES + TEXT_BYTES];
        let text = subject.to_bytes();
        let text = text.get(..TEXT_BYTES).unwrap_or(text);
        let length = HEAD_BYTES + text.len();
        let (head, rest) = message.split_at_mut(HEAD_BYTES);
        head[0] = FAILED;
        head[1] = step;
        head[2..].copy_from_slice(&errno.raw_os_error().to_ne_bytes());
        for (to, from) in rest.iter_mut().zip(text) {
            *to = *from;
        }
        // A seccomp filter that is installed already most likely allows write(2), and not sendmsg(2).
        let _ = rustix::io::write(socket, message.get(..length).unwrap_or(&message));
    }

    /// Asks the launcher to die, for a test, and returns when it has died.
    pub(super) fn fault(&self) {
        match &self.0 {
            ChannelEnd::Socket(socket) => {
                let _ = rustix::io::write(socket, &[FAULT; HEAD_BYTES]);
                let _ = self.wait_for(LauncherMessage::Go);
            }
            ChannelEnd::Shared(shared) => {
                shared.fault();
                while !shared.launcher_died() {
                    std::hint::spin_loop();
                }
            }
        }
    }

    /// Reports that the container is built, and returns when the launcher is gone.
    pub(super) fn built(&self) {
        if let ChannelEnd::Socket(socket) = &self.0 {
            let _ = rustix::io::write(socket, &[BUILT; HEAD_BYTES]);
            let _ = self.wait_for(LauncherMessage::Go);
        }
    }

    pub(super) fn give_terminal(&self, terminal: BorrowedFd<'_>) -> Result<(), Errno> {
        self.give(&[TERMINAL; HEAD_BYTES], &[terminal])
    }

    /// Sends the pid and the pidfd of a process that was cloned for the other side.
    pub(super) fn give_birth(&self, pid: Pid, pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
        let [a, b, c, d] = pid.as_raw_nonzero().get().to_ne_bytes();
        self.give(&[BORN, 0, a, b, c, d], &[pidfd])
    }

    /// Sends a message with descriptors. Returns E2BIG where there are too many.
    fn give(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_CGROUPS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let rights = SendAncillaryMessage::ScmRights(descriptors);
        if !descriptors.is_empty() && !ancillary.push(rights) {
            return Err(Errno::TOOBIG);
        }
        let message = [IoSlice::new(message)];
        sendmsg(
            self.socket()?,
            &message,
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )
        .map(drop)
    }

    /// Receives the next message.
    pub(super) fn hear(&self) -> Result<ChildReport, Errno> {
        let mut message = [0u8; HEAD_BYTES + TEXT_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let length = loop {
            let mut into = [IoSliceMut::new(&mut message)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            match recvmsg(self.socket()?, &mut into, &mut ancillary, flags) {
                Ok(received) => break received.bytes,
                // ECONNRESET: the other side ended with messages unread. The kernel reports that once, before what the
                // other side has sent.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(errno) => return Err(errno),
            }
        };
        let message = message.get(..length).unwrap_or_default();
        match message {
            [] => Ok(ChildReport::Closed),
            [FAILED, step, a, b, c, d, text @ ..] => Ok(ChildReport::Failed {
                step: *step,
                errno: Errno::from_raw_os_error(i32::from_ne_bytes([*a, *b, *c, *d])),
                subject: String::from_utf8_lossy(text).into_owned(),
            }),
            [FAULT, ..] => Ok(ChildReport::Fault),
            [BUILT, ..] => Ok(ChildReport::Built),
            [TERMINAL, ..] => Ok(ChildReport::Terminal(descriptor(&mut ancillary)?)),
            [BORN, _, a, b, c, d] => {
                let pid = Pid::from_raw(i32::from_ne_bytes([*a, *b, *c, *d]));
                Ok(ChildReport::Born {
                    pid: pid.ok_or(Errno::PROTO)?,
                    pidfd: descriptor(&mut ancillary)?,
                })
            }
            _ => Err(Errno::PROTO),
        }
    }
}

fn descriptor(ancillary: &mut RecvAncillaryBuffer<'_>) -> Result<OwnedFd, Errno> {
    ancillary
        .drain()
        .find_map(|part| match part {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        })
        .ok_or(Errno::PROTO)
}
