//! The directory that `/proc` was mounted on is renamed while the container is launched, by somebody in whose mount
//! namespace it is no mount point: what is mounted on it goes with it, and nothing of it is found at `/proc` any more.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tests::attacks::{Bundle, Launcher, Outcome};
use tests::program::program;
use tests::wait::{PATIENCE, wait_for};

use super::broken_if;
use super::site::{Site, name};

/// Says so where a kernel setting of the host can be written, or what is to be hidden be read.
const SCRIPT: &str = "for tree in /proc /moved; do
    kept=$(cat $tree/sys/kernel/hostname) && echo $kept >$tree/sys/kernel/hostname && echo NOT HELD
    grep -q cpu: $tree/timer_list && echo NOT HELD
done 2>/dev/null; echo end";

pub fn away(launcher: Launcher) -> Outcome {
    let site = Site::new();
    let said = match launcher {
        // It may fail for want of a /proc.
        Launcher::Runc => by_runc(&site),
        _ => {
            let said = by_agent(&site, launcher);
            assert!(said.contains("end"), "{said}");
            said
        }
    };
    broken_if(said.contains("NOT HELD"))
}

fn rename(root: &Path) {
    fs::rename(root.join("proc"), root.join("moved")).expect("no mount point here");
    fs::create_dir(root.join("proc")).expect("a directory");
}

/// Held behind the step in which it is mounted. The first process of a pid namespace would not stop.
fn by_agent(site: &Site, launcher: Launcher) -> String {
    let name = name();
    let root = site.rootfs.path();
    let mut run = launcher.agent(&["run", "--rm", "--pid", "host", "--name", &name, "--rootfs"]);
    run.arg(&root).args(["/bin/sh", "-c", SCRIPT]);
    run.env("AGENT_HOLD", "mount").stdin(Stdio::null());
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = run.spawn().expect("the program can be run");
    let held = wait_for("it is held", PATIENCE, || {
        children(run.id())
            .flat_map(children)
            .find(|pid| is_stopped(*pid))
    });
    rename(&root);
    let held = Pid::from_raw(held.cast_signed()).expect("a process");
    kill_process(held, Signal::CONT).expect("a process");
    said(&run.wait_with_output().expect("a child"))
}

/// Held by a hook, which is called once all is mounted.
fn by_runc(site: &Site) -> String {
    let name = name();
    let root = site.rootfs.path();
    let bundle = Bundle::new(&name, &root, &[], &["/bin/sh", "-c", SCRIPT]);
    let here = |file: &str| bundle.path().join(file);
    for fifo in ["mounted", "moved"] {
        let mut make = Command::new(program("mkfifo"));
        assert!(make.arg(here(fifo)).status().expect("coreutils").success());
    }
    let hook = here("hook");
    let (mounted, moved) = (here("mounted"), here("moved"));
    let text = format!(
        "#!/bin/sh\necho >{}; read it <{}\n",
        mounted.display(),
        moved.display()
    );
    fs::write(&hook, text).expect("a file");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("own file");
    bundle.change(|spec| {
        spec["hooks"] = json!({ "createContainer": [{ "path": hook }] });
    });
    let mut run = bundle.runc("run", &[]);
    let run = run
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let run = run.spawn().expect("runc can be run");
    // Opened once the hook has it open too; `timeout` ends that one, and the wait, where it never does.
    fs::read(&mounted).expect("a FIFO");
    rename(&root);
    let mut moved = fs::OpenOptions::new()
        .write(true)
        .open(&moved)
        .expect("a FIFO");
    moved.write_all(b"\n").expect("a reader");
    drop(moved);
    said(&run.wait_with_output().expect("a child"))
}

fn said(ended: &Output) -> String {
    String::from_utf8_lossy(&[&*ended.stdout, &ended.stderr].concat()).into_owned()
}

fn children(parent: u32) -> impl Iterator<Item = u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(move |pid| fields(*pid).is_some_and(|(_, of)| of == parent))
}

fn is_stopped(pid: u32) -> bool {
    fields(pid).is_some_and(|(state, _)| state == "T")
}

/// The state of a process, and its parent.
fn fields(pid: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}
