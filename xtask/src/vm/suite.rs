//! The tests that run in a virtual machine, and the disk that has them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::elsewhere::{self, MACHINES, Why};
use super::image;
use super::programs::{Program, Programs};
use crate::command::workspace;

/// How many times slower than a real machine an emulated one is, for tests/src/slow.rs: deadlines are multiplied by it.
const SLOWER: u32 = 8;

/// By what counts are divided there: of `cargo xtask test`, and of all tests.
const FEWER: [u32; 2] = [12, 3];

/// Tests of a program at once, on two CPUs: many of them wait.
const THREADS: u32 = 4;

/// How long a test program may take: on a busy machine it takes many times what it takes on a quiet one.
const DEADLINE: Duration = Duration::from_secs(1200);

/// What libtest is to do: run tests that need root, and tell how long each took, too, which it takes for unstable.
const OPTIONS: &str = "--exact --include-ignored --show-output -Z unstable-options --report-time";

/// Lets it.
const UNSTABLE: (&str, &str) = ("RUSTC_BOOTSTRAP", "1");

/// What programs find in the environment of any host.
const HOST: [(&str, &str); 5] = [
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("RUST_BACKTRACE", "0"),
    ("TERM", "xterm"),
];

/// Which of the tests are to run.
pub struct Wanted<'a> {
    /// Parts of their names; all where there is none.
    pub filters: &'a [&'a str],
    /// In a whole Debian: without a filter, what runs there alone.
    pub debian: bool,
    /// Those of `cargo xtask test` alone.
    pub quick: bool,
}

impl Wanted<'_> {
    /// Why a test is not to run; none where it is, and no reason where it was not asked for.
    fn refused(&self, program: &str, name: &str) -> Option<Option<Why>> {
        let named = self.filters.iter().any(|part| name.contains(part));
        if !named && !self.filters.is_empty() || self.quick && !elsewhere::is_quick(program) {
            return Some(None);
        }
        match elsewhere::reason(name) {
            Some(Why::Debian) if self.debian => None,
            None if self.debian && self.filters.is_empty() => Some(None),
            None => None,
            why => Some(why),
        }
    }
}

/// The tests that are to run, on their disk.
pub struct Suite {
    /// Of each machine that they run in, by the programs that they are of. A whole Debian is one machine.
    pub expected: [BTreeMap<String, BTreeSet<String>>; MACHINES],
    pub disk: PathBuf,
}

impl Suite {
    /// Makes the disk in `directory`, and says which tests are not there.
    pub fn of(programs: &Programs, wanted: &Wanted<'_>, directory: &Path) -> Result<Self> {
        let mut expected: [BTreeMap<String, BTreeSet<String>>; MACHINES] = Default::default();
        let mut elsewhere: BTreeMap<Why, Vec<String>> = BTreeMap::new();
        let mut all = Vec::new();
        for program in &programs.tests {
            for test in &program.tests {
                let name = format!("{}::{test}", program.name);
                match wanted.refused(&program.name, &name) {
                    Some(Some(why)) => elsewhere.entry(why).or_default().push(name.clone()),
                    Some(None) => {}
                    None => {
                        let machine = if wanted.debian {
                            0
                        } else {
                            elsewhere::machine(&program.name)
                        };
                        let tests = expected[machine].entry(program.name.clone());
                        tests.or_default().insert(test.clone());
                    }
                }
                all.push(name);
            }
        }
        let stale = elsewhere::stale(all.iter().map(|name| &**name));
        ensure!(
            stale.is_empty(),
            "xtask/src/vm/elsewhere.rs has rows of no test: {stale:?}; remove them"
        );
        for (why, names) in elsewhere {
            println!("   not there, for it needs {}:", why.text());
            names.iter().for_each(|name| println!("      {name}"));
        }
        let is_empty = expected.iter().all(BTreeMap::is_empty);
        ensure!(!is_empty, "no test of such a name can run there");
        let disk = image::Disk {
            guest: programs.directory()?.join("guest"),
            plan: plan(programs, &expected)?,
            environment: environment(programs, wanted.quick)?,
        };
        let is_expected =
            |program: &Program| expected.iter().any(|it| it.contains_key(&program.name));
        let tests = programs.tests.iter().filter(|it| is_expected(it));
        let paths = tests.map(|program| &program.path).chain(&programs.others);
        Ok(Self {
            disk: disk.build(paths.cloned(), &[], directory)?,
            expected,
        })
    }
}

/// What tests/src/bin/guest.rs is to run.
fn plan(
    programs: &Programs,
    expected: &[BTreeMap<String, BTreeSet<String>>; MACHINES],
) -> Result<String> {
    let mut plan = String::new();
    for program in &programs.tests {
        for (machine, expected) in expected.iter().enumerate() {
            let Some(tests) = expected.get(&program.name) else {
                continue;
            };
            let (name, path) = (&program.name, program.path.display());
            write!(plan, "{machine} {name} {path} {}", DEADLINE.as_secs())?;
            tests.iter().try_for_each(|test| write!(plan, " {test}"))?;
            writeln!(plan, " {OPTIONS}")?;
        }
    }
    Ok(plan)
}

/// The variables of test programs there.
fn environment(programs: &Programs, quick: bool) -> Result<String> {
    let fewer = FEWER[usize::from(!quick)];
    let agent = programs.directory()?.join("agent");
    let variables = [
        (UNSTABLE.0, UNSTABLE.1.to_owned()),
        ("AGENT_TEST_FEWER", fewer.to_string()),
        ("AGENT_TEST_OWN_MACHINE", "1".to_owned()),
        ("AGENT_TEST_SLOWER", SLOWER.to_string()),
        ("RUST_TEST_THREADS", THREADS.to_string()),
        ("WORKSPACE", workspace().display().to_string()),
    ];
    Ok(with_agent(&agent, &variables))
}

/// The variables of any program there that calls this agent, and these.
pub fn with_agent(agent: &Path, others: &[(&str, String)]) -> String {
    let agent = ("AGENT_BINARY", agent.display().to_string());
    let host = HOST.map(|(name, value)| (name, value.to_owned()));
    let all = host.iter().chain([&agent]).chain(others);
    all.map(|(name, value)| format!("{name}={value}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_debian_runs_there_alone() {
        let small = Wanted {
            filters: &[],
            debian: false,
            quick: false,
        };
        let debian = Wanted {
            debian: true,
            ..small
        };
        let filtered = Wanted {
            filters: &["life"],
            ..debian
        };
        let quick = Wanted {
            debian: false,
            quick: true,
            ..debian
        };
        for (name, outcomes) in [
            (
                "docker::life::a",
                [Some(Some(Why::Debian)), None, None, Some(None)],
            ),
            ("run_seen::a", [None, Some(None), Some(None), None]),
            (
                "prometheus::a",
                [
                    Some(Some(Why::Prometheus)),
                    Some(Some(Why::Prometheus)),
                    Some(None),
                    Some(None),
                ],
            ),
        ] {
            let program = name.split("::").next().expect("a program");
            let said = [&small, &debian, &filtered, &quick].map(|it| it.refused(program, name));
            assert_eq!(said, outcomes, "{name}");
        }
    }
}
