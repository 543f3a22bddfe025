//! The machine: its ids, and how many CPUs, cores and sockets it has.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::file::File;
use super::system::{Capacity, cpu_list};

/// The machine. `None`: the kernel does not report the value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The id of the installed system (machine-id(5)); empty where it has none, as are the next two.
    pub machine_id: String,
    /// The id of the hardware, or of the virtual machine.
    pub system_uuid: String,
    pub boot_id: String,
    /// CPUs that are online.
    pub cpus: Option<u64>,
    /// Cores that have one of these CPUs, and sockets.
    pub cores: Option<u64>,
    pub sockets: Option<u64>,
    pub capacity: Option<Capacity>,
}

/// The reader of the machine. It keeps the topology, and reads it again when CPUs come or go.
#[derive(Debug)]
pub struct MachineReader {
    root: PathBuf,
    /// The list of CPUs that are online, when the topology was read.
    online: Option<Vec<u8>>,
    machine: Machine,
}

/// The files that may hold each id. The first that has one counts, as in cAdvisor.
const MACHINE_ID: [&str; 2] = ["etc/machine-id", "var/lib/dbus/machine-id"];
const SYSTEM_UUID: [&str; 4] = [
    "sys/class/dmi/id/product_uuid",
    "proc/device-tree/system-id",
    "proc/device-tree/vm,uuid",
    "etc/machine-id",
];
const BOOT_ID: [&str; 1] = ["proc/sys/kernel/random/boot_id"];

impl MachineReader {
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            online: None,
            machine: Machine {
                machine_id: first(root, &MACHINE_ID),
                system_uuid: first(root, &SYSTEM_UUID),
                boot_id: first(root, &BOOT_ID),
                ..Machine::default()
            },
        }
    }

    /// Reads the machine.
    pub fn read(&mut self) -> &Machine {
        let online = File::read(self.root.join("sys/devices/system/cpu/online"));
        let online = online.ok().map(|file| file.text().to_vec());
        if online != self.online {
            let cpus = online.as_deref().and_then(cpu_list).unwrap_or_default();
            self.set_topology(&cpus);
            self.online = online;
        }
        self.machine.capacity = Capacity::read(&self.root).ok();
        &self.machine
    }

    fn set_topology(&mut self, cpus: &[u16]) {
        let number = |cpu: &u16, file: &str| {
            let path = format!("sys/devices/system/cpu/cpu{cpu}/topology/{file}");
            // A kernel that does not know a socket writes -1.
            File::read(self.root.join(path)).ok()?.string().ok()
        };
        let place =
            |cpu: &u16| Some((number(cpu, "physical_package_id")?, number(cpu, "core_id")?));
        // Cores of two sockets may have the same number.
        let cores: Option<HashSet<_>> = cpus.iter().map(place).collect();
        let cores = cores.filter(|cores| !cores.is_empty());
        let sockets = cores.as_ref().map(|cores| {
            let sockets: HashSet<_> = cores.iter().map(|(socket, _)| socket).collect();
            sockets.len() as u64
        });
        self.machine.cpus = Some(cpus.len() as u64).filter(|cpus| *cpus > 0);
        self.machine.cores = cores.map(|cores| cores.len() as u64);
        self.machine.sockets = sockets;
    }
}

/// Returns the name of the operating system, from os-release(5).
pub fn operating_system(root: &Path) -> Option<String> {
    let files = ["etc/os-release", "usr/lib/os-release"];
    let file = files
        .iter()
        .find_map(|path| File::read(root.join(path)).ok())?;
    let name = file
        .lines()
        .find_map(|line| line.strip_prefix(b"PRETTY_NAME="))?;
    let name = String::from_utf8_lossy(name).into_owned();
    Some(name.trim_matches(['"', '\'']).to_owned())
}

/// Returns the text of the first file that has one.
fn first(root: &Path, files: &[&str]) -> String {
    let text = |path: &&str| {
        let text = File::read(root.join(path)).ok()?.string().ok()?;
        // Files of a device tree end with a NUL.
        let text = text.trim_end_matches('\0').to_owned();
        (!text.is_empty()).then_some(text)
    };
    files.iter().find_map(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{add, tree};
    use crate::meminfo;

    fn topology(cpu: u16, socket: &str, core: &str) -> [(String, String); 2] {
        let file = |name: &str| format!("sys/devices/system/cpu/cpu{cpu}/topology/{name}");
        [
            (file("physical_package_id"), format!("{socket}\n")),
            (file("core_id"), format!("{core}\n")),
        ]
    }

    #[test]
    fn cores_of_two_sockets_are_apart_and_threads_are_not() {
        let root = tree(&[
            ("sys/devices/system/cpu/online", "0-3,5\n"),
            ("etc/machine-id", "\n"),
            ("var/lib/dbus/machine-id", "abc\n"),
            ("proc/device-tree/vm,uuid", "uuid\0"),
            ("proc/sys/kernel/random/boot_id", "b0\n"),
            ("proc/meminfo", &*meminfo::sample(&[("MemTotal", 100)])),
            ("etc/os-release", "ID=x\nPRETTY_NAME=\"An OS 1\"\n"),
        ]);
        for (cpu, socket, core) in [(0, "0", "0"), (1, "0", "0"), (2, "1", "0"), (3, "1", "1")] {
            add(
                root.path(),
                &topology(cpu, socket, core)
                    .each_ref()
                    .map(|(a, b)| (&**a, b)),
            );
        }
        let mut reader = MachineReader::new(root.path());
        let machine = reader.read().clone();
        // Of CPU 5, the kernel reports no place.
        assert_eq!((machine.cpus, machine.cores), (Some(5), None));
        add(root.path(), &[("sys/devices/system/cpu/online", "0-3\n")]);
        let wanted = Machine {
            machine_id: "abc".into(),
            system_uuid: "uuid".into(),
            boot_id: "b0".into(),
            cpus: Some(4),
            cores: Some(3),
            sockets: Some(2),
            capacity: Some(Capacity {
                memory: 100 << 10,
                swap: 0,
            }),
        };
        assert_eq!(*reader.read(), wanted);
        assert_eq!(operating_system(root.path()).as_deref(), Some("An OS 1"));
    }

    #[test]
    fn what_is_missing_is_unknown() {
        let root = tree::<&str>(&[]);
        assert_eq!(*MachineReader::new(root.path()).read(), Machine::default());
        assert_eq!(operating_system(root.path()), None);
    }
}
