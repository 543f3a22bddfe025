//! The limits that the user of a command expects: `--expect memory=64m`, with the flags of `agent run` as keys.

use agent_host::system::page_size;
use agent_runtime::cgroup::Wanted;
use agent_runtime::spec;
use agent_runtime::spec::flags::Limits;
use clap::error::{ContextKind, ContextValue};
use clap::{Args as _, FromArgMatches as _};

use super::{Error, Intent, Source};

/// A flag in the group of limits that is not a limit.
const NO_LIMIT: &str = "cgroup-parent";

/// Reads `KEY=VALUE`, where KEY is a limit's flag of `agent run` without its dashes.
///
/// # Errors
/// A key or value is unknown, or two of them exclude each other.
pub fn expect(words: &[String]) -> Result<Intent, Error> {
    let command = Limits::augment_args(clap::Command::new("--expect").no_binary_name(true));
    let command = command.disable_help_flag(true);
    let known = command.get_arguments().filter_map(|it| it.get_long());
    let known: Vec<&str> = known.filter(|key| *key != NO_LIMIT).collect();
    for word in words {
        let key = word.split_once('=').map_or("", |(key, _)| key);
        if !known.contains(&key) {
            return Err(Error::Expect {
                word: word.clone(),
                reason: format!("wanted: KEY=VALUE with a KEY of {}", known.join(", ")),
            });
        }
    }
    let flags = words.iter().map(|word| format!("--{word}"));
    let matches = command.clone().try_get_matches_from(flags);
    let limits = matches.and_then(|matches| Limits::from_arg_matches(&matches));
    let limits = limits.map_err(|error| refused(words, &error))?;
    let resources = spec::limits(&limits).map_err(Error::Flags)?;
    let wanted = Wanted::of(&resources, page_size());
    let wanted = wanted.map_err(|error| Error::Range(Box::new(error)))?;
    Ok(Intent::new(wanted.limits, Source::Expect))
}

/// The word that clap refused, and why.
fn refused(words: &[String], error: &clap::Error) -> Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    // `--memory <BYTES>`; for a repeated flag clap reports no value.
    let flag = text(ContextKind::InvalidArg).trim_start_matches('-');
    let key = flag.split(' ').next().unwrap_or_default();
    let value = text(ContextKind::InvalidValue);
    let is_it = |word: &&String| {
        let parts = word.split_once('=');
        parts.is_some_and(|(its, given)| its == key && given.contains(value))
    };
    let word = words.iter().rfind(is_it).cloned().unwrap_or_default();
    let reason = std::error::Error::source(error).map(ToString::to_string);
    let reason = reason.unwrap_or_else(|| {
        let said = error.to_string();
        let first = said.lines().next().unwrap_or_default();
        first.trim_start_matches("error: ").to_owned()
    });
    Error::Expect { word, reason }
}

#[cfg(test)]
mod tests {
    use agent_model::limit::{Kind, Limit, Value};
    use agent_model::text::error_line;
    use proptest::prelude::*;

    use super::*;

    fn of(words: &[&str]) -> Result<Intent, Error> {
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        expect(&words)
    }

    #[test]
    fn keys_and_values_are_those_of_the_flags() {
        let intent = of(&["memory=1.5m", "cpus=0.5", "pids-limit=-1", "cpu-weight=300"]).unwrap();
        let quota = Value::Quota {
            quota: Limit::Value(50_000),
            period: 100_000,
        };
        // No limit of swap follows, and a container that is there already may have less memory than a new one needs.
        let wanted = [
            (Kind::Memory, Value::Amount(Limit::Value(3 << 19))),
            (Kind::CpuQuota, quota),
            (Kind::CpuWeight, Value::Weight(300)),
            (Kind::Pids, Value::Amount(Limit::Max)),
        ];
        assert_eq!(intent.limits, wanted);
        assert_eq!(of(&[]).unwrap().limits, []);
        let both = of(&["memory=8m", "memory-swap=-1", "cpu-quota=5000"]).unwrap();
        assert_eq!(both.limits.len(), 3);
    }

    #[test]
    fn an_error_names_the_word_and_what_is_wanted() {
        for (words, said) in [
            (&["memory"][..], "--expect memory: wanted: KEY=VALUE"),
            (&["=5m"], "--expect =5m: wanted: KEY=VALUE"),
            (&["m=5m"], "--expect m=5m: wanted: KEY=VALUE"),
            (&["help="], "--expect help=: wanted: KEY=VALUE"),
            (
                &["cgroup-parent=/x"],
                "--expect cgroup-parent=/x: wanted: KEY=VALUE",
            ),
            (
                &["memory=many"],
                "--expect memory=many: wanted: a number of bytes",
            ),
            (
                &["cpu-shares=1"],
                "--expect cpu-shares=1: wanted: a number from 2",
            ),
            (&["cpus=0"], "--expect cpus=0: wanted: how many CPUs"),
            (
                &["pids-limit=0"],
                "--expect pids-limit=0: wanted: a number of at least 1",
            ),
            (
                &["memory=8m", "memory=9m"],
                "--expect memory=9m: the argument",
            ),
            (
                &["memory=1"],
                "--expect: --memory 1 is out of range: wanted is at least a page",
            ),
            (
                &["memory-swap=8m"],
                "--expect: --memory-swap wants --memory",
            ),
            (
                &["cpus=1", "cpu-quota=5000"],
                "--expect: --cpus and --cpu-quota exclude",
            ),
            (
                &["device-read-bps=/nowhere:1m"],
                "--expect: --device-read-bps /nowhere: no block device",
            ),
        ] {
            let line = error_line(&of(words).unwrap_err());
            assert!(line.starts_with(said), "{words:?}: {line}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(words in prop::collection::vec("(memory|cpus|pids-limit|cpuset-cpus|.{0,9})=?.{0,20}", 0..4)) {
            let _ = expect(&words);
        }
    }
}
