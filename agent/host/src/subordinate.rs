//! Whose a user id is that has no account: an ordinary user may have ranges of ids by subuid(5), and can take each of them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::regular::{self, Links};

/// Ids that are taken for one user's where nothing says whose they are: that many a user, and a container, is given.
const BLOCK: u32 = 65_536;

/// Bytes of a file of accounts.
const LARGEST: u64 = 4 << 20;

/// To whom an id belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    User(u32),
    /// Somebody who has a range of ids that begins here.
    Range(u32),
}

/// The accounts of the host and their ranges, as the files say now.
#[derive(Debug)]
pub struct Subordinates {
    ranges: Watched,
    accounts: Watched,
    known: Known,
}

#[derive(Debug, Default)]
struct Known {
    /// First, count, and who has them.
    ranges: Vec<(u32, u32, Whose)>,
    accounts: HashSet<u32>,
}

/// A file, and what tells whether it was changed.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    seen: Option<(u64, i64, i64, u64)>,
}

impl Watched {
    fn new(path: PathBuf) -> Self {
        Self { path, seen: None }
    }

    fn has_changed(&mut self) -> bool {
        let found = fs::metadata(&self.path).ok();
        let found = found.map(|it| (it.ino(), it.mtime(), it.mtime_nsec(), it.len()));
        let before = std::mem::replace(&mut self.seen, found);
        before != found
    }

    /// Lines of fields; none where it cannot be read.
    fn text(&self) -> String {
        let bytes = regular::read(&self.path, Links::Followed, LARGEST).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Subordinates {
    /// Those of the host whose tree is at `root`.
    pub fn new(root: &Path) -> Self {
        Self {
            ranges: Watched::new(root.join("etc/subuid")),
            accounts: Watched::new(root.join("etc/passwd")),
            known: Known::default(),
        }
    }

    /// To whom `user` belongs.
    pub fn whose(&mut self, user: u32) -> Whose {
        // Both are to be looked at.
        if self.ranges.has_changed() | self.accounts.has_changed() {
            self.known = Known::read(&self.accounts.text(), &self.ranges.text());
        }
        self.known.whose(user)
    }
}

impl Known {
    fn read(accounts: &str, ranges: &str) -> Self {
        let accounts: HashMap<&str, u32> = accounts.lines().filter_map(account).collect();
        let ranges = ranges.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let who = fields.next()?;
            let first = fields.next()?.parse().ok()?;
            let count = fields.next()?.trim().parse().ok()?;
            let owner = who.parse().ok().or_else(|| accounts.get(who).copied());
            Some((first, count, owner.map_or(Whose::Range(first), Whose::User)))
        });
        Self {
            ranges: ranges.collect(),
            accounts: accounts.into_values().collect(),
        }
    }

    fn whose(&self, user: u32) -> Whose {
        let mut ranges = self.ranges.iter();
        let range =
            ranges.find(|(first, count, _)| user.checked_sub(*first).is_some_and(|it| it < *count));
        match range {
            Some((.., owner)) => *owner,
            None if user < BLOCK || self.accounts.contains(&user) => Whose::User(user),
            None => Whose::Range(user / BLOCK * BLOCK),
        }
    }
}

/// The name and the id in a line of passwd(5).
fn account(line: &str) -> Option<(&str, u32)> {
    let mut fields = line.split(':');
    Some((fields.next()?, fields.nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_whose_it_is_by_the_files_as_they_are() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        let mut ids = Subordinates::new(root.path());
        assert_eq!(ids.whose(1000), Whose::User(1000));
        assert_eq!(ids.whose(200_000), Whose::Range(196_608));
        fs::create_dir(&etc).unwrap();
        let accounts = "root:x:0:0::/:/bin/sh\n\nuser:x:1000:1000::/:\nfar:x:300000:1::/:\nodd\n";
        fs::write(etc.join("passwd"), accounts).unwrap();
        let ranges = "user:100000:65536\n1001:400000:10\nnobodys:500000:65536\nuser:x:y\n:::\nlast:4294967290:65536";
        fs::write(etc.join("subuid"), ranges).unwrap();
        for (id, whose) in [
            (0, Whose::User(0)),
            (1000, Whose::User(1000)),
            (65_535, Whose::User(65_535)),
            (99_999, Whose::Range(65_536)),
            (100_000, Whose::User(1000)),
            (165_535, Whose::User(1000)),
            (165_536, Whose::Range(131_072)),
            (300_000, Whose::User(300_000)),
            (400_009, Whose::User(1001)),
            (500_001, Whose::Range(500_000)),
            (u32::MAX, Whose::Range(4_294_967_290)),
        ] {
            assert_eq!(ids.whose(id), whose, "{id}");
        }
        fs::write(etc.join("subuid"), "1002:100000:65536\n").unwrap();
        assert_eq!(ids.whose(100_000), Whose::User(1002));
    }
}
