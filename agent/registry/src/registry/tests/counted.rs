//! What happens below a container's own cgroup.

use super::*;

/// crun and nspawn have one cgroup below the container's own, an init with rights makes more.
#[test]
fn what_is_counted_below_is_the_containers() {
    for below in ["container", "payload", "init.scope/x", "docker/other"] {
        let mut registry = Registry::new(HOST);
        let own = format!("/machine.slice/libpod-{ID}.scope");
        add(&mut registry, MEMORY, 20, &own);
        add(&mut registry, PIDS, 30, &own);
        add(&mut registry, MEMORY, 21, &format!("{own}/{below}"));
        add(&mut registry, MEMORY, 22, "/machine.slice/other");
        let execs = |execs| Counts {
            execs,
            ..Counts::default()
        };
        let mut counts = HashMap::from([
            (key(MEMORY, 20), execs(1)),
            (key(MEMORY, 21), execs(2)),
            (key(MEMORY, 22), execs(4)),
        ]);
        registry.count_subtrees(&mut counts);
        let counted = |id, counts: &_| {
            let cgroup = registry.get(key(MEMORY, id)).unwrap();
            cgroup.counted(counts).execs
        };
        let all = [20, 21, 22].map(|id| counted(id, &counts));
        assert_eq!(all, [3, 0, 4], "{below}");
        let mut sizes = HashMap::from([(key(MEMORY, 21), 5), (key(MEMORY, 22), 7)]);
        registry.add_subtrees(&mut sizes);
        assert_eq!(sizes[&key(MEMORY, 20)], 5);

        registry.remove(key(MEMORY, 21), &execs(8), Instant::now());
        assert_eq!(past(&registry, key(MEMORY, 20)).execs, 8);
        assert_eq!(past(&registry, key(MEMORY, 21)).execs, 0);
    }
}
