//! The modules of a kernel, as its packages have them: `NAME.ko`, or packed by xz or zstd.
//!
//! The packages have no `modules.dep`, which depmod(8) makes where they are installed, so what a module needs is read
//! from the module itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::{command, output};

/// How files of modules end, and what unpacks them.
const PACKINGS: [(&str, Option<&str>); 3] = [
    (".ko", None),
    (".ko.xz", Some("xz")),
    (".ko.zst", Some("zstd")),
];

/// A module of a kernel.
pub struct Module {
    pub name: String,
    pub bytes: Vec<u8>,
}

pub struct Modules {
    /// By name, with `_` for each `-`: the kernel takes both for the same, and files have the one or the other.
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
}

impl Modules {
    /// Those of the kernel whose packages were unpacked at `directory`.
    pub fn of(directory: &Path) -> Result<Self> {
        let found = output(command("find", &[])?.arg(directory).args([
            "-name",
            "*.ko*",
            "-o",
            "-name",
            "modules.builtin",
        ]))?;
        let mut modules = Self {
            files: BTreeMap::new(),
            built_in: BTreeSet::new(),
        };
        for path in found.lines() {
            if path.ends_with("/modules.builtin") {
                let list =
                    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
                modules.built_in.extend(list.lines().filter_map(name));
            } else if let Some(name) = name(path) {
                modules.files.insert(name, path.into());
            }
        }
        ensure!(
            !modules.built_in.is_empty(),
            "{} has no list modules.builtin; remove it, to get it anew",
            directory.display()
        );
        Ok(modules)
    }

    /// These modules, each after those that it needs. What is built in is left out.
    pub fn with_needed(&self, names: &[&str]) -> Result<Vec<Module>> {
        let mut modules = Vec::new();
        for name in names {
            self.add(name, &mut modules)?;
        }
        Ok(modules)
    }

    /// Whether it is among the files.
    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(&name.replace('-', "_"))
    }

    fn add(&self, name: &str, modules: &mut Vec<Module>) -> Result<()> {
        let name = name.replace('-', "_");
        if self.built_in.contains(&name) || modules.iter().any(|it| it.name == name) {
            return Ok(());
        }
        let file = self.files.get(&name);
        let file = file.with_context(|| {
            format!("the kernel has no module {name}, neither built in nor among its files")
        })?;
        let bytes = unpacked(file)?;
        for needed in needs(&bytes) {
            self.add(&needed, modules)?;
        }
        // What it only asks for may be nowhere.
        for wanted in wants(&bytes) {
            if self.has(&wanted) {
                self.add(&wanted, modules)?;
            }
        }
        modules.push(Module { name, bytes });
        Ok(())
    }
}

/// The name of the module that a path leads to.
fn name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let mut endings = PACKINGS.iter();
    let name = endings.find_map(|(ending, _)| file.strip_suffix(ending))?;
    Some(name.replace('-', "_"))
}

fn unpacked(file: &Path) -> Result<Vec<u8>> {
    let path = file.to_string_lossy();
    // The longest ending last: `.ko` is the end of no other.
    let packing = PACKINGS.iter().find(|(ending, _)| path.ends_with(ending));
    let Some((_, program)) = packing else {
        bail!("{path}: the name of no module");
    };
    let Some(program) = program else {
        return fs::read(file).with_context(|| format!("cannot read {path}"));
    };
    let unpacked = command(program, &["--decompress", "--stdout"])?
        .arg(file)
        .output()
        .with_context(|| format!("cannot run {program}, to unpack {path}: install it"))?;
    ensure!(unpacked.status.success(), "{program} cannot unpack {path}");
    Ok(unpacked.stdout)
}

/// The modules that one needs: it says so as `depends=A,B`.
fn needs(module: &[u8]) -> Vec<String> {
    said(module, b"\0depends=", ',')
}

/// The modules that are to be loaded before it where they are: `softdep=pre: A B`.
fn wants(module: &[u8]) -> Vec<String> {
    said(module, b"\0softdep=pre: ", ' ')
}

/// What a module says behind `key`, up to a NUL.
fn said(module: &[u8], key: &[u8], separator: char) -> Vec<String> {
    let start = module.windows(key.len()).position(|window| window == key);
    let names = start.map_or(&[][..], |start| &module[start + key.len()..]);
    let names = names.split(|&byte| byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(names);
    let names = names.split(separator).filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_say_what_they_need() {
        let module = b"\x7fELF\0license=GPL\0depends=stp,llc\0softdep=pre: crc32c\0name=bridge\0";
        assert_eq!(needs(module), ["stp", "llc"]);
        assert_eq!(wants(module), ["crc32c"]);
        assert!(needs(b"\0depends=\0").is_empty());
        assert!(needs(b"").is_empty());
    }

    #[test]
    fn whatever_packs_them_they_have_a_name() {
        for (path, wanted) in [
            ("kernel/drivers/net/veth.ko", Some("veth")),
            ("/a/virtio-blk.ko.xz", Some("virtio_blk")),
            ("/a/lzo-rle.ko.zst", Some("lzo_rle")),
            ("/a/veth.ko.gz", None),
            ("/a/modules.builtin.modinfo", None),
        ] {
            assert_eq!(name(path).as_deref(), wanted, "{path}");
        }
    }

    #[test]
    fn what_is_neither_built_in_nor_there_is_missed() {
        let modules = Modules {
            files: BTreeMap::new(),
            built_in: BTreeSet::from(["ext4".to_owned()]),
        };
        assert!(modules.with_needed(&["ext4"]).is_ok_and(|it| it.is_empty()));
        let missed = modules.with_needed(&["veth"]).map(|_| ());
        assert!(missed.is_err_and(|it| it.to_string().contains("veth")));
    }
}
