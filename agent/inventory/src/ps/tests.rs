//! Tests of the table, the fields, the filters and the formats.

use serde_json::json;

use super::*;

fn state(name: &str, condition: &str, memory: Option<u64>) -> ContainerState {
    let running = condition == "running";
    let id = format!("{name:0<64}").replace(|c: char| !c.is_ascii_hexdigit(), "0");
    serde_json::from_value(json!({
        "kind": "container", "id": id, "name": name, "runtime": "docker", "image": "local/web:1",
        "confirmed": true, "cgroup": format!("/docker/{name}"),
        "labels": {"team": "web", "empty": ""},
        "state": condition, "running": running, "removed": null, "pid": running.then_some(7),
        "started": null, "processes": 1, "memory_usage_bytes": memory,
        "memory_working_set_bytes": memory, "memory_limit_bytes": null,
        "memory_effective_limit_bytes": null, "cpu_usage_seconds": null, "cpu_percent": null,
        "oom_kills": 0, "namespaces": null,
    }))
    .unwrap()
}

fn all() -> Vec<ContainerState> {
    let mut states = vec![
        state("db", "exited", None),
        state("web-2", "running", Some(1 << 20)),
        state("web-1", "running", Some(1 << 30)),
        state("cache", "paused", Some(1 << 25)),
    ];
    sort(&mut states);
    states
}

fn names(states: &[ContainerState]) -> Vec<&str> {
    states.iter().map(|it| &*it.container.name).collect()
}

#[test]
fn narrow_screens_keep_names_and_states() {
    let states = [state("a-name-of-24-columns-xyz", "running", Some(1 << 20))];
    for (columns, wanted) in [
        (
            160,
            "NAME RUNTIME PID STATE MEMORY / LIMIT CPU PROCESSES OOM KILLS",
        ),
        (80, "NAME RUNTIME PID STATE MEMORY / LIMIT CPU OOM KILLS"),
        (60, "NAME STATE MEMORY / LIMIT OOM KILLS"),
        (40, "NAME STATE"),
    ] {
        let text = table(&states, columns, false);
        let titles = text.lines().next().unwrap().split_whitespace();
        assert_eq!(titles.collect::<Vec<_>>().join(" "), wanted, "{columns}");
        assert!(text.contains("a-name-of-24-columns-xyz"), "{text}");
    }
}

#[test]
fn fields_sort() {
    let mut states = all();
    assert_eq!(names(&states), ["web-1", "web-2", "cache", "db"]);
    for (field, wanted) in [
        ("memory", ["web-1", "cache", "web-2", "db"]),
        ("Names", ["cache", "db", "web-1", "web-2"]),
        ("state", ["db", "cache", "web-1", "web-2"]),
    ] {
        field.parse::<Field>().unwrap().sort(&mut states);
        assert_eq!(names(&states), wanted, "{field}");
    }
    let error = "colour".parse::<Field>().unwrap_err();
    assert!(error.contains("OOMKills"), "{error}");
}

#[test]
fn filters_of_one_key_are_alternatives() {
    for (filters, wanted) in [
        (&[][..], &["web-1", "web-2", "cache", "db"][..]),
        (&["name=web"], &["web-1", "web-2"]),
        (&["name=web-1", "name=db"], &["web-1", "db"]),
        (&["name=web", "status=exited"], &[]),
        (&["status=paused", "status=exited"], &["cache", "db"]),
        (&["id=cac"], &["cache"]),
        (&["ancestor=local/web"], &["web-1", "web-2", "cache", "db"]),
        (&["image=local/web:1", "runtime=podman"], &[]),
        (&["image=local"], &[]),
    ] {
        let filters = Filters(filters.iter().map(|it| it.parse().unwrap()).collect());
        let mut states = all();
        states.retain(|state| filters.take(state));
        assert_eq!(names(&states), wanted, "{filters:?}");
    }
    for text in ["", "name", "name=", "colour=red", "status=asleep"] {
        assert!(text.parse::<Filter>().is_err(), "{text}");
    }
}

#[test]
fn formats_are_docker_s() {
    let states = [state("web", "running", Some(1 << 20))];
    for (format, wanted) in [
        ("{{.Names}}: {{ .State }}", "web: running\n"),
        (r"{{.ID}}\t{{.memory}}", "0eb000000000\t1.0M\n"),
        (
            "table {{.Name}}\t{{.Image}}",
            "NAME IMAGE\nweb  local/web:1\n",
        ),
        ("plain", "plain\n"),
        ("{{.CPU}}{{.Started}}", "--\n"),
        ("{{.Label \"other\"}}.", ".\n"),
    ] {
        let shown = format.parse::<Format>().unwrap().show(&states, false, 80);
        assert_eq!(shown, wanted, "{format}");
    }
    let json = "json".parse::<Format>().unwrap().show(&states, false, 80);
    let back: ContainerState = serde_json::from_str(&json).unwrap();
    assert_eq!(back, states[0]);
    for text in ["", "table", "{{.Colour}}", "{{.Names", "{{range .}}"] {
        let error = text.parse::<Format>().unwrap_err();
        assert!(error.contains("want"), "{text}: {error}");
    }
    assert_eq!(ids(&states, false), "0eb000000000\n");
    assert_eq!(ids(&states, true).len(), 65);
}
