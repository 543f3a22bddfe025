//! Whether `agent verify` is right: it judges set-ups whose verdict is known: right ones, idle ones, and those that
//! somebody sabotages, before the run or while it goes on.

mod knob;
mod subject;
mod table;

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tests::agent::agent;
use tests::cgroup::Cgroup;
use tests::memory;
use tests::run::Container;

use crate::cgroups::Guard;
use crate::report::{Figure, Unit};
use crate::{Size, console};
use subject::{Running, Subject};
use table::{Setup, TABLE, What};

/// Runs in all.
const RUNS: u32 = 200;

/// How long a change lasts that is taken back: once, twice or three times this.
const SHORT: Duration = Duration::from_millis(100);

/// Where files are on a disk.
const SCRATCH: &str = "/var/tmp";

pub fn measure(size: Size) -> Vec<Figure> {
    let guard = Guard::start();
    console::silence();
    let runs = size.count.unwrap_or(RUNS);
    let possible = TABLE
        .iter()
        .filter(|setup| !setup.only_v1 || Cgroup::is_v1("blkio"));
    let setups = possible.cycle().zip(0..runs);
    let wrong = setups.filter(|(setup, run)| !is_right(setup, *run, &guard));
    let wrong = wrong.count() as f64;
    vec![
        Figure::new("verdicts: runs", Unit::Count, f64::from(runs)),
        Figure::new("verdicts: wrong", Unit::Count, wrong)
            .at_most(0.0)
            .required(),
    ]
}

/// Runs a set-up. Where the verdict is another one than it should be, or blames something else, says so.
fn is_right(setup: &Setup, run: u32, guard: &Guard) -> bool {
    let output = Scene::new(setup, run, guard).play();
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&text).unwrap_or_default();
    let verdict = setup.verdict.name();
    let checks = report["checks"].as_array().into_iter().flatten();
    let mut reasons = checks
        .filter(|check| check["verdict"] == verdict)
        .filter_map(|check| check["reason"].as_str());
    let is_right = report["verdict"] == verdict
        && output.status.code() == Some(setup.verdict.status())
        && reasons.any(|reason| setup.reason.iter().all(|part| reason.contains(part)));
    if !is_right {
        let said = String::from_utf8_lossy(&output.stderr);
        eprintln!(
            "wrong: run {run}, {}: wanted {verdict} because of {:?}, and it says with {}\n{text}{said}",
            setup.name, setup.reason, output.status
        );
    }
    is_right
}

/// A set-up with all that it needs.
struct Scene<'a> {
    setup: &'a Setup,
    /// How long a change lasts that is taken back.
    short: Duration,
    /// The cgroup that the container is made in, where it is told.
    parent: Option<Cgroup>,
    /// One that runs already.
    standing: Option<Container>,
    scratch: TempDir,
}

impl<'a> Scene<'a> {
    fn new(setup: &'a Setup, run: u32, guard: &Guard) -> Self {
        let parent = setup.parent.map(|(knob, text)| {
            let cgroup = guard.cgroup();
            knob.write(&cgroup.path(), text);
            cgroup
        });
        let mut scene = Self {
            setup,
            short: SHORT * (1 + run % 3),
            parent,
            standing: None,
            scratch: tempfile::tempdir_in(SCRATCH).expect("a directory"),
        };
        if let What::Standing { run: flags, .. } = setup.what {
            // With the guard's prefix, so that it is in its care too.
            let name = format!("bench-{}-stands-{run}", std::process::id());
            let container = Container { name };
            let flags = scene.words(flags);
            let flags: Vec<&str> = flags.iter().map(|word| &**word).collect();
            container.start(&flags, &["sleep", "1000"]);
            scene.standing = Some(container);
        }
        scene
    }

    /// Has it judged, with what somebody does to it.
    fn play(&self) -> Output {
        let mut verify = agent(["verify", "--output", "json"]);
        let standing = self.standing.as_ref();
        match self.setup.what {
            What::Launched { flags, command } => {
                verify.args(self.words(flags));
                verify.args(["--", "bash", "-c", &self.word(command)]);
                let running = Running::start(&verify);
                if let Some(act) = self.setup.act {
                    running.subject().suffer(act, self.short);
                }
                running.output()
            }
            What::Standing { verify: flags, .. } => {
                let container = standing.expect("it was started");
                if let Some(act) = self.setup.act {
                    Subject::of(container.pid()).suffer(act, self.short);
                }
                verify.args(["--container", &container.name]).args(flags);
                Running::start(&verify).output()
            }
        }
    }

    fn words(&self, words: &[&str]) -> Vec<String> {
        words.iter().map(|word| self.word(word)).collect()
    }

    /// A word of the table, with what is this scene's alone.
    fn word(&self, word: &str) -> String {
        let parent = self.parent.as_ref().map(Cgroup::path);
        let scratch = self.scratch.path();
        word.replace("{parent}", &parent.unwrap_or_default())
            .replace("{hog}", &memory::binary().display().to_string())
            .replace("{scratch}", &scratch.display().to_string())
            .replace("{disk}", &disk(scratch))
    }
}

/// The block device that a directory is on.
fn disk(directory: &Path) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let number = directory.metadata().expect("a directory").dev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let device = format!("/sys/dev/block/{major}:{minor}");
    let device = Path::new(&device).canonicalize().unwrap_or_default();
    let disk = match device.join("partition").exists() {
        true => device.parent(),
        false => Some(&*device),
    };
    let name = disk.and_then(Path::file_name).unwrap_or_default();
    format!("/dev/{}", name.display())
}
