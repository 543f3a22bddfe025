//! Dashboards and rules: made of metrics that there are, and with an answer from a real Prometheus.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tests::cgroup::Cgroup;
use tests::container::{Container, First};
use tests::dashboard;
use tests::limited::{LIMIT, TOO_MUCH};
use tests::memory::{Hog, set_limit};
use tests::nscall::{nscall, outcome};
use tests::prometheus::{Prometheus, promtool, value};
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};

#[test]
fn every_metric_is_in_the_catalogue() {
    let catalogue = Path::new(env!("CARGO_MANIFEST_DIR")).join("../METRICS.md");
    let catalogue = fs::read_to_string(catalogue).expect("the catalogue");
    let known = dashboard::metrics_in(&catalogue);
    for path in dashboard::files() {
        let text = fs::read_to_string(&path).expect("a file of text");
        let used = dashboard::metrics_in(&text);
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", path.display());
    }
}

#[test]
fn rules_are_right() {
    for (arguments, file) in [
        (["check", "rules"], "rules.yml"),
        (["test", "rules"], "rules_test.yml"),
    ] {
        let output = promtool(&arguments, &dashboard::file(file));
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "{file}: {said}");
    }
}

#[test]
#[ignore = "needs root"]
fn every_expression_has_an_answer() {
    let serve = Serve::start(&[]);
    let rules = dashboard::file("rules.yml");
    let address = serve.address().expect("it traces");
    let prometheus = Prometheus::start_with_rules(address, &[&rules]);
    // Somebody has to know what was intended of a container for its drift to be known.
    let intended = tests::run::Container::new("dashboards");
    intended.start(&["--memory=64m"], &["sleep", "1000"]);
    let mut troubled = Troubled::start();
    let id = troubled.container.cgroup.path();
    // Rates are of what was scraped twice.
    let scrapes = format!(r#"count_over_time(container_oom_kills_total{{id="{id}"}}[1m]) > 1"#);
    wait_for("the container is scraped twice", PATIENCE, || {
        (!prometheus.query(&scrapes).is_empty()).then_some(())
    });
    troubled.trouble();
    for (what, expression) in expressions(&prometheus) {
        wait_for(
            &format!("an answer to {what}: {expression}"),
            PATIENCE,
            || {
                let series = prometheus.query(&expression);
                series
                    .iter()
                    .any(|series| value(series).is_finite())
                    .then_some(())
            },
        );
    }
    for happened in [
        format!(r#"increase(container_cpu_cfs_throttled_periods_total{{id="{id}"}}[1m]) > 0"#),
        format!(r#"increase(container_namespace_calls_total{{id="{id}",type="uts"}}[1m]) > 0"#),
        format!(r#"ALERTS{{alertname="ContainerOomKill",alertstate="firing",id="{id}"}}"#),
        format!(
            r#"ALERTS{{alertname="ContainerEscape",alertstate="firing",id="{id}",type="mnt"}}"#
        ),
    ] {
        wait_for(&happened, PATIENCE, || {
            (!prometheus.query(&happened).is_empty()).then_some(())
        });
    }
    for rule in prometheus.rules() {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}

/// All expressions, each with what it is for: of rules without their comparisons, which nothing may come up to.
fn expressions(prometheus: &Prometheus) -> Vec<(String, String)> {
    let dashboards = dashboard::dashboards();
    let of_dashboards = dashboards.iter().flat_map(dashboard::expressions);
    let rules = prometheus.rules();
    let of_rules = rules.iter().map(|rule| {
        let query = rule["query"].as_str().expect("an expression");
        (rule["name"].to_string(), query.to_owned())
    });
    let all: Vec<_> = of_dashboards.chain(of_rules).collect();
    assert!(!all.is_empty() && !rules.is_empty());
    all.into_iter()
        .map(|(what, expression)| (what, dashboard::vector_of(&expression)))
        .collect()
}

/// A container that wants more CPU than its quota.
struct Troubled {
    container: Container,
}

impl Troubled {
    fn start() -> Self {
        let cgroup = Cgroup::new("troubled");
        set_limit(&cgroup, LIMIT);
        set_quota(&cgroup);
        let host = std::process::id();
        let script =
            format!("while :; do (:); done & read; nsenter --target {host} --mount true; read");
        let first = First {
            types: "mnt,uts",
            script: &script,
            ..First::default()
        };
        Self {
            container: Container::run(cgroup, first),
        }
    }

    /// A process of it makes a namespace, one enters a namespace of the host, and one is killed for want of memory.
    fn trouble(&mut self) {
        let cgroup = &self.container.cgroup;
        let call: Value = outcome(&mut nscall(cgroup, "unshare uts"));
        assert_eq!(call["errno"], 0, "{call}");
        self.container.tell("enter");
        // The last: a second victim may be the first process.
        Hog::start(&self.container.cgroup, 1, TOO_MUCH).wait_until_killed();
    }
}

/// A tenth of a CPU.
fn set_quota(cgroup: &Cgroup) {
    if Cgroup::is_v1("cpu") {
        cgroup.write("cpu", "cpu.cfs_quota_us", "10000");
    } else {
        cgroup.write("cpu", "cpu.max", "10000 100000");
    }
}
