//! A root file system with links, and beside it what nobody in it should reach.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tests::attacks::{Bundle, Launcher, Outcome};
use tests::rootfs::Rootfs;
use tests::run::Container;

pub const SECRET: &str = "of the host";

/// Texts of links to the directory outside, as it is written in them.
pub mod links {
    use tests::slow::some;

    /// Where the directory outside is put in.
    pub const OUTSIDE: &str = "OUTSIDE";

    pub fn upwards(depth: usize) -> String {
        format!("{}{OUTSIDE}", "../".repeat(depth))
    }

    pub fn absolute() -> String {
        format!("/{OUTSIDE}")
    }

    /// One of each kind, or some of them.
    pub fn all() -> Vec<String> {
        let magic = format!("/proc/self/root/{}", upwards(12));
        let all = [absolute(), upwards(1), upwards(2), upwards(12), magic];
        some(all, 3).collect()
    }
}

#[derive(Debug)]
pub struct Site {
    pub rootfs: Rootfs,
}

impl Site {
    pub fn new() -> Self {
        let site = Self {
            rootfs: Rootfs::new(&[]),
        };
        site.reset();
        fs::create_dir(site.shared()).expect("a directory");
        site
    }

    fn reset(&self) {
        fs::write(self.rootfs.outside().join("file"), SECRET).expect("a file");
    }

    /// What is mounted in containers: a file of the host.
    pub fn file(&self) -> PathBuf {
        self.rootfs.outside().join("file")
    }

    /// What containers share, one after the other.
    pub fn shared(&self) -> PathBuf {
        self.rootfs.path().with_file_name("shared")
    }

    /// The text of a link, with the directory outside in it.
    pub fn link_out(&self, text: &str) -> PathBuf {
        let outside = self.rootfs.outside();
        let outside = outside.to_str().expect("UTF-8").trim_start_matches('/');
        text.replace(links::OUTSIDE, outside).into()
    }

    /// Whether anything was made outside, or changed.
    pub fn outcome(&self) -> Outcome {
        let entries = fs::read_dir(self.rootfs.outside()).expect("a directory");
        let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        let kept = fs::read_to_string(self.file()).is_ok_and(|text| text == SECRET);
        if names == ["file"] && kept {
            Outcome::Held
        } else {
            Outcome::Broken
        }
    }

    /// Tries links one after the other, until one leads out.
    pub fn first_broken(&self, texts: &[String], attack: impl Fn(&Path)) -> Outcome {
        for text in texts {
            attack(&self.link_out(text));
            if self.outcome() == Outcome::Broken {
                return Outcome::Broken;
            }
        }
        Outcome::Held
    }

    /// Runs a command in the root, with flags of `agent run`; what it said.
    pub fn run(&self, launcher: Launcher, flags: &[&str], command: &[&str]) -> String {
        let name = name();
        let rootfs = self.rootfs.path();
        if launcher == Launcher::Runc {
            let bundle = Bundle::new(&name, &rootfs, flags, command);
            return said(&mut bundle.runc("run", &[]));
        }
        let rootfs = rootfs.to_str().expect("UTF-8");
        let mut words = vec!["--rootfs", rootfs];
        words.extend(flags);
        words.push("--");
        words.extend(command);
        Self::call(launcher, &words)
    }

    /// `agent run`, with these words.
    pub fn call(launcher: Launcher, words: &[&str]) -> String {
        let name = name();
        let mut call = launcher.agent(&["run", "--rm", "--name", &name]);
        said(call.args(words))
    }

    /// Runs a bundle that is changed before.
    pub fn run_bundle(
        &self,
        launcher: Launcher,
        command: &[&str],
        change: impl FnOnce(&mut Value),
    ) -> String {
        let name = name();
        let bundle = Bundle::new(&name, &self.rootfs.path(), &[], command);
        bundle.change(change);
        if launcher == Launcher::Runc {
            return said(&mut bundle.runc("run", &[]));
        }
        let directory = bundle.path().to_str().expect("UTF-8");
        let mut call = launcher.agent(&["run", "--rm", "--name", &name, "--bundle", directory]);
        said(&mut call)
    }

    /// A container that runs until it is dropped.
    pub fn start(&self, launcher: Launcher) -> Container {
        let container = Container::new("lookup");
        let rootfs = self.rootfs.path();
        let rootfs = rootfs.to_str().expect("UTF-8");
        let words = ["run", "-d", "--name", &container.name, "--rootfs", rootfs];
        let mut call = launcher.agent(&words);
        let said = said(call.args(["/bin/sleep", "1000"]));
        assert_eq!(said.trim_end(), container.name);
        container
    }

    /// `agent exec` in it.
    pub fn exec(
        launcher: Launcher,
        container: &Container,
        flags: &[&str],
        command: &[&str],
    ) -> String {
        let mut call = launcher.agent(&["exec"]);
        said(call.args(flags).arg(&container.name).args(command))
    }
}

pub fn name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("lookup-{}-{number}", std::process::id())
}

fn said(call: &mut Command) -> String {
    let Output { stdout, stderr, .. } = call.output().expect("a program can be run");
    String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned()
}
