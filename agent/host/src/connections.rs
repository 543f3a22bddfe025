//! The TCP connections and UDP sockets of a network namespace, counted by state: proc_pid_net(5).

use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use super::Error;
use super::file::{number, words};
use super::process::Process;

/// The states of TCP by their numbers in the kernel, from 1 on (`include/net/tcp_states.h`), with cAdvisor's names.
pub const TCP_STATES: [&str; 11] = [
    "established",
    "synsent",
    "synrecv",
    "finwait1",
    "finwait2",
    "timewait",
    "close",
    "closewait",
    "lastack",
    "listen",
    "closing",
];

/// The connections of one protocol, indexed as [`TCP_STATES`].
pub type TcpConnections = [u64; TCP_STATES.len()];

/// The sockets of one protocol. The names are cAdvisor's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpSockets {
    /// All sockets.
    pub listen: u64,
    pub dropped: u64,
    /// Bytes that wait to be received, and to be sent.
    pub rx_queued: u64,
    pub tx_queued: u64,
}

/// Which protocols are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protocols {
    pub tcp: bool,
    pub udp: bool,
}

/// The connections of one network namespace, over IPv4 and IPv6. `None`: they were not counted, or the kernel has no
/// such protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    pub tcp: [Option<TcpConnections>; 2],
    pub udp: [Option<UdpSockets>; 2],
}

/// Counts those of the network namespace that process `pid` is in. `start_time` is that of
/// [`network::of_process`](super::network::of_process); `None` for the host's process 1.
///
/// # Errors
/// [`Error::Gone`] where that process has ended. Otherwise a file cannot be read or parsed.
pub fn of_process(
    root: &Path,
    pid: u32,
    start_time: Option<u64>,
    protocols: Protocols,
) -> Result<Connections, Error> {
    let process = Process::new(root, pid);
    let mut found = Connections::default();
    if protocols.tcp {
        found.tcp = [
            table(process.path("net/tcp"), add_tcp)?,
            table(process.path("net/tcp6"), add_tcp)?,
        ];
    }
    if protocols.udp {
        found.udp = [
            table(process.path("net/udp"), add_udp)?,
            table(process.path("net/udp6"), add_udp)?,
        ];
    }
    process.is_of(start_time)?;
    Ok(found)
}

/// Adds up the rows of a file. It is read in parts, as it may have 150 bytes for each of a million connections. Returns
/// `None` where there is no such file.
fn table<T: Default>(
    path: PathBuf,
    add: fn(&mut T, &[u8]) -> Option<()>,
) -> Result<Option<T>, Error> {
    let failed = |source: io::Error| Error::new(path.clone(), source);
    let file = match std::fs::File::open(&path).map_err(failed) {
        Err(Error::Gone { .. }) => return Ok(None),
        file => file?,
    };
    let mut reader = BufReader::new(file);
    let mut sum = T::default();
    let mut line = Vec::new();
    let mut is_heading = true;
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok(Some(sum));
        }
        let is_row = !is_heading;
        is_heading = false;
        if is_row && add(&mut sum, &line).is_none() {
            return Err(Error::malformed(path, &line, "a row of a socket"));
        }
    }
}

fn add_tcp(sum: &mut TcpConnections, line: &[u8]) -> Option<()> {
    let state = words(line).nth(3)?;
    let state = usize::try_from(hexadecimal(state)?).ok()?;
    // A state that a later kernel has is none of these.
    if let Some(count) = state.checked_sub(1).and_then(|at| sum.get_mut(at)) {
        *count += 1;
    }
    Some(())
}

fn add_udp(sum: &mut UdpSockets, line: &[u8]) -> Option<()> {
    let mut words = words(line).skip(4);
    let queues = words.next()?;
    let colon = queues.iter().position(|&byte| byte == b':')?;
    sum.listen += 1;
    sum.tx_queued += hexadecimal(&queues[..colon])?;
    sum.rx_queued += hexadecimal(&queues[colon + 1..])?;
    // The file has more columns than headings; the last is that of packets dropped.
    sum.dropped += number::<u64>(words.last()?)?;
    Some(())
}

fn hexadecimal(text: &[u8]) -> Option<u64> {
    u64::from_str_radix(str::from_utf8(text).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::tree;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:A0B0 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1
   2: 0100007F:1F90 0100007F:A0B1 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0
   3: 0100007F:1F90 0100007F:A0B2 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 20 4 30 10 -1
";
    const UDP: &str = "\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  361: 00000000:0044 00000000:0000 07 00000010:00000200 00:00000000 00000000     0        0 9 2 0 5
  362: 00000000:0045 00000000:0000 07 00000000:00000001 00:00000000 00000000     0        0 9 2 0 2
";
    const STAT: &str = "7 (a) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 9 10\n";

    const BOTH: Protocols = Protocols {
        tcp: true,
        udp: true,
    };

    #[test]
    fn states_and_queues() {
        let root = tree(&[
            ("proc/7/net/tcp", TCP),
            ("proc/7/net/udp", UDP),
            ("proc/7/stat", STAT),
        ]);
        let of = |start, protocols| of_process(root.path(), 7, start, protocols);
        let found = of(Some(7_770_000_000), BOTH).unwrap();
        assert_eq!(found.tcp, [Some([2, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0]), None]);
        let udp = UdpSockets {
            listen: 2,
            dropped: 7,
            rx_queued: 0x201,
            tx_queued: 0x10,
        };
        assert_eq!(found.udp, [Some(udp), None]);
        let none = of(None, Protocols::default()).unwrap();
        assert_eq!(none, Connections::default());
        let other = of(Some(8_000_000_000), BOTH);
        assert!(matches!(other, Err(Error::Gone { .. })), "{other:?}");
    }

    #[test]
    fn garbage_is_malformed() {
        for (file, text) in [
            ("proc/7/net/tcp", "head\n0: a b zz\n"),
            ("proc/7/net/udp6", "head\n0: a b 07 1 2\n"),
        ] {
            let root = tree(&[(file, text), ("proc/7/stat", STAT)]);
            let error = of_process(root.path(), 7, None, BOTH).unwrap_err();
            assert!(matches!(error, Error::Malformed { .. }), "{error}");
        }
    }
}
