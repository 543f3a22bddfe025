//! `guest`: the first process of a virtual machine that runs tests (`cargo xtask vm`). It mounts what tests expect of a
//! host, then runs the test programs of `/plan`, one after the other, and switches the machine off.
//!
//! With `plan DIRECTORY` it only runs the plan there, in a machine that is a host already.
//!
//! A line of the plan is a program: the number of the machine that it is for (`MACHINE`, a word of the kernel's command
//! line; without it, of any), its name, its path, how many seconds it may take, and its arguments, with spaces between; the file `environment` beside it has the variables that programs get. What a program prints goes to the
//! console, between the lines `@ begins NAME` and `@ ends NAME …`. Behind the last one comes `@ done`.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader, pipe};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, wait};
use rustix::system::{RebootCommand, reboot, sethostname};
use std::os::unix::process::CommandExt as _;

/// A file system to mount: its type, where, and its options.
type Mount = (&'static str, &'static str, MountFlags, &'static str);

const SAFE: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// As systemd mounts them.
const MOUNTS: [Mount; 6] = [
    ("proc", "/proc", SAFE, ""),
    ("sysfs", "/sys", SAFE, ""),
    ("devtmpfs", "/dev", MountFlags::NOSUID, "mode=755"),
    (
        "devpts",
        "/dev/pts",
        NO_FILES,
        "gid=5,mode=620,ptmxmode=666",
    ),
    ("tmpfs", "/dev/shm", NO_DEVICES, "mode=1777"),
    ("tmpfs", "/run", NO_DEVICES, "mode=755"),
];

/// Likewise in /dev.
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

const NO_DEVICES: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const NO_FILES: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC);

/// The one hierarchy of v2.
const UNIFIED: [Mount; 1] = [("cgroup2", "/sys/fs/cgroup", SAFE, "")];

/// Memory and pids in hierarchies of v1, the rest in that of v2.
const HYBRID: [Mount; 4] = [
    ("tmpfs", "/sys/fs/cgroup", SAFE, "mode=755"),
    ("cgroup2", "/sys/fs/cgroup/unified", SAFE, ""),
    ("cgroup", "/sys/fs/cgroup/memory", SAFE, "memory"),
    ("cgroup", "/sys/fs/cgroup/pids", SAFE, "pids"),
];

/// What a service manager lets the cgroups below the root have.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// How long what a program left behind may keep its output open.
const GRACE: Duration = Duration::from_secs(2);

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    if let [word, directory] = &words[..]
        && word == "plan"
    {
        return plan(Path::new(directory));
    }
    ensure!(
        std::process::id() == 1,
        "guest: this is for the first process of a virtual machine"
    );
    if let Err(error) = first_process() {
        println!("@ broken {error:#}");
    }
    reboot(RebootCommand::PowerOff).context("the machine cannot be switched off")
}

/// Makes the machine a host, lets a child carry out the plan, and waits for whoever has lost his parent.
fn first_process() -> Result<()> {
    mount_all(&MOUNTS)?;
    for (target, link) in LINKS {
        symlink(target, link).with_context(|| link.to_owned())?;
    }
    sethostname(b"guest")?;
    // The kernel's own messages would break lines in two.
    fs::write("/proc/sys/kernel/printk", "1").context("/proc/sys/kernel/printk")?;
    let layout = env::var("LAYOUT").unwrap_or_default();
    if layout == "hybrid" {
        mount_all(&HYBRID)?;
        // Without it 5.10 charges a cgroup's memory to no parent; systemd and runc set it too.
        fs::write("/sys/fs/cgroup/memory/memory.use_hierarchy", "1").context("use_hierarchy")?;
        delegate(Path::new("/sys/fs/cgroup/unified"))?;
    } else {
        mount_all(&UNIFIED)?;
        delegate(Path::new("/sys/fs/cgroup"))?;
    }
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    ensure!(up.context("ip")?.success(), "lo cannot be set up");
    let carried_out = Command::new("/proc/self/exe").args(["plan", "/"]).spawn();
    let carried_out = Pid::from_child(&carried_out.context("/proc/self/exe")?);
    while let Ok(Some((pid, _))) = wait(WaitOptions::empty()) {
        if pid == carried_out {
            break;
        }
    }
    Ok(())
}

fn mount_all(mounts: &[Mount]) -> Result<()> {
    for (kind, place, flags, options) in mounts {
        fs::create_dir_all(place).with_context(|| (*place).to_owned())?;
        let options = std::ffi::CString::new(*options)?;
        mount(*kind, *place, *kind, *flags, &*options)
            .with_context(|| format!("cannot mount {kind} at {place}"))?;
    }
    Ok(())
}

/// Lets the cgroups below a root have each controller that there is.
fn delegate(root: &Path) -> Result<()> {
    let there =
        fs::read_to_string(root.join("cgroup.controllers")).context("cgroup.controllers")?;
    for controller in CONTROLLERS {
        if there.split_whitespace().any(|it| it == controller) {
            fs::write(
                root.join("cgroup.subtree_control"),
                format!("+{controller}"),
            )
            .with_context(|| format!("{controller} cannot be enabled"))?;
        }
    }
    Ok(())
}

/// Runs each program of the plan.
fn plan(directory: &Path) -> Result<()> {
    let read = |name| fs::read_to_string(directory.join(name)).context(name);
    let plan = read("plan")?;
    let environment = read("environment")?;
    let environment: Vec<_> = environment
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let own = env::var("MACHINE").ok();
    for line in plan.lines() {
        let mut words = line.split(' ');
        let machine = words.next();
        if own.is_some() && own.as_deref() != machine {
            continue;
        }
        let (Some(name), Some(path), Some(seconds)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let deadline = Duration::from_secs(seconds.parse().context("a number of seconds")?);
        println!("@ begins {name}");
        let started = Instant::now();
        let ended = run(
            Command::new(path)
                .envs(environment.iter().copied())
                .args(words),
            deadline,
        )
        .unwrap_or_else(|error| format!("{error:#}"));
        println!(
            "@ ends {name} {:.1} {ended}",
            started.elapsed().as_secs_f64()
        );
    }
    println!("@ done");
    Ok(())
}

/// Runs a program, shows what it prints, and says how it ended.
fn run(program: &mut Command, deadline: Duration) -> Result<String> {
    let (read, write) = pipe()?;
    program
        .stdin(Stdio::null())
        .stdout(write.try_clone()?)
        .stderr(write)
        .process_group(0);
    let child = program.spawn();
    let mut child = child.with_context(|| format!("cannot run {:?}", program.get_program()))?;
    // The writing end is this one's too, until it is given something else.
    program.stdout(Stdio::null()).stderr(Stdio::null());
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(read).split(b'\n').map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let ended = show(&mut child, &lines, deadline)?;
    // What comes behind its end is of what it left running.
    while let Ok(line) = lines.recv_timeout(GRACE) {
        println!("{}", String::from_utf8_lossy(&line));
    }
    Ok(ended)
}

/// Shows the lines until the child has ended, or the deadline is over.
fn show(child: &mut Child, lines: &Receiver<Vec<u8>>, deadline: Duration) -> Result<String> {
    let started = Instant::now();
    loop {
        match lines.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => println!("{}", String::from_utf8_lossy(&line)),
            Err(RecvTimeoutError::Disconnected) => return Ok(child.wait()?.to_string()),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(status) = child.try_wait()? {
                    return Ok(status.to_string());
                }
            }
        }
        if started.elapsed() > deadline {
            let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
            child.wait()?;
            return Ok(format!("killed after {} s", deadline.as_secs()));
        }
    }
}
