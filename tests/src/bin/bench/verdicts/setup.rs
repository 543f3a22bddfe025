//! What a set-up is made of.

use super::knob::Knob;

/// One set-up.
#[derive(Clone)]
pub struct Setup {
    pub name: String,
    pub what: What,
    /// Limits of the cgroup that it is made in, which `{parent}` is then.
    pub parent: Vec<(Knob, &'static str)>,
    /// What somebody does before it is judged; of a launched one there is nothing then.
    pub before: Vec<Act>,
    /// What somebody does while it is judged.
    pub during: Vec<Act>,
    /// Files of its cgroup that the verifier cannot read.
    pub hidden: Vec<File>,
    pub verdict: Verdict,
    /// The verdicts of single limits.
    pub checks: Vec<(&'static str, Verdict)>,
    /// What the reason of a check with the verdict has to tell.
    pub reason: Vec<&'static str>,
    /// v2 does it right, or has no such thing.
    pub only_v1: bool,
}

/// What is judged. In words `{parent}`, `{hog}`, `{scratch}` and `{disk}` stand for what each run has of its own.
#[derive(Clone)]
pub enum What {
    /// By `agent verify FLAGS -- bash -c COMMAND`.
    Launched { flags: String, command: String },
    /// By `agent verify BY VERIFY`, of a container of `agent run -d FLAGS bash -c COMMAND`.
    Standing {
        flags: String,
        command: String,
        by: By,
        verify: String,
    },
    /// Likewise, of a cgroup that no engine made.
    Plain {
        limits: Vec<(Knob, &'static str)>,
        command: String,
        by: By,
        verify: String,
    },
}

/// How what stands is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Name,
    Pid,
    Cgroup,
}

/// A file of a cgroup: the controller, its name on v1, its name on v2.
#[derive(Clone, Copy)]
pub struct File(pub &'static str, pub &'static str, pub &'static str);

/// What somebody does.
#[derive(Clone, Copy)]
pub enum Act {
    /// Writes to a limit, at once. All others that write wait until the workload presses against it.
    Write(Knob, &'static str),
    /// And ends the workload.
    Change(Knob, &'static str),
    /// And lets it go on.
    Share(Knob, &'static str),
    /// And takes it back, and ends the workload.
    ForShort(Knob, &'static str),
    /// Writes to the parent, and ends the workload.
    Above(Knob, &'static str),
    /// Moves the first process out of the cgroup, once it presses, and ends it.
    Free(Knob),
    /// Moves all its processes into a cgroup below its own, at once.
    Inside(Knob),
    /// Likewise, into one with a limit of its own.
    Limited(Knob, &'static str),
    /// Freezes it, once it presses against the limit.
    Freeze(Knob),
    /// Freezes it at once.
    FreezeNow,
    /// Nothing; waits until so many processes of it sleep in `sleep`.
    AwaitSleep(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Fail,
    Inconclusive,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
        }
    }

    /// What `agent verify` exits with.
    pub fn status(self) -> i32 {
        match self {
            Self::Pass => 0,
            Self::Fail => 1,
            Self::Inconclusive => 2,
        }
    }
}

impl Setup {
    fn of(name: impl Into<String>, what: What) -> Self {
        Self {
            name: name.into(),
            what,
            parent: Vec::new(),
            before: Vec::new(),
            during: Vec::new(),
            hidden: Vec::new(),
            verdict: Verdict::Pass,
            checks: Vec::new(),
            reason: Vec::new(),
            only_v1: false,
        }
    }

    pub fn below(mut self, knob: Knob, text: &'static str) -> Self {
        self.parent.push((knob, text));
        self
    }

    pub fn before(mut self, act: Act) -> Self {
        self.before.push(act);
        self
    }

    pub fn during(mut self, act: Act) -> Self {
        self.during.push(act);
        self
    }

    pub fn without(mut self, file: File) -> Self {
        self.hidden.push(file);
        self
    }

    pub fn only_v1(mut self) -> Self {
        self.only_v1 = true;
        self
    }

    /// The limit has this verdict.
    pub fn with(mut self, limit: &'static str, verdict: Verdict) -> Self {
        self.checks.push((limit, verdict));
        self
    }

    pub fn passes(self, limit: &'static str) -> Self {
        self.is(Verdict::Pass).with(limit, Verdict::Pass)
    }

    pub fn fails(self, limit: &'static str) -> Self {
        self.is(Verdict::Fail).with(limit, Verdict::Fail)
    }

    pub fn stays_open(self, limit: &'static str) -> Self {
        self.is(Verdict::Inconclusive)
            .with(limit, Verdict::Inconclusive)
    }

    pub fn is(mut self, verdict: Verdict) -> Self {
        self.verdict = verdict;
        self
    }

    /// Whether a limit is to pass, which takes a workload that presses where it is watched.
    pub fn has_to_press(&self) -> bool {
        let mut checks = self.checks.iter().map(|(_, verdict)| verdict);
        self.verdict == Verdict::Pass || checks.any(|verdict| *verdict == Verdict::Pass)
    }

    pub fn because(mut self, part: &'static str) -> Self {
        self.reason.push(part);
        self
    }
}

pub fn launched(name: impl Into<String>, flags: &str, command: &str) -> Setup {
    let (flags, command) = (flags.to_owned(), command.to_owned());
    Setup::of(name, What::Launched { flags, command })
}

pub fn standing(name: impl Into<String>, flags: &str, command: &str, verify: &str) -> Setup {
    let what = What::Standing {
        flags: flags.to_owned(),
        command: command.to_owned(),
        by: By::Name,
        verify: verify.to_owned(),
    };
    Setup::of(name, what)
}

pub fn plain(
    name: impl Into<String>,
    limits: &[(Knob, &'static str)],
    command: &str,
    by: By,
    verify: &str,
) -> Setup {
    let what = What::Plain {
        limits: limits.to_vec(),
        command: command.to_owned(),
        by,
        verify: verify.to_owned(),
    };
    Setup::of(name, what)
}

/// Workloads: each presses against its limit until it is ended.
pub const FILL: &str = "while :; do {hog} 1 67108864; done 2>/dev/null";
pub const SPIN: &str = "while :; do :; done";
pub const SPIN_4: &str = "for i in 1 2 3; do while :; do :; done & done; while :; do :; done";
pub const FORK: &str = "for i in {1..60}; do sleep 1000 & done; wait";
/// Threads beyond a limit of tasks, again and again: a refused one ends them all.
pub const THREADS: &str = "while :; do {hog} 40 4096; done 2>/dev/null";
pub const SLEEP: &str = "exec sleep 1000";
