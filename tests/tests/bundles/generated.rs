//! Bundles with several changes at once, the same each time.

use serde_json::{Value, json};

use crate::cases::{Case, Expect, base, case, mount, put};

const COUNT: u64 = 24;
/// Changes in each.
const AT_ONCE: u64 = 5;

/// Changes that go together, each with a number of ways to make it.
const CHANGES: [fn(&mut Value, u64); 14] = [
    |config, n| {
        put(
            config,
            "process/user",
            json!({"uid": n % 3, "gid": n % 5, "umask": n % 64}),
        )
    },
    |config, n| put(config, "process/oomScoreAdj", json!(n % 1000)),
    |config, n| put(config, "process/noNewPrivileges", json!(n % 2 == 0)),
    |config, n| {
        let all = [
            "CAP_CHOWN",
            "CAP_KILL",
            "CAP_SETUID",
            "CAP_MKNOD",
            "CAP_NET_RAW",
        ];
        let some: Vec<_> = (0..5)
            .filter(|bit| n >> bit & 1 == 1)
            .map(|bit| all[bit])
            .collect();
        let other: Vec<_> = some.iter().skip(1).collect();
        put(
            config,
            "process/capabilities",
            json!({
                "bounding": all, "permitted": some, "effective": some, "inheritable": other, "ambient": other,
            }),
        );
    },
    |config, n| {
        put(
            config,
            "process/rlimits",
            json!([
                {"type": "RLIMIT_NOFILE", "soft": 20 + n % 10, "hard": 100 + n % 10},
                {"type": "RLIMIT_FSIZE", "soft": n << 20, "hard": n << 21},
            ]),
        )
    },
    |config, n| {
        put(
            config,
            "process/env",
            json!([format!("N={n}"), "PATH=/bin", "N=last"]),
        )
    },
    |config, n| {
        put(
            config,
            "process/cwd",
            json!(["/", "/tmp", "/data", "/bin"][(n % 4) as usize]),
        )
    },
    |config, n| put(config, "root/readonly", json!(n % 2 == 0)),
    |config, n| {
        let options = [
            ["bind", "ro"],
            ["rbind", "nosuid"],
            ["rbind", "rslave"],
            ["bind", "noexec"],
        ];
        mount(
            config,
            json!({
                "destination": "/data", "type": "bind", "source": "volume", "options": options[(n % 4) as usize],
            }),
        );
    },
    |config, n| {
        mount(
            config,
            json!({
                "destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
                "options": [format!("size={}k", 4 * (n % 100 + 1)), "mode=1777", if n % 2 == 0 { "nodev" } else { "noatime" }],
            }),
        )
    },
    |config, n| {
        put(
            config,
            "linux/resources/memory",
            json!({"limit": (n % 50 + 20) << 20}),
        )
    },
    |config, n| {
        put(
            config,
            "linux/resources/pids",
            json!({"limit": n % 100 + 20}),
        )
    },
    |config, n| {
        put(
            config,
            "linux/resources/cpu",
            json!({"shares": n % 1000 + 2, "quota": 20_000 + n % 1000, "period": 50_000}),
        )
    },
    |config, n| {
        let kinds = ["ipc", "uts", "network"];
        let kind = kinds[(n % 3) as usize];
        let namespaces = config["linux"]["namespaces"]
            .as_array_mut()
            .expect("a list");
        namespaces.retain(|it| it["type"] != kind);
        if kind == "uts" {
            put(config, "hostname", json!(""));
        }
    },
];

/// Knuth's MMIX.
fn next(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

pub fn all() -> impl Iterator<Item = Case> {
    (0..COUNT).map(|number| {
        let mut state = number;
        let mut config = base();
        let mut made = Vec::new();
        while (made.len() as u64) < AT_ONCE {
            let at = next(&mut state) as usize % CHANGES.len();
            if !made.contains(&at) {
                made.push(at);
                CHANGES[at](&mut config, next(&mut state));
            }
        }
        case(
            &format!("generated {number}: {made:?}"),
            config,
            Expect::Same,
        )
    })
}
