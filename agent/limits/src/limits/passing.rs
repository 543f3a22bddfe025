//! How a cgroup of v2 comes to a controller that those above it do not pass on.

use std::path::Path;

use agent_host::control::{PROCESSES, occupants};
use agent_model::text::shell_word;

/// What is to be done so that the cgroups below that of `file`, its `cgroup.subtree_control`, get a controller.
pub fn advice(file: &Path, controller: &str) -> String {
    advice_for(file, controller, occupants(file))
}

/// The kernel refuses it (EBUSY) while processes are in the cgroup itself.
fn advice_for(file: &Path, controller: &str, processes: usize) -> String {
    let word = |path: &Path| shell_word(&path.to_string_lossy()).into_owned();
    let enable = format!("echo +{controller} > {}", word(file));
    if processes == 0 {
        return format!("as root: {enable}");
    }
    let directory = file.parent().unwrap_or(file);
    let below = directory.join("processes");
    let (those, goal) = (
        word(&directory.join(PROCESSES)),
        word(&below.join(PROCESSES)),
    );
    let count = match processes {
        1 => "a process is".to_owned(),
        many => format!("{many} processes are"),
    };
    format!(
        "{count} in {}, and the kernel gives controllers only to those below a cgroup without processes; of a unit with \
         Delegate=, let DelegateSubgroup= (systemd.resource-control(5)) put them into one below; or move them, as root: \
         mkdir {} && for p in $(cat {those}); do echo $p > {goal}; done && {enable}",
        directory.display(),
        word(&below)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_is_what_the_kernel_takes() {
        let file = Path::new("/sys/fs/cgroup/a.service/cgroup.subtree_control");
        assert_eq!(
            advice_for(file, "memory", 0),
            "as root: echo +memory > /sys/fs/cgroup/a.service/cgroup.subtree_control"
        );
        let said = advice_for(file, "memory", 2);
        for part in [
            "2 processes are in /sys/fs/cgroup/a.service,",
            "DelegateSubgroup=",
            "mkdir /sys/fs/cgroup/a.service/processes && for p in",
        ] {
            assert!(said.contains(part), "{said}");
        }
        let odd = Path::new("/sys/fs/cgroup/a\\x2db/cgroup.subtree_control");
        assert!(
            advice_for(odd, "cpu", 0)
                .ends_with("> '/sys/fs/cgroup/a\\x2db/cgroup.subtree_control'")
        );
    }
}
