//! Who has a name, and what is left of those who had it.

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
        supervisor,
        status,
        created: "2026-11-24T00:00:00Z".into(),
        detached: true,
        remove: false,
        change_root: ChangeRoot::Pivot,
        network: Network::None,
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
    assert_eq!(waiter.wait().unwrap(), Some(7));
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
    let names: Vec<_> = found.iter().map(Claim::name).collect();
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
