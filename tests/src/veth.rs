//! A pair of network interfaces that join the host and a container.

use std::fs;
use std::net::UdpSocket;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::program::program;
use crate::wait::{PATIENCE, wait_for};

/// The addresses of both ends: link-local ones, each pair in a net of its own.
#[derive(Debug)]
pub struct Veth {
    /// The end on the host.
    name: String,
    net: String,
}

/// The end in the container.
pub const INSIDE: &str = "eth0";

impl Veth {
    /// Joins the host and the network namespace of process `pid`.
    ///
    /// # Panics
    /// Where the kernel refuses.
    pub fn new(pid: u32) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = process::id();
        let veth = Self {
            name: format!("vt{id}n{number}"),
            net: format!("169.254.{}", (id + number) % 250 + 2),
        };
        let Self { name, net } = &veth;
        let inside = pid.to_string();
        ip(&[
            "link", "add", name, "type", "veth", "peer", "name", INSIDE, "netns", &inside,
        ]);
        ip(&["addr", "add", &format!("{net}.1/24"), "dev", name]);
        ip(&["link", "set", name, "up"]);
        let enter = |arguments: &[&str]| {
            let mut nsenter = Command::new(program("nsenter"));
            nsenter
                .args(["--net", "--target", &inside])
                .arg(program("ip"));
            call(nsenter.args(arguments));
        };
        enter(&["addr", "add", &format!("{net}.2/24"), "dev", INSIDE]);
        enter(&["link", "set", INSIDE, "up"]);
        veth
    }

    /// The name of the host's end.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends at least that many packets of 1,000 bytes into the container.
    ///
    /// # Panics
    /// Where they cannot be sent.
    pub fn send(&self, packets: u32) {
        let socket = UdpSocket::bind((format!("{}.1", self.net), 0)).expect("an address");
        // Until the address of the other end is known, the kernel keeps some and drops the rest.
        wait_for("they are sent", PATIENCE, || {
            for _ in 0..packets {
                // Nobody listens, and the kernel may tell.
                let _ = socket.send_to(&[0; 1000], (format!("{}.2", self.net), 9));
            }
            (self.counted("tx_packets") >= u64::from(packets)).then_some(())
        });
    }

    /// What the host counted at its end: a file of `/sys/class/net/NAME/statistics`.
    ///
    /// # Panics
    /// Where there is none.
    pub fn counted(&self, file: &str) -> u64 {
        let path = format!("/sys/class/net/{}/statistics/{file}", self.name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        text.trim().parse().expect("a count")
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        // It may be gone with the container.
        let ip = Command::new(program("ip"))
            .args(["link", "del", &self.name])
            .output();
        drop(ip);
    }
}

fn ip(arguments: &[&str]) {
    call(Command::new(program("ip")).args(arguments));
}

fn call(command: &mut Command) {
    let output = command.output().expect("the program can be run");
    assert!(output.status.success(), "{command:?}: {output:?}");
}
