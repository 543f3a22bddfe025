//! Images, bundles and flags that say much: what the agent writes of a container it can read too, so that nothing hides
//! from those who ask what was intended.

use std::fs;

use serde_json::{Value, json};
use tests::agent::agent;
use tests::archive::{saved, saved_as, shell, write};
use tests::run::{self, Container};

use crate::{Came, run};

/// Variables that have 1.2 MB together, each no longer than the kernel takes.
fn variables() -> Vec<String> {
    let variable = |number| format!("V{number}={}", "x".repeat(100_000));
    (0..12).map(variable).collect()
}

#[test]
#[ignore = "needs root"]
fn what_cannot_be_read_again_is_refused() {
    let place = tempfile::tempdir().expect("a directory");
    let shell = [shell()];
    let image = |name: &str, config: Value| write(place.path(), name, &saved(&shell, &config));
    let many = image("many.tar", json!({"Env": variables()}));
    // A character that takes six in JSON.
    let odd = image(
        "odd.tar",
        json!({"Env": ["V=".to_owned() + &"\u{1}".repeat(400_000)]}),
    );
    let long = image("long.tar", json!({"Cmd": vec!["x".repeat(100_000); 12]}));
    let bundle = place.path().join("bundle");
    fs::create_dir_all(bundle.join("rootfs")).expect("a directory");
    let mut spec =
        run::text(agent(["run", "--print-spec", "--rootfs", "rootfs", "sh"]).current_dir(&bundle));
    let mut spec_of_bundle: Value = serde_json::from_str(&spec).expect("a spec");
    spec_of_bundle["process"]["env"] = json!(variables());
    spec = spec_of_bundle.to_string();
    fs::write(bundle.join("config.json"), spec).expect("a directory");
    let bundle = bundle.to_str().expect("UTF-8");
    let of_flags: Vec<String> = variables()
        .into_iter()
        .flat_map(|it| ["-e".to_owned(), it])
        .collect();
    let mut of_flags: Vec<&str> = of_flags.iter().map(String::as_str).collect();
    of_flags.extend(["--rootfs", "host"]);
    let cases: [(&[&str], &[&str]); 5] = [
        (
            &["--image", &many],
            &[&many, "config.json", "wanted at most 524288"],
        ),
        (
            &["--image", &long],
            &[&long, "config.json", "wanted at most 524288"],
        ),
        (
            &["--image", &odd],
            &["config.json", "wanted at most 1048576"],
        ),
        (&["--bundle", bundle], &[bundle, "wanted at most 1048576"]),
        (&of_flags, &["config.json", "wanted at most 1048576"]),
    ];
    for (flags, wanted) in cases {
        let container = Container::new("wordy");
        let name = format!("--name={}", container.name);
        let flags = [&[&*name], flags].concat();
        let command: &[&str] = if flags.contains(&"--bundle") {
            &[]
        } else {
            &["true"]
        };
        let said = run(&flags, command).badly(125);
        for word in wanted {
            assert!(said.contains(word), "{word}: {said}");
        }
        container.assert_gone();
    }
}

#[test]
#[ignore = "needs root"]
fn a_long_name_is_cut_and_the_container_is_known() {
    let place = tempfile::tempdir().expect("a directory");
    let layers = [shell()];
    let name = "long".repeat(300_000);
    let image = write(
        place.path(),
        "named.tar",
        &saved_as(&name, &layers, &json!({})),
    );
    let container = Container::new("wordy-name");
    let container_name = format!("--name={}", container.name);
    let mut start = agent([
        "run",
        "-d",
        "-m",
        "64m",
        &container_name,
        "--image",
        &image,
        "busybox",
        "sleep",
        "1000",
    ]);
    assert_eq!(run::status(&mut start), 0);
    let kept = container.state()["image"]
        .as_str()
        .expect("a name")
        .to_owned();
    assert_eq!(kept, name[..512]);
    let mut verify = agent(["verify", "--container", &container.name, "--output", "json"]);
    verify.args(["--socket", "off", "--docker-socket", "off"]);
    let said = Came::of(verify).well();
    assert!(said.contains("agent run"), "{said}");
}
