//! Formats a report for people: the verdict, then a block for each limit with its evidence. An id of 64 digits is
//! printed in full only once, in the subject.

use agent_model::table::{ALARM, DIM, GOOD, NAME};
use agent_model::text::{escape, width};
use agent_model::units::size;
use agent_registry::location::short;

use super::report::{Check, Observed, Report, ReportSubject, Scope, Stimulus, Verdict, Victim};

/// The columns before the text of a line of evidence.
const MARGIN: usize = 12;

/// The most victims that are listed one by one.
const VICTIMS: usize = 5;

/// The colour of an inconclusive verdict.
const DOUBT: &str = "33";

/// The width of the screen, and whether to use colours.
#[derive(Clone, Copy)]
pub struct ReportScreen {
    columns: usize,
    colour: bool,
    /// The columns before the text of a line.
    margin: usize,
}

impl ReportScreen {
    /// Describes a screen with so many columns.
    pub fn new(columns: usize, colour: bool) -> Self {
        Self {
            columns,
            colour,
            margin: MARGIN,
        }
    }
}

/// Formats a report with the evidence of each check.
pub fn report(report: &Report, screen: ReportScreen) -> String {
    let mut text = String::new();
    let scope = match report.scope {
        Scope::Run => "",
        Scope::Configuration => " (of the configuration: --for 10s judges what happens, too)",
    };
    let verdict = report.verdict;
    let word = format!("{}{scope}", verdict.name());
    line("verdict", &word, colour(verdict), screen, &mut text);
    let ReportSubject { name, cgroup } = &report.subject;
    let called = match name == cgroup {
        true => cgroup.clone(),
        false => format!("{name}, {cgroup}"),
    };
    line("of", &called, "", screen, &mut text);
    text.push('\n');
    let mut rest = String::new();
    for check in &report.checks {
        block(check, screen, &mut rest);
    }
    for asked in &report.not_judged {
        line("unjudged", asked, "", screen, &mut rest);
    }
    for note in &report.notes {
        line("note", note, "", screen, &mut rest);
    }
    // The last block ends with an empty line, which the report does not need.
    text + rest.trim_end_matches('\n') + "\n"
}

/// Formats a report with one entry for each limit, without its evidence.
pub fn table(report: &Report, screen: ReportScreen) -> String {
    let mut text = String::new();
    let names = report.checks.iter().map(|check| name(check).len());
    let screen = ReportScreen {
        margin: MARGIN.max(names.max().unwrap_or(0) + 3),
        ..screen
    };
    let verdict = report.verdict;
    line(
        "verdict",
        verdict.name(),
        colour(verdict),
        screen,
        &mut text,
    );
    for check in &report.checks {
        let head = format!("{} {}", check.verdict.name(), check.reason);
        let colour = colour(check.verdict);
        line(&name(check), &head, colour, screen, &mut text);
    }
    for note in &report.notes {
        line("note", note, "", screen, &mut text);
    }
    text
}

/// Returns the name of the check's limit, with a mark for a limit of the caller.
fn name(check: &Check) -> String {
    match check.caller {
        false => check.limit.to_owned(),
        true => format!("{} (caller)", check.limit),
    }
}

fn block(check: &Check, screen: ReportScreen, out: &mut String) {
    let title = match &check.device {
        Some(device) => format!("{} {device}", name(check)),
        None => name(check),
    };
    paint(&title, NAME, screen, out);
    out.push('\n');
    let colour = colour(check.verdict);
    let word = check.verdict.name();
    let open = if check.decides() {
        ""
    } else {
        ", which does not decide: it was not asked for"
    };
    let reason = shortened(&check.reason);
    line(
        "verdict",
        &format!("{word}: {reason}{open}"),
        colour,
        screen,
        out,
    );
    for (name, text) in evidence(check) {
        line(name, &shortened(&text), "", screen, out);
    }
    out.push('\n');
}

/// Shortens ids of 64 hexadecimal digits to the first twelve.
fn shortened(text: &str) -> String {
    let is_digit = |c: char| c.is_ascii_hexdigit();
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_digit) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c| !is_digit(c)).unwrap_or(from.len());
        let (digits, after) = from.split_at(end);
        out.push_str(before);
        out.push_str(short(digits));
        out.push_str(if digits.len() == 64 { "…" } else { "" });
        rest = after;
    }
    out + rest
}

/// Returns the lines of evidence that the check has, in the order from the intended value to the tolerance.
fn evidence(check: &Check) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some(intended) = &check.intended {
        let number = intended
            .value
            .number
            .filter(|_| intended.value.unit == "bytes");
        let exactly = number.map_or_else(String::new, |bytes| format!(" ({bytes} bytes)"));
        let of = intended.cgroup.as_ref();
        let of = of.map_or_else(String::new, |cgroup| format!(", which is under {cgroup}"));
        let text = format!(
            "{}{exactly}, by {}{of}",
            intended.value.text, intended.source
        );
        lines.push(("intended", text));
    }
    if let Some(written) = &check.written {
        lines.push(("written", format!("{} to {}", written.text, written.file)));
    }
    if let Some(read) = &check.read_back {
        let note = read.note.as_ref().map(|note| format!(" ({note})"));
        let place = match &check.written {
            Some(_) => String::new(),
            None => format!(" in {}", read.file),
        };
        let text = one_line(&read.text);
        lines.push((
            "read back",
            format!("{text}{place}{}", note.unwrap_or_default()),
        ));
    }
    if let Some(effective) = &check.effective {
        let text = format!("{}, of {}", effective.value.text, effective.cgroup);
        lines.push(("effective", text));
    }
    if let Some(Stimulus { pressed, what }) = &check.stimulus {
        let word = if *pressed { "pressed" } else { "not pressed" };
        lines.push(("stimulus", format!("{word}: {what}")));
    }
    if let Some(observed) = &check.observed {
        lines.extend(seen(observed).into_iter().map(|text| ("observed", text)));
    }
    if let Some(tolerance) = &check.tolerance {
        lines.push((
            "tolerance",
            format!("{}: {}", tolerance.value, tolerance.why),
        ));
    }
    lines
}

fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join("; ")
}

fn seen(observed: &Observed) -> Vec<String> {
    match observed {
        Observed::Memory(memory) => {
            let how = if memory.peak_sampled {
                " (sampled)"
            } else {
                ""
            };
            let peak = memory.peak_bytes.map_or_else(|| UNKNOWN.to_owned(), size);
            let mut text = format!("peak {peak}{how}");
            for (count, what) in [(memory.hits, "hits"), (memory.oom_kills, "OOM kills")] {
                text += &count.map_or_else(String::new, |count| format!(", {count} {what}"));
            }
            if let Some(swap) = memory.swap_peak_bytes.filter(|swap| *swap > 0) {
                text += &format!(", {} in swap", size(swap));
            }
            let victims = memory.victims.iter().flatten();
            let mut lines = vec![text];
            lines.extend(victims.clone().take(VICTIMS).map(victim));
            let more = victims.count().saturating_sub(VICTIMS);
            lines.extend((more > 0).then(|| format!("and {more} more killed")));
            lines
        }
        Observed::Cpu(cpu) => {
            let used = number(cpu.cpu_seconds, 3);
            let (cpus, throttled) = (number(cpu.cpus, 3), number(cpu.throttled_seconds, 2));
            let burst = cpu.burst_seconds.filter(|burst| *burst > 0.0);
            let burst = burst.map(|burst| format!("; a burst of {burst:.3} s is allowed"));
            vec![format!(
                "{used} s of CPU time in {:.3} s, {cpus} CPUs; throttled for {throttled} s{}",
                cpu.seconds,
                burst.unwrap_or_default()
            )]
        }
        Observed::Pids {
            peak,
            refused,
            refused_below,
            ..
        } => {
            let whole = |number: Option<u64>| {
                number.map_or_else(|| UNKNOWN.to_owned(), |it| it.to_string())
            };
            let below = refused_below.filter(|below| *below > 0);
            let below = below.map(|below| format!(", {below} in cgroups below"));
            vec![format!(
                "at most {} tasks, {} forks refused{}",
                whole(*peak),
                whole(*refused),
                below.unwrap_or_default()
            )]
        }
        Observed::Rate {
            bytes,
            ios,
            seconds,
            dirtied_bytes,
            ..
        } => {
            let dirtied = dirtied_bytes.map(|it| format!("; {} by its processes", size(it)));
            let dirtied = dirtied.unwrap_or_default();
            vec![format!(
                "{} in {ios} I/Os in {seconds:.2} s{dirtied}",
                size(*bytes)
            )]
        }
        Observed::Set { allowed, used, .. } => {
            let used = used.as_ref().map(|used| format!(", used {used}"));
            vec![format!("allowed {allowed}{}", used.unwrap_or_default())]
        }
        Observed::Weight {
            cpu_seconds,
            expected_seconds,
            ..
        } => vec![format!(
            "{cpu_seconds:.3} s of CPU time, and {expected_seconds:.3} s expected"
        )],
    }
}

/// The text for a number that could not be read.
const UNKNOWN: &str = "unknown";

fn number(number: Option<f64>, digits: usize) -> String {
    number.map_or_else(|| UNKNOWN.to_owned(), |it| format!("{it:.digits$}"))
}

fn victim(victim: &Victim) -> String {
    let what = if victim.init {
        ", its init process"
    } else {
        ""
    };
    let Victim {
        time, comm, pid, ..
    } = victim;
    format!("killed {comm}({pid}){what} at {time}")
}

fn colour(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => GOOD,
        Verdict::Inconclusive => DOUBT,
        Verdict::Fail => ALARM,
    }
}

/// Writes a name and a text, broken between words to the screen's width.
fn line(name: &str, text: &str, colour: &str, screen: ReportScreen, out: &mut String) {
    let room = screen.columns.saturating_sub(screen.margin).max(20);
    let text = escape(text);
    let mut name = name;
    for part in folded(&text, room) {
        let margin = format!("  {name:<width$}", width = screen.margin - 2);
        paint(&margin, DIM, screen, out);
        paint(&part, colour, screen, out);
        out.push('\n');
        name = "";
    }
}

/// Breaks a text into lines of at most `room` columns. A longer word has a line of its own.
fn folded(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if line.is_empty() {
            line.push_str(word);
        } else if width(line) + 1 + width(word) <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

fn paint(text: &str, colour: &str, screen: ReportScreen, out: &mut String) {
    if screen.colour && !colour.is_empty() {
        out.push_str(&format!("\x1b[{colour}m{text}\x1b[0m"));
    } else {
        out.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_shortened_and_other_numbers_are_not() {
        let id = "9adc5277a29e0d474e8b1b1f44dd6af50352684d11bcb255637520a05f975b59";
        let text = format!("/docker/{id}/memory.max holds 1048576; /docker-{id}.scope");
        let wanted = "/docker/9adc5277a29e…/memory.max holds 1048576; /docker-9adc5277a29e….scope";
        assert_eq!(shortened(&text), wanted);
        assert_eq!(shortened("added at 7"), "added at 7");
    }

    #[test]
    fn lines_are_folded_between_words() {
        assert_eq!(folded("a bb ccc dddd", 6), ["a bb", "ccc", "dddd"]);
        assert_eq!(folded("longer-than-that b", 6), ["longer-than-that", "b"]);
        let mut out = String::new();
        let screen = ReportScreen::new(32, false);
        line(
            "read back",
            "1 2 3 4 5 6 7 8 9 10 11\x1b",
            "",
            screen,
            &mut out,
        );
        assert_eq!(
            out,
            "  read back 1 2 3 4 5 6 7 8 9 10\n            11\\x1b\n"
        );
    }
}
