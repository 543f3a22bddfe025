//! Formats a command line, what a process's container uses, and its network interfaces.

use agent_model::text::shell_word;
use agent_model::units::size;

use super::Page;
use crate::inspect::ProcessReport;

/// Formats a command line, as a shell would take it.
pub(super) fn command(words: &[String]) -> String {
    if words.is_empty() {
        return "none, as of a kernel thread".to_owned();
    }
    let words: Vec<_> = words.iter().map(|word| shell_word(word)).collect();
    words.join(" ")
}

pub(super) fn usage(page: &mut Page, report: &ProcessReport) {
    let Some(usage) = &report.usage else { return };
    page.heading("usage", &usage.memory_bytes.source);
    page.fact("memory", &usage.memory_bytes, |bytes| size(*bytes));
    page.fact("working set", &usage.memory_working_set_bytes, |bytes| {
        size(*bytes)
    });
    page.fact("CPU time", &usage.cpu_seconds, |seconds| {
        format!("{seconds:.3}s")
    });
    page.fact("threads", &usage.threads, u64::to_string);
    page.fact("OOM kills", &usage.oom_kills, u64::to_string);
}

pub(super) fn interfaces(page: &mut Page, report: &ProcessReport) {
    page.heading("interfaces", &report.interfaces.source);
    let Some(all) = &report.interfaces.value else {
        page.fact("", &report.interfaces, |_| String::new());
        return;
    };
    if all.is_empty() {
        page.row("", "none");
    }
    for it in all {
        let state = if it.is_up { "up" } else { "down" };
        let words = std::iter::once(state).chain(it.addresses.iter().map(String::as_str));
        page.row(&it.name, &words.collect::<Vec<_>>().join(" "));
    }
}
