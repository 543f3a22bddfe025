//! The rules of this repository that no lint knows.

use crate::source::{Line, Source};

struct Rule {
    /// What is wanted, and what to do where it is not so.
    wanted: &'static str,
    holds_in: fn(path: &str) -> bool,
    /// The numbers of the lines that break it.
    broken_at: fn(&Source) -> Vec<usize>,
}

const RULES: [Rule; 13] = [
    Rule {
        wanted: "a file begins with a `//!` line that says what it is about",
        holds_in: |_| true,
        broken_at: |source| match source.lines.first() {
            Some(first) if first.comment.starts_with("//!") => vec![],
            _ => vec![1],
        },
    },
    Rule {
        wanted: "a file has one idea, so at most 500 lines: make it two",
        holds_in: |_| true,
        broken_at: |source| {
            if source.lines.len() > 500 {
                vec![501]
            } else {
                vec![]
            }
        },
    },
    Rule {
        wanted: "a file is named for what it is about, and `utils` or `helpers` is about nothing",
        holds_in: |path| {
            matches!(
                file_stem(path),
                "util" | "utils" | "helper" | "helpers" | "misc"
            )
        },
        broken_at: |_| vec![1],
    },
    Rule {
        wanted: "the file of a module is `name.rs` beside `name/`, which its own name finds: no mod.rs",
        holds_in: |path| file_stem(path) == "mod",
        broken_at: |_| vec![1],
    },
    Rule {
        wanted: "what is left to do is in the issues, not in a comment",
        holds_in: |_| true,
        broken_at: |source| {
            source.lines_where(|line| has_any_word(&line.comment, &["TODO", "FIXME", "XXX"]))
        },
    },
    Rule {
        wanted: "a test is ignored for one reason, which `cargo xtask test` takes away: #[ignore = \"needs root\"]",
        holds_in: |_| true,
        broken_at: |source| {
            source.lines_where(|line| {
                line.code.contains("#[ignore") && line.strings != ["needs root"]
            })
        },
    },
    Rule {
        wanted: "`unsafe` is for ebpf/ and agent/sys/",
        // The exceptions: the environment of agent/tracer/build.rs, and the system calls that tests look at.
        holds_in: |path| {
            let exceptions = [
                "agent/tracer/build.rs",
                "tests/src/bin/attack.rs",
                "tests/src/bin/bench/launch.rs",
                "tests/src/bin/entering.rs",
                "tests/src/bin/nscall.rs",
                "tests/src/bin/storm.rs",
            ];
            let rooms = ["ebpf/", "agent/sys/"];
            !rooms.iter().any(|room| path.starts_with(room)) && !exceptions.contains(&path)
        },
        broken_at: |source| source.lines_where(|line| has_any_word(&line.code, &["unsafe"])),
    },
    Rule {
        wanted: "a comment `SAFETY:` above an unsafe block says which invariant holds and who keeps it",
        // Elsewhere clippy sees to it, but it does not see what is compiled for the kernel only.
        holds_in: |path| path.starts_with("ebpf/"),
        broken_at: unsafe_without_reason,
    },
    Rule {
        wanted: "no input makes the agent panic: return an error",
        holds_in: in_agent,
        broken_at: |source| {
            in_product(source, |line| {
                has_any_word(&line.code, &["panic!", "unreachable!"])
            })
        },
    },
    Rule {
        wanted: "/proc and /sys/fs/cgroup are opened in agent/host/ only (agent/sys/ looks at its own process): call a reader there",
        // In a container's root file system, which the runtime makes, these are places to mount at.
        holds_in: |path| {
            let rooms = ["agent/host/", "agent/runtime/", "agent/sys/"];
            in_agent(path) && !rooms.iter().any(|room| path.starts_with(room))
        },
        broken_at: |source| {
            in_product(source, |line| {
                line.strings.iter().any(|string| is_of_the_kernel(string))
            })
        },
    },
    Rule {
        wanted: "decoding and the grammar of paths take values and give values: no input or output here",
        holds_in: |path| {
            [
                "agent/model/",
                "agent/tracer/src/decode.rs",
                "agent/registry/",
            ]
            .iter()
            .any(|room| path.starts_with(room))
        },
        broken_at: |source| {
            let outside = [
                "std::fs",
                "std::net",
                "std::process",
                "tokio",
                "rustix::fs",
                "rustix::process",
            ];
            in_product(source, |line| has_any_word(&line.code, &outside))
        },
    },
    Rule {
        wanted: "a library's errors are enums: anyhow is for agent/src/commands/",
        holds_in: |path| in_agent(path) && !is_wiring(path),
        broken_at: |source| in_product(source, |line| has_any_word(&line.code, &["anyhow"])),
    },
    Rule {
        wanted: "arrows run one way: nothing that the commands are made of imports them",
        holds_in: |path| in_agent(path) && !is_wiring(path),
        broken_at: |source| source.lines_where(|line| line.code.contains("crate::commands")),
    },
];

/// What breaks a rule in `source`, one line of text for each: where, and what is wanted there.
pub fn broken(source: &Source) -> Vec<String> {
    let rules = RULES.iter().filter(|rule| (rule.holds_in)(&source.path));
    let places = rules.flat_map(|rule| {
        (rule.broken_at)(source)
            .into_iter()
            .map(|number| (number, rule.wanted))
    });
    places
        .map(|(number, wanted)| format!("{}:{number}: {wanted}", source.path))
        .collect()
}

fn in_agent(path: &str) -> bool {
    path.starts_with("agent/") && path.contains("/src/")
}

fn is_wiring(path: &str) -> bool {
    path.starts_with("agent/src/commands/")
        || matches!(path, "agent/src/commands.rs" | "agent/src/main.rs")
}

fn file_stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.strip_suffix(".rs").unwrap_or(name)
}

fn is_of_the_kernel(string: &str) -> bool {
    ["/proc", "/sys/fs/cgroup"].iter().any(|root| {
        string
            .strip_prefix(root)
            .is_some_and(|below| below.is_empty() || below.starts_with('/'))
    })
}

fn in_product(source: &Source, wrong: impl Fn(&Line) -> bool) -> Vec<usize> {
    source.lines_where(|line| !line.in_test && wrong(line))
}

fn unsafe_without_reason(source: &Source) -> Vec<usize> {
    let blocks = source.lines_where(|line| line.code.contains("unsafe {"));
    let unreasoned = |number: &usize| !has_reason(&source.lines, number - 1);
    blocks.into_iter().filter(unreasoned).collect()
}

/// Whether a comment above the unsafe block at the index `block`, or beside it, says why it is sound.
fn has_reason(lines: &[Line], block: usize) -> bool {
    let has_comment = |index: &usize| {
        lines
            .get(*index)
            .is_some_and(|line| !line.comment.is_empty())
    };
    // Above the statement, that is: it may begin up to two lines above its block.
    let comment_end = (block.saturating_sub(3)..=block).rev().find(has_comment);
    comment_end.is_some_and(|end| {
        let comment = (0..=end).rev().take_while(has_comment);
        comment
            .filter_map(|index| lines.get(index))
            .any(|line| line.comment.contains("SAFETY:"))
    })
}

/// Whether one of `words` stands in `text` and is not a part of a longer word.
fn has_any_word(text: &str, words: &[&str]) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    words.iter().any(|word| {
        text.match_indices(word).any(|(at, _)| {
            let (before, from) = text.split_at(at);
            let (_, behind) = from.split_at(word.len());
            !before.ends_with(in_word) && !behind.starts_with(in_word)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "//! About it.\n";

    /// The numbers of the lines in `text` that break a rule.
    fn broken_lines(path: &str, text: &str) -> Vec<usize> {
        let broken = broken(&Source::new(path, text));
        let number = |line: &String| {
            line.split(':')
                .nth(1)
                .and_then(|number| number.parse().ok())
        };
        broken
            .iter()
            .map(|line| number(line).expect("path:number: text"))
            .collect()
    }

    /// Whether the second line of a file breaks a rule at `path`.
    fn breaks(path: &str, line: &str) -> bool {
        match broken_lines(path, &format!("{HEAD}{line}\n")).as_slice() {
            [] => false,
            [2] => true,
            other => panic!("{path}: {line}: lines {other:?}"),
        }
    }

    #[test]
    fn lines_that_break_a_rule_and_neighbours_that_do_not() {
        let cases = [
            (
                "tests/src/a.rs",
                "// TODO: more",
                "// TODOs and fixmes in lower case",
            ),
            ("xtask/src/a.rs", "/* XXX */", "let template = \"XXX\";"),
            (
                "tests/src/a.rs",
                "#[ignore = \"slow\"]",
                "#[ignore = \"needs root\"] // #[ignore]",
            ),
            ("xtask/src/a.rs", "#[ignore]", "ignore();"),
            (
                "agent/src/a.rs",
                "unsafe { f() }",
                "// unsafe, were it not for \"unsafe\"",
            ),
            (
                "ebpf/src/a.rs",
                "unsafe { f() } // quick",
                "unsafe { f() } // SAFETY: f has no arguments",
            ),
            ("agent/src/a.rs", "panic!(\"no\")", "dont_panic!(\"no\")"),
            (
                "agent/src/a.rs",
                "open(\"/proc/self\")",
                "log(\"cannot open /proc/self\")",
            ),
            ("agent/src/a.rs", "open(\"/proc\")", "open(\"/process\")"),
            (
                "agent/src/a.rs",
                "open(r\"/sys/fs/cgroup/a\")",
                "open(\"/sys/fs/cgroups\")",
            ),
            ("agent/model/src/a.rs", "use std::fs;", "use std::fmt;"),
            (
                "agent/registry/src/path.rs",
                "rustix::fs::stat(path)",
                "rustix::time::now()",
            ),
            (
                "agent/src/a.rs",
                "use anyhow::Result;",
                "use thiserror::Error; // anyhow",
            ),
            (
                "agent/src/a.rs",
                "use crate::commands::serve;",
                "use crate::command::serve;",
            ),
        ];
        for (path, wrong, right) in cases {
            assert!(breaks(path, wrong), "{path}: {wrong}");
            assert!(!breaks(path, right), "{path}: {right}");
        }
    }

    #[test]
    fn places_where_a_rule_does_not_hold() {
        let cases = [
            ("agent/sys/src/a.rs", "unsafe { f() }"),
            ("agent/host/src/a.rs", "open(\"/proc/self\")"),
            ("tests/src/a.rs", "open(\"/proc/self\")"),
            ("xtask/src/a.rs", "panic!()"),
            ("agent/src/commands/a.rs", "use anyhow::Result;"),
            ("agent/src/main.rs", "use crate::commands;"),
            ("agent/src/commands.rs", "use anyhow::Result;"),
            ("agent/src/a.rs", "use std::fs;"),
        ];
        for (path, line) in cases {
            assert!(!breaks(path, line), "{path}: {line}");
        }
    }

    #[test]
    fn a_module_is_not_named_mod() {
        assert_eq!(broken_lines("agent/src/metrics/mod.rs", HEAD), [1]);
        assert!(broken_lines("agent/src/metrics.rs", HEAD).is_empty());
    }

    #[test]
    fn tests_may_panic_and_open_what_they_like_but_not_be_unsafe() {
        let test = format!(
            "{HEAD}#[cfg(test)]\nmod tests {{\n    panic!(\"/proc\");\n    unsafe {{}}\n}}\n"
        );
        assert_eq!(broken_lines("agent/src/a.rs", &test), [5]);
    }

    #[test]
    fn unsafe_blocks_for_the_kernel_have_their_reason_above() {
        let near = "// SAFETY: it\n// lives.\nlet a =\n    f(\n    unsafe { g() });\n";
        let far = "// SAFETY: it lives.\nf();\nf();\nf();\nunsafe { g() }\n";
        let other = "// It lives.\nunsafe { g() }\n";
        assert!(broken_lines("ebpf/src/a.rs", &format!("{HEAD}{near}")).is_empty());
        assert_eq!(
            broken_lines("ebpf/src/a.rs", &format!("{HEAD}\n{far}")),
            [7]
        );
        assert_eq!(
            broken_lines("ebpf/src/a.rs", &format!("{HEAD}\n{other}")),
            [4]
        );
    }

    #[test]
    fn files_are_short_well_named_and_begin_with_what_they_are_about() {
        assert_eq!(broken_lines("agent/src/a.rs", "fn a() {}\n"), [1]);
        assert_eq!(broken_lines("agent/src/a.rs", ""), [1]);
        assert_eq!(broken_lines("agent/src/utils.rs", HEAD), [1]);
        let longest = format!("{HEAD}{}", "\n".repeat(499));
        assert!(broken_lines("agent/src/a.rs", &longest).is_empty());
        assert_eq!(
            broken_lines("agent/src/a.rs", &format!("{HEAD}{}", "\n".repeat(500))),
            [501]
        );
    }
}
