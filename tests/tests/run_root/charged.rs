//! What an image costs is charged by what is there, whatever its entries call it: links that it makes on the way change no
//! sum, and lead to no deeper directories than names do.

use std::process::Command;

use serde_json::json;
use tests::archive::{
    Entry, directory, file, hard_link, layer, saved, shell, symbolic_link, write,
};
use tests::disk::Disk;
use tests::program::program;
use tests::slow::some;

use crate::{Came, run};

/// Runs an image with these layers above a shell, in memory alone: `memory` is all that it may take.
fn in_memory(memory: &str, layers: &[Vec<u8>], command: &[&str]) -> Came {
    with_images_on("-t tmpfs none", memory, layers, command)
}

/// Likewise, where images go to what is mounted by these words.
fn with_images_on(mounted: &str, memory: &str, layers: &[Vec<u8>], command: &[&str]) -> Came {
    let place = tempfile::tempdir().expect("a directory");
    let layers = [&[shell()][..], layers].concat();
    let image = write(place.path(), "image.tar", &saved(&layers, &json!({})));
    let script =
        format!("mkdir -p /var/lib/agent && mount {mounted} /var/lib/agent && exec \"$@\"");
    let mut alone = Command::new(program("unshare"));
    alone.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        &script,
        "sh",
    ]);
    alone.arg(tests::agent::binary());
    alone
        .args(["run", "-m", memory, "--image", &image])
        .args(command);
    Came::of(alone)
}

#[test]
#[ignore = "needs root"]
fn a_hard_link_is_charged_for_the_file_that_is_copied() {
    let big = vec![1; 4 << 20];
    let below = layer(&[directory("d"), directory("small"), file("d/big", &big)]);
    // `q/big` is the layer's own, until `q` is another directory.
    let turned = layer(&[
        symbolic_link("q", "small"),
        file("q/big", b"x"),
        symbolic_link("q", "d"),
        hard_link("n", "q/big"),
    ]);
    // One file below by two names: the kernel copies it for each.
    let aliased = layer(&[hard_link("n", "d/big"), hard_link("m", "d/other")]);
    let alias = layer(&[hard_link("d/other", "d/big")]);
    let plain = layer(&[hard_link("n", "d/big")]);
    for (name, above) in [
        ("turned", vec![turned; 16]),
        ("aliased", [&[alias][..], &vec![aliased; 8]].concat()),
        ("plain", vec![plain.clone(); 16]),
    ] {
        let layers = [&[below.clone()][..], &above].concat();
        let said = in_memory("48m", &layers, &["true"]).badly(125);
        assert!(
            said.contains("larger than 48.0M unpacked"),
            "{name}: {said}"
        );
    }
    let well = in_memory("48m", &[below, plain], &["sh", "-c", "ls /n /d/big"]);
    assert_eq!(well.well(), "/d/big\n/n\n");
}

/// Directories of 40 names in each other, that many times, each time below a link to those before; `L0`, `L1` and so on lead
/// there.
fn deep(times: usize) -> Vec<u8> {
    let names = ["a"; 40].join("/");
    let above = |time: usize| match time.checked_sub(1) {
        Some(before) => format!("L{before}/{names}"),
        None => names.clone(),
    };
    let paths: Vec<String> = (0..times).map(above).collect();
    let links: Vec<String> = (0..times).map(|time| format!("L{time}")).collect();
    let entries = paths.iter().zip(&links);
    let entries = entries.flat_map(|(path, link)| [directory(path), symbolic_link(link, path)]);
    layer(&entries.collect::<Vec<Entry<'_>>>())
}

#[test]
#[ignore = "needs root"]
fn directories_are_charged_that_an_entry_is_in_by_links() {
    // It has 16,384 inodes, and 64 MiB.
    let disk = Disk::new();
    let device = disk.device.to_str().expect("UTF-8");
    let layers = |entries: &[Entry<'_>]| [&[deep(6)][..], &vec![layer(entries); 60]].concat();
    let filled = layers(&[file("L5/f", b"x")]);
    let cases = [
        &filled,
        &layers(&[file("L5/.wh.f", b"")]),
        &layers(&[hard_link("L5/f", "bin/sh")]),
    ];
    for layers in some(cases, 1) {
        let said = with_images_on(device, "32m", layers, &["true"]).badly(125);
        assert!(
            said.contains("more entries than there is room for"),
            "{said}"
        );
    }
    let command = ["sh", "-c", "cd L5 && pwd -P | tr -d a | wc -c; cat f"];
    let well = in_memory("16m", &filled[..2], &command).well();
    assert_eq!(well, "241\nx");
}

#[test]
#[ignore = "needs root"]
fn links_lead_no_deeper_than_names() {
    for (name, layers) in [
        ("made", vec![deep(30)]),
        (
            "filled",
            vec![
                deep(6),
                layer(&[file(&format!("L5/{}f", "b/".repeat(20)), b"x")]),
            ],
        ),
    ] {
        let said = in_memory("64m", &layers, &["true"]).badly(125);
        assert!(
            said.contains("links lead to more than 256 nested directories"),
            "{name}: {said}"
        );
    }
    // Where they lead up and down again, not by more names either.
    let up_and_down = "a/../".repeat(18);
    let mut entries = vec![directory("a"), symbolic_link("0", &up_and_down)];
    let links: Vec<_> = (1..30)
        .map(|it| (it.to_string(), format!("{0}/{0}/{0}/{0}", it - 1)))
        .collect();
    entries.extend(
        links
            .iter()
            .map(|(name, target)| symbolic_link(name, target)),
    );
    entries.push(file("9/a/f", b"x"));
    let said = in_memory("64m", &[layer(&entries)], &["true"]).badly(125);
    assert!(
        said.contains("4096 names") || said.contains("Too many levels"),
        "{said}"
    );
}

#[test]
#[ignore = "needs root"]
fn a_layers_own_files_stay_by_whatever_name() {
    let place = tempfile::tempdir().expect("a directory");
    let layers = [
        shell(),
        layer(&[
            directory("usr"),
            directory("usr/lib"),
            symbolic_link("lib", "usr/lib"),
            file("lib/old", b""),
            file("lib/kept", b""),
        ]),
        layer(&[
            file("usr/lib/new", b"new"),
            file("lib/.wh.new", b""),
            file("lib/.wh.old", b""),
            hard_link("lib/again", "usr/lib/new"),
            file("nowhere/.wh.x", b""),
        ]),
    ];
    let image = write(place.path(), "image.tar", &saved(&layers, &json!({})));
    let said = run(
        &["--image", &image],
        &["sh", "-c", "ls /usr/lib; cat /lib/again"],
    )
    .well();
    assert_eq!(said, "again\nkept\nnew\nnew");
}
