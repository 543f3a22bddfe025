//! Formats a report for people: a block for each file or group of files, with a row for each fact.

mod use_now;

use agent_host::process::IdRange;
use agent_host::status::SETS;
use agent_model::container::Container;
use agent_model::names::quoted;
use agent_model::text::{escape, fit, width};

use super::{
    ChangedRoot, Fact, LimitReport, Namespace, ProcessReport, ProcessRoot, ReachableMounts,
    ThreadNamespace,
};
use agent_model::table::{ALARM, DIM, NAME, PLAIN};

/// The columns before a row's label, and the columns of the label.
const INDENT: usize = 2;
const LABEL: usize = 21;

/// The least number of columns for a row's text, even on a narrower screen.
const LEAST: usize = 20;

/// The most mounts that are listed one by one.
const MOUNTS_SHOWN: usize = 10;

/// From this number of capabilities on, which is more than half of all, the page lists those that are not held.
const MANY: usize = 21;

/// Formats a report in lines of at most `columns` columns. Only `colour` adds control characters, those that set
/// colours. A control character in a name is escaped.
pub fn page(report: &ProcessReport, columns: usize, colour: bool) -> String {
    let mut page = Page {
        text: String::new(),
        columns,
        colour,
    };
    process(&mut page, report);
    use_now::usage(&mut page, report);
    page.heading("namespaces", &format!("{}/ns", directory(report)));
    if report.namespaces.is_empty() {
        page.row(
            "",
            "cannot be told: the kernel's list of tasks does not have it",
        );
    }
    for namespace in &report.namespaces {
        page.row(&namespace.kind, &whose(namespace));
    }
    for ThreadNamespace {
        tid, kind, inode, ..
    } in &report.threads
    {
        page.row(kind, &format!("{inode}, in which only thread {tid} is"));
    }
    use_now::interfaces(&mut page, report);
    page.heading("root", &report.root.source);
    page.fact("", &report.root, |root| came_by(root, &report.mounts));
    mounts(&mut page, &report.mounts);
    page.heading(
        "ids",
        &format!("{}, {}", report.uid_map.source, report.gid_map.source),
    );
    page.fact("uid", &report.uid_map, |map| ids(map));
    page.fact("gid", &report.gid_map, |map| ids(map));
    privileges(&mut page, report);
    cgroups(&mut page, report);
    page.heading("limits", "");
    for it in &report.limits {
        page.row(it.limit, &limit(it));
    }
    for advice in advices(report) {
        page.row("to do", &advice);
    }
    if !report.not_judged.is_empty() {
        page.row("not judged", &report.not_judged.join(", "));
    }
    page.heading("not isolated", "");
    if report.not_isolated.is_empty() {
        page.row("", "nothing is known that it shares, or may do to the host");
    }
    for gap in &report.not_isolated {
        page.block("", &gap.text, ALARM);
    }
    page.text
}

fn directory(report: &ProcessReport) -> String {
    let comm = &report.comm.source;
    comm.strip_suffix("/comm").unwrap_or(comm).to_owned()
}

fn process(page: &mut Page, report: &ProcessReport) {
    let source = format!("{}, {}", report.comm.source, report.executable.source);
    page.heading("process", &source);
    page.row("pid", &report.pid.to_string());
    page.fact("name", &report.comm, Clone::clone);
    page.fact("program", &report.executable, Clone::clone);
    page.fact("command", &report.command, |words| use_now::command(words));
    page.fact("started", &report.started, ToString::to_string);
    page.fact("host name", &report.hostname, Clone::clone);
    match &report.container {
        Some(it) if !it.kind.is_container() => {
            let text = format!("{}, {}", quoted(&it.name), it.cgroup);
            page.block(it.kind.name(), &text, NAME);
            labels(page, it);
        }
        Some(it) => {
            let text = match it.confirmed {
                Some(false) => format!(
                    "{} claims to be one of {}, and nothing confirms that",
                    it.cgroup, it.runtime
                ),
                _ => format!(
                    "{} of {}, image {}, {}",
                    quoted(&it.name),
                    it.runtime,
                    it.image,
                    it.cgroup
                ),
            };
            page.block("container", &text, NAME);
            if let Some(pod) = &it.pod {
                page.row(
                    "pod",
                    &format!("{} in namespace {}", pod.pod, pod.namespace),
                );
            }
            labels(page, it);
        }
        None if is_on_host(&report.namespaces) && report.threads.is_empty() => {
            page.row("container", "none: on the host, in all of its namespaces");
        }
        None => page.row("container", "none"),
    }
}

fn labels(page: &mut Page, container: &Container) {
    for (name, value) in container.labels.iter() {
        page.row("label", &format!("{name}={value}"));
    }
}

fn is_on_host(namespaces: &[Namespace]) -> bool {
    !namespaces.is_empty() && namespaces.iter().all(|it| it.host)
}

fn whose(namespace: &Namespace) -> String {
    let whose = if namespace.host {
        "the host's".to_owned()
    } else if namespace.shared_with.is_empty() {
        "not the host's".to_owned()
    } else {
        let names = namespace.shared_with.iter().map(|it| quoted(&it.name));
        format!("shared with {}", names.collect::<Vec<_>>().join(", "))
    };
    let processes = match namespace.processes {
        1 => "1 process".to_owned(),
        many => format!("{many} processes"),
    };
    let name = namespace.name.as_ref();
    let name = name.map_or_else(String::new, |name| format!(" {}", quoted(name)));
    format!("{}{name} {whose}, {processes} in it", namespace.inode)
}

fn came_by(root: &ProcessRoot, mounts: &Fact<ReachableMounts>) -> String {
    let how = match root.how {
        ChangedRoot::Unchanged => "the host's, unchanged".to_owned(),
        ChangedRoot::PivotRoot => "pivot_root: it is that of its mount namespace".to_owned(),
        ChangedRoot::Chroot => format!("chroot to {} of its mount namespace", root.path),
    };
    let all = mounts.value.iter().flat_map(|mounts| &mounts.all);
    match all.rev().find(|it| it.mount.point == "/") {
        Some(it) => {
            let mount = &it.mount;
            format!(
                "{how}; {} of {} {}, {}",
                mount.root, mount.kind, mount.device, mount.options
            )
        }
        None => how,
    }
}

fn mounts(page: &mut Page, fact: &Fact<ReachableMounts>) {
    page.heading("mounts", &fact.source);
    let Some(mounts) = &fact.value else {
        page.fact("", fact, |_| String::new());
        return;
    };
    for (propagation, count) in [
        ("private", mounts.private),
        ("shared", mounts.shared),
        ("slave", mounts.slave),
        ("unbindable", mounts.unbindable),
    ] {
        if count > 0 {
            page.row(propagation, &count.to_string());
        }
    }
    let own: Vec<_> = mounts.of_files().collect();
    for mount in own.iter().take(MOUNTS_SHOWN) {
        let text = format!(
            "{}: {} of {} {}, {}",
            mount.point, mount.root, mount.kind, mount.device, mount.options
        );
        page.row("mount", &text);
    }
    if own.len() > MOUNTS_SHOWN {
        let more = own.len() - MOUNTS_SHOWN;
        page.row("", &format!("and {more} more; --output json has all"));
    }
    for (it, way) in mounts.with_host().take(MOUNTS_SHOWN) {
        let text = format!("{}: {}", it.mount.point, way.name());
        page.row("mounts go", &text);
    }
    let more = mounts.with_host().skip(MOUNTS_SHOWN).count();
    if more > 0 {
        page.row("", &format!("and {more} more; --output json has all"));
    }
}

fn ids(map: &[IdRange]) -> String {
    if map.is_empty() {
        return "none is mapped".to_owned();
    }
    let span = |first: u32, count: u32| match count {
        0 | 1 => first.to_string(),
        _ => format!("{first}-{}", u64::from(first) + u64::from(count) - 1),
    };
    let ranges = map.iter().map(|range| {
        let inside = span(range.inside, range.count);
        if range.inside == range.outside {
            return format!("{inside} is the same outside");
        }
        format!("{inside} is {} outside", span(range.outside, range.count))
    });
    ranges.collect::<Vec<_>>().join(", ")
}

fn privileges(page: &mut Page, report: &ProcessReport) {
    page.heading("privileges", &format!("{}/status", directory(report)));
    let [(first, _), ..] = SETS;
    let effective = report
        .capabilities
        .get(first)
        .and_then(|it| it.value.as_ref());
    for (set, row) in SETS {
        if let Some(fact) = report.capabilities.get(set) {
            page.fact(&format!("{set} ({row})"), fact, |names| match effective {
                Some(same) if same == names && set != first => format!("as {first}"),
                _ => held(names),
            });
        }
    }
    page.fact("NoNewPrivs", &report.no_new_privs, |on| {
        if *on { "on" } else { "off" }.to_owned()
    });
    page.fact("Seccomp", &report.seccomp, |mode| (*mode).to_owned());
    page.fact("Seccomp_filters", &report.seccomp_filters, u32::to_string);
}

fn held(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    if names.len() < MANY {
        return names.join(" ");
    }
    let all = caps::all().into_iter().map(|it| it.to_string());
    let mut missing: Vec<String> = all.filter(|name| !names.contains(name)).collect();
    missing.sort_unstable();
    if missing.is_empty() {
        "all".to_owned()
    } else {
        format!("all but {}", missing.join(" "))
    }
}

/// Writes one line for each path. Hierarchies in which the process has the same path share the line.
fn cgroups(page: &mut Page, report: &ProcessReport) {
    page.heading("cgroups", &report.cgroups.source);
    let Some(all) = &report.cgroups.value else {
        page.fact("", &report.cgroups, |_| String::new());
        return;
    };
    for (at, cgroup) in all.iter().enumerate() {
        let is_same = |other: &&super::ProcessCgroup| other.path == cgroup.path;
        if all[..at].iter().any(|other| is_same(&other)) {
            continue;
        }
        let names = all[at..].iter().filter(is_same).map(|it| &*it.hierarchy);
        let text = format!("{} in {}", cgroup.path, names.collect::<Vec<_>>().join(" "));
        page.row("", &text);
    }
}

/// Formats a limit: `150.0M (memory.limit_in_bytes), limited by /kubepods: 100.0M`.
fn limit(limit: &LimitReport) -> String {
    if let Some(reason) = &limit.unreadable {
        return unreadable(reason);
    }
    let mut text = String::new();
    if let Some(device) = &limit.device {
        text = format!("{device} ");
    }
    let missing = limit.missing.as_deref().unwrap_or_default();
    text += &match &limit.own {
        Some(own) => {
            let (_, file) = own.source.rsplit_once('/').unwrap_or_default();
            format!("{} ({file})", own.shown)
        }
        None => format!("none: {missing}"),
    };
    if let Some(shadow) = limit.shadow() {
        text += &format!(", limited by {}: {}", shadow.cgroup, shadow.shown);
    }
    if let (Some(intended), Some("written" | "missing")) = (&limit.shown, limit.drift) {
        text += &format!(", intended was {intended}");
    }
    text
}

/// Returns the advice for missing limits, each piece once. Limits with the same advice follow each other.
fn advices(report: &ProcessReport) -> Vec<String> {
    let all = report.limits.iter().filter_map(|it| it.advice.clone());
    let mut advices: Vec<String> = all.collect();
    advices.dedup();
    advices
}

fn unreadable(reason: &str) -> String {
    format!("cannot be read: {reason}")
}

/// The text of a page so far, and the form of its lines.
struct Page {
    text: String,
    columns: usize,
    colour: bool,
}

impl Page {
    fn heading(&mut self, title: &str, source: &str) {
        let source = escape(source);
        let room = self.columns.saturating_sub(width(title) + 1);
        let source = self.coloured(&fit(&source, room), DIM);
        let title = self.coloured(title, NAME);
        let line = format!("{title} {source}");
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn row(&mut self, label: &str, text: &str) {
        self.block(label, text, PLAIN);
    }

    fn fact<T>(&mut self, label: &str, fact: &Fact<T>, shown: impl FnOnce(&T) -> String) {
        match (&fact.value, &fact.unreadable) {
            (Some(value), _) => self.row(label, &shown(value)),
            (None, reason) => {
                let reason = reason.as_deref().unwrap_or_default();
                self.block(label, &unreadable(reason), DIM);
            }
        }
    }

    /// Writes a label and a text. The text continues below its own first line. Without a label it begins in the label's
    /// column. On a narrow screen the text begins below the label.
    fn block(&mut self, label: &str, text: &str, colour: &'static str) {
        let is_narrow = self.columns < INDENT + LABEL + LEAST;
        let before = match (label.is_empty(), is_narrow) {
            (true, _) => INDENT,
            (false, true) => 2 * INDENT,
            (false, false) => INDENT + LABEL,
        };
        let room = self.columns.saturating_sub(before).max(LEAST);
        let label = escape(label).into_owned();
        let label = fit(&label, LABEL - 1);
        let mut filled = " ".repeat(INDENT) + &label;
        if is_narrow && !label.is_empty() {
            self.text.push_str(&filled);
            self.text.push('\n');
            filled.clear();
        }
        for line in wrap(&escape(text), room) {
            let fill = before.saturating_sub(width(&filled));
            self.text.push_str(&filled);
            self.text.extend(std::iter::repeat_n(' ', fill));
            let line = self.coloured(&line, colour);
            self.text.push_str(&line);
            self.text.push('\n');
            filled.clear();
        }
    }

    fn coloured(&self, text: &str, colour: &str) -> String {
        if self.colour && colour != PLAIN && !text.is_empty() {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Breaks an escaped text into lines of at most `room` columns, and returns at least one line. Breaks are at spaces,
/// and inside of a word only where the word is wider than a line.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() {
            if width(&line) + 1 + width(word) <= room {
                line.push(' ');
            } else {
                lines.push(std::mem::take(&mut line));
            }
        }
        for c in word.chars() {
            let mut bytes = [0; 4];
            if width(&line) + width(c.encode_utf8(&mut bytes)) > room && !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            line.push(c);
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests;
