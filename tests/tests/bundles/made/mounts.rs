//! Of mounts, of the root, and of what is hidden in it.

use serde_json::{Value, json};

use super::{set, with};
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
        set("a root to write to", Same, "root/readonly", json!(false)),
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
        set(
            "no mounts but /proc",
            Differs(&["nodes", "devices", "mounts"], "no-dev"),
            "mounts",
            json!([{"destination": "/proc", "type": "proc", "source": "proc"}]),
        ),
        set(
            "files that are masked",
            Same,
            "linux/maskedPaths",
            json!(["/etc/secret", "/proc/scsi", "/proc/keys", "/nowhere"]),
        ),
        set("nothing is masked", Same, "linux/maskedPaths", json!([])),
        set(
            "nothing is read-only",
            Same,
            "linux/readonlyPaths",
            json!([]),
        ),
        set(
            "directories that are read-only",
            Same,
            "linux/readonlyPaths",
            json!(["/proc/sys", "/data", "/nowhere"]),
        ),
        set(
            "a root that is private",
            Same,
            "linux/rootfsPropagation",
            json!("rprivate"),
        ),
        set(
            "a root that is a slave",
            Same,
            "linux/rootfsPropagation",
            json!("slave"),
        ),
        set(
            "a root that is shared",
            Differs(&["mounts"], "rootfs-propagation"),
            "linux/rootfsPropagation",
            json!("shared"),
        ),
        set(
            "a root that is not to be bound",
            Expect::RefusedThere("rootfs-unbindable"),
            "linux/rootfsPropagation",
            json!("unbindable"),
        ),
        set(
            "a propagation that is none",
            Expect::Refused("rootfsPropagation is \"bogus\""),
            "linux/rootfsPropagation",
            json!("bogus"),
        ),
    ]
}
