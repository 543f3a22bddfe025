//! A set-up with all that it needs.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tests::agent::agent;
use tests::cgroup::{Cgroup, directory};
use tests::memory;
use tests::process::kill;
use tests::run::{self, Container};

use super::setup::{Act, By, Setup, What};
use super::subject::{Running, Subject};
use crate::agent::ending_with_us;
use crate::cgroups::Guard;

/// How long a change lasts that is taken back: once, twice or three times this.
const SHORT: Duration = Duration::from_millis(100);

/// Where files are on a disk.
const SCRATCH: &str = "/var/tmp";

/// What hides a file from the verifier: opening a socket fails, for root too.
const CLOSED: &str = "closed";

/// Hides files in a mount namespace of the verifier's own.
const HIDE: &str = r#"
while [ "$1" != -- ]; do mount --bind "$0" "$1" || exit 125; shift; done
shift
exec "$@""#;

/// Where a container sees the programs: the host's /tmp, below which a clone may be, is hidden from it.
const PROGRAMS: &str = "/tmp/programs";

/// The programs of the workloads.
pub struct Programs(TempDir);

impl Programs {
    pub fn copy() -> Self {
        let directory = tempfile::tempdir_in(SCRATCH).expect("a directory");
        fs::copy(memory::binary(), directory.path().join("hog")).expect("hog can be copied");
        UnixListener::bind(directory.path().join(CLOSED)).expect("a socket");
        Self(directory)
    }

    fn directory(&self) -> String {
        self.0.path().display().to_string()
    }

    /// The flag that shows them to a container.
    fn volume(&self) -> String {
        format!("--volume={}:{PROGRAMS}:ro", self.directory())
    }
}

pub struct Scene<'a> {
    setup: &'a Setup,
    programs: &'a Programs,
    /// How long a change lasts that is taken back.
    short: Duration,
    /// How many times longer it is looked at than the set-up says.
    longer: u32,
    /// The cgroup that the container is made in, where it is told.
    parent: Option<Cgroup>,
    scratch: TempDir,
    /// What runs already.
    standing: Option<Standing>,
}

/// What runs before it is judged. Dropping it ends it.
struct Standing {
    subject: Subject,
    called: [String; 2],
    /// Of a container.
    _container: Option<Container>,
    /// Of a cgroup that no engine made.
    workload: Option<(Child, Cgroup)>,
}

impl Drop for Standing {
    fn drop(&mut self) {
        // SIGKILL waits for that on v1.
        self.subject.thaw();
        if let Some((child, _)) = &mut self.workload {
            kill(child);
        }
    }
}

impl<'a> Scene<'a> {
    pub fn new(setup: &'a Setup, run: u32, guard: &Guard, programs: &'a Programs) -> Self {
        let parent = (!setup.parent.is_empty()).then(|| {
            // No container: what is below one is that container's.
            let cgroup = guard.stranger();
            for (knob, text) in &setup.parent {
                knob.write(&cgroup.path(), text);
            }
            cgroup
        });
        let mut scene = Self {
            setup,
            programs,
            short: SHORT * (1 + run % 3),
            longer: if setup.has_to_press() { crowd() } else { 1 },
            parent,
            scratch: tempfile::tempdir_in(SCRATCH).expect("a directory"),
            standing: None,
        };
        scene.standing = scene.stand(run, guard);
        scene
    }

    /// Starts what runs before it is judged.
    fn stand(&self, run: u32, guard: &Guard) -> Option<Standing> {
        match &self.setup.what {
            What::Launched { .. } => None,
            What::Standing {
                flags, command, by, ..
            } => Some(self.container(run, flags, command, *by)),
            What::Plain {
                limits,
                command,
                by,
                ..
            } => {
                let cgroup = guard.stranger();
                for (knob, text) in limits {
                    knob.write(&cgroup.path(), text);
                }
                let mut workload = cgroup.command("bash");
                workload
                    .args(["-c", &self.word(command)])
                    .stdin(Stdio::null());
                workload.stdout(Stdio::null()).stderr(Stdio::null());
                let child = ending_with_us(&workload).spawn().expect("bash can be run");
                let subject = Subject::in_cgroup(child.id(), &cgroup);
                Some(Standing {
                    called: called(*by, "", &subject),
                    subject,
                    _container: None,
                    workload: Some((child, cgroup)),
                })
            }
        }
    }

    fn container(&self, run: u32, flags: &str, command: &str, by: By) -> Standing {
        // With the guard's prefix, so that it is in its care too.
        let name = format!("bench-{}-stands-{run}", std::process::id());
        let container = Container { name };
        let mut start = agent(["run", "-d", "--name", &container.name, "--rootfs", "host"]);
        start.arg(self.programs.volume()).args(self.words(flags));
        start.args(["bash", "-c", &self.word(command)]);
        run::text(start.stdin(Stdio::null()));
        let subject = Subject::of(container.pid());
        Standing {
            called: called(by, &container.name, &subject),
            subject,
            _container: Some(container),
            workload: None,
        }
    }

    /// Has it judged, with what somebody does to it.
    pub fn play(&self) -> Output {
        let mut verify = agent(["verify", "--output", "json"]);
        match &self.setup.what {
            What::Launched { flags, command } => {
                verify.arg(self.programs.volume()).args(self.words(flags));
                verify.args(["--", "bash", "-c", &self.word(command)]);
                let running = Running::start(&verify);
                if !self.setup.during.is_empty() {
                    self.suffer(&running.subject(), &self.setup.during);
                }
                running.output()
            }
            What::Standing { verify: flags, .. } | What::Plain { verify: flags, .. } => {
                let standing = self.standing.as_ref().expect("it was started");
                self.suffer(&standing.subject, &self.setup.before);
                verify.args(&standing.called).args(self.words(flags));
                let running = Running::start(&self.hidden(verify, &standing.subject));
                self.suffer(&standing.subject, &self.setup.during);
                running.output()
            }
        }
    }

    fn suffer(&self, subject: &Subject, acts: &[Act]) {
        for act in acts {
            subject.suffer(*act, self.short);
        }
    }

    /// The same, in a mount namespace where the files of the set-up are closed.
    fn hidden(&self, verify: Command, subject: &Subject) -> Command {
        if self.setup.hidden.is_empty() {
            return verify;
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", HIDE]);
        command.arg(self.programs.0.path().join(CLOSED));
        for file in &self.setup.hidden {
            let name = if Cgroup::is_v1(file.0) {
                file.1
            } else {
                file.2
            };
            command.arg(directory(file.0, subject.cgroup()).join(name));
        }
        command
            .arg("--")
            .arg(verify.get_program())
            .args(verify.get_args());
        command
    }

    /// Where the workload has it.
    fn hog(&self) -> String {
        let directory = match &self.setup.what {
            What::Plain { .. } => self.programs.directory(),
            What::Launched { .. } | What::Standing { .. } => PROGRAMS.to_owned(),
        };
        format!("{directory}/hog")
    }

    fn words(&self, words: &str) -> Vec<String> {
        words
            .split_whitespace()
            .map(|word| self.word(&self.longer(word)))
            .collect()
    }

    /// A time that a set-up says, in the form of `700ms` or `--for=700ms`.
    fn longer(&self, word: &str) -> String {
        let time = word.strip_prefix("--for=").unwrap_or(word);
        let digits = time.trim_end_matches(['m', 's']);
        match digits.parse::<u32>() {
            Ok(number) if time.ends_with('s') => {
                word.replace(digits, &(number * self.longer).to_string())
            }
            _ => word.to_owned(),
        }
    }

    /// A word of a set-up, with what is this scene's alone.
    fn word(&self, word: &str) -> String {
        let parent = self.parent.as_ref().map(Cgroup::path);
        let scratch = self.scratch.path();
        word.replace("{parent}", &parent.unwrap_or_default())
            .replace("{hog}", &self.hog())
            .replace("{scratch}", &scratch.display().to_string())
            .replace("{disk}", &disk(scratch))
    }
}

/// How the verifier is told what to judge.
fn called(by: By, name: &str, subject: &Subject) -> [String; 2] {
    let (flag, value) = match by {
        By::Name => ("--container", name.to_owned()),
        By::Pid => ("--pid", subject.pid().to_string()),
        By::Cgroup => ("--cgroup", subject.cgroup().to_owned()),
    };
    [flag.to_owned(), value]
}

/// How many runnable threads each CPU of the host has: so many times longer it takes until a workload presses.
fn crowd() -> u32 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = text.split(' ').next().and_then(|word| word.parse().ok());
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let each = load.unwrap_or(0.0_f64) / cpus as f64;
    each.ceil().clamp(1.0, 8.0) as u32
}

/// The block device that a directory is on.
fn disk(directory: &Path) -> String {
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
