//! The families of the machine, and whether the scrape could read all that it wanted.

use std::path::Path;

use agent_host::machine::{Machine, MachineReader, operating_system};
use agent_host::system::System;

use super::catalogue::{self, Metric};
use super::text::{Value, Writer};

/// The machine, with what does not change while the agent runs.
#[derive(Debug)]
pub struct MachineMetrics {
    reader: MachineReader,
    kernel: String,
    os: String,
}

impl MachineMetrics {
    pub fn new(root: &Path) -> Self {
        Self {
            reader: MachineReader::new(root),
            kernel: System::read(root).kernel.unwrap_or_default(),
            os: operating_system(root).unwrap_or_default(),
        }
    }

    /// Reads the machine, and writes its families. `has_error` tells that a file of a cgroup could not be read.
    pub fn write(&mut self, has_error: bool, out: &mut Writer) {
        let machine = self.reader.read();
        write(machine, out);
        let one = |metric: &'static Metric, labels: &[&str], value: bool, out: &mut Writer| {
            out.family(metric)
                .sample(labels, None, Value::Number(value.into()));
        };
        // cAdvisor's own versions are empty: this is not cAdvisor.
        let versions = [&*self.kernel, &*self.os, "", "", ""];
        one(&catalogue::VERSION_INFO, &versions, true, out);
        one(&catalogue::CONTAINER_SCRAPE_ERROR, &[], has_error, out);
        let is_incomplete = machine.capacity.is_none() || machine.cpus.is_none();
        one(&catalogue::MACHINE_SCRAPE_ERROR, &[], is_incomplete, out);
    }
}

/// Writes the families that describe the machine. One that is not known has no series.
fn write(machine: &Machine, out: &mut Writer) {
    let capacity = machine.capacity.as_ref();
    let ids = [
        &*machine.boot_id,
        &*machine.machine_id,
        &*machine.system_uuid,
    ];
    for (metric, value) in [
        (&catalogue::MACHINE_CPU_CORES, machine.cpus),
        (&catalogue::MACHINE_CPU_PHYSICAL_CORES, machine.cores),
        (&catalogue::MACHINE_CPU_SOCKETS, machine.sockets),
        (&catalogue::MACHINE_MEMORY, capacity.map(|it| it.memory)),
        (&catalogue::MACHINE_SWAP, capacity.map(|it| it.swap)),
    ] {
        let mut family = out.family(metric);
        if let Some(value) = value {
            family.sample(&ids, None, Value::Number(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use agent_host::system::Capacity;

    use super::*;

    #[test]
    fn what_is_not_known_has_no_series() {
        let machine = Machine {
            boot_id: "b".into(),
            cpus: Some(8),
            capacity: Some(Capacity {
                memory: 4096,
                swap: 0,
            }),
            ..Machine::default()
        };
        let mut out = Writer::default();
        write(&machine, &mut out);
        let text = out.take().concat();
        let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let wanted = [
            r#"machine_cpu_cores{boot_id="b",machine_id="",system_uuid=""} 8"#,
            r#"machine_memory_bytes{boot_id="b",machine_id="",system_uuid=""} 4096"#,
            r#"machine_swap_bytes{boot_id="b",machine_id="",system_uuid=""} 0"#,
        ];
        assert_eq!(samples, wanted);
    }
}
