//! A container that is killed and removed at once: all that is told of it has its name and its image.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use std::{fs, thread};

use serde_json::{Value, json};
use tests::docker::{Docker, IMAGE};
use tests::law::assert_law;
use tests::metrics::Metrics;
use tests::serve::Serve;
use tests::slow::longer;
use tests::wait::{PATIENCE, wait_for};
use tests::watch::{DAY, time};

use crate::{get, mentions};

/// A child, and then more than its memory in some milliseconds.
const SCRIPT: &str = "/bin/true; exec busybox dd if=/dev/zero of=/dev/null bs=64M count=1";

/// How often it is tried, on a machine that has other things to do.
const RUNS: usize = 6;

/// How long the shortest life may take, from the exec of the script on.
const INSTANT: Duration = Duration::from_millis(150);

/// The limit of memory. runc itself is in the container's cgroup before the script is, with some 15 MB, and is to live.
const MEMORY: &str = "32m";

/// A container that has ended.
struct Instant {
    id: String,
    name: String,
    /// From when it was asked for until the engine had removed it.
    scrapes: Vec<Metrics>,
}

#[test]
#[ignore = "needs root"]
fn a_container_of_an_instant_has_name_and_image_everywhere_and_for_good() {
    let _alone = tests::alone();
    let docker = Docker::start();
    let serve = docker.serve();
    let mut watch = serve.watch(&["--all"]);
    let directory = tempfile::tempdir().expect("a directory for ids");
    let (mut lives, mut scrapes) = (Vec::new(), 0);
    for run in 0..RUNS {
        let instant = Instant::run(&docker, &serve, format!("instant-{run}"), directory.path());
        let records = watch.until(PATIENCE, |record| {
            record["container"]["id"] == instant.id && record["action"] == "stop"
        });
        lives.push(instant.assert_told(&records));
        scrapes += instant.assert_scraped();
        instant.assert_remembered(&serve);
    }
    println!("lives of {lives:?} s, seen in {scrapes} scrapes");
    let shortest = lives.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(shortest <= longer(INSTANT).as_secs_f64(), "{lives:?}");
    assert!(scrapes > 0, "no scrape came while one of them lived");
    assert_law(&serve);
    serve.stop();
}

impl Instant {
    fn run(docker: &Docker, serve: &Serve, name: String, directory: &Path) -> Self {
        let file = directory.join(&name);
        let id_file = file.to_str().expect("UTF-8");
        let options = ["run", "--rm", "--name", &name, "--cidfile", id_file];
        let limits = ["--memory", MEMORY, "--memory-swap", MEMORY];
        let run = [&options[..], &limits, &[IMAGE, "sh", "-c", SCRIPT]].concat();
        let mut scrapes = Vec::new();
        thread::scope(|scope| {
            let run = scope.spawn(|| docker.try_call(&run));
            while !run.is_finished() {
                scrapes.push(serve.metrics());
            }
            let ended = run.join().expect("the client was called");
            ended.expect_err("it was killed");
        });
        let id = fs::read_to_string(file).expect("the id");
        Self { id, name, scrapes }
    }

    fn cgroup(&self) -> String {
        format!("/docker/{}", self.id)
    }

    /// Whatever the stream said of it had its name. How long it lived, in seconds.
    fn assert_told(&self, records: &[Value]) -> f64 {
        let mut own = records
            .iter()
            .filter(|it| it["container"]["id"] == *self.id);
        let kinds: BTreeSet<_> = own.clone().filter_map(|it| it["kind"].as_str()).collect();
        let wanted = ["container", "exec", "exit", "fork", "oom"].into();
        assert!(kinds.is_superset(&wanted), "{kinds:?}");
        let mut found = Vec::new();
        for record in records {
            mentions(record, &self.id, &mut found);
        }
        for container in found {
            let called = (&container["name"], &container["image"]);
            assert_eq!(called, (&json!(self.name), &json!(IMAGE)), "{container}");
        }
        let stop = records.last().expect("the stop");
        assert_eq!(stop["exit"]["oom_killed"], true, "{stop}");
        let script = own.find(|it| it["argv"][2] == SCRIPT);
        (time(stop) - time(script.expect("its exec"))).rem_euclid(DAY)
    }

    /// Its series had its name from the first scrape on. In how many it lived.
    fn assert_scraped(&self) -> usize {
        let id = self.cgroup();
        let lived = self.scrapes.iter().filter(|scrape| {
            self.assert_called(scrape);
            scrape.find("container_last_seen", &[("id", &id)]).is_some()
        });
        lived.count()
    }

    /// What is known of it when it is gone.
    fn assert_remembered(&self, serve: &Serve) {
        wait_for("it is no container any more", PATIENCE, || {
            let all = get(serve, "/v1/containers");
            all.iter().all(|it| it["id"] != *self.id).then_some(())
        });
        let metrics = serve.metrics();
        self.assert_called(&metrics);
        let id = self.cgroup();
        let labels = [("id", &*id), ("name", &*self.name), ("image", IMAGE)];
        assert_eq!(metrics.count("container_oom_events_total", &labels), 1);
    }

    fn assert_called(&self, metrics: &Metrics) {
        let called = format!("image=\"{IMAGE}\",name=\"{}\"", self.name);
        let id = self.cgroup();
        for line in metrics.text().lines().filter(|line| line.contains(&*id)) {
            assert!(line.contains(&called), "{line}");
        }
    }
}
