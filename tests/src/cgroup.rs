//! Cgroups of this test's own: a container's, as `agent run` makes them.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::state::State;
use crate::wait::{PATIENCE, poll, wait_for};

/// The cgroup in which those of `agent run` are. It is shared, with other tests too.
pub const PARENT: &str = "agent";

/// Moves itself into the cgroups before `--`, then becomes the program behind it.
const ENTER: &str = r#"
while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit 125; shift; done
shift
exec "$@""#;

/// Of v2: where the processes are of a cgroup that has given controllers to those below it.
const LEAF: &str = "leaf";

/// A cgroup in every hierarchy. Dropping it kills what is in it and removes it.
#[derive(Debug)]
pub struct Cgroup {
    name: String,
    /// Below the root of each hierarchy.
    path: PathBuf,
    /// What confirms that it is a container's; removed after the cgroup.
    _state: Option<State>,
}

/// A hierarchy of the host.
#[derive(Debug)]
struct Hierarchy {
    root: PathBuf,
    v2: bool,
    /// Of v1, with other options of the mount among them.
    controllers: Vec<String>,
}

impl Cgroup {
    /// Makes `/agent/NAME-…`, with a name that no other has.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub fn new(name: &str) -> Self {
        Self::named(&unique(name))
    }

    /// Makes `/NAME-…/agent/NAME-…`: a cgroup that is no container's, and a container two below it.
    ///
    /// # Panics
    /// Where they cannot be made.
    pub fn below_another(name: &str) -> (Self, Self) {
        let name = unique(name);
        let outer = PathBuf::from(&name);
        let parent = outer.join(PARENT);
        let inner = parent.join(&name);
        let state = State::write(&name, &format!("/{}", inner.display()));
        for hierarchy in hierarchies() {
            for path in [&outer, &parent] {
                hierarchy.make(path).expect("the cgroup above is there");
                hierarchy.delegate(path);
            }
            hierarchy.make(&inner).expect("the cgroup above is there");
        }
        let of = |path, state| Self {
            name: name.clone(),
            path,
            _state: state,
        };
        (of(outer, None), of(inner, Some(state)))
    }

    /// Makes `/NAME-…/PATH`, which no engine made, and nobody confirms, whatever it looks like.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub fn strangers(name: &str, path: &str) -> Self {
        let name = unique(name);
        let path = Path::new(&name).join(path);
        Self::made(name, path)
    }

    /// Makes `/NAME-….slice/NAME-….service`, as systemd does for a service.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub fn service(name: &str) -> Self {
        let name = unique(name);
        let path = Path::new(&format!("{name}.slice")).join(format!("{name}.service"));
        Self::made(name, path)
    }

    fn made(name: String, path: PathBuf) -> Self {
        for hierarchy in hierarchies() {
            let above: Vec<&Path> = path.ancestors().collect();
            for above in above.into_iter().rev().skip(1) {
                hierarchy.make(above).expect("the cgroup above is there");
                if above != path {
                    hierarchy.delegate(above);
                }
            }
        }
        Self {
            name,
            path,
            _state: None,
        }
    }

    /// Makes `/agent/NAME`, which no other may have.
    ///
    /// # Panics
    /// Where it cannot be made, or is there already.
    pub fn named(name: &str) -> Self {
        let path = Path::new(PARENT).join(name);
        // Before the cgroup: whoever sees that asks for it.
        let state = State::write(name, &format!("/{}", path.display()));
        let cgroup = Self {
            name: name.to_owned(),
            path,
            _state: Some(state),
        };
        for hierarchy in hierarchies() {
            assert!(
                !hierarchy.root.join(&cgroup.path).exists(),
                "{cgroup:?} is there already"
            );
            // Another test may remove the parent, where it is empty, before the child is made.
            wait_for("a cgroup is made", PATIENCE, || {
                hierarchy.make(Path::new(PARENT))?;
                hierarchy.delegate(Path::new(PARENT));
                hierarchy.make(&cgroup.path)
            });
        }
        cgroup
    }

    /// Makes one below this one, with the same controllers. v2 gives them to it only where this one has no processes of
    /// its own, so those that it has move into a leaf beside the new one, and so do later ones ([`Self::command`]).
    ///
    /// # Panics
    /// Where it cannot be made.
    pub fn child(&self, name: &str) -> Self {
        let path = self.path.join(name);
        for hierarchy in hierarchies() {
            hierarchy.empty(&self.path);
            hierarchy.delegate(&self.path);
            hierarchy.make(&path).expect("the parent is there");
        }
        Self {
            name: name.to_owned(),
            path,
            _state: None,
        }
    }

    /// The name of the container whose cgroup it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path below the root of the hierarchy: `/agent/NAME`.
    pub fn path(&self) -> String {
        format!("/{}", self.path.display())
    }

    /// Its directory in the hierarchy that has `controller`; that of v2 for the rest.
    ///
    /// # Panics
    /// Where no hierarchy has it.
    pub fn directory(&self, controller: &str) -> PathBuf {
        directory(controller, &self.path)
    }

    /// Whether `controller` is a hierarchy of v1.
    pub fn is_v1(controller: &str) -> bool {
        let mut controllers = hierarchies().iter().flat_map(|it| &it.controllers);
        controllers.any(|it| it == controller)
    }

    /// # Panics
    /// Where the kernel refuses.
    pub fn write(&self, controller: &str, file: &str, text: &str) {
        let path = self.directory(controller).join(file);
        let written = fs::write(&path, text);
        written.unwrap_or_else(|error| panic!("{}: {text:?}: {error}", path.display()));
    }

    /// # Panics
    /// Where it cannot be read.
    pub fn read(&self, controller: &str, file: &str) -> String {
        let path = self.directory(controller).join(file);
        let text = fs::read_to_string(&path);
        text.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// A call of `program` inside, in all hierarchies: a shell goes there and becomes the program.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", ENTER, "sh"]);
        command.args(hierarchies().iter().map(|it| it.for_processes(&self.path)));
        command.arg("--").arg(program);
        command
    }

    /// The processes in it and below it.
    pub fn members(&self) -> BTreeSet<u32> {
        let mut members = BTreeSet::new();
        for hierarchy in hierarchies() {
            add_members(&hierarchy.root.join(&self.path), &mut members);
        }
        members
    }

    /// Whether a process is in it or below it in every hierarchy: it goes to one after the other.
    pub fn holds(&self, pid: u32) -> bool {
        hierarchies().iter().all(|hierarchy| {
            let mut members = BTreeSet::new();
            add_members(&hierarchy.root.join(&self.path), &mut members);
            members.contains(&pid)
        })
    }

    /// Kills what is in it and below it, and waits until nothing is.
    ///
    /// # Panics
    /// Where something stays.
    pub fn kill(&self) {
        wait_for("a cgroup is empty", PATIENCE, || {
            self.kill_members().is_empty().then_some(())
        });
    }

    /// Kills the members that there are.
    fn kill_members(&self) -> BTreeSet<u32> {
        let members = self.members();
        for pid in &members {
            let pid = Pid::from_raw(i32::try_from(*pid).unwrap_or_default());
            // It may have ended meanwhile.
            let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
        }
        members
    }

    /// Removes its directories, and leaves those above.
    ///
    /// # Panics
    /// Where one cannot be removed.
    pub fn remove_alone(&self) {
        for hierarchy in hierarchies() {
            let removed = || remove(&hierarchy.root.join(&self.path));
            poll(PATIENCE, removed).expect("nothing is in it");
        }
    }

    /// Removes all its directories; `None` where one is not gone yet.
    fn remove(&self) -> Option<()> {
        for hierarchy in hierarchies() {
            remove(&hierarchy.root.join(&self.path))?;
            // Others may still be in those above, or have removed them.
            let above = self.path.ancestors().skip(1);
            for above in above.take_while(|above| !above.as_os_str().is_empty()) {
                let _ = fs::remove_dir(hierarchy.root.join(above));
            }
        }
        Some(())
    }
}

/// A name that no other has.
#[must_use]
pub fn unique(name: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{}-{number}", std::process::id())
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let emptied = poll(PATIENCE, || self.kill_members().is_empty().then_some(()));
        let removed = emptied.and_then(|()| poll(PATIENCE, || self.remove()));
        // A second panic would hide the first.
        assert!(
            removed.is_some() || thread::panicking(),
            "{self:?} cannot be removed"
        );
    }
}

impl Hierarchy {
    /// Makes a cgroup that can have processes, if it is not there; `None` where its parent is not there.
    fn make(&self, path: &Path) -> Option<()> {
        let directory = self.root.join(path);
        match fs::create_dir(&directory) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => panic!("{}: {error}", directory.display()),
        }
        if self.controllers.iter().any(|it| it == "cpuset") {
            ["cpuset.cpus", "cpuset.mems"]
                .into_iter()
                .try_for_each(|file| inherit(&directory, file))?;
        }
        Some(())
    }

    /// Moves the processes of a cgroup of v2 into its leaf.
    fn empty(&self, path: &Path) {
        let members = fs::read_to_string(self.root.join(path).join("cgroup.procs"));
        let members = members.unwrap_or_default();
        if !self.v2 || members.is_empty() {
            return;
        }
        self.make(&path.join(LEAF)).expect("its parent is there");
        let procs = self.root.join(path).join(LEAF).join("cgroup.procs");
        for member in members.lines() {
            // It may have ended meanwhile.
            let _ = fs::write(&procs, member);
        }
    }

    /// The directory for processes of a cgroup: its leaf where it has given controllers to those below.
    fn for_processes(&self, path: &Path) -> PathBuf {
        let directory = self.root.join(path);
        let given = fs::read_to_string(directory.join("cgroup.subtree_control"));
        if given.unwrap_or_default().trim().is_empty() {
            return directory;
        }
        let leaf = path.join(LEAF);
        self.make(&leaf).expect("its parent is there");
        self.root.join(leaf)
    }

    /// Lets the cgroups below have all controllers that this one has. Only v2 must be told; what cannot be had there is
    /// missed by the test that needs it.
    fn delegate(&self, path: &Path) {
        let directory = self.root.join(path);
        let controllers = fs::read_to_string(directory.join("cgroup.controllers"));
        for controller in controllers.unwrap_or_default().split_whitespace() {
            let _ = fs::write(
                directory.join("cgroup.subtree_control"),
                format!("+{controller}"),
            );
        }
    }
}

/// Gives a cpuset of v1 what its parent has: it is born empty, and takes no process before. `None` where it is gone.
fn inherit(directory: &Path, file: &str) -> Option<()> {
    let own = fs::read_to_string(directory.join(file)).ok()?;
    if own.trim().is_empty() {
        let parents = fs::read(directory.parent()?.join(file)).ok()?;
        fs::write(directory.join(file), parents).ok()?;
    }
    Some(())
}

/// The directory of the cgroup `path` in the hierarchy that has `controller`; that of v2 for the rest.
///
/// # Panics
/// Where no hierarchy has it.
pub fn directory(controller: &str, path: impl AsRef<Path>) -> PathBuf {
    let has = |hierarchy: &&Hierarchy| hierarchy.controllers.iter().any(|it| it == controller);
    let mut hierarchies = hierarchies().iter();
    let v1 = hierarchies.clone().find(has);
    let hierarchy = v1.or_else(|| hierarchies.find(|hierarchy| hierarchy.v2));
    let root = &hierarchy
        .unwrap_or_else(|| panic!("no hierarchy has {controller}"))
        .root;
    let path = path.as_ref();
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Where the root of each hierarchy is mounted.
pub fn roots() -> impl Iterator<Item = &'static Path> {
    hierarchies()
        .iter()
        .map(|hierarchy| hierarchy.root.as_path())
}

/// Every hierarchy of the host: where its root is mounted.
fn hierarchies() -> &'static [Hierarchy] {
    static HIERARCHIES: OnceLock<Vec<Hierarchy>> = OnceLock::new();
    HIERARCHIES.get_or_init(|| {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the list of mounts");
        let mut found: Vec<(String, Hierarchy)> = Vec::new();
        for (device, hierarchy) in mounts.lines().filter_map(hierarchy) {
            // One hierarchy may be mounted several times.
            if found.iter().all(|(other, _)| *other != device) {
                found.push((device, hierarchy));
            }
        }
        found.into_iter().map(|(_, hierarchy)| hierarchy).collect()
    })
}

/// Reads a line of mountinfo (proc_pid_mountinfo(5)): the device, and the hierarchy whose root is mounted there.
fn hierarchy(line: &str) -> Option<(String, Hierarchy)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mount: Vec<&str> = mount.split(' ').collect();
    let filesystem: Vec<&str> = filesystem.split(' ').collect();
    let [_, _, device, "/", root, ..] = mount[..] else {
        return None;
    };
    let [kind @ ("cgroup" | "cgroup2"), _, options] = filesystem[..] else {
        return None;
    };
    let v2 = kind == "cgroup2";
    let options = options.split(',').map(str::to_owned);
    let hierarchy = Hierarchy {
        root: root.into(),
        v2,
        controllers: if v2 { Vec::new() } else { options.collect() },
    };
    Some((device.to_owned(), hierarchy))
}

fn add_members(directory: &Path, members: &mut BTreeSet<u32>) {
    // What is gone has none.
    let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    members.extend(
        processes
            .lines()
            .filter_map(|line| line.parse::<u32>().ok()),
    );
    for child in children(directory) {
        add_members(&child, members);
    }
}

/// Removes a cgroup, those below it first; `None` where it is not gone yet.
pub fn remove(directory: &Path) -> Option<()> {
    for child in children(directory) {
        remove(&child)?;
    }
    match fs::remove_dir(directory) {
        Ok(()) => Some(()),
        Err(error) => (error.kind() == ErrorKind::NotFound).then_some(()),
    }
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.is_dir()).collect()
}
