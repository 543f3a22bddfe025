//! Of mounts, of the root, and of what is hidden in it.

use serde_json::{Value, json};

use super::{to, with};
use crate::cases::{Case, Expect, mount};

fn bind(options: Value) -> Value {
    json!({"destination": "/data", "type": "bind", "source": "volume", "options": options})
}

fn mounted(name: &str, expect: Expect, one: Value) -> Case {
    with(name, expect, |config| mount(config, one))
}

pub fn all() -> Vec<Case> {
    use Expect::{Differs, RefusedHere, Same};
    vec![
        with(
            "a root to write to",
            Same,
            to("root/readonly", json!(false)),
        ),
        mounted(
            "a bind mount named from the bundle on",
            Same,
            bind(json!(["rbind"])),
        ),
        mounted(
            "a bind mount that is read-only",
            Same,
            bind(json!(["bind", "ro", "nosuid"])),
        ),
        mounted(
            "a bind mount by its type alone",
            Expect::RefusedThere("bind-type"),
            bind(json!(["nodev", "noexec"])),
        ),
        mounted(
            "a bind mount that is shared",
            Same,
            bind(json!(["rbind", "rshared"])),
        ),
        mounted(
            "a bind mount that is a slave",
            Same,
            bind(json!(["rbind", "rslave"])),
        ),
        mounted(
            "a bind mount of a file",
            Same,
            json!({"destination": "/data/other/file", "source": "volume/file", "options": ["bind", "ro"]}),
        ),
        mounted(
            "a tmpfs",
            Same,
            json!({"destination": "/tmp", "type": "tmpfs", "source": "x", "options": ["size=1m", "mode=700", "noexec"]}),
        ),
        mounted(
            "a tmpfs that is read-only",
            Same,
            json!({"destination": "/run", "type": "tmpfs", "source": "x", "options": ["ro", "nodev"]}),
        ),
        mounted(
            "a place that is relative",
            RefusedHere("wanted an absolute path", "destination"),
            json!({"destination": "data", "type": "tmpfs", "source": "x"}),
        ),
        mounted(
            "a place above the root",
            RefusedHere("wanted an absolute path", "destination"),
            json!({"destination": "/../data", "type": "tmpfs", "source": "x"}),
        ),
        mounted(
            "what a tmpfs hides, in it",
            RefusedHere("tmpcopyup is not supported", "tmpcopyup"),
            json!({"destination": "/etc", "type": "tmpfs", "source": "x", "options": ["tmpcopyup"]}),
        ),
        mounted(
            "a source that is not there",
            Expect::Refused("nowhere"),
            json!({"destination": "/data", "type": "bind", "source": "nowhere", "options": ["bind"]}),
        ),
        with(
            "no mounts but /proc",
            Differs(&["nodes", "devices", "mounts"], "no-dev"),
            to(
                "mounts",
                json!([{"destination": "/proc", "type": "proc", "source": "proc"}]),
            ),
        ),
        with(
            "files that are masked",
            Same,
            to(
                "linux/maskedPaths",
                json!(["/etc/secret", "/proc/scsi", "/proc/keys", "/nowhere"]),
            ),
        ),
        with(
            "nothing is masked",
            Same,
            to("linux/maskedPaths", json!([])),
        ),
        with(
            "nothing is read-only",
            Same,
            to("linux/readonlyPaths", json!([])),
        ),
        with(
            "directories that are read-only",
            Same,
            to(
                "linux/readonlyPaths",
                json!(["/proc/sys", "/data", "/nowhere"]),
            ),
        ),
        with(
            "a root that is private",
            Same,
            to("linux/rootfsPropagation", json!("rprivate")),
        ),
        with(
            "a root that is a slave",
            Same,
            to("linux/rootfsPropagation", json!("slave")),
        ),
        with(
            "a root that is shared",
            Differs(&["mounts"], "rootfs-propagation"),
            to("linux/rootfsPropagation", json!("shared")),
        ),
        with(
            "a root that is not to be bound",
            Expect::RefusedThere("rootfs-unbindable"),
            to("linux/rootfsPropagation", json!("unbindable")),
        ),
        with(
            "a propagation that is none",
            Expect::Refused("rootfsPropagation is \"bogus\""),
            to("linux/rootfsPropagation", json!("bogus")),
        ),
    ]
}
