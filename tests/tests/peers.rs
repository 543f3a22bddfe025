//! Who has many user ids is one client, and who is being answered stays.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

use rustix::fs::{Gid, Uid, fchown};
use rustix::net::{AddressFamily, SocketType, connect, socket};
use tests::cgroup::Cgroup;
use tests::serve::Serve;
use tests::wait::{PATIENCE, wait_for};

/// More than the server has room for.
const MANY: u32 = 600;

/// Ids of no account and no range of /etc/subuid: 65,536 that begin here are one client.
const SUBORDINATE: u32 = 2_000_027_648;

/// Ids of users, each a client of its own.
const USERS: u32 = 40_000;

/// A connection of this user's. Root may give sockets away.
fn connected(user: u32, address: SocketAddr) -> OwnedFd {
    let stream = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    fchown(
        &stream,
        Some(Uid::from_raw(user)),
        Some(Gid::from_raw(user)),
    )
    .expect("root's");
    connect(&stream, &address).expect("the server");
    stream
}

fn connected_all(first: u32, address: SocketAddr) -> Vec<OwnedFd> {
    (first..first + MANY)
        .map(|user| connected(user, address))
        .collect()
}

fn closed(serve: &Serve, reason: &str) -> u64 {
    let labels = [("side", "tcp"), ("reason", reason)];
    serve
        .metrics()
        .count("agent_http_connections_closed_total", &labels)
}

#[test]
#[ignore = "needs root"]
fn the_ids_of_a_range_are_one_client() {
    let _alone = tests::alone();
    let serve = Serve::start(&[]);
    let address = serve.address().expect("it traces");
    let held = connected_all(SUBORDINATE, address);
    wait_for("all but its share are refused", PATIENCE, || {
        (closed(&serve, "peer") >= u64::from(MANY) - 64).then_some(())
    });
    assert_eq!(closed(&serve, "gave_way"), 0);
    drop(held);
    serve.stop();
}

#[test]
#[ignore = "needs root"]
fn who_is_being_answered_stays() {
    let _alone = tests::alone();
    // An answer is longer than what the kernel takes for a client that does not read.
    let (outer, _inner) = Cgroup::below_another("peers");
    for number in 0..1000 {
        let plain = outer.directory("pids").join(format!("plain-{number}"));
        std::fs::create_dir(plain).expect("a cgroup");
    }
    let serve = Serve::start(&[]);
    let address = serve.address().expect("it traces");
    let mut reader = TcpStream::from(connected(USERS - 1, address));
    reader
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut answer = vec![0; 1000];
    reader.read_exact(&mut answer).expect("an answer");
    let held = connected_all(USERS, address);
    wait_for("others give way while it is answered", PATIENCE, || {
        (closed(&serve, "gave_way") >= u64::from(MANY) - 512).then_some(())
    });
    reader.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let read = reader.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let length = head.lines().find_map(|line| {
        line.to_lowercase()
            .strip_prefix("content-length: ")?
            .parse()
            .ok()
    });
    let length: usize = length.expect("its length");
    assert_eq!((read.is_ok(), body.len()), (true, length), "it was cut off");
    drop(held);
    serve.stop();
}
