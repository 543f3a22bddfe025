//! systemd units: error messages where a command wants a container or process and gets a unit's name, and the limits of
//! a unit that no command judges.

use std::path::Path;

use agent_engines::intent;
use agent_host::membership::Membership;
use agent_host::process;
use agent_model::text;

/// The suffixes of units that have a cgroup (systemd.unit(5)).
const SUFFIXES: [&str; 3] = [".service", ".scope", ".slice"];

/// An explanation where `name` is that of a unit: a process of it, and the commands that show it. None for other names.
pub(super) fn explained(name: &str) -> Option<String> {
    if !SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) || name.contains('/') {
        return None;
    }
    let what = format!("{name} is the name of a systemd unit, not of a container");
    Some(match in_it(name) {
        Some((process, cgroup)) => {
            let cgroup = text::shell_word(&cgroup).into_owned();
            format!(
                "{what}; all about its process {process}: agent inspect {process}; whether its limits hold: agent verify \
                 --cgroup {cgroup}"
            )
        }
        None => format!(
            "{what}, and no process here is in a cgroup of that name; want a container, or a process's number"
        ),
    })
}

/// The limits that the unit of these cgroups asks for and that no command judges. Prints an error where systemd does not answer.
pub(super) async fn not_judged(membership: &Membership) -> Vec<String> {
    match intent::not_judged(membership).await {
        Ok(asked) => asked,
        Err(error) => {
            super::complain(&error);
            Vec::new()
        }
    }
}

/// The process with the lowest pid in a cgroup of that name, and the cgroup's path.
fn in_it(name: &str) -> Option<(u32, String)> {
    let root = Path::new("/");
    process::numbers(root).into_iter().find_map(|number| {
        let membership = Membership::of(root, number).ok()?;
        let found = membership.paths().find_map(|(_, path)| upto(path, name))?;
        Some((number, found))
    })
}

/// The beginning of a path that ends with `name`.
fn upto(path: &str, name: &str) -> Option<String> {
    let names: Vec<&str> = path.split('/').collect();
    let at = names.iter().position(|it| *it == name)?;
    Some(names[..=at].join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_whole_one() {
        let path = "/system.slice/a.service/b";
        assert_eq!(upto(path, "a.service").unwrap(), "/system.slice/a.service");
        assert_eq!(upto(path, "system.slice").unwrap(), "/system.slice");
        assert_eq!(upto(path, "slice"), None);
    }

    #[test]
    fn what_is_no_units_name_is_not_explained() {
        for name in ["web", "web.mount", "/a/b.service", "service"] {
            assert_eq!(explained(name), None);
        }
        let said = explained("nobody-has-this.service").unwrap();
        assert!(
            said.contains("systemd unit") && said.contains("no process here"),
            "{said}"
        );
    }
}
