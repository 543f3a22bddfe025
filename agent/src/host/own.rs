//! This process: its cgroups.

use std::path::Path;

use super::Error;
use super::file::File;
use super::path;

/// Its path in each hierarchy, by the hierarchy's id.
///
/// # Errors
/// `/proc/self/cgroup` cannot be read.
pub fn cgroups(root: &Path) -> Result<Vec<(u32, String)>, Error> {
    let file = File::read(root.join("proc/self/cgroup"))?;
    let paths = file.lines().filter_map(|line| {
        let mut fields = line.splitn(3, |&byte| byte == b':');
        let id = super::file::number(fields.next()?)?;
        Some((id, path::to_text(fields.nth(1)?)))
    });
    Ok(paths.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fixture::tree;

    #[test]
    fn paths_by_hierarchy() {
        let root = tree(&[("proc/self/cgroup", "4:cpu,cpuacct:/a:b\n0::/\n")]);
        let paths = cgroups(root.path()).unwrap();
        assert_eq!(paths, [(4, "/a:b".to_owned()), (0, "/".to_owned())]);
    }
}
