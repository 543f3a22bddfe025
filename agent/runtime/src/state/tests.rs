//! Tests of claiming names, of finding abandoned containers, and of the files of the state.

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::at(directory.path().join("agent/containers"));
    (directory, store)
}

fn record(name: &str, supervisor: i32, status: Status) -> Record {
    Record {
        name: name.into(),
        image: "host".into(),
        cgroup: format!("/agent/{name}").into(),
        cgroups: None,
        leaf: None,
        born: None,
        bounds: None,
        supervisor,
        status,
        created: "2026-11-24T00:00:00Z".into(),
        detached: true,
        remove: false,
        change_root: ChangeRoot::Pivot,
        network: Network::None,
        stop_signal: None,
        swap_asked: false,
        log: None,
    }
}

#[test]
fn names() {
    for name in ["a", "0", "a-b_c.d", &"x".repeat(63)] {
        assert!(is_name(name), "{name}");
    }
    for name in [
        "",
        ".",
        "..",
        ".lock",
        "-a",
        "a/b",
        "a\n",
        "ä",
        &"x".repeat(64),
    ] {
        assert!(!is_name(name), "{name}");
    }
}

#[test]
fn what_is_claimed_is_read_and_removed() {
    let (_directory, store) = store();
    assert!(matches!(store.waiter("a"), Err(Error::Unknown { .. })));
    assert!(store.take_over("a").unwrap().is_none());
    assert!(store.abandoned().is_empty());
    let claim = store.claim("a").unwrap();
    assert!(matches!(store.read("a"), Err(Error::Unknown { .. })));
    let wanted = record("a", 1, Status::Creating);
    claim.write(&wanted).unwrap();
    claim.write_spec(&Spec::default()).unwrap();
    assert_eq!(store.read("a").unwrap(), wanted);
    assert_eq!(store.spec("a").unwrap(), Spec::default());
    assert_eq!(store.records(), [wanted]);
    let waiter = store.waiter("a").unwrap();
    claim.leave_word(7).unwrap();
    claim.remove().unwrap();
    assert_eq!(store.names(), Vec::<String>::new());
    let ended = waiter.wait(|holder| panic!("{holder}"));
    assert_eq!(ended.unwrap(), Some(7));
}

#[test]
fn a_name_in_use() {
    let (_directory, store) = store();
    drop(store.claim("a").unwrap());
    assert!(matches!(store.claim("a"), Err(Error::Running { .. })));
    let claim = store.take_over("a").unwrap().unwrap();
    claim
        .write(&record("a", 1, Status::Exited { code: 0 }))
        .unwrap();
    drop(claim);
    assert!(matches!(store.claim("a"), Err(Error::Ended { .. })));
    assert!(store.abandoned().is_empty());
    let claim = store.take_over("a").unwrap().unwrap();
    let running = Status::Running { pid: 1 };
    claim.write(&record("a", 1, running)).unwrap();
    drop(claim);
    fs::create_dir(store.directory("b").unwrap()).unwrap();
    let mut found = store.abandoned();
    found.sort_by(|a, b| a.name().cmp(b.name()));
    let names: Vec<_> = found.iter().map(NameClaim::name).collect();
    assert_eq!(names, ["a", "b"]);
    found.into_iter().for_each(|it| it.remove().unwrap());
    assert_eq!(store.names(), Vec::<String>::new());
}

#[test]
fn a_directory_of_others_is_not_used() {
    let (directory, store) = store();
    let mine = directory.path().join("agent");
    fs::create_dir(&mine).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(&mine, open).unwrap();
    assert!(matches!(store.claim("a"), Err(Error::Unsafe { .. })));
}

#[test]
fn garbage_is_an_error() {
    let (_directory, store) = store();
    let claim = store.claim("a").unwrap();
    fs::write(claim.directory().join(RECORD), "{").unwrap();
    assert!(matches!(store.read("a"), Err(Error::Malformed { .. })));
    assert_eq!(claim.record(), None);
}

#[test]
fn what_others_may_write_to_is_not_believed() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_directory, store) = store();
    drop(store.claim("a").unwrap());
    fs::set_permissions(&store.path, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(store.read("a"), Err(Error::Unsafe { .. })));
    assert!(matches!(store.spec("a"), Err(Error::Unsafe { .. })));
    assert!(matches!(store.waiter("a"), Err(Error::Unsafe { .. })));
    assert!(store.names().is_empty());
    assert!(store.abandoned().is_empty());
    assert!(store.path.join("a").is_dir());
    fs::set_permissions(&store.path, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(store.abandoned().len(), 1);
}

/// A link or FIFO in the place of a file of the state is neither followed nor waited for.
#[test]
fn links_and_fifos_are_no_files_of_ours() {
    let (directory, store) = store();
    let claim = store.claim("a").unwrap();
    let elsewhere = directory.path().join("elsewhere");
    let plants: [fn(&Path, &Path); 2] = [
        |path, elsewhere| std::os::unix::fs::symlink(elsewhere, path).unwrap(),
        |path, _| {
            let mode = rustix::fs::Mode::from(0o600);
            let fifo = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, path, fifo, mode, 0).unwrap();
        },
    ];
    for plant in plants {
        for file in [RECORD, CONFIG, "lock"] {
            let path = claim.directory().join(file);
            let _ = fs::remove_file(&path);
            plant(&path, &elsewhere);
        }
        fs::write(&elsewhere, "{}").unwrap();
        assert!(matches!(store.read("a"), Err(Error::NoFile { .. })));
        assert!(matches!(store.spec("a"), Err(Error::NoFile { .. })));
        assert!(matches!(store.waiter("a"), Err(Error::NoFile { .. })));
        assert!(matches!(store.take_over("a"), Err(Error::NoFile { .. })));
        assert!(matches!(store.claim("a"), Err(Error::Running { .. })));
        // Writing the record replaces the link or FIFO.
        claim.write(&record("a", 1, Status::Creating)).unwrap();
        assert!(store.read("a").is_ok());
        assert_eq!(fs::read(&elsewhere).unwrap(), b"{}");
    }
}

/// Returns the old store and a new one beside it that takes over its containers.
fn stores() -> (tempfile::TempDir, Store, Store) {
    let directory = tempfile::tempdir().unwrap();
    let old = Store::at(directory.path().join("agent/containers"));
    let new = Store {
        path: directory.path().join("agent-containers"),
        former: Some(old.path.clone()),
    };
    (directory, old, new)
}

#[test]
fn what_an_older_agent_left_is_taken_over() {
    let (_directory, old, new) = stores();
    assert!(new.adopt().is_empty());
    let claim = old.claim("a").unwrap();
    let mut wanted = record("a", 1, Status::Running { pid: 1 });
    wanted.remove = false;
    claim.write(&wanted).unwrap();
    for _ in 0..2 {
        assert!(new.adopt().is_empty());
        assert_eq!(new.read("a").unwrap(), wanted);
    }
    assert!(matches!(new.claim("a"), Err(Error::Ended { .. })));
    // The supervisor still writes to the old path, and the new path leads to the same files.
    wanted.status = Status::Exited { code: 3 };
    claim.write(&wanted).unwrap();
    assert_eq!(new.read("a").unwrap(), wanted);
    drop(claim);
    new.take_over("a").unwrap().unwrap().remove().unwrap();
    assert!(new.adopt().is_empty());
    assert!(!old.path.exists());
}

/// systemd removes the old directory when the server's unit, which owned it, stops.
#[test]
fn the_end_is_known_where_the_old_directory_is_gone() {
    let (directory, old, new) = stores();
    let claim = old.claim("a").unwrap();
    claim
        .write(&record("a", 1, Status::Running { pid: 1 }))
        .unwrap();
    new.adopt();
    fs::remove_dir_all(directory.path().join("agent")).unwrap();
    claim.leave_word(7).unwrap();
    assert!(
        claim
            .write(&record("a", 1, Status::Exited { code: 7 }))
            .is_err()
    );
    drop(claim);
    assert!(new.abandoned().is_empty());
    let ended = new.waiter("a").unwrap().wait(|holder| panic!("{holder}"));
    assert_eq!(ended.unwrap(), Some(7));
}

#[test]
fn an_older_agent_may_remove_what_was_taken_over() {
    let (_directory, old, new) = stores();
    let claim = old.claim("a").unwrap();
    let mut wanted = record("a", 1, Status::Running { pid: 1 });
    wanted.remove = true;
    claim.write(&wanted).unwrap();
    new.adopt();
    claim.leave_word(0).unwrap();
    claim.remove().unwrap();
    let left = new.abandoned();
    assert_eq!(left.len(), 1);
    left.into_iter().for_each(|it| it.remove().unwrap());
    assert!(new.names().is_empty());
}
