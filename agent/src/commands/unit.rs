//! systemd units: the unit that a name means, its process, and the limits of a unit that no command judges.

use std::path::Path;

use agent_engines::intent;
use agent_host::hierarchy::Hierarchies;
use agent_host::membership::Membership;
use agent_host::pinned::Pinned;
use agent_inventory::units::{self, LiveUnit};
use agent_model::container::Container;
use agent_registry::unit::is_name;

use super::confirmed::{ConfirmedContainer, NOBODY};

/// Finds the unit that has this name, for the user who asks, or this cgroup.
///
/// # Errors
/// The host's cgroups cannot be read, or the name means several units, or only those of other users and of no systemd.
pub(super) fn find(name: &str) -> anyhow::Result<Option<LiveUnit>> {
    let hierarchies = Hierarchies::discover(Path::new("/"))?;
    let user = rustix::process::geteuid().as_raw();
    Ok(units::find(&hierarchies, name, user)?)
}

/// The main process that systemd reports, else the process that started first of those in the unit.
pub(super) async fn process(unit: &LiveUnit) -> anyhow::Result<Pinned> {
    let main = match intent::main_process(&unit.container).await {
        Ok(main) => main,
        Err(error) => {
            super::complain(&error);
            None
        }
    };
    let eldest = || unit.eldest(Path::new("/"), &Hierarchies::discover(Path::new("/")).ok()?);
    let found = main.and_then(|pid| in_it(unit, pid));
    let found = found.or_else(|| in_it(unit, eldest()?));
    found.ok_or_else(|| {
        let cgroup = &unit.container.cgroup;
        anyhow::anyhow!("the unit has no process in its cgroup, {cgroup}")
    })
}

/// Pins a process, if it is in the unit.
fn in_it(unit: &LiveUnit, pid: u32) -> Option<Pinned> {
    let process = Pinned::open(i32::try_from(pid).ok()?)?;
    let membership = Membership::of(Path::new("/"), pid).ok()?;
    (unit.has(&membership) && process.check().is_ok()).then_some(process)
}

/// The error for a name that a container has, and a unit or sandbox too.
pub(super) fn ambiguous(container: &ConfirmedContainer, other: &Container) -> anyhow::Error {
    let container = &container.container;
    anyhow::anyhow!(
        "a container of {} and a {} are meant; name one by its cgroup or id: {}, {}",
        container.runtime,
        other.kind.name(),
        container.cgroup,
        other.id
    )
}

/// What to say of a name that neither a container nor a unit has.
pub(super) fn nobody(name: &str) -> String {
    if is_name(name) {
        return "no unit of that name has a cgroup here: systemctl status says whether it runs"
            .to_owned();
    }
    let service = format!("{name}.service");
    match find(&service) {
        Ok(Some(_)) => format!("{NOBODY}; {service} is a unit of systemd, which that name means"),
        _ => NOBODY.to_owned(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nobody_has() {
        assert_eq!(nobody("nobody-has-this"), NOBODY);
        let said = nobody("nobody-has-this.service");
        assert!(said.contains("no unit of that name"), "{said}");
        assert!(find("nobody-has-this.service").is_ok_and(|it| it.is_none()));
    }
}
