//! Units of systemd by their names: which of several cgroups with a unit's name the name means.
//!
//! Every systemd has units of the same names: that of the host, and that of each user (`user@UID.service`). The maker of a
//! cgroup below any other service chooses its name freely.

use std::collections::BTreeSet;

use agent_model::container::{Container, ContainerKind};

use crate::location;
use crate::path;

/// The systemd that a unit's cgroup is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// The host's. Only root makes cgroups in slices.
    System,
    /// That of a user, who can choose the names of units.
    User(u32),
    /// None that is known: the cgroup is below a service or scope that names the cgroups below it.
    Other,
}

impl Manager {
    /// The systemd that the cgroup at `path` is of. Its parents show it.
    pub fn of(path: &str) -> Self {
        let (above, _) = path.rsplit_once('/').unwrap_or_default();
        let mut above = above.split('/').filter(|name| !name.is_empty());
        let Some(name) = above.find(|name| !name.ends_with(".slice")) else {
            return Self::System;
        };
        let user = name.strip_prefix("user@");
        let user = user.and_then(|it| it.strip_suffix(".service")?.parse().ok());
        match user {
            // The units of its systemd are in slices, too.
            Some(user) if above.all(|name| name.ends_with(".slice")) => Self::User(user),
            _ => Self::Other,
        }
    }
}

/// Whether `name` is that of a unit that may have a cgroup: a service, scope or slice.
pub fn is_name(name: &str) -> bool {
    path::is_unit_name(name)
}

/// The unit whose own cgroup is at `path`.
pub fn at(path: &str) -> Option<Container> {
    let place = location::of(path);
    let unit = Some(place.container).filter(|_| place.own);
    unit.filter(|it| it.kind == ContainerKind::Unit)
}

/// Why a name means no unit, although cgroups have that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each variant is")]
pub enum UnitNameError {
    #[error("units of that name have several cgroups; name one by its cgroup: {}", .0.join(", "))]
    Several(Vec<String>),
    #[error(
        "neither the host's systemd nor one's own has a unit of that name, but others have; name one by its cgroup: {}",
        .0.join(", ")
    )]
    OfOthers(Vec<String>),
}

/// The cgroup that a unit's name means for `user`, of the cgroups `paths` with that name: the one of the host's systemd, or
/// else of the user's own. `None` if there is no such cgroup.
///
/// # Errors
/// There are several, or the only ones are of neither.
pub fn meant(paths: BTreeSet<String>, user: u32) -> Result<Option<String>, UnitNameError> {
    for manager in [Manager::System, Manager::User(user)] {
        let of_it = paths.iter().filter(|path| Manager::of(path) == manager);
        let mut of_it: Vec<String> = of_it.cloned().collect();
        match (of_it.pop(), of_it.is_empty()) {
            (None, _) => {}
            (found, true) => return Ok(found),
            (last, false) => {
                of_it.extend(last);
                return Err(UnitNameError::Several(of_it));
            }
        }
    }
    if paths.is_empty() {
        return Ok(None);
    }
    Err(UnitNameError::OfOthers(paths.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_1000: &str = "/user.slice/user-1000.slice/user@1000.service";

    #[test]
    fn parents_show_the_systemd() {
        for (path, manager) in [
            ("/system.slice/web.service", Manager::System),
            ("/web.slice", Manager::System),
            ("/init.scope", Manager::System),
            (OF_1000, Manager::System),
            (
                &format!("{OF_1000}/app.slice/web.service"),
                Manager::User(1000),
            ),
            (&format!("{OF_1000}/init.scope"), Manager::User(1000)),
            (&format!("{OF_1000}/a.service/web.service"), Manager::Other),
            ("/system.slice/a.service/web.service", Manager::Other),
            ("/system.slice/user@x.service/web.service", Manager::Other),
            ("/lab/web.service", Manager::Other),
        ] {
            assert_eq!(Manager::of(path), manager, "{path}");
        }
    }

    #[test]
    fn names_of_units() {
        for name in [
            "web.service",
            "getty@tty1.service",
            "systemd-fsck@dev-sda1.service",
            r"system-systemd\x2dfsck.slice",
            "session-1.scope",
            "-.slice",
        ] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "web",
            "web.mount",
            ".service",
            "a/b.service",
            "",
            "a b.service",
        ] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_path_is_of_the_unit_whose_own_cgroup_it_is() {
        let name = |path| at(path).map(|it| it.name);
        assert_eq!(
            name(r"/system.slice/system-a\x2db.slice/a-b@x.service").as_deref(),
            Some("a-b@x.service")
        );
        // systemd escapes what a file of the kernel may be called.
        assert_eq!(name("/_memory.slice").as_deref(), Some("memory.slice"));
        assert_eq!(name("/system.slice/web.service/below"), None);
        assert_eq!(name("/lab"), None);
        let container = format!("/system.slice/docker-{}.scope", "a".repeat(64));
        assert_eq!(name(&container), None);
    }

    #[test]
    fn a_name_means_the_host_s_unit_or_one_s_own() {
        let paths = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect();
        let host = "/system.slice/web.service";
        let own = &*format!("{OF_1000}/app.slice/web.service");
        let second = &*format!("{OF_1000}/other.slice/web.service");
        let forged = "/system.slice/a.service/web.service";
        assert_eq!(meant(paths(&[]), 0), Ok(None));
        let found = meant(paths(&[host, own, forged]), 1000);
        assert_eq!(found, Ok(Some(host.to_owned())));
        assert_eq!(meant(paths(&[own, forged]), 1000), Ok(Some(own.to_owned())));
        let error = meant(paths(&[own, forged]), 0).unwrap_err();
        let all = vec![forged.to_owned(), own.to_owned()];
        assert_eq!(error, UnitNameError::OfOthers(all));
        let error = meant(paths(&[own, second]), 1000).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(own) && said.contains(second), "{said}");
    }
}
