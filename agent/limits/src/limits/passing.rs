//! Advice on how to enable a v2 controller that an ancestor does not enable for its children.

use std::path::Path;

use agent_host::control::{PROCESSES, occupants};
use agent_model::text::shell_word;

/// Returns what the user can do to enable a controller for the children of a cgroup. `file` is the
/// `cgroup.subtree_control` of that cgroup.
pub fn advice(file: &Path, controller: &str) -> String {
    advice_for(file, controller, occupants(file))
}

/// The kernel refuses to enable a controller (EBUSY) while the cgroup itself has processes.
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
