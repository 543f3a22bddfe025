//! Tables of paths and what they name. `|` stands where the named cgroup's path ends, if that is
//! not the end of the path.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::*;

pub(super) const ID: &str = "9adc5277a29e0d474e8b1b1f44dd6af50352684d11bcb255637520a05f975b59";
const OTHER: &str = "0f0e0d0c0b0a090807060504030201000f0e0d0c0b0a09080706050403020100";
const UID: &str = "0e7cbb1c-8a52-4f43-9a33-3f7b3f5c4f5a";
/// [`UID`] as in a slice's name.
const UID_: &str = "0e7cbb1c_8a52_4f43_9a33_3f7b3f5c4f5a";
/// The uid of a static pod.
const STATIC: &str = "9c0c0ed4ea3d4f2a1b5d6e7f8a9b0c1d";

/// Writes `<ID>` and the like out.
pub(super) fn spell(text: &str) -> String {
    let words = [
        ("<ID>", ID),
        ("<OTHER>", OTHER),
        ("<UID>", UID),
        ("<UID_>", UID_),
    ];
    let words = words.into_iter().chain([("<STATIC>", STATIC)]);
    words.fold(text.to_owned(), |text, (short, long)| {
        text.replace(short, long)
    })
}

/// An identity as the tables write it.
fn describe(identity: &PathIdentity) -> String {
    match identity {
        PathIdentity::Container {
            runtime,
            id,
            pod: None,
        } => format!("{} {id}", runtime.name()),
        PathIdentity::Container {
            runtime,
            id,
            pod: Some(Pod { uid, qos }),
        } => {
            format!("{} {id} in {} {uid}", runtime.name(), qos.name())
        }
        PathIdentity::Unit { name } => format!("unit {name}"),
        PathIdentity::Cgroup => "cgroup".to_owned(),
        PathIdentity::Root => "root".to_owned(),
    }
}

fn check(path: &str, expected: &str) {
    let (path, expected) = (spell(path), spell(expected));
    let (cgroup, below) = path.split_once('|').unwrap_or((&path, ""));
    let path = format!("{cgroup}{below}");
    let place = identify(&path);
    let found = (describe(&place.identity), place.cgroup);
    assert_eq!(found, (expected, cgroup), "{path}");
}

fn check_table(table: &str) {
    for row in table.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let (path, expected) = row
            .split_once(" => ")
            .unwrap_or_else(|| panic!("no => in {row}"));
        check(path.trim_end(), expected);
    }
}

#[test]
fn docker() {
    check_table(
        "
        /docker/<ID>                                         => docker <ID>
        /docker/<ID>|/init.scope                             => docker <ID>
        /docker/<ID>|/docker/<OTHER>                         => docker <ID>
        /sd1/docker/<ID>                                     => docker <ID>
        /system.slice/docker-<ID>.scope                      => docker <ID>
        /custom.slice/docker-<ID>.scope|/system.slice/cron.service => docker <ID>
        /user.slice/user-1.slice/user@1.service/user.slice/docker-<ID>.scope => docker <ID>

        /ecs/9781c248e2/<ID>                                 => unknown <ID>
        /<ID>|/docker/<OTHER>                                => unknown <ID>

        /docker                                              => cgroup
        /docker/buildkit/x8hvkh1pmkrjmz8sdwpn2gvpx           => cgroup
        /docker/sub/cri-<ID>                                 => cgroup
        /system.slice/docker.service                         => unit docker.service
        ",
    );
}

#[test]
fn containerd() {
    check_table(
        "
        /default/ct1                                         => containerd ct1
        /default/<ID>|/nested                                => containerd <ID>
        /k8s.io/<ID>                                         => containerd <ID>
        /system.slice/cri-containerd-<ID>.scope              => containerd <ID>
        /system.slice/nerdctl-<ID>.scope                     => containerd <ID>
        /system.slice/containerd.service/a.slice:cri-containerd:<ID> => containerd <ID>

        /foo/default/ct1                                     => cgroup
        /moby/ct1                                            => cgroup
        /default                                             => cgroup
        /k8s.io                                              => cgroup
        /default/-ct1                                        => cgroup
        /a:cri-containerd:<ID>                               => cgroup
        ",
    );
}

#[test]
fn kubernetes() {
    check_table(
        "
        /kubepods/burstable/pod<UID>/<ID>                    => cri <ID> in burstable <UID>
        /kubepods/besteffort/pod<UID>/<ID>|/a/b              => cri <ID> in besteffort <UID>
        /kubepods/pod<UID>/<ID>                              => cri <ID> in guaranteed <UID>
        /kubelet/kubepods/pod<UID>/<ID>                      => cri <ID> in guaranteed <UID>
        /kubepods/pod<STATIC>/<ID>                           => cri <ID> in guaranteed <STATIC>
        /kubepods/burstable/pod<UID>/crio-<ID>               => cri-o <ID> in burstable <UID>

        /kubepods.slice/kubepods-pod<UID_>.slice/cri-containerd-<ID>.scope \
            => containerd <ID> in guaranteed <UID>
        /kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<UID_>.slice/crio-<ID>.scope\
            |/container => cri-o <ID> in burstable <UID>
        /kubepods.slice/kubepods-besteffort-pod<STATIC>.slice/docker-<ID>.scope \
            => docker <ID> in besteffort <STATIC>
        /kubelet.slice/kubelet-kubepods-burstable-pod<UID_>.slice/docker-<ID>.scope \
            => docker <ID> in burstable <UID>
        /system.slice/a.service/kubepods-besteffort-pod<UID_>.slice:cri-containerd:<ID>|/x \
            => containerd <ID> in besteffort <UID>
        /kubepods-pod<UID_>.slice/<ID>                       => cri <ID> in guaranteed <UID>

        /burstable/pod<UID>/<ID>                             => unknown <ID>
        /kubepods/guaranteed/pod<UID>/<ID>                   => unknown <ID>
        /kubepods/pod<UID_>/<ID>                             => unknown <ID>
        /kubepods/pod<UID>x/<ID>                             => unknown <ID>
        /kubepods/podXe7cbb1c-8a52-4f43-9a33-3f7b3f5c4f5a/<ID> => unknown <ID>
        /kubepods/pod/<ID>                                   => unknown <ID>
        /kubepods/pod<UID>/sub/<ID>                          => unknown <ID>
        /kubepods-pod<UID>.slice/docker-<ID>.scope           => docker <ID>

        /kubepods                                            => cgroup
        /kubepods/burstable                                  => cgroup
        /kubepods/pod<UID>                                   => cgroup
        /kubepods.slice/kubepods-pod<UID_>.slice             => unit kubepods-pod<UID_>.slice
        /kubepods.slice/kubepods-pod<UID_>.slice|/sub        => unit kubepods-pod<UID_>.slice
        ",
    );
}

#[test]
fn crio_and_its_monitors() {
    check_table(
        "
        /crio/crio-<ID>                                      => cri-o <ID>
        /system.slice/crio-<ID>.scope                        => cri-o <ID>
        /system.slice/crio-conmon-<ID>.scope                 => unit crio-conmon-<ID>.scope
        /kubepods/pod<UID>/crio-conmon-<ID>                  => cgroup
        /agent/crio-conmon-<ID>                              => cgroup
        ",
    );
}

#[test]
fn podman_its_pods_and_monitors() {
    check_table(
        "
        /machine.slice/libpod-<ID>.scope                     => podman <ID>
        /machine.slice/libpod-<ID>.scope|/container          => podman <ID>
        /machine.slice/machine-libpod_pod_<OTHER>.slice/libpod-<ID>.scope => podman <ID>
        /libpod_parent/libpod-<ID>                           => podman <ID>
        /libpod_parent/<OTHER>/libpod-<ID>                   => podman <ID>
        /user.slice/user@1.service/web.service/libpod-payload-<ID> => podman <ID>

        /user.slice/user@1.service/web.service|/runtime      => unit web.service
        /libpod_parent/<OTHER>                               => cgroup
        /libpod_parent/conmon                                => cgroup
        /libpod_parent/libpod-conmon-<ID>                    => cgroup
        /agent/libpod-conmon-<ID>                            => cgroup
        /machine.slice/libpod-conmon-<ID>.scope              => unit libpod-conmon-<ID>.scope
        ",
    );
}

#[test]
fn lxc_and_its_monitors() {
    check_table(
        "
        /lxc.payload.web_1                                   => lxc web_1
        /lxc.payload.web_1|/system.slice/ssh.service         => lxc web_1
        /lxc.payload/web_1                                   => lxc web_1
        /lxc/web_1|/ns/init.scope                            => lxc web_1
        /lxc/lxc.payload.web_1                               => lxc web_1

        /lxc.monitor.web_1                                   => cgroup
        /lxc.monitor/web_1                                   => cgroup
        /lxc/lxc.monitor.web_1                               => cgroup
        /lxc/lxc.pivot                                       => cgroup
        /lxc.payload.                                        => cgroup
        ",
    );
}

#[test]
fn machines() {
    check_table(
        r"
        /machine.slice/systemd-nspawn@my-box.service|/payload/init.scope => nspawn my-box
        /machine.slice/systemd-nspawn@my\x2dbox.service|/supervisor      => nspawn my-box
        /machine.slice/machine-my\x2dbox.scope               => nspawn my-box
        /machine.slice/machine-my\x2Dbox.scope               => nspawn my-box
        /machine.slice/machine-lxc\x2d7\x2dbox.scope         => unknown lxc-7-box

        /machine.slice/machine-qemu\x2d3\x2da.scope          => unit machine-qemu\x2d3\x2da.scope
        /machine.slice/machine-qemu\x2d3.scope|/libvirt/vcpu => unit machine-qemu\x2d3.scope
        /machine.slice/machine-ch\x2d3\x2da.scope            => unit machine-ch\x2d3\x2da.scope
        /machine.slice/systemd-nspawn@.service               => unit systemd-nspawn@.service
        /machine.slice/machine-a\x2fb.scope                  => unit machine-a\x2fb.scope
        /machine.slice/machine-a\xc3\xa9.scope               => unit machine-a\xc3\xa9.scope
        /machine.slice/machine-a\x2.scope                    => unit machine-a\x2.scope
        /machine.slice/machine-a\x.scope                     => unit machine-a\x.scope
        /machine.slice|/machine-a\x+d.scope                  => unit machine.slice
        /system.slice/machine-box.scope                      => unit machine-box.scope
        ",
    );
}

#[test]
fn agent_run() {
    check_table(
        "
        /agent/web-1.a                                       => agent web-1.a
        /user.slice/agent/web-1.a|/below                     => agent web-1.a

        /agent                                               => cgroup
        /agent/two words                                     => cgroup
        /agent/-option                                       => cgroup
        /agent/ö                                             => cgroup
        /system.slice/agent.service                          => unit agent.service
        ",
    );
    let longest = "n".repeat(255);
    check(&format!("/agent/{longest}"), &format!("agent {longest}"));
    check(&format!("/agent/{longest}n"), "cgroup");
}

#[test]
fn units() {
    check_table(
        "
        /system.slice/cron.service                           => unit cron.service
        /system.slice/cron.service|/a/b                      => unit cron.service
        /init.scope                                          => unit init.scope
        /user.slice/user@0.service/app.slice/dbus.service    => unit dbus.service
        /system.slice/_memory.service                        => unit memory.service
        /system.slice/__own.service                          => unit _own.service

        /.service                                            => cgroup
        /a b.service                                         => cgroup
        /cron.timer                                          => cgroup
        /service                                             => cgroup
        ",
    );
    let longest = format!("{}.service", "n".repeat(247));
    check(&format!("/{longest}"), &format!("unit {longest}"));
    check(&format!("/n{longest}"), "cgroup");
}

#[test]
fn paths_that_lead_nowhere() {
    check("/", "root");
    check("", "cgroup");
    check_table(
        "
        //                                                   => cgroup
        /..                                                  => cgroup
        docker/<ID>                                          => cgroup
        x/docker-<ID>.scope                                  => cgroup
        //docker/<ID>                                        => cgroup
        /../docker/<ID>                                      => cgroup
        /../../system.slice/cron.service                     => cgroup
        /docker/<ID> (deleted)                               => cgroup
        /docker/<ID>|/                                       => docker <ID>
        /docker/<ID>|//../x                                  => docker <ID>
        ",
    );
}

/// Every line of `/proc/PID/cgroup` of real containers has a row here, and every row a line.
#[test]
fn captures() {
    let rows = "
        bwrap           /                                    => root
        containerd-ctr  /default/ct1                         => containerd ct1
        crun            /                                    => root
        crun            /k1                                  => cgroup
        docker          /docker/<ID>                         => docker <ID>
        docker-systemd  /sd1/system.slice/docker-<SYSTEMD>.scope => docker <SYSTEMD>
        docker-systemd  <POD>                                => unit <SLICE>
        docker-systemd  <POD>/docker-<INPOD>.scope           => docker <INPOD> in burstable <UID>
        k8s-like        /kubepods/burstable/pod<UID>/<CRI>   => cri <CRI> in burstable <UID>
        lxc             /lxc.payload.l1                      => lxc l1
        podman-cgroupfs /libpod_parent/libpod-<PODMAN>       => podman <PODMAN>
        runc            /r1                                  => cgroup
        runc            /host.slice|/r1                      => unit host.slice
        systemd-service /sd1                                 => cgroup
        systemd-service /sd1/system.slice/peer-demo.service  => unit peer-demo.service
        "
    .replace(
        "<POD>",
        "/sd1/kubepods.slice/kubepods-burstable.slice/<SLICE>",
    )
    .replace("<SLICE>", "kubepods-burstable-pod<UID_>.slice")
    .replace(
        "<SYSTEMD>",
        "cabb705d28a9233758cbd99cc91ca020e82dee739d4a4d3ff1efb1c912732665",
    )
    .replace(
        "<INPOD>",
        "b7d5062d0efe9d67dfd257b96f9738b5c73457ed7fc008a8fa9baa3e417bcce0",
    )
    .replace(
        "<CRI>",
        "5f2d1f0a9b8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2e",
    )
    .replace(
        "<PODMAN>",
        "645118789b18c5aab4e90a620b4f993d95ed4aab648b9d823988df29beb04fac",
    );

    let mut expected = BTreeSet::new();
    for row in rows.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let (file, row) = row.split_once(' ').unwrap();
        check_table(row);
        let path = row.split_once(" => ").unwrap().0;
        expected.insert((file.to_owned(), spell(path.trim()).replace('|', "")));
    }
    assert_eq!(captured_paths(), expected);
}

/// (file, path) of every line of every capture.
fn captured_paths() -> BTreeSet<(String, String)> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap();
    let dir = workspace.join("tests/fixtures/proc-cgroup");
    let mut paths = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap() {
        let file = entry.unwrap();
        for line in fs::read_to_string(file.path()).unwrap().lines() {
            let path = line.splitn(3, ':').nth(2).unwrap();
            paths.insert((file.file_name().into_string().unwrap(), path.to_owned()));
        }
    }
    paths
}
