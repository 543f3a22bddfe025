//! Links in a root file system that lead out of it, at every place where a launch looks up a path.

mod moved;
mod site;

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use tests::archive::{directory, file, layer, saved, shell, symbolic_link, write};
use tests::attacks::{Attack, Kind, Launcher, Outcome, judge};
use tests::slow::some;

use self::site::{SECRET, Site, links};

const ATTACKS: [Attack; 17] = [
    row("the target of a volume, by a link upwards", volume_upwards),
    row(
        "the target of a volume, by an absolute link",
        volume_absolute,
    ),
    row(
        "the target of a volume, by a link to a link",
        volume_link_to_link,
    ),
    row(
        "the target of a volume, itself a link to nothing",
        volume_dangling,
    ),
    row(
        "the target of a volume, through /proc/self/root",
        volume_magic,
    ),
    row(
        "the target of a volume, through another volume",
        volume_through_volume,
    ),
    row(
        "the target of a volume, by a link that another container left",
        left_behind,
    ),
    row("the target of a tmpfs", tmpfs),
    row("the target of a bundle's mount", bundle_mount),
    row("the directory of the cgroups", cgroups),
    row("a masked path", masked),
    row("a read-only path", read_only),
    row(
        "a masked path, whose /proc is moved away meanwhile",
        moved::away,
    ),
    row("the accounts of --user", accounts),
    row("the accounts of exec --user", exec_accounts),
    row(
        "the working directory, through a descriptor",
        working_directory,
    ),
    row("a file of an image's layer", image_layer),
];

const fn row(name: &'static str, carry_out: fn(Launcher) -> Outcome) -> Attack {
    Attack { name, carry_out }
}

#[test]
#[ignore = "needs root"]
fn no_link_leads_out_of_a_root() {
    judge(Kind::Lookup, &ATTACKS);
}

/// Puts each of some links at `var/door`, and mounts a file below it.
fn volume_by(launcher: Launcher, texts: &[String], target: &str) -> Outcome {
    let site = Site::new();
    let volume = format!("{}:{target}", site.file().display());
    site.first_broken(texts, |text| {
        site.rootfs.link("var/door", text);
        site.run(launcher, &["-v", &volume], &["/bin/true"]);
    })
}

fn volume_upwards(launcher: Launcher) -> Outcome {
    let texts: Vec<String> = some((1..=12).map(links::upwards), 4).collect();
    volume_by(launcher, &texts, "/var/door/new")
}

fn volume_absolute(launcher: Launcher) -> Outcome {
    volume_by(launcher, &[links::absolute()], "/var/door/new")
}

fn volume_link_to_link(launcher: Launcher) -> Outcome {
    let site = Site::new();
    site.rootfs
        .link("var/first", site.link_out(&links::upwards(12)));
    site.rootfs.link("second", "/var/../var/first");
    let volume = format!("{}:/second/new", site.file().display());
    site.rootfs.link("door", "second");
    let other = format!("{}:/door/new", site.file().display());
    for volume in [volume, other] {
        site.run(launcher, &["-v", &volume], &["/bin/true"]);
    }
    site.outcome()
}

fn volume_dangling(launcher: Launcher) -> Outcome {
    let texts = [links::absolute(), links::upwards(12), links::upwards(1)];
    let texts = texts.map(|text| format!("{text}/new"));
    volume_by(launcher, &texts, "/var/door")
}

fn volume_magic(launcher: Launcher) -> Outcome {
    let up = links::upwards(12);
    let texts = ["/proc/self/root", "/proc/1/root", "/proc/self/cwd"];
    let texts = texts.map(|magic| format!("{magic}/{up}"));
    volume_by(launcher, &texts, "/var/door/new")
}

fn volume_through_volume(launcher: Launcher) -> Outcome {
    let site = Site::new();
    let shared = site.shared();
    symlink(site.link_out(&links::upwards(12)), shared.join("door")).expect("a link");
    let shared = format!("{}:/shared", shared.display());
    let file = site.file();
    for target in ["/shared/door/new", "/way/new"] {
        site.rootfs.link("way", "/shared/door");
        let volume = format!("{}:{target}", file.display());
        let flags = ["-v", &shared, "-v", &volume];
        site.run(launcher, &flags, &["/bin/true"]);
    }
    site.outcome()
}

fn left_behind(launcher: Launcher) -> Outcome {
    let site = Site::new();
    let shared = format!("{}:/shared", site.shared().display());
    let text = site.link_out(&links::upwards(12));
    let leave = format!("/bin/busybox ln -s {} /shared/door", text.display());
    site.run(launcher, &["-v", &shared], &["/bin/sh", "-c", &leave]);
    assert!(
        site.shared().join("door").is_symlink(),
        "the first container ran"
    );
    let volume = format!("{}:/shared/door/new", site.file().display());
    site.run(launcher, &["-v", &shared, "-v", &volume], &["/bin/true"]);
    site.outcome()
}

fn tmpfs(launcher: Launcher) -> Outcome {
    let site = Site::new();
    site.first_broken(&links::all(), |text| {
        site.rootfs.link("door", text);
        for target in ["/door/new", "/door/new/deep"] {
            site.run(launcher, &["--tmpfs", target], &["/bin/true"]);
        }
    })
}

fn bundle_mount(launcher: Launcher) -> Outcome {
    let site = Site::new();
    site.first_broken(&links::all(), |text| {
        site.rootfs.link("door", text);
        let mount = json!({"destination": "/door/new", "type": "tmpfs", "source": "tmpfs"});
        site.run_bundle(launcher, &["/bin/true"], |spec| {
            add(spec, "/mounts", &mount)
        });
    })
}

/// Where the bundle mounts no `/sys`, its place is the root file system's.
fn cgroups(launcher: Launcher) -> Outcome {
    const V1: &str = "broken where cgroups are of v1";
    if launcher == Launcher::Runc && !tests::cgroup::Cgroup::is_v1("memory") {
        return Outcome::DoesNotApply(V1);
    }
    let site = Site::new();
    let outcome = site.first_broken(&links::all(), |text| {
        site.rootfs.link("sys", text);
        site.run_bundle(launcher, &["/bin/true"], |spec| {
            let mounts = spec["mounts"].as_array_mut().expect("mounts");
            mounts.retain(|mount| mount["destination"] != "/sys");
        });
    });
    match (launcher, outcome) {
        (Launcher::Runc, Outcome::Broken) => Outcome::DoesNotApply(V1),
        (_, outcome) => outcome,
    }
}

/// A link of the root leads to what must be hidden in it, not to the same path of the host.
fn masked(launcher: Launcher) -> Outcome {
    let site = Site::new();
    let inside = site.rootfs.path().join("data/hidden");
    fs::create_dir_all(inside.parent().expect("a directory")).expect("a directory");
    fs::write(inside, "of the root").expect("a file");
    site.rootfs.link("mask", "/data/hidden");
    let said = site.run_bundle(launcher, &["/bin/cat", "/data/hidden"], |spec| {
        spec["linux"]["maskedPaths"] = json!(["/mask"]);
    });
    broken_if(said.contains("of the root"))
}

fn read_only(launcher: Launcher) -> Outcome {
    let site = Site::new();
    fs::create_dir_all(site.rootfs.path().join("data/kept")).expect("a directory");
    site.rootfs.link("keep", "/data/kept");
    let script = "echo written >/data/kept/file";
    site.run_bundle(launcher, &["/bin/sh", "-c", script], |spec| {
        spec["linux"]["readonlyPaths"] = json!(["/keep"]);
    });
    broken_if(site.rootfs.path().join("data/kept/file").exists())
}

/// The host's accounts, as those of the root.
const ACCOUNTS: &str = "outsider:x:4242:4242::/:/bin/sh\n";

fn accounts(launcher: Launcher) -> Outcome {
    if launcher == Launcher::Runc {
        return Outcome::DoesNotApply("it takes numbers only");
    }
    let site = Site::new();
    fs::write(site.rootfs.outside().join("file"), ACCOUNTS).expect("a file");
    let mut known = false;
    for text in links::all() {
        let text = site.link_out(&format!("{text}/file"));
        site.rootfs.link("etc/passwd", text);
        let said = site.run(launcher, &["-u", "outsider"], &["/bin/busybox", "id"]);
        known |= said.contains("4242");
    }
    broken_if(known)
}

fn exec_accounts(launcher: Launcher) -> Outcome {
    if launcher == Launcher::Runc {
        return Outcome::DoesNotApply("it takes numbers only");
    }
    let site = Site::new();
    fs::write(site.rootfs.outside().join("file"), ACCOUNTS).expect("a file");
    let container = site.start(launcher);
    let mut known = false;
    for text in links::all() {
        let text = site.link_out(&format!("{text}/file"));
        site.rootfs.link("etc/passwd", text);
        let said = Site::exec(
            launcher,
            &container,
            &["-u", "outsider"],
            &["/bin/busybox", "id"],
        );
        known |= said.contains("4242");
    }
    broken_if(known)
}

/// CVE-2024-21626: what the launcher has open leads to the host.
fn working_directory(launcher: Launcher) -> Outcome {
    let site = Site::new();
    let up = links::upwards(12);
    let mut stolen = false;
    let numbers: Vec<u32> = match launcher {
        // Which one leads out is not known.
        Launcher::Unguarded(_) => (3..16).collect(),
        _ => some(3..16, 4).collect(),
    };
    for number in numbers {
        let direct = format!("/proc/self/fd/{number}/{up}");
        let direct = site.link_out(&direct);
        site.rootfs.link("door", &direct);
        for directory in [direct.to_str().expect("UTF-8"), "/door"] {
            let command = ["/bin/cat", "file"];
            let said = site.run(launcher, &["-w", directory], &command);
            stolen |= said.contains(SECRET);
        }
        if stolen {
            break;
        }
    }
    broken_if(stolen)
}

fn image_layer(launcher: Launcher) -> Outcome {
    if launcher == Launcher::Runc {
        return Outcome::DoesNotApply("it unpacks no images");
    }
    let site = Site::new();
    for text in links::all() {
        let text = site.link_out(&text);
        let entries = [
            symbolic_link("door", text.to_str().expect("UTF-8")),
            directory("door/new"),
            file("door/new/file", b"evil"),
        ];
        let bytes = saved(&[shell(), layer(&entries)], &json!({}));
        let image = write(&site.shared(), "image.tar", &bytes);
        Site::call(
            launcher,
            &["--image", &image, "--", "/bin/sh", "-c", "true"],
        );
    }
    site.outcome()
}

/// Where the launch finds only what it has made, or looks up no link: no guard can be turned off.
#[test]
#[ignore = "needs root"]
fn no_link_is_followed_to_devices_settings_or_by_exec() {
    let agent = Launcher::Agent;
    let site = Site::new();
    let up = links::upwards(12);
    let shared = site.shared();
    fs::create_dir_all(shared.join("net/ipv4")).expect("a directory");
    let setting = "net.ipv4.ip_unprivileged_port_start";
    let container = site.start(agent);
    for text in links::all() {
        let text = site.link_out(&text);
        let door = shared.join("door");
        let _ = fs::remove_file(&door);
        symlink(&text, &door).expect("a link");
        let device = json!({"path": "/dev/shared/door/new", "type": "c", "major": 1, "minor": 3});
        let bind = json!({"destination": "/dev/shared", "source": shared, "options": ["bind"]});
        site.run_bundle(agent, &["/bin/true"], |spec| {
            spec["linux"]["devices"] = json!([device]);
            add(spec, "/mounts", &bind);
        });
        let file = shared.join("net/ipv4/ip_unprivileged_port_start");
        let _ = fs::remove_file(&file);
        symlink(text.join("file"), &file).expect("a link");
        let volume = format!("{}:/proc/sys", shared.display());
        let sysctl = format!("{setting}=99");
        site.run(agent, &["-v", &volume, "--sysctl", &sysctl], &["/bin/true"]);
        site.rootfs.link("way", &text);
        for directory in ["/way", "/way/new"] {
            let said = Site::exec(agent, &container, &["-w", directory], &["/bin/cat", "file"]);
            assert!(!said.contains(SECRET), "{text:?}: {said}");
        }
        assert_eq!(site.outcome(), Outcome::Held, "{text:?}");
    }
    for number in some(3..16, 4) {
        let directory = site.link_out(&format!("/proc/self/fd/{number}/{up}"));
        let directory = directory.to_str().expect("UTF-8");
        let said = Site::exec(agent, &container, &["-w", directory], &["/bin/cat", "file"]);
        assert!(!said.contains(SECRET), "{directory}: {said}");
    }
}

fn add(spec: &mut Value, list: &str, one: &Value) {
    let list = spec.pointer_mut(list).and_then(Value::as_array_mut);
    list.expect("a list").push(one.clone());
}

fn broken_if(broken: bool) -> Outcome {
    if broken {
        Outcome::Broken
    } else {
        Outcome::Held
    }
}
