//! The programs that run in a virtual machine: the same test programs that run here, as cargo builds them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::command::{cargo, command, output};

/// A test program, and the names of its tests.
pub struct Program {
    pub name: String,
    pub path: PathBuf,
    pub tests: Vec<String>,
}

pub struct Programs {
    /// Those of the package `tests`.
    pub tests: Vec<Program>,
    /// What they call: the programs of that package, and the agent.
    pub others: Vec<PathBuf>,
}

impl Programs {
    /// Builds them as `cargo xtask test` does, or those test programs alone that are named.
    pub fn build(names: &[String]) -> Result<Self> {
        let arguments = [
            "test",
            "--workspace",
            "--features",
            "agent/faults",
            "--no-run",
        ];
        let mut build = cargo(&arguments)?;
        build.args(["--quiet", "--message-format", "json-render-diagnostics"]);
        if names.is_empty() {
            build.args(["--test", "*"]);
        }
        build.args(names.iter().flat_map(|name| ["--test", name]));
        build.stderr(std::process::Stdio::inherit());
        let mut programs = Self {
            tests: Vec::new(),
            others: Vec::new(),
        };
        for line in messages(&output(&mut build)?) {
            programs.add(&line?)?;
        }
        // As tests do for themselves where there is a cargo.
        let arguments = ["build", "--package", "agent", "--features", "faults"];
        let mut build = cargo(&arguments)?;
        build.args(["--quiet", "--message-format", "json-render-diagnostics"]);
        build.stderr(std::process::Stdio::inherit());
        for line in messages(&output(&mut build)?) {
            programs.others.extend(executable(&line?));
        }
        programs.tests.sort_by(|a, b| a.name.cmp(&b.name));
        ensure!(!programs.tests.is_empty(), "cargo built no test program");
        Ok(programs)
    }

    /// The directory in which the programs are that tests call.
    pub fn directory(&self) -> Result<&Path> {
        let first = self.others.first().and_then(|path| path.parent());
        first.context("cargo built nothing that tests call")
    }

    fn add(&mut self, message: &Value) -> Result<()> {
        let Some(path) = executable(message) else {
            return Ok(());
        };
        let kind = message["target"]["kind"][0].as_str().unwrap_or_default();
        let package = message["package_id"].as_str().unwrap_or_default();
        let of_tests = package.contains("/tests#");
        match kind {
            "test" if of_tests => {
                let name = message["target"]["name"].as_str().unwrap_or_default();
                self.tests.push(Program {
                    name: name.to_owned(),
                    tests: list(&path)?,
                    path,
                });
            }
            "bin" if of_tests && message["profile"]["test"] == false => self.others.push(path),
            _ => {}
        }
        Ok(())
    }
}

/// What cargo says of what it built, a message a line.
fn messages(text: &str) -> impl Iterator<Item = Result<Value>> {
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).context("cargo's message is not JSON"))
}

fn executable(message: &Value) -> Option<PathBuf> {
    message["executable"].as_str().map(PathBuf::from)
}

/// The names of a program's tests.
fn list(program: &Path) -> Result<Vec<String>> {
    let said = output(&mut command(program, &["--list", "--format", "terse"])?)?;
    let names = said.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(str::to_owned).collect())
}
