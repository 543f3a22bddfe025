//! What records have on a container beside its cgroup: names, labels, pods and intended limits.

use agent_model::limit::{Intent, Kind, Limit, Source, Value};

use super::*;

/// Files of docker 20.10, shortened: `docker run --name web --label … -m 64m --cpus 0.5 --pids-limit 50`.
const CONFIG: &str = r#"{"StreamConfig":{},"State":{"Running":true,"Pid":7},"ID":"9adc","Path":"sleep","Config":{
    "Hostname":"9adc5277a29e","Image":"local/stress","Volumes":null,"Labels":{"com.docker.compose.service":"db",
    "team":"blue"}},"Image":"sha256:08b6ce87da","Name":"/web","Driver":"overlay2"}"#;
const HOST_CONFIG: &str = r#"{"Binds":null,"LogConfig":{"Type":"json-file","Config":{}},"NetworkMode":"default",
    "RestartPolicy":{"Name":"no","MaximumRetryCount":0},"ConsoleSize":[0,0],"Isolation":"","CpuShares":0,
    "Memory":67108864,"NanoCpus":500000000,"CgroupParent":"","BlkioWeightDevice":[],"BlkioDeviceReadBps":null,
    "CpuQuota":0,"CpusetCpus":"","MemorySwap":134217728,"MemorySwappiness":null,"PidsLimit":50,"Ulimits":null}"#;

/// An entry of podman 4.3's and 5.4's `containers.json`.
fn entry(id: &str, name: &str) -> String {
    format!(
        r#"{{"id":"{id}","names":["{name}"],"image":"08b6","layer":"c0ff","metadata":"{{\"image-name\":\"localhost/stress:latest\",\"image-id\":\"08b6\",\"name\":\"{name}\",\"created-at\":1764460000}}","created":"2026-11-30T00:00:00Z","flags":{{"MountLabel":""}}}}"#
    )
}

fn bundle(cgroup: &str, root: &str, rest: &str) -> String {
    format!(
        r#"{{"ociVersion":"1.0.2","root":{{"path":"{root}"}},{rest}
            "linux":{{"cgroupsPath":"{cgroup}","resources":{{"memory":{{"limit":33554432}},"pids":{{"limit":2048}}}}}}}}"#
    )
}

/// The data directories of engines, as this user's.
fn store(root: &TempDir, files: &[(&str, &str)]) {
    add(root.path(), files);
}

fn kinds(intent: &Intent) -> Vec<Kind> {
    intent.limits.iter().map(|(kind, _)| *kind).collect()
}

#[test]
fn docker_has_names_labels_and_the_limits_that_were_asked_for() {
    let cgroup = format!("/docker/{ID}");
    let root = host(&[&cgroup]);
    let layer = "/data/docker/overlay2/c0ff/merged";
    record(
        &root,
        &format!("{SHIM}/moby/{ID}/config.json"),
        &bundle(&cgroup, layer, ""),
    );
    // Without docker's own files the bundle has the limits.
    let alone = confirm(root.path(), &cgroup).unwrap();
    assert_eq!(alone.named, Some(Default::default()));
    let intended = alone.intended.unwrap();
    assert_eq!(kinds(&intended), [Kind::Memory, Kind::Pids]);
    assert_eq!(intended.source, Source::Bundle);
    let files = format!("data/docker/containers/{ID}");
    store(
        &root,
        &[
            (&*format!("{files}/config.v2.json"), CONFIG),
            (&*format!("{files}/hostconfig.json"), HOST_CONFIG),
        ],
    );
    let confirmation = confirm(root.path(), &cgroup).unwrap();
    let named = confirmation.named.unwrap();
    assert_eq!((&*named.name, &*named.image), ("web", "local/stress"));
    let labels: Vec<_> = named.labels.iter().collect();
    assert_eq!(labels, [("com.docker.compose.service", "db")]);
    let intended = confirmation.intended.unwrap();
    let wanted = [Kind::Memory, Kind::MemorySwap, Kind::CpuQuota, Kind::Pids];
    assert_eq!(
        (kinds(&intended), intended.source),
        (wanted.to_vec(), Source::Docker)
    );
    let memory = Value::Amount(Limit::Value(64 << 20));
    assert_eq!(intended.limits[0], (Kind::Memory, memory));
}

#[test]
fn podman_has_names_and_images_of_both_kinds_of_containers() {
    let cgroup = format!("/libpod_parent/libpod-{ID}");
    let root = host(&[&cgroup]);
    let layer = "/data/storage/overlay/c0ff/merged";
    let path = format!("containers/storage/overlay-containers/{ID}/userdata/config.json");
    record(&root, &path, &bundle(&cgroup, layer, ""));
    let other = "f".repeat(64);
    for file in ["containers.json", "volatile-containers.json"] {
        let path = format!("data/storage/overlay-containers/{file}");
        store(
            &root,
            &[(
                &*path,
                &*format!("[{},{}]", entry(&other, "no"), entry(ID, "web")),
            )],
        );
        let confirmation = confirm(root.path(), &cgroup).unwrap();
        let named = confirmation.named.unwrap();
        assert_eq!(
            (&*named.name, &*named.image),
            ("web", "localhost/stress:latest")
        );
        assert_eq!(confirmation.intended.unwrap().source, Source::Bundle);
        fs::remove_file(root.path().join(path)).unwrap();
    }
}

#[test]
fn podmans_database_has_labels_too() {
    let id = format!("{:064x}", 7);
    let cgroup = format!("/libpod_parent/libpod-{id}");
    let root = host(&[&cgroup]);
    let userdata = format!("containers/storage/overlay-containers/{id}/userdata");
    let config = |layer: &str| bundle(&cgroup, layer, "");
    let database = include_bytes!("podman.sql");
    add(root.path(), &[("data/storage/db.sql", database)]);
    let assert_is_it = || {
        let named = confirm(root.path(), &cgroup).unwrap().named.unwrap();
        assert_eq!(
            (&*named.name, &*named.image),
            ("web-7", "localhost/stress:latest")
        );
        let labels: Vec<_> = named.labels.iter().collect();
        assert_eq!(labels, [("com.docker.compose.service", "db")]);
    };
    let path = format!("{userdata}/config.json");
    record(&root, &path, &config("/data/storage/overlay/c0ff/merged"));
    assert_is_it();
    // A root file system that is not in podman's directory: conmon's arguments name the directory.
    record(&root, &path, &config("/srv/rootfs"));
    record(&root, &format!("{userdata}/conmon.pid"), "9");
    process(&root, 9, "/libpod_parent/libpod-conmon", 50);
    let exit = "--exit-command-arg\0--root\0--exit-command-arg\0/data/storage\0";
    let arguments = format!("conmon\0-c\0{id}\0-n\0web\0{exit}");
    add(root.path(), &[("proc/9/cmdline", arguments)]);
    assert_is_it();
}

#[test]
fn names_of_podman_are_read_again_when_the_file_changes() {
    let cgroup = format!("/libpod_parent/libpod-{ID}");
    let root = host(&[&cgroup]);
    let layer = "/data/storage/vfs/dir/c0ff";
    let path = format!("containers/storage/vfs-containers/{ID}/userdata/config.json");
    record(&root, &path, &bundle(&cgroup, layer, ""));
    let records = records(root.path());
    let claim = Claim::of(&cgroup).unwrap();
    for name in ["first", "second-name"] {
        let file = root
            .path()
            .join("data/storage/vfs-containers/containers.json");
        store(
            &root,
            &[(
                "data/storage/vfs-containers/new",
                &*format!("[{}]", entry(ID, name)),
            )],
        );
        fs::rename(file.with_file_name("new"), &file).unwrap();
        for _ in 0..2 {
            let named = records.confirm(&claim).unwrap().named.unwrap();
            assert_eq!(named.name, name);
        }
    }
}

#[test]
fn a_container_without_an_image_has_the_name_that_conmon_has() {
    let cgroup = format!("/libpod_parent/libpod-{ID}");
    let root = host(&[&cgroup]);
    let userdata = format!("containers/storage/overlay-containers/{ID}/userdata");
    let bundle = bundle(&cgroup, "/srv/rootfs", "");
    record(&root, &format!("{userdata}/config.json"), &bundle);
    record(&root, &format!("{userdata}/conmon.pid"), "9");
    process(&root, 9, "/libpod_parent/libpod-conmon", 50);
    let name = || confirm(root.path(), &cgroup).unwrap().named.unwrap().name;
    let arguments = |id: &str| format!("/usr/bin/conmon\0-c\0{id}\0-u\0{id}\0-n\0web\0-s\0");
    add(root.path(), &[("proc/9/cmdline", arguments(ID))]);
    assert_eq!(name(), "web");
    // It is the process of another container, or started later than the record.
    add(root.path(), &[("proc/9/cmdline", arguments("0123"))]);
    assert_eq!(name(), "");
    add(root.path(), &[("proc/9/cmdline", arguments(ID))]);
    process(
        &root,
        9,
        "/libpod_parent/libpod-conmon",
        u64::from(u32::MAX),
    );
    assert_eq!(name(), "");
}

#[test]
fn containers_of_pods_are_named_by_their_bundles() {
    let uid = "0b1e2f31-6d07-4d5c-9d61-1a6e2b5a1c11";
    let cgroup = format!("/kubepods/burstable/pod{uid}/{ID}");
    let root = host(&[&cgroup]);
    let annotations = r#""annotations":{"io.kubernetes.cri.container-name":"nginx",
        "io.kubernetes.cri.image-name":"nginx:1.27","io.kubernetes.cri.sandbox-name":"web-0",
        "io.kubernetes.cri.sandbox-namespace":"prod"},"#;
    let layer = "rootfs";
    let path = format!("{SHIM}/k8s.io/{ID}/config.json");
    record(&root, &path, &bundle(&cgroup, layer, annotations));
    let named = confirm(root.path(), &cgroup).unwrap().named.unwrap();
    assert_eq!((&*named.name, &*named.image), ("web-0/nginx", "nginx:1.27"));
    assert_eq!(named.pod.unwrap().namespace, "prod");
}

#[test]
fn what_is_stored_is_read_only_where_others_cannot_have_written_it() {
    let cgroup = format!("/docker/{ID}");
    let root = host(&[&cgroup]);
    let layer = "/data/docker/overlay2/c0ff/merged";
    record(
        &root,
        &format!("{SHIM}/moby/{ID}/config.json"),
        &bundle(&cgroup, layer, ""),
    );
    let files = format!("data/docker/containers/{ID}");
    store(&root, &[(&*format!("{files}/config.v2.json"), CONFIG)]);
    let name = || confirm(root.path(), &cgroup).unwrap().named.unwrap().name;
    assert_eq!(name(), "web");
    let set = |path: &str, mode| {
        let path = root.path().join(path);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    // Anybody may write to the engine's directory, or to the file.
    for (path, mode) in [
        ("data/docker".to_owned(), 0o777),
        (format!("{files}/config.v2.json"), 0o666),
    ] {
        set(&path, mode);
        assert_eq!(name(), "", "{path}");
        set(&path, 0o700);
        assert_eq!(name(), "web", "{path}");
    }
    // A link on the way, and a file that is too long.
    fs::rename(root.path().join("data"), root.path().join("elsewhere")).unwrap();
    symlink("elsewhere", root.path().join("data")).unwrap();
    assert_eq!(name(), "");
    fs::remove_file(root.path().join("data")).unwrap();
    fs::rename(root.path().join("elsewhere"), root.path().join("data")).unwrap();
    let long = CONFIG.to_owned() + &" ".repeat(2 << 20);
    fs::write(root.path().join(&files).join("config.v2.json"), long).unwrap();
    assert_eq!(name(), "");
}

#[test]
fn odd_bundles_confirm_and_say_nothing() {
    let cgroup = format!("/docker/{ID}");
    let root = host(&[&cgroup]);
    let path = format!("{SHIM}/moby/{ID}/config.json");
    for linux in [
        r#""resources":{"memory":{"limit":1}}"#,
        r#""resources":{"memory":{"limit":"much"}}"#,
        r#""resources":7"#,
        r#""x":0"#,
    ] {
        let text = format!(
            r#"{{"root":{{"path":"/../../../.."}},"linux":{{"cgroupsPath":"{cgroup}",{linux}}}}}"#
        );
        record(&root, &path, &text);
        let confirmation = confirm(root.path(), &cgroup).unwrap();
        assert_eq!(confirmation.intended, None, "{linux}");
        assert_eq!(confirmation.named, Some(Default::default()), "{linux}");
    }
}

// Only root's systemd has machines.
#[test]
#[ignore = "needs root"]
fn machines_have_the_root_file_system_as_image() {
    let cgroup = "/machine.slice/systemd-nspawn@web.service";
    let root = host(&[cgroup]);
    let text = "NAME=web\nROOT=/var/lib/machines/web\nLEADER=7\n";
    record(&root, "systemd/machines/web", text);
    process(&root, 7, &format!("{cgroup}/payload"), 50);
    let image = |cgroup: &str| confirm(root.path(), cgroup).unwrap().named.unwrap().image;
    assert_eq!(image(cgroup), "/var/lib/machines/web");
    let config = "lxc.rootfs.path = dir:/srv/web\nlxc.cgroup2.pids.max = 50\n";
    add(root.path(), &[("var/lib/lxc/web/config", config)]);
    assert_eq!(image("/lxc.payload.web"), "dir:/srv/web");
    let intended = confirm(root.path(), "/lxc.payload.web").unwrap().intended;
    assert_eq!(kinds(&intended.unwrap()), [Kind::Pids]);
}
