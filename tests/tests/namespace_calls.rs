//! Namespace calls of containers, all of them and with the right container.

use tests::cgroup::Cgroup;
use tests::law::assert_law;
use tests::serve::Serve;
use tests::wait::PATIENCE;

#[test]
fn an_unshare_is_seen_with_its_container() {
    if !tests::root() {
        return;
    }
    let serve = Serve::start(&[]);
    let cgroup = Cgroup::new("unshare");
    let mut watch = serve.watch(&["--container", cgroup.name()]);
    let status = cgroup.command("unshare").args(["-n", "true"]).status();
    assert!(status.expect("unshare can be run").success());
    let record = watch.next(PATIENCE, |record| record["kind"] == "unshare");
    assert_eq!(record["container"]["cgroup"], cgroup.path());
    assert_law(&serve);
    serve.stop();
}
