//! The user's choice of mechanisms, for the probes that have more than one.

use std::str::FromStr;

use super::probes::{Mechanism, MechanismPrograms, PROBES, Probe};

/// Whether to attach tracepoints of system calls, which slow down every system call of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SyscallProbes {
    /// Where nothing cheaper loads.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never: unshare and setns go unseen where nothing cheaper loads.
    Off,
}

/// The user's choice of a mechanism, for one probe or for all probes that have it. No other mechanism is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MechanismChoice {
    probe: Option<&'static str>,
    mechanism: Mechanism,
}

/// The user's choices of mechanisms.
#[derive(Clone, Debug, Default)]
pub struct Mechanisms {
    /// Whether to attach tracepoints of system calls.
    pub syscall_probes: SyscallProbes,
    /// The chosen mechanisms. The later of two choices for one probe holds.
    pub choices: Vec<MechanismChoice>,
}

impl Mechanisms {
    /// The ways to attach `probe` that are to be tried, the best first.
    pub fn ways(&self, probe: &'static Probe) -> Vec<&'static MechanismPrograms> {
        let choices = self.choices.iter().rev();
        let mut chosen = choices
            .filter(|choice| choice.probe.is_none_or(|name| name == probe.name))
            .filter_map(|choice| probe.way(choice.mechanism));
        let taxing = probe.way(Mechanism::Syscall);
        let wanted = chosen.next().or(match self.syscall_probes {
            SyscallProbes::On => taxing,
            SyscallProbes::Auto | SyscallProbes::Off => None,
        });
        let ways = wanted.map_or_else(|| probe.ways.iter().collect(), |way| vec![way]);
        let off = self.syscall_probes == SyscallProbes::Off;
        let allowed = |way: &&MechanismPrograms| !(off && way.mechanism == Mechanism::Syscall);
        ways.into_iter().filter(allowed).collect()
    }
}

/// The probes that have more than one way.
fn groups() -> impl Iterator<Item = &'static Probe> {
    PROBES.iter().filter(|probe| probe.ways.len() > 1)
}

fn one_of(names: impl Iterator<Item = &'static str>) -> String {
    names.collect::<Vec<_>>().join(" or ")
}

/// Parses `MECHANISM` or `PROBE=MECHANISM`.
impl FromStr for MechanismChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, mechanism) = match text.split_once('=') {
            Some((name, mechanism)) => (Some(name), mechanism),
            None => (None, text),
        };
        let mut known = Mechanism::ALL.into_iter();
        let mechanism = known.find(|it| it.name() == mechanism).ok_or_else(|| {
            let names = Mechanism::ALL.iter().map(|it| it.name());
            format!("want {}, or GROUP=MECHANISM", one_of(names))
        })?;
        let Some(name) = name else {
            return Ok(Self {
                probe: None,
                mechanism,
            });
        };
        let probe = groups().find(|probe| probe.name == name).ok_or_else(|| {
            let names = groups().map(|probe| probe.name);
            format!("want {} before the =", one_of(names))
        })?;
        if probe.way(mechanism).is_none() {
            let names = probe.ways.iter().map(|way| way.mechanism.name());
            return Err(format!("{name} has {}", one_of(names)));
        }
        Ok(Self {
            probe: Some(probe.name),
            mechanism,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mechanisms that are tried for the probe of this name.
    fn tried(name: &str, syscall_probes: SyscallProbes, choices: &[&str]) -> Vec<&'static str> {
        let choices = choices.iter().map(|text| text.parse().expect("a choice"));
        let mechanisms = Mechanisms {
            syscall_probes,
            choices: choices.collect(),
        };
        let probe = PROBES.iter().find(|probe| probe.name == name);
        let ways = mechanisms.ways(probe.expect("a probe"));
        ways.iter().map(|way| way.mechanism.name()).collect()
    }

    #[test]
    fn the_best_is_tried_first() {
        for (name, mechanisms) in [
            ("unshare", &["trampoline", "syscall"][..]),
            ("setns", &["trampoline", "syscall"]),
            ("oom", &["trampoline", "btf"]),
            ("exec", &["btf"]),
        ] {
            assert_eq!(tried(name, SyscallProbes::Auto, &[]), mechanisms);
        }
    }

    #[test]
    fn a_choice_is_the_only_one_and_the_last_holds() {
        use SyscallProbes::{Auto, Off, On};
        for (name, probes, choices, mechanisms) in [
            ("oom", Auto, &["btf"][..], &["btf"][..]),
            ("setns", Auto, &["btf"], &["trampoline", "syscall"]),
            (
                "setns",
                Auto,
                &["unshare=syscall"],
                &["trampoline", "syscall"],
            ),
            (
                "setns",
                Auto,
                &["syscall", "setns=trampoline"],
                &["trampoline"],
            ),
            (
                "setns",
                Auto,
                &["setns=trampoline", "syscall"],
                &["syscall"],
            ),
            ("exec", Auto, &["trampoline"], &["btf"]),
            ("setns", On, &[], &["syscall"]),
            ("oom", On, &[], &["trampoline", "btf"]),
            ("setns", On, &["trampoline"], &["trampoline"]),
            ("setns", Off, &[], &["trampoline"]),
            ("setns", Off, &["syscall"], &[]),
        ] {
            assert_eq!(
                tried(name, probes, choices),
                mechanisms,
                "{name} {probes:?} {choices:?}"
            );
        }
    }

    #[test]
    fn what_a_probe_has_not_is_refused() {
        for (text, wanted) in [
            ("oom=syscall", "oom has trampoline or btf"),
            ("unshare=btf", "unshare has trampoline or syscall"),
            ("exec=btf", "want oom or unshare or setns before the ="),
            (
                "fast",
                "want trampoline or btf or syscall, or GROUP=MECHANISM",
            ),
            ("", "want trampoline or btf or syscall, or GROUP=MECHANISM"),
            (
                "oom=",
                "want trampoline or btf or syscall, or GROUP=MECHANISM",
            ),
        ] {
            assert_eq!(
                text.parse::<MechanismChoice>(),
                Err(wanted.to_owned()),
                "{text}"
            );
        }
    }
}
