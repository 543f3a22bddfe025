//! What people read.

use std::process::Command;

use tests::agent::agent;

use super::NOBODY;

/// What `agent verify` writes for people, and its exit status.
fn page(arguments: &[&str], set: impl FnOnce(&mut Command)) -> (String, Option<i32>) {
    let mut verify = agent(["verify", "--docker-socket", "off", "--socket", NOBODY]);
    set(verify.args(arguments));
    let output = verify.output().expect("it can be run");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    (text, output.status.code())
}

pub fn assert_fits(page: &str, columns: usize) {
    for line in page.lines() {
        let is_one_word = line.trim().split(' ').count() == 1;
        let fits = line.chars().count() <= columns;
        assert!(fits || is_one_word, "{line}: {page}");
    }
    assert!(!page.contains('\x1b'), "{page}");
}

#[test]
#[ignore = "needs root"]
fn the_evidence_is_told_line_by_line() {
    let command = [
        "--memory=64M",
        "--pids-limit=50",
        "--for=500ms",
        "--",
        "sleep",
        "100",
    ];
    for columns in [80, 60] {
        let (page, status) = page(&command, |it| {
            it.env("COLUMNS", columns.to_string()).env("NO_COLOR", "1");
        });
        assert_fits(&page, columns);
        assert_eq!(status, Some(2), "{page}");
        assert!(page.starts_with("  verdict   inconclusive\n"), "{page}");
        for word in [
            "memory",
            "pids-limit",
            "intended",
            "written",
            "read back",
            "effective",
            "stimulus",
            "observed",
            "tolerance",
            "verdict   inconclusive: ",
            "by --memory",
        ] {
            assert!(page.contains(word), "{word}: {page}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn the_suite_is_a_table_and_passes() {
    let _alone = tests::alone();
    let (page, status) = page(&["--suite"], |it| {
        it.env("COLUMNS", "80").env("NO_COLOR", "1");
    });
    assert_fits(&page, 80);
    let verdicts: Vec<_> = page
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?;
            let verdict = words
                .next()
                .filter(|it| ["pass", "fail", "inconclusive"].contains(it))?;
            Some(format!("{name} {verdict}"))
        })
        .collect();
    let wanted = [
        "verdict pass",
        "memory pass",
        "cpu-quota pass",
        "cpu-weight pass",
        "cpu-weight pass",
        "pids-limit pass",
        "device-write-bps pass",
    ];
    assert_eq!(verdicts, wanted, "{page}");
    assert_eq!(status, Some(0), "{page}");
}

#[test]
#[ignore = "needs root"]
fn one_job_of_the_suite_is_chosen() {
    let (page, status) = page(&["--suite=pids"], |_| ());
    assert_eq!(status, Some(0), "{page}");
    assert!(page.contains("pids-limit pass"), "{page}");
    assert!(!page.contains("memory"), "{page}");
}
