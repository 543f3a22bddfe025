//! What does not run in the virtual machine of `cargo xtask vm`, and why: all other tests do.

/// A test, or all of a module or a program, and why it is not for that machine.
struct Row {
    /// `PROGRAM::TEST`, or what such names begin with.
    tests: &'static str,
    why: Why,
}

/// What a test needs that the machine has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// An engine, or systemd.
    Debian,
    Prometheus,
    Cadvisor,
    Compiler,
    Time,
}

impl Why {
    pub fn text(self) -> &'static str {
        match self {
            Self::Debian => {
                "docker, containerd, podman or systemd, which `cargo xtask vm --debian` has"
            }
            Self::Prometheus => "Prometheus, and is about nothing of a kernel's",
            Self::Cadvisor => "docker and cAdvisor, which are compared on this machine",
            Self::Compiler => "a C compiler",
            Self::Time => "more time than an emulated machine has",
        }
    }
}

/// The rows.
#[rustfmt::skip]
const ROWS: [Row; 20] = [
    Row { tests: "cadvisor::",       why: Why::Cadvisor },
    Row { tests: "docker::",         why: Why::Debian },
    Row { tests: "engine_restart::", why: Why::Debian },
    Row { tests: "inspect::docker::", why: Why::Debian },
    Row { tests: "launchers::",      why: Why::Debian },
    Row { tests: "run_root::image::what_docker_saves", why: Why::Debian },
    Row { tests: "run_root::programs::it_finds_what_the_loader_", why: Why::Debian },
    Row { tests: "run_root::programs::libraries_beside_the_program", why: Why::Compiler },
    Row { tests: "run_root::programs::a_library_that_the_loader_", why: Why::Compiler },
    Row { tests: "verify::standing::a_container_of_docker_", why: Why::Debian },
    Row { tests: "verify::standing::a_workload_of_docker_", why: Why::Debian },
    Row { tests: "verify::standing::what_docker_was_asked_for_", why: Why::Debian },
    Row { tests: "verify::known::a_server_that_hears_", why: Why::Debian },
    Row { tests: "verify::known::nothing_passes_that_nobody_", why: Why::Debian },
    Row { tests: "verify::known::what_docker_makes_", why: Why::Debian },
    Row { tests: "systemd::",        why: Why::Debian },
    Row { tests: "dashboards::",     why: Why::Prometheus },
    Row { tests: "prometheus::",     why: Why::Prometheus },
    // Of a quota: the ticks of an emulated CPU come late where it is busy, so that more is used than the quota gives.
    Row { tests: "verify::output::the_suite_is_a_table_", why: Why::Time },
    // On a busy machine one of the four ended within six minutes: calls_while_the_server_gets_no_time.
    Row { tests: "floods::",         why: Why::Time },
];

/// What `cargo xtask test` runs there, which `cargo xtask vm --quick` does too: programs.
const QUICK: [&str; 25] = [
    "attacks",
    "claims",
    "counters",
    "escapes",
    "law",
    "mechanisms",
    "namespace_calls",
    "oom",
    "oom_beyond",
    "processes",
    "reuse",
    "run_escapes",
    "run_isolation",
    "run_life",
    "run_limits",
    "run_network",
    "run_privileges",
    "run_root",
    "run_seen",
    "run_spec",
    "run_streams",
    "run_stuck",
    "user_directory",
    "verify",
    "verify_swap",
];

/// How many machines the programs run in, at once, on two CPUs. Many tests wait, so that one machine would leave time
/// unused.
pub const MACHINES: usize = 2;

/// The programs of the second machine, which take half of the time.
const SECOND: [&str; 12] = [
    "claims",
    "counters",
    "escapes",
    "namespace_calls",
    "run_life",
    "run_limits",
    "run_privileges",
    "run_seen",
    "run_streams",
    "storms",
    "user_directory",
    "verify",
];

/// The number of the machine that a test program runs in.
pub fn machine(program: &str) -> usize {
    usize::from(SECOND.contains(&program))
}

/// Why a test does not run in that machine, where it does not.
pub fn reason(name: &str) -> Option<Why> {
    let row = ROWS.iter().find(|row| name.starts_with(row.tests));
    row.map(|row| row.why)
}

/// Whether a test program is among those of `cargo xtask test`.
pub fn is_quick(program: &str) -> bool {
    QUICK.contains(&program)
}

/// The rows of programs that there are, of which there is no test.
pub fn stale<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<&'static str> {
    let program = |name: &str| name.split("::").next().unwrap_or_default().to_owned();
    let rows = ROWS.iter().map(|row| row.tests);
    rows.filter(|row| {
        let mut of_program = names
            .clone()
            .filter(|name| program(name) == program(row))
            .peekable();
        of_program.peek().is_some() && !of_program.any(|name| name.starts_with(row))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_name_programs_modules_and_tests() {
        assert_eq!(
            reason("docker::life::a_container_of_an_instant_is_seen"),
            Some(Why::Debian)
        );
        assert_eq!(reason("inspect::docker::x"), Some(Why::Debian));
        assert_eq!(reason("inspect::limits::x"), None);
        assert!(is_quick("run_limits") && is_quick("oom"));
        assert!(!is_quick("docker") && !is_quick("run"));
    }

    #[test]
    fn rows_without_tests_are_stale() {
        let names = ["docker::a", "inspect::limits::a"];
        assert_eq!(stale(names.into_iter()), ["inspect::docker::"]);
    }
}
