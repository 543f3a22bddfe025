//! Bundles that Debian's runc runs, and this program: both come to the same, or the difference stands in docs/runtime.md.
//!
//! The stock ones in `stock/` were written by `runc spec` 1.1.5, `crun spec` 1.8.1, Docker 20.10, podman 4.3 and containerd
//! 1.6 (`ctr run`), of Debian 12; files of the engines' own that they bind are left out, and so are system call filters.

mod cases;
mod differences;
mod generated;
mod made;
mod run;
mod seen;

use std::collections::{BTreeMap, BTreeSet};

use cases::{Case, Expect};
use differences::{DIFFERENCES, Rules};
use run::{Came, PROBED, Runtime};
use seen::Seen;
use tests::slow;

/// How many there are at least.
const CASES: usize = 60;

fn cases() -> Vec<Case> {
    let all: Vec<Case> = cases::stock()
        .into_iter()
        .chain(made::all())
        .chain(generated::all())
        .collect();
    let names: BTreeSet<_> = all.iter().map(|case| case.name.clone()).collect();
    assert_eq!(names.len(), all.len(), "a name is there twice");
    assert!(all.len() >= CASES, "{}", all.len());
    all
}

/// What a case came to, under both.
struct Pair {
    case: Case,
    theirs: Came,
    ours: Came,
}

impl Pair {
    fn of(case: Case) -> Self {
        Self {
            theirs: Runtime::Runc.run(&case),
            ours: Runtime::Agent.run(&case),
            case,
        }
    }

    /// Where the two differ, beyond what the rules explain.
    fn differ(&self, rules: Rules) -> Vec<String> {
        let (theirs, ours) = (&self.theirs, &self.ours);
        let mut wrong = Vec::new();
        if !rules.are_alike(theirs.status, ours.status, ours.ran) {
            wrong.push(format!("status: {} and {}", theirs.status, ours.status));
        }
        let sides = (Seen::of(theirs, rules), Seen::of(ours, rules));
        let sections: BTreeSet<_> = sides.0.names().chain(sides.1.names()).collect();
        for section in sections {
            let (theirs, ours) = (sides.0.lines(section), sides.1.lines(section));
            let only = |one: &[String], other: &[String]| {
                let lines = one.iter().filter(|line| !other.contains(line));
                lines.cloned().collect::<Vec<_>>().join("\n      ")
            };
            if theirs != ours && (!self.ours.ran || !self.theirs.ran) {
                wrong.push(format!("{section}: only one ran"));
            } else if theirs != ours {
                wrong.push(format!(
                    "{section}:\n    runc:\n      {}\n    agent:\n      {}",
                    only(theirs, ours),
                    only(ours, theirs)
                ));
            }
        }
        wrong
    }

    /// What is not as the case says.
    fn wrong(&self) -> Vec<String> {
        let said = &self.ours.errors;
        match self.case.expect {
            Expect::Same => {
                let mut wrong = self.differ(Rules::all());
                if !self.theirs.ran || !said.is_empty() {
                    wrong.push(format!("said: {}{said}", self.theirs.errors));
                }
                wrong
            }
            Expect::Said(words) => {
                let mut wrong = self.differ(Rules::all());
                wrong.extend((!said.contains(words)).then(|| format!("said: {said}")));
                wrong
            }
            Expect::Refused(words) => {
                let refused = !self.theirs.ran && !self.ours.ran;
                let mut wrong = self.differ(Rules::all());
                wrong.extend((!refused || !said.contains(words)).then(|| format!("said: {said}")));
                wrong
            }
            Expect::RefusedHere(words, _) => {
                let refused = self.theirs.ran && !self.ours.ran && said.contains(words);
                let came = format!("ran: {}, said: {said}", self.theirs.ran);
                (!refused).then_some(came).into_iter().collect()
            }
            Expect::RefusedThere(_) => {
                let refused = !self.theirs.ran && self.ours.ran;
                (!refused).then(|| said.clone()).into_iter().collect()
            }
            Expect::Differs(sections, _) => {
                let mut wrong = self.differ(Rules::all());
                for section in sections {
                    let before = wrong.len();
                    wrong.retain(|it| !it.starts_with(&format!("{section}:")));
                    if wrong.len() == before {
                        wrong.push(format!("{section} does not differ"));
                    }
                }
                wrong
            }
        }
    }
}

#[test]
#[ignore = "needs root"]
fn bundles_come_to_what_runc_makes_of_them() {
    if !run::has_runc() {
        return;
    }
    let pairs: Vec<Pair> = cases().into_iter().map(Pair::of).collect();
    let mut wrong = String::new();
    for pair in &pairs {
        for line in pair.wrong() {
            wrong.push_str(&format!("{}: {line}\n", pair.case.name));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");

    // Each difference that is excused is one.
    let mut needed: BTreeMap<&str, usize> = BTreeMap::new();
    for pair in &pairs {
        needed.extend(pair.case.expect.difference().map(|name| (name, 1)));
        for difference in DIFFERENCES {
            let without = Rules::all().without(difference.name);
            let is_needed =
                pair.differ(Rules::all()).is_empty() && !pair.differ(without).is_empty();
            *needed.entry(difference.name).or_default() += usize::from(is_needed);
        }
    }
    let idle = needed.iter().filter(|(_, times)| **times == 0);
    let idle: Vec<_> = idle.map(|(name, _)| *name).collect();
    assert!(
        idle.is_empty(),
        "no bundle shows these differences: {idle:?}"
    );
}

/// On every layout of cgroups: each makes its device nodes, whatever its rules of devices say, and however often.
#[test]
#[ignore = "needs root"]
fn stock_bundles_run_each_time() {
    for _ in 0..slow::fewer(8, 2) {
        for case in cases::stock() {
            let came = Runtime::Agent.run(&case);
            match case.expect {
                Expect::Refused(words) => assert!(came.errors.contains(words), "{came:?}"),
                _ => assert_eq!(came.status, PROBED, "{}: {came:?}", case.name),
            }
        }
    }
}

/// docs/runtime.md has a row with a reason for each, and for nothing else.
#[test]
fn every_difference_stands_with_its_reason_in_the_docs() {
    let text = include_str!("../../../docs/runtime.md");
    let (_, table) = text
        .split_once("## Differences from runc")
        .expect("a chapter");
    let table = table.split("\n## ").next().expect("a chapter");
    let rows = table.lines().filter_map(|line| {
        let cells: Vec<&str> = line
            .strip_prefix("| `")?
            .split('|')
            .map(str::trim)
            .collect();
        let [name, here, why, ""] = cells[..] else {
            panic!("{line}");
        };
        assert!(here.len() > 10 && why.len() > 10, "{line}");
        Some(name.trim_end_matches('`'))
    });
    let documented: BTreeSet<&str> = rows.collect();
    let mut known: BTreeSet<&str> = DIFFERENCES.iter().map(|it| it.name).collect();
    let cases = cases();
    known.extend(cases.iter().filter_map(|case| case.expect.difference()));
    assert_eq!(documented, known);
}
