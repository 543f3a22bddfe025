//! Names of kernel settings below `/proc/sys`.

use oci_spec::runtime::LinuxNamespaceType;

/// Returns the path of a setting below `/proc/sys`. Where the first separator of the name is a slash, the name is the
/// path. Where it is a dot, dots and slashes are swapped (sysctl.d(5)): `net.ipv4.conf.eth0/5.forwarding` is
/// `net/ipv4/conf/eth0.5/forwarding`.
pub(crate) fn path(name: &str) -> String {
    if name
        .find(['.', '/'])
        .is_none_or(|at| name[at..].starts_with('/'))
    {
        return name.to_owned();
    }
    let swapped = name.chars().map(|letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    });
    swapped.collect()
}

/// Returns the name of the setting at `path` with dots between directories, as other runtimes expect it.
pub(crate) fn dotted(path: &str) -> String {
    let swapped = path.chars().map(|letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    });
    swapped.collect()
}

/// The settings that belong to a namespace (runc: libcontainer/configs/validate), the type of that namespace, and what
/// gives the container one. A path that ends in a slash stands for everything below it.
const OWN: [(&str, LinuxNamespaceType, &str); 11] = {
    use LinuxNamespaceType::{Ipc, Network, Uts};
    [
        ("net/", Network, "a network of its own"),
        ("fs/mqueue/", Ipc, "--ipc private"),
        ("kernel/msgmax", Ipc, "--ipc private"),
        ("kernel/msgmnb", Ipc, "--ipc private"),
        ("kernel/msgmni", Ipc, "--ipc private"),
        ("kernel/sem", Ipc, "--ipc private"),
        ("kernel/shm_rmid_forced", Ipc, "--ipc private"),
        ("kernel/shmall", Ipc, "--ipc private"),
        ("kernel/shmmax", Ipc, "--ipc private"),
        ("kernel/shmmni", Ipc, "--ipc private"),
        ("kernel/domainname", Uts, "--uts private"),
    ]
};

/// Checks that the setting at `path` belongs to one of the container's new namespaces, which `is_new` tells. A change
/// of any other setting would affect processes outside the container.
///
/// # Errors
/// The setting belongs to no namespace, or to one that the container shares with others. The error is the reason.
pub(crate) fn check(path: &str, is_new: impl Fn(LinuxNamespaceType) -> bool) -> Result<(), String> {
    let fits = |own: &str| match own.ends_with('/') {
        true => path.starts_with(own),
        false => path == own,
    };
    let is_plain = |path: &str| path.split('/').all(|name| !matches!(name, "" | "." | ".."));
    let known = OWN.iter().find(|(own, ..)| fits(own) && is_plain(path));
    match known {
        None => Err("it belongs to the whole host, or to no known namespace".to_owned()),
        Some((_, kind, _)) if is_new(*kind) => Ok(()),
        Some((_, _, wants)) => Err(format!("it would be changed for others too; wants {wants}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_is_that_of_directories() {
        for (name, is) in [
            ("net.core.somaxconn", "net/core/somaxconn"),
            ("net/core/somaxconn", "net/core/somaxconn"),
            (
                "net/ipv4/conf/eth0.5/forwarding",
                "net/ipv4/conf/eth0.5/forwarding",
            ),
            (
                "net.ipv4.conf.eth0/5.forwarding",
                "net/ipv4/conf/eth0.5/forwarding",
            ),
            ("kernel", "kernel"),
        ] {
            assert_eq!(path(name), is, "{name}");
            assert_eq!(path(&dotted(is)), is, "{name}");
        }
    }

    #[test]
    fn what_is_no_namespace_s_own_is_refused() {
        let all = |_| true;
        for name in ["net.core.somaxconn", "kernel.shmmax", "fs.mqueue.msg_max"] {
            assert_eq!(check(&path(name), all), Ok(()), "{name}");
            assert!(check(&path(name), |_| false).is_err(), "{name}");
        }
        for name in [
            "kernel.panic",
            "kernel.shmx",
            "kernel.semx",
            "netx.core",
            "net",
            "net/../kernel/panic",
            "net./.kernel",
            "net..core",
            "/net/core/somaxconn",
            "",
        ] {
            assert!(check(&path(name), all).is_err(), "{name}");
        }
    }
}
