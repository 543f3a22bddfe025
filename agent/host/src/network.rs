//! The interfaces of a network namespace: proc_pid_net(5).

use std::path::Path;

use super::file::{File, number, words};
use super::process::Process;
use super::{Error, path};

/// The most interfaces of one namespace that are returned: a container may create thousands.
pub const INTERFACES_AT_MOST: usize = 64;

/// Interfaces whose names begin so are left out, as cAdvisor does: their traffic is counted at the other end, or does
/// not leave the namespace.
const IGNORED: [&str; 3] = ["lo", "veth", "docker"];

/// The traffic of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub receive: Traffic,
    pub transmit: Traffic,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
}

/// The interfaces of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    pub interfaces: Vec<Interface>,
    /// The number of interfaces beyond [`INTERFACES_AT_MOST`].
    pub left_out: usize,
}

/// Reads the interfaces of the network namespace that process `pid` is in. The process must still be the one that
/// started at `start_time` (nanoseconds of CLOCK_BOOTTIME).
///
/// The caller cannot keep the file open between calls: an open file would keep the namespace alive after its last
/// process has ended.
///
/// # Errors
/// [`Error::Gone`] where that process has ended. Otherwise the file cannot be read or parsed.
pub fn of_process(root: &Path, pid: u32, start_time: u64) -> Result<Network, Error> {
    let process = Process::new(root, pid);
    let file = File::read(process.path("net/dev"))?;
    process.is_of(Some(start_time))?;
    parse(&file)
}

/// Reads the interfaces of the host: those of its process 1.
///
/// # Errors
/// The file cannot be read or parsed.
pub fn of_host(root: &Path) -> Result<Network, Error> {
    parse(&File::read(root.join("proc/1/net/dev"))?)
}

fn parse(file: &File) -> Result<Network, Error> {
    let mut network = Network::default();
    // The file begins with two lines of headings.
    for line in file.lines().skip(2) {
        let interface =
            parse_interface(line).ok_or_else(|| file.malformed(line, "NAME: and 16 numbers"))?;
        if IGNORED
            .iter()
            .any(|prefix| interface.name.starts_with(prefix))
        {
            continue;
        }
        if network.interfaces.len() < INTERFACES_AT_MOST {
            network.interfaces.push(interface);
        } else {
            network.left_out += 1;
        }
    }
    Ok(network)
}

fn parse_interface(line: &[u8]) -> Option<Interface> {
    let colon = line.iter().rposition(|&byte| byte == b':')?;
    let (name, rest) = (line[..colon].trim_ascii(), &line[colon + 1..]);
    let mut numbers = [0; 16];
    let mut fields = words(rest);
    for slot in &mut numbers {
        *slot = number(fields.next()?)?;
    }
    let traffic = |at: usize| Traffic {
        bytes: numbers[at],
        packets: numbers[at + 1],
        errors: numbers[at + 2],
        dropped: numbers[at + 3],
    };
    Some(Interface {
        name: path::to_text(name),
        receive: traffic(0),
        transmit: traffic(8),
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::fixture::{add, tree};

    const HEAD: &str = "Inter-|   Receive   |  Transmit\n face |bytes packets |bytes packets\n";
    /// Of a process with an odd name that started after 7.77 s.
    const STAT: &str = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 9 10\n";

    #[test]
    fn interfaces() {
        let dev = format!(
            "{HEAD}    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  \
             eth0: 1500 3 1 2 0 0 0 0 900 4 5 6 0 0 0 0\n\
             vethab: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n"
        );
        let root = tree(&[("proc/7/net/dev", &*dev), ("proc/7/stat", STAT)]);
        let network = of_process(root.path(), 7, 7_775_000_000).unwrap();
        let eth0 = Interface {
            name: "eth0".into(),
            receive: Traffic {
                bytes: 1500,
                packets: 3,
                errors: 1,
                dropped: 2,
            },
            transmit: Traffic {
                bytes: 900,
                packets: 4,
                errors: 5,
                dropped: 6,
            },
        };
        assert_eq!(network.interfaces, [eth0]);
        let other = of_process(root.path(), 7, 8_000_000_000);
        assert!(matches!(other, Err(Error::Gone { .. })), "{other:?}");
    }

    #[test]
    fn names_are_odd_and_many() {
        let mut dev = HEAD.as_bytes().to_vec();
        dev.extend(b"a\xff:b: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n");
        let mut more = String::new();
        for number in 0..99 {
            let _ = writeln!(more, "d{number}: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0");
        }
        dev.extend(more.bytes());
        let root = tree(&[("proc/1/net/dev", dev)]);
        let network = of_host(root.path()).unwrap();
        assert_eq!(network.interfaces[0].name, r"/a\xff:b");
        assert_eq!(network.interfaces.len(), INTERFACES_AT_MOST);
        assert_eq!(network.left_out, 100 - INTERFACES_AT_MOST);
        add(
            root.path(),
            &[("proc/1/net/dev", &*format!("{HEAD}x: 1 2\n"))],
        );
        assert!(matches!(of_host(root.path()), Err(Error::Malformed { .. })));
    }
}
