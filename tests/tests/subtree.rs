//! A container is the subtree that its engine made: what happens in cgroups below its own counts for it. crun runs all of
//! a container in one below (`libpod-ID.scope/container`), and so does nspawn (`payload`).

use tests::cgroup::Cgroup;
use tests::limited::{LIMIT, TOO_MUCH};
use tests::memory::{Hog, set_limit};
use tests::metrics::Metrics;
use tests::process::{kill, wait_until_it_is};
use tests::serve::Serve;
use tests::subtree::assert_none_below;
use tests::wait::{PATIENCE, wait_for};

#[test]
#[ignore = "needs root"]
fn what_happens_below_a_containers_cgroup_is_the_containers() {
    for which in ["all", "containers"] {
        let serve = Serve::start(&["--docker-socket", "off", "--cgroups", which]);
        let container = Cgroup::new("subtree");
        set_limit(&container, LIMIT);
        let name = container.name().to_owned();
        let payload = container.child("container");
        let deeper = payload.child("init.scope");
        for cgroup in [&payload, &deeper] {
            let unshare = cgroup
                .command("unshare")
                .args(["-u", "sh", "-c", "/bin/true; :"])
                .status();
            assert!(unshare.expect("unshare can be run").success());
            Hog::start(cgroup, 1, TOO_MUCH).wait_until_killed();
        }
        let mut sleep = deeper.command("sleep").arg("1000").spawn().expect("sleep");
        wait_until_it_is(sleep.id(), "sleep");
        assert_counted(&serve.metrics(), &name, Some(1.0));
        assert_none_below(&serve.metrics(), &container.path());
        kill(&mut sleep);
        sleep.wait().expect("it is a child");

        // What is gone below stays the container's.
        deeper.remove_alone();
        payload.remove_alone();
        wait_for("the removal is seen", PATIENCE, || {
            let metrics = serve.metrics();
            let processes = metrics.value("container_processes", &[("name", &name)]);
            let all = metrics.text().matches(&*container.path()).count();
            let own = format!("id=\"{}\"", container.path());
            (processes == 0.0 && all == metrics.text().matches(&own).count()).then_some(())
        });
        assert_counted(&serve.metrics(), &name, Some(0.0));
        serve.stop();
    }
}

fn assert_counted(metrics: &Metrics, name: &str, processes: Option<f64>) {
    let value = |family: &str, own: &[(&str, &str)]| {
        let labels = [own, &[("name", name), ("image", "unknown")]].concat();
        metrics.find(family, &labels)
    };
    let call = [("call", "unshare"), ("type", "uts")];
    assert_eq!(value("container_namespace_calls_total", &call), Some(2.0));
    assert_eq!(value("container_oom_events_total", &[]), Some(2.0));
    for role in ["victim", "limit_owner"] {
        let kills = value("container_oom_kills_total", &[("role", role)]);
        assert_eq!(kills, Some(2.0), "{role}");
    }
    let killed = value("container_exits_total", &[("how", "oom_killed")]);
    assert_eq!(killed, Some(2.0));
    for family in ["container_forks_total", "container_execs_total"] {
        let counted = value(family, &[]);
        assert!(counted.is_some_and(|it| it >= 2.0), "{family}: {counted:?}");
    }
    assert_eq!(value("container_processes", &[]), processes);
}
