//! `cargo xtask check`: what can be said of the code without running it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::command::{self, cargo, workspace};
use crate::rules;
use crate::source::Source;
use crate::step::step;

pub fn run() -> Result<()> {
    step("rules", rules)?;
    step("format", || {
        command::run(&mut cargo(&["fmt", "--all", "--check"])?)
    })?;
    step("clippy", || {
        command::run(&mut cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])?)
    })?;
    step("docs", || {
        let mut doc = cargo(&[
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
        ])?;
        command::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
    })
}

fn rules() -> Result<()> {
    let mut files = Vec::new();
    rust_files(&workspace(), &mut files)?;
    let broken: Vec<String> = files.iter().flat_map(rules::broken).collect();
    ensure!(
        broken.is_empty(),
        "the rules of this repository (xtask/src/rules.rs) are broken:\n{}",
        broken.join("\n")
    );
    Ok(())
}

/// Reads the Rust files below `directory`, except what cargo builds and what is hidden.
fn rust_files(directory: &Path, files: &mut Vec<Source>) -> Result<()> {
    for path in entries(directory)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            rust_files(&path, files)?;
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let path = path.strip_prefix(workspace()).unwrap_or(&path);
            files.push(Source::new(&path.to_string_lossy(), &text));
        }
    }
    Ok(())
}

/// The paths in `directory`, in order.
fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
