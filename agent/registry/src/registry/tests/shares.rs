//! Whose share of the room a cgroup takes.

use super::*;

#[test]
fn cgroups_below_one_leave_room_for_others() {
    let mut registry = Registry::new(HOST);
    for id in 0..DIRECTORIES_AT_MOST as u64 {
        add(&mut registry, PIDS, 100 + id, &format!("/user.slice/{id}"));
    }
    assert!(registry.refused() > 0);
    add(&mut registry, MEMORY, 20, "/agent/web");
    assert_eq!(registry.containers().count(), 1);
}

#[test]
fn a_place_is_lent_to_all_but_the_own_cgroups_of_roots_containers() {
    let mut registry = Registry::new(HOST);
    for (id, path) in [
        (50, "/agent/web"),
        (51, "/agent/web/x"),
        (52, "/u/agent/v"),
        (53, "/agent/w"),
    ] {
        add(&mut registry, PIDS, id, path);
    }
    confirm(&mut registry, &["/agent/web"]);
    let of = Confirmation::of(&Claim::of("/u/agent/v").unwrap());
    registry.confirm([Confirmation { user: 7, ..of }]);
    let borrower = |id| registry.borrower(key(PIDS, id));
    assert_eq!(borrower(50), None);
    assert_eq!(borrower(51), Some(Borrower::Below(50)));
    assert_eq!(borrower(52), Some(Borrower::User(7)));
    assert_eq!(borrower(53), Some(Borrower::Unconfirmed));
}

#[test]
fn what_is_below_a_users_container_is_that_users() {
    let mut registry = Registry::new(HOST);
    add(&mut registry, PIDS, 50, "/a/agent/web");
    add(&mut registry, PIDS, 51, "/a/agent/web/x");
    let claim = Claim::of("/a/agent/web").unwrap();
    let user = 7;
    registry.confirm([Confirmation {
        user,
        ..Confirmation::of(&claim)
    }]);
    add(&mut registry, PIDS, 52, "/a/agent/web/y");
    for id in [50, 51, 52] {
        assert_eq!(registry.get(key(PIDS, id)).unwrap().user(), 7, "{id}");
    }
}
