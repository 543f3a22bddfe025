//! These tests use a directory that looks like a host. `tests/tests/run_limits` tests the kernel's own files.

use agent_host::fixture::tree;
use agent_model::limit::Kind;

use super::apply::Limiter;
use super::*;

#[test]
fn paths() {
    assert_eq!(names("/agent/a.b").unwrap(), ["agent", "a.b"]);
    for path in ["", "/", "agent", "/a/", "//a", "/a/../b", "/./a", "/a\n"] {
        assert!(names(path).is_err(), "{path:?}");
    }
}

/// A host whose memory controller is on one version, and where the files of swap are missing.
struct WithoutSwap {
    mountinfo: &'static str,
    ids: &'static str,
    limit: &'static str,
    swap: &'static str,
}

const V1: WithoutSwap = WithoutSwap {
    mountinfo: "31 27 0:28 / /sys/fs/cgroup rw - cgroup cgroup rw,memory\n",
    ids: "4:memory:/\n",
    limit: "memory.limit_in_bytes",
    swap: "memory.memsw.limit_in_bytes",
};

const V2: WithoutSwap = WithoutSwap {
    mountinfo: "31 27 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    ids: "0::/\n",
    limit: "memory.max",
    swap: "memory.swap.max",
};

impl WithoutSwap {
    /// Limits memory and swap in an existing cgroup. The files are ordinary ones, which keep their old text behind what
    /// is written.
    fn limit(&self, held: &str, swap_implied: bool) -> Result<(Vec<Kind>, Vec<Note>), Error> {
        self.limit_of("web", self.limit, held, swap_implied)
    }

    /// Limits memory and swap of the container `name`, whose cgroup has only `file`.
    fn limit_of(
        &self,
        name: &str,
        file: &str,
        held: &str,
        swap_implied: bool,
    ) -> Result<(Vec<Kind>, Vec<Note>), Error> {
        let limit = format!("sys/fs/cgroup/agent/{name}/{file}");
        let root = tree(&[
            ("proc/self/mountinfo", self.mountinfo),
            ("proc/self/cgroup", self.ids),
            ("sys/fs/cgroup/cgroup.controllers", "memory\n"),
            ("sys/fs/cgroup/cgroup.procs", ""),
            ("sys/fs/cgroup/cgroup.subtree_control", "memory\n"),
            ("sys/fs/cgroup/agent/cgroup.subtree_control", "memory\n"),
            (&limit, held),
        ]);
        let hierarchies = Hierarchies::discover(root.path())?;
        let mounted = &hierarchies.all()[0];
        let place = Place::at(mounted, "/", &mounted.mount)?;
        let way = place.find(&["agent", name])?.unwrap();
        let asked = r#"{"memory": {"limit": 52428800, "swap": 104857600}}"#;
        let wanted = Wanted::of(&serde_json::from_str(asked).unwrap(), 4096)?;
        let limiter = Limiter {
            made: &[(place, way)],
            page: 4096,
            swap_implied,
        };
        let (evidence, notes) = limiter.apply(&wanted)?;
        Ok((evidence.iter().map(|it| it.kind).collect(), notes))
    }
}

#[test]
fn swap_that_follows_from_memory_is_left_out_where_it_is_not_counted() {
    for host in [V1, V2] {
        let (limited, notes) = host.limit("", true).unwrap();
        assert_eq!(limited, [Kind::Memory]);
        let [Note(note)] = &notes[..] else {
            panic!("{notes:?}");
        };
        assert!(note.starts_with("swap is not limited: "), "{note}");
        assert!(note.contains(host.swap), "{note}");
    }
}

#[test]
fn swap_that_is_asked_for_is_an_error_where_it_is_not_counted() {
    for host in [V1, V2] {
        let error = host.limit("", false).unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with("--memory-swap needs "), "{said}");
        assert!(said.contains(host.swap), "{said}");
        assert!(said.contains("swapaccount=1"), "{said}");
    }
}

/// The advice depends on the limit, and not on the name of the container or of the file.
#[test]
fn a_container_called_swan_is_advised_nothing_of_swap() {
    for host in [V1, V2] {
        for name in ["swan", "swap", "memory.swap.max", "memory.memsw"] {
            let error = host.limit_of(name, "other", "", false).unwrap_err();
            let said = error.to_string();
            assert!(said.starts_with("--memory needs "), "{said}");
            assert!(said.contains(host.limit), "{said}");
            assert!(!said.contains("swapaccount"), "{name}: {said}");
            let error = host.limit_of(name, host.limit, "", false).unwrap_err();
            let said = error.to_string();
            assert!(said.contains("swapaccount=1"), "{name}: {said}");
        }
    }
}

#[test]
fn what_is_kept_is_not_what_was_written() {
    for host in [V1, V2] {
        let error = host.limit("524288000", true).unwrap_err();
        let Error::Kept { file, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(file.ends_with(host.limit), "{}", file.display());
        let said = error.to_string();
        assert!(said.contains("wrote \"52428800\""), "{said}");
        assert!(said.contains("keeps \"524288000\""), "{said}");
    }
}
