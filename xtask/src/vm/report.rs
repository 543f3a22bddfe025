//! What comes of tests in a virtual machine, read from its console: each test that is expected has a line, or it failed.

use std::collections::{BTreeMap, BTreeSet};

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Failed,
    /// The program ended, or the machine did, without a line of it.
    Missing,
    /// It says why it cannot run there.
    Skipped(String),
}

/// What a line of the console tells, for people.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    Test {
        name: String,
        outcome: Outcome,
        /// In seconds, as libtest writes it: `1.234s`.
        took: Option<String>,
    },
    /// A program ended: what it printed, where that is worth showing.
    Ended {
        name: String,
        how: String,
        printed: Vec<String>,
    },
    /// Of the machine itself.
    Machine(String),
    Done,
}

/// The expected tests, and what is known of them.
pub struct Report {
    expected: BTreeMap<String, BTreeSet<String>>,
    outcomes: BTreeMap<String, Outcome>,
    /// The program that runs, and what it printed.
    running: Option<(String, Vec<String>)>,
    /// The test whose output follows.
    shown: Option<String>,
    done: bool,
}

impl Report {
    /// Of these tests of programs.
    pub fn new(expected: BTreeMap<String, BTreeSet<String>>) -> Self {
        Self {
            expected,
            outcomes: BTreeMap::new(),
            running: None,
            shown: None,
            done: false,
        }
    }

    /// Takes the next line of the console.
    pub fn line(&mut self, line: &str) -> Option<Told> {
        if let Some(mark) = line.strip_prefix("@ ") {
            return self.mark(mark);
        }
        let Some((program, printed)) = &mut self.running else {
            return Some(Told::Machine(line.to_owned()));
        };
        printed.push(line.to_owned());
        if let Some((test, outcome, took)) = result(line)
            && self
                .expected
                .get(program)
                .is_some_and(|it| it.contains(test))
        {
            let name = format!("{program}::{test}");
            self.outcomes.insert(name.clone(), outcome.clone());
            let took = took.map(str::to_owned);
            return Some(Told::Test {
                name,
                outcome,
                took,
            });
        }
        if let Some(test) = shown(line) {
            self.shown = Some(format!("{program}::{test}"));
        }
        if let Some(why) = line.strip_prefix("SKIPPED: ")
            && let Some(name) = self.shown.clone()
            && self.outcomes.get(&name) == Some(&Outcome::Ok)
        {
            let outcome = Outcome::Skipped(why.to_owned());
            self.outcomes.insert(name.clone(), outcome.clone());
            return Some(Told::Test {
                name,
                outcome,
                took: None,
            });
        }
        None
    }

    fn mark(&mut self, mark: &str) -> Option<Told> {
        let (word, rest) = mark.split_once(' ').unwrap_or((mark, ""));
        match word {
            "begins" => {
                self.running = Some((rest.to_owned(), Vec::new()));
                self.shown = None;
                None
            }
            "ends" => {
                let (name, printed) = self.running.take()?;
                let how = rest.strip_prefix(&name).unwrap_or(rest).trim().to_owned();
                let well = how.ends_with("exit status: 0");
                Some(Told::Ended {
                    name,
                    how,
                    printed: if well { Vec::new() } else { printed },
                })
            }
            "done" => {
                self.done = true;
                Some(Told::Done)
            }
            _ => Some(Told::Machine(mark.to_owned())),
        }
    }

    /// What the program printed that ran when the machine stopped.
    pub fn unfinished(&self) -> Option<(&str, &[String])> {
        let (name, printed) = self.running.as_ref()?;
        Some((name, printed))
    }

    /// Each expected test by its name, with what came of it.
    pub fn outcomes(&self) -> BTreeMap<String, Outcome> {
        let names = self.expected.iter().flat_map(|(program, tests)| {
            tests.iter().map(move |test| format!("{program}::{test}"))
        });
        names
            .map(|name| {
                let outcome = self.outcomes.get(&name).cloned();
                (name, outcome.unwrap_or(Outcome::Missing))
            })
            .collect()
    }
}

/// A test, its outcome and how long it took, where a line of libtest tells one. What a child of the test printed without an
/// end of line may be before it.
fn result(line: &str) -> Option<(&str, Outcome, Option<&str>)> {
    let (before, said) = line.rsplit_once(" ... ")?;
    let (word, took) = match said.split_once(" <") {
        Some((word, took)) => (word, took.strip_suffix('>')),
        None => (said, None),
    };
    let outcome = match word {
        "ok" => Outcome::Ok,
        "FAILED" => Outcome::Failed,
        _ => return None,
    };
    let (_, name) = before.rsplit_once("test ")?;
    Some((name.trim_end_matches(" - should panic"), outcome, took))
}

/// The test whose output follows a line such as `---- NAME stdout ----`.
fn shown(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let tests = ["a::one", "a::two", "three"].map(str::to_owned);
        Report::new(BTreeMap::from([("p".to_owned(), BTreeSet::from(tests))]))
    }

    fn told(report: &mut Report, lines: &[&str]) -> Vec<Told> {
        lines.iter().filter_map(|line| report.line(line)).collect()
    }

    #[test]
    fn what_has_no_line_is_missing() {
        let mut report = report();
        told(
            &mut report,
            &[
                "@ begins p",
                "test a::one ... ok",
                "noise test a::two ... FAILED",
                "@ done",
            ],
        );
        let outcomes = report.outcomes();
        assert_eq!(outcomes["p::a::one"], Outcome::Ok);
        assert_eq!(outcomes["p::a::two"], Outcome::Failed);
        assert_eq!(outcomes["p::three"], Outcome::Missing);
    }

    #[test]
    fn a_test_is_told_with_its_time() {
        let said = told(&mut report(), &["@ begins p", "test three ... ok <1.234s>"]);
        let wanted = Told::Test {
            name: "p::three".to_owned(),
            outcome: Outcome::Ok,
            took: Some("1.234s".to_owned()),
        };
        assert_eq!(said, [wanted]);
    }

    #[test]
    fn what_was_not_expected_is_no_result() {
        let mut report = report();
        let said = told(&mut report, &["@ begins p", "test a::four ... ok"]);
        assert!(said.is_empty());
        assert_eq!(report.outcomes().len(), 3);
    }

    #[test]
    fn a_skip_is_told_with_its_reason() {
        let mut report = report();
        let said = told(
            &mut report,
            &[
                "@ begins p",
                "test three ... ok",
                "---- three stdout ----",
                "SKIPPED: needs v1",
            ],
        );
        let skipped = Outcome::Skipped("needs v1".to_owned());
        assert_eq!(report.outcomes()["p::three"], skipped);
        assert_eq!(said.len(), 2);
    }

    #[test]
    fn what_a_program_printed_is_shown_where_it_fails() {
        for (status, lines) in [
            ("exit status: 0", 0),
            ("exit status: 101", 1),
            ("killed after 9 s", 1),
        ] {
            let mut report = report();
            let end = format!("@ ends p 1.5 {status}");
            let said = told(&mut report, &["@ begins p", "hello", &end]);
            let [Told::Ended { how, printed, .. }] = &said[..] else {
                panic!("{said:?}");
            };
            assert_eq!(*how, format!("1.5 {status}"));
            assert_eq!(printed.len(), lines);
        }
    }
}
