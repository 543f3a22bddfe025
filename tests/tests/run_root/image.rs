//! Images: `docker save`'s, made by hand and by docker, and OCI layouts.

use std::fs;
use std::path::Path;

use serde_json::json;
use tests::docker::Docker;

use crate::run;
use tests::agent::agent;
use tests::archive::{
    Entry, directory, file, gzip, hard_link, layer, layout, saved, shell, symbolic_link, write,
    zstd,
};
use tests::run::{Container, output, text};
use tests::wait::{PATIENCE, wait_for};

/// Layers that add, change and take away.
fn layers() -> Vec<Vec<u8>> {
    let owned = Entry {
        owner: (33, 34),
        mode: 0o640,
        ..file("data/changed", b"below")
    };
    let long = format!("data/{}", "n".repeat(80));
    vec![
        shell(),
        layer(&[
            directory("data"),
            owned,
            file("data/gone", b"below"),
            file("data/kept", b"below"),
            file("data/gone-directory/file", b"below"),
            directory("emptied"),
            file("emptied/old", b"below"),
            file("emptied/below/old", b"below"),
            directory("merged"),
            symbolic_link("short", "merged"),
            symbolic_link("absolute", "/merged"),
            file(&long, b"long"),
        ]),
        layer(&[
            Entry {
                owner: (35, 36),
                mode: 0o4755,
                ..file("data/changed", b"above")
            },
            file("data/.wh.gone", b""),
            file("data/.wh.gone-directory", b""),
            file("data/.wh.never-there", b""),
            // What is new stays, wherever the mark stands.
            file("emptied/new", b"above"),
            file("emptied/.wh..wh..opq", b""),
            file("short/through", b"1"),
            file("absolute/as-well", b"2"),
            hard_link("linked", "data/kept"),
        ]),
        // What was taken away can come again.
        layer(&[file("data/gone-directory", b"again, as a file")]),
    ]
}

const LOOK: &str = "cd /data; cat changed kept gone-directory; echo; stat -c '%u:%g %a' changed; ls | cat; \
                    ls -R /emptied /merged; cat /linked; stat -c %h /linked";

const SEEN: &str = "abovebelowagain, as a file\n35:36 4755\nchanged\ngone-directory\nkept\n";

#[track_caller]
fn assert_seen(seen: &str) {
    assert!(seen.starts_with(SEEN), "{seen}");
    let rest = "/emptied:\nnew\n\n/merged:\nas-well\nthrough\nbelow2\n";
    assert!(seen.ends_with(rest), "{seen}");
}

#[test]
#[ignore = "needs root"]
fn layers_add_change_and_take_away() {
    let place = tempfile::tempdir().expect("a directory");
    let config = json!({});
    let archives = [
        ("saved.tar", saved(&layers(), &config)),
        ("saved.tar.gz", gzip(&saved(&layers(), &config))),
        ("layout.tar", layout(&layers(), &config)),
    ];
    for (name, bytes) in archives {
        let image = write(place.path(), name, &bytes);
        let seen = run(&["--image", &image], &["sh", "-c", LOOK]).well();
        assert_seen(&seen.replace(&format!("{}\n", "n".repeat(80)), ""));
    }
}

#[test]
#[ignore = "needs root"]
fn an_image_says_what_runs_and_how() {
    let place = tempfile::tempdir().expect("a directory");
    let config = json!({
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": ["id -u; id -g; pwd; echo $A; echo $PATH"],
        "Env": ["A=of the image", "PATH=/bin:/else"],
        "WorkingDir": "/work",
        "User": "7:8",
    });
    let layers = [shell(), layer(&[directory("work")])];
    let image = write(place.path(), "image.tar", &saved(&layers, &config));
    let said = run(&["--image", &image], &[]).well();
    assert_eq!(said, "7\n8\n/work\nof the image\n/bin:/else\n");
    let flags = [
        "--user",
        "9",
        "-e",
        "A=asked for",
        "-w",
        "/",
        "--image",
        &image,
    ];
    let said = run(&flags, &["pwd; echo $A; id -u"]).well();
    assert_eq!(said, "/\nasked for\n9\n");
}

#[test]
#[ignore = "needs root"]
fn what_is_written_is_thrown_away() {
    let place = tempfile::tempdir().expect("a directory");
    let bytes = saved(&[shell(), layer(&[file("data", b"whole")])], &json!({}));
    let image = write(place.path(), "image.tar", &bytes);
    let script =
        "cat /data; ls /new 2>/dev/null; echo changed >/data; touch /new; cat /data; ls /new";
    for _ in 0..2 {
        let said = run(&["--image", &image], &["sh", "-c", script]).well();
        assert_eq!(said, "wholechanged\n/new\n");
    }
    assert_eq!(fs::read(&image).expect("the archive"), bytes);
    let flags = ["--read-only", "--image", &image];
    let refused = run(&flags, &["sh", "-c", "echo changed >/data"]);
    assert_eq!(refused.status, Some(1), "{}", refused.err);
    assert!(refused.err.contains("Read-only"), "{}", refused.err);
}

#[test]
#[ignore = "needs root"]
fn in_a_user_namespace_files_have_its_owners() {
    let place = tempfile::tempdir().expect("a directory");
    let owned = |id| Entry {
        owner: (id, id),
        ..file("data", b"whole")
    };
    let image = |id: u64| {
        let bytes = saved(&[shell(), layer(&[owned(id)])], &json!({}));
        write(place.path(), "image.tar", &bytes)
    };
    let ids = [
        "--uid-map",
        "0:200000:1000",
        "--gid-map",
        "0:300000:1000",
        "--image",
    ];
    let script = "stat -c %u:%g / /bin/busybox /data; touch /new && stat -c %u:%g /new";
    let said = run(&[&ids[..], &[&image(7)]].concat(), &["sh", "-c", script]).well();
    assert_eq!(said, "0:0\n0:0\n7:7\n0:0\n");
    let said = run(&[&ids[..], &[&image(1000)]].concat(), &["true"]).badly(125);
    assert!(
        said.contains("data: its owner is not among the ids"),
        "{said}"
    );
}

#[test]
#[ignore = "needs root"]
fn what_docker_saves() {
    let docker = Docker::start();
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("saved.tar");
    let image = path.to_str().expect("UTF-8");
    let script =
        "mkdir /made && echo by docker >/made/file && cat /bin/readlink >/bin/copy && exec true";
    // `docker commit` makes a layer of what a container changed.
    let container = docker.create(&[], &["sh", "-c", script]);
    docker.call(&["start", "--attach", container.id()]);
    let changes = [
        "--change",
        "CMD [\"sh\", \"-c\", \"cat /made/file\"]",
        "--change",
        "ENV A=b",
    ];
    docker.call(
        &[
            &["commit"],
            &changes[..],
            &[container.id(), "local/committed:3"],
        ]
        .concat(),
    );
    docker.call(&["save", "--output", image, "local/committed:3"]);
    assert!(Path::new(image).is_file());
    assert_eq!(run(&["--image", image], &[]).well(), "by docker\n");
    let said = run(
        &["--image", image],
        &["sh", "-c", "echo $A; cat /made/file"],
    )
    .well();
    assert_eq!(said, "b\nby docker\n");
    docker.call(&["rmi", "local/committed:3"]);
}

#[test]
#[ignore = "needs root"]
fn what_is_no_image_is_said() {
    let place = tempfile::tempdir().expect("a directory");
    let directory = place.path().to_str().expect("UTF-8");
    let whole = saved(&[shell()], &json!({}));
    let two = json!([
        {"Config": "c", "RepoTags": ["a:1"], "Layers": []},
        {"Config": "c", "RepoTags": null, "Layers": []},
    ]);
    let two = layer(&[file("manifest.json", two.to_string().as_bytes())]);
    let outside = json!([{"Config": "../c", "RepoTags": [], "Layers": ["x"]}]);
    let outside = layer(&[file("manifest.json", outside.to_string().as_bytes())]);
    let cases: [(&str, &[u8], &str); 9] = [
        ("empty", b"", "neither manifest.json nor oci-layout"),
        (
            "text",
            &[b'x'; 4096],
            "not a tar archive, or not a whole one",
        ),
        ("short", &whole[..whole.len() / 2], "ends before it does"),
        ("zstd", b"\x28\xb5\x2f\xfd....", "--image"),
        ("xz", b"\xfd7zXZ\0....", "compressed with xz"),
        ("gzip", b"\x1f\x8b\x08\x00....", "--image"),
        (
            "json",
            &layer(&[file("manifest.json", b"[{")]),
            "manifest.json: EOF",
        ),
        ("two", &two, "several images (a:1, one without a name)"),
        ("outside", &outside, "a path with `..`"),
    ];
    for (name, bytes, wanted) in cases {
        let image = write(place.path(), name, bytes);
        let said = run(&["--image", &image], &["true"]).badly(125);
        assert!(
            said.contains(&image) && said.contains(wanted),
            "{name}: {said}"
        );
    }
    let said = run(&["--image", "/nowhere.tar"], &["true"]).badly(125);
    assert!(said.contains("there is no /nowhere.tar"), "{said}");
    let said = run(&["--image", directory], &["true"]).badly(125);
    assert!(said.contains("is not an archive"), "{said}");
}

/// A layer may be compressed in either way, and so may the archive; of frames, and of ones to be skipped.
#[test]
#[ignore = "needs root"]
fn what_zstd_has_compressed() {
    let place = tempfile::tempdir().expect("a directory");
    let (first, second) = (shell(), layer(&[file("data", b"of the second layer")]));
    let middle = first.len() / 2;
    let skipped = b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip";
    let frames = [
        &zstd(&first[..middle])[..],
        skipped,
        &zstd(&first[middle..]),
    ]
    .concat();
    let image = saved(&[frames, zstd(&second)], &json!({}));
    let whole = zstd(&image);
    for (name, bytes) in [("layers", &image), ("all", &whole)] {
        let image = write(place.path(), name, bytes);
        let said = run(&["--image", &image], &["cat", "/data"]).well();
        assert_eq!(said, "of the second layer", "{name}");
    }
    let damaged = write(place.path(), "damaged", &whole[..whole.len() - 9]);
    run(&["--image", &damaged], &["true"]).badly(125);
}

/// A layout whose index lists these, each a name, and where it is in `blobs`: images, and an index of them.
fn listed(names: &[(&str, Listed)]) -> Vec<u8> {
    let image = |text: &str| {
        let config = json!({"config": {"Env": [format!("WHICH={text}")]}}).to_string();
        let layer = gzip(&shell());
        [("c", config.into_bytes()), ("l", layer)]
            .map(|(kind, bytes)| (format!("{kind}{text}"), bytes))
    };
    let descriptor =
        |digest: &str, size: usize| json!({"digest": format!("sha256:{digest}"), "size": size});
    let mut blobs: Vec<(String, Vec<u8>)> = Vec::new();
    for which in ["1", "2"] {
        let [config, layer] = image(which);
        let manifest = json!({
            "schemaVersion": 2,
            "config": descriptor(&config.0, config.1.len()),
            "layers": [descriptor(&layer.0, layer.1.len())],
        });
        blobs.extend([
            config,
            layer,
            (format!("m{which}"), manifest.to_string().into_bytes()),
        ]);
    }
    let mut foreign = descriptor("m2", 1);
    foreign["platform"] = json!({"os": "linux", "architecture": "s390x"});
    // Neither says what it is: what is in it tells.
    let inner = json!({"manifests": [descriptor("m1", 1), foreign]}).to_string();
    let only_foreign = json!({"manifests": [foreign]}).to_string();
    let outer = json!({"manifests": [descriptor("inner", 1)]}).to_string();
    for (digest, text) in [
        ("inner", inner),
        ("foreign", only_foreign),
        ("outer", outer),
    ] {
        blobs.push((digest.to_owned(), text.into_bytes()));
    }
    let manifests = names.iter().map(|(name, listed)| {
        let mut one = descriptor(listed.digest(), 1);
        one["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        one
    });
    let index = json!({"manifests": manifests.collect::<Vec<_>>()}).to_string();
    let mut entries = vec![
        file("oci-layout", b"{}"),
        file("index.json", index.as_bytes()),
    ];
    let blobs: Vec<_> = blobs
        .iter()
        .map(|(name, bytes)| (format!("blobs/sha256/{name}"), bytes))
        .collect();
    entries.extend(blobs.iter().map(|(name, bytes)| file(name, bytes)));
    layer(&entries)
}

#[derive(Clone, Copy)]
enum Listed {
    First,
    Second,
    IndexOfFirst,
    IndexOfIndex,
    IndexOfForeign,
}

impl Listed {
    fn digest(self) -> &'static str {
        match self {
            Self::First => "m1",
            Self::Second => "m2",
            Self::IndexOfFirst => "inner",
            Self::IndexOfIndex => "outer",
            Self::IndexOfForeign => "foreign",
        }
    }
}

#[test]
#[ignore = "needs root"]
fn names_of_one_digest_are_one_image_in_whatever_index() {
    use Listed::{First, IndexOfFirst, IndexOfForeign, IndexOfIndex, Second};
    let place = tempfile::tempdir().expect("a directory");
    for (index, names) in [
        &[("a:1", First), ("a:latest", First)][..],
        &[("a:1", IndexOfFirst)],
        &[("a:1", IndexOfFirst), ("b:1", IndexOfFirst)],
        &[("a:1", IndexOfIndex), ("b:1", First)],
        &[("x:1", IndexOfForeign), ("a:1", IndexOfFirst)],
    ]
    .into_iter()
    .enumerate()
    {
        let image = write(place.path(), &index.to_string(), &listed(names));
        let said = run(&["--image", &image], &["sh", "-c", "echo $WHICH"]).well();
        assert_eq!(said, "1\n", "{index}");
    }
    let image = write(
        place.path(),
        "two",
        &listed(&[("a:1", First), ("b:1", Second)]),
    );
    let said = run(&["--image", &image], &["true"]).badly(125);
    assert!(said.contains("several images (a:1, b:1)"), "{said}");
    let image = write(place.path(), "none", &listed(&[("a:1", IndexOfForeign)]));
    let said = run(&["--image", &image], &["true"]).badly(125);
    assert!(said.contains("no image for linux/"), "{said}");
}

/// The image's signal, or that of the flag, and of a bundle's annotation.
#[test]
#[ignore = "needs root"]
fn a_container_is_stopped_by_the_signal_that_its_image_says() {
    let place = tempfile::tempdir().expect("a directory");
    let script = "trap 'exit 8' USR1; trap 'exit 9' TERM; trap 'exit 10' USR2; touch /ready; while :; do cat /dev/null; done";
    let config = json!({"StopSignal": "SIGUSR1", "Cmd": ["sh", "-c", script]});
    let image = write(place.path(), "image", &saved(&[shell()], &config));
    for (flags, wanted) in [(&[][..], "8"), (&["--stop-signal", "usr2"], "10")] {
        let container = Container::new("stop-signal");
        let mut start = agent(["run", "-d", "--name", &container.name, "--image", &image]);
        text(start.args(flags));
        wait_for("the traps are set", PATIENCE, || {
            let mut ready = container.agent("exec", &[], &["stat", "/ready"]);
            output(&mut ready).status.success().then_some(())
        });
        text(&mut container.agent("stop", &[], &[]));
        assert_eq!(
            text(&mut container.agent("wait", &[], &[])).trim_end(),
            wanted
        );
        text(&mut container.agent("rm", &[], &[]));
    }
    let config = json!({"StopSignal": "SIGNONE"});
    let image = write(place.path(), "bad", &saved(&[shell()], &config));
    let said = run(&["--image", &image], &["true"]).badly(125);
    assert!(
        said.contains("StopSignal \"SIGNONE\"") && said.contains("wanted: a signal"),
        "{said}"
    );
}
