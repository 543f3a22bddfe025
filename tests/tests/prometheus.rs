//! `/metrics`, as Prometheus takes it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use tests::cgroup::Cgroup;
use tests::docker::Docker;
use tests::prometheus::{Prometheus, check_metrics, value};
use tests::serve::Serve;
use tests::veth::Veth;
use tests::wait::{PATIENCE, wait_for};

/// Names and labels of cAdvisor's that are not as Prometheus wants them.
const NAMED_BY_CADVISOR: [&str; 4] = [
    "container_cpu_load_d_average_10s ",
    "container_memory_failcnt ",
    "container_fs_inodes_total ",
    "cadvisor_version_info ",
];

#[test]
#[ignore = "needs root"]
fn promtool_has_nothing_to_say() {
    let serve = Serve::start(&[]);
    let _odd = Odd::new();
    let metrics = serve.metrics();
    let checked = check_metrics(metrics.text());
    let said = [checked.stdout, checked.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let is_cadvisors = |line: &&str| NAMED_BY_CADVISOR.iter().any(|name| line.starts_with(name));
    let lines = said.lines();
    let other: Vec<&str> = lines.filter(|line| !is_cadvisors(line)).collect();
    assert_eq!(other, [""; 0], "{}", checked.status);
}

#[test]
#[ignore = "needs root"]
fn prometheus_scrapes_whatever_a_name_holds() {
    let serve = Serve::start(&[]);
    let odd = Odd::new();
    let prometheus = Prometheus::start(serve.address().expect("it traces"));
    let name = odd.parent.path();
    let query = format!(r#"container_memory_usage_bytes{{id=~"/?{name}/.*"}}"#);
    let series = wait_for("a scrape", PATIENCE, || {
        let series = prometheus.query(&query);
        (!series.is_empty()).then_some(series)
    });
    let ids = series
        .iter()
        .map(|series| series["metric"]["id"].as_str().expect("an id"));
    let ids: BTreeSet<String> = ids.map(str::to_owned).collect();
    assert_eq!(ids, odd.ids);
    assert_scraped(&prometheus);
}

#[test]
#[ignore = "needs root"]
fn prometheus_answers_how_busy_a_docker_container_is() {
    let docker = Docker::start();
    let serve = docker.serve();
    let prometheus = Prometheus::start(serve.address().expect("it traces"));
    let busy = docker.run(&[], &["sh", "-c", "while :; do :; done"]);
    let idle = docker.run(&[], &["sleep", "1000"]);
    // The rates of both, by an expression that gives those of all cgroups.
    let rates = |expression: &str| {
        let all = prometheus.query(expression);
        let rate = |cgroup: String| {
            let mut own = all
                .iter()
                .filter(|series| series["metric"]["id"] == *cgroup);
            let rate = own.next().map(value);
            assert_eq!(own.next(), None, "two series of {cgroup}");
            rate
        };
        rate(busy.cgroup()).zip(rate(idle.cgroup()))
    };
    // It divides what two scrapes show by a whole minute.
    let [busy_rate, idle_rate] = wait_for("two scrapes", PATIENCE, || {
        let (busy, idle) = rates("rate(container_cpu_usage_seconds_total[1m])")?;
        (busy > 0.0).then_some([busy, idle])
    });
    assert!(
        idle_rate < busy_rate,
        "{idle_rate} is not less than {busy_rate}"
    );
    // Others want the CPUs too; one process gets no more than one of them.
    wait_for("a process in an endless loop is busy", PATIENCE, || {
        let (busy, idle) = rates("rate(container_cpu_usage_seconds_total[5s])")?;
        (busy > 0.1 && busy < 1.5 && idle < busy / 2.0).then_some(())
    });
    let own = format!(
        r#"rate(container_cpu_usage_seconds_total{{id="{}"}}[1m])"#,
        busy.cgroup()
    );
    let series = prometheus.query(&own);
    assert!(series.len() == 1 && value(&series[0]) > 0.0, "{series:?}");
    assert_scraped(&prometheus);
}

/// What the container is called that they are asked about.
const NAME: &str = "busy-web.1";

/// Queries of Grafana's dashboards 193 and 14282 and of kubernetes-mixin, with their variables filled in as for one
/// container, whose name is to be put in for NAME.
const QUERIES: [&str; 11] = [
    r#"sum by (name) (rate(container_cpu_usage_seconds_total{image!="",name="NAME"}[1m]))"#,
    r#"sum(rate(container_cpu_usage_seconds_total{name=~"NAME",name=~".+"}[5m])) by (name) * 100"#,
    r#"sum(container_memory_rss{name=~"NAME",name=~".+"}) by (name)"#,
    r#"sum(container_memory_working_set_bytes{image!="",name="NAME"}) by (name)"#,
    r#"container_memory_usage_bytes{image!="",name="NAME"}"#,
    r#"sum(rate(container_network_receive_bytes_total{name=~"NAME",name=~".+"}[5m])) by (name)"#,
    r#"sum by (name) (rate(container_network_transmit_bytes_total{image!="",name="NAME"}[1m]))"#,
    r#"sum(increase(container_cpu_cfs_throttled_periods_total{name="NAME"}[5m])) by (name) / sum(increase(container_cpu_cfs_periods_total{name="NAME"}[5m])) by (name)"#,
    r#"sum(rate(container_cpu_cfs_throttled_seconds_total{name="NAME"}[1m])) by (name)"#,
    r#"sum by (name) (container_memory_working_set_bytes{name="NAME"}) / sum by (name) (container_spec_memory_limit_bytes{name="NAME"})"#,
    r#"count(container_last_seen{image!="",name="NAME"}) by (name)"#,
];

#[test]
#[ignore = "needs root"]
fn prometheus_answers_the_queries_of_public_dashboards() {
    let docker = Docker::start();
    let serve = docker.serve();
    let prometheus = Prometheus::start(serve.address().expect("it traces"));
    let limits = ["--cpu-period=50000", "--cpu-quota=5000", "--memory=50m"];
    let options = [&["--name", NAME][..], &limits].concat();
    let busy = docker.run(&options, &["sh", "-c", "while :; do :; done"]);
    let veth = Veth::new(busy.pid());
    for query in QUERIES {
        let query = query.replace("NAME", NAME);
        let found = wait_for(&query, PATIENCE, || {
            veth.send(10);
            let series = prometheus.query(&query);
            let above_zero = series.first().is_some_and(|series| value(series) > 0.0);
            above_zero.then_some(series)
        });
        assert_eq!(found.len(), 1, "{query}: {found:?}");
        assert_eq!(found[0]["metric"]["name"], NAME, "{query}");
    }
    assert_scraped(&prometheus);
}

/// All went well so far.
#[track_caller]
fn assert_scraped(prometheus: &Prometheus) {
    let target = prometheus.target();
    assert_eq!(target["health"], "up", "{target}");
    assert_eq!(target["lastError"], "", "{target}");
    let up = prometheus.query("min_over_time(up[5m])");
    assert_eq!(up.iter().map(value).collect::<Vec<_>>(), [1.0], "{up:?}");
}

/// Cgroups with names of all bytes that there are.
struct Odd {
    parent: Cgroup,
    /// As labels show them.
    ids: BTreeSet<String>,
}

impl Odd {
    fn new() -> Self {
        let names: [(&[u8], &str); 5] = [
            (br#"say "hi", {x="1"} 7"#, r#"say "hi", {x="1"} 7"#),
            (br"back\slash\n\", r"back\slash\n\"),
            ("größe 日本".as_bytes(), "größe 日本"),
            (b"\t\r\x1b[31m\x7f", "\t\r\u{1b}[31m\u{7f}"),
            (b"odd\xff\\", r"odd\xff\x5c"),
        ];
        let parent = Cgroup::new("odd");
        let ids = names.map(|(name, label)| {
            let directory = parent.directory("memory").join(OsStr::from_bytes(name));
            fs::create_dir(&directory).expect("a cgroup");
            // What is not UTF-8 is told apart from an escaped name by a second slash.
            let slash = if str::from_utf8(name).is_ok() {
                ""
            } else {
                "/"
            };
            format!("{slash}{}/{label}", parent.path())
        });
        Self {
            parent,
            ids: ids.into(),
        }
    }
}
