//! Finds the user to whom a user id belongs. An ordinary user may have ranges of ids without accounts (subuid(5)), and
//! can act as each of these ids.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::regular::{self, Links};

/// The size of the block of ids that counts as one user's where no file names the owner. A user, and a container, is
/// usually given that many.
const BLOCK: u32 = 65_536;

/// The most bytes of a file of accounts.
const LARGEST: u64 = 4 << 20;

/// A range of subordinate ids: the ids of users, or of groups, that an ordinary user may map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubordinateRange {
    /// The first id of the range.
    pub first: u32,
    /// The number of ids in the range.
    pub count: u32,
}

/// Reads the ranges that the file `name` (`subuid` or `subgid`) of the directory `etc` gives to a user, by login name or
/// by number. Returns the user's login name too, where the user has an account.
pub fn of_user(etc: &Path, name: &str, user: u32) -> (Option<String>, Vec<SubordinateRange>) {
    let accounts = text(&etc.join("passwd"));
    let mut accounts = accounts.lines().filter_map(account);
    let login = accounts.find(|(_, id)| *id == user).map(|(login, _)| login);
    let number = user.to_string();
    let text = text(&etc.join(name));
    let own = ranges(&text).filter_map(|(account, range)| {
        let is_theirs = account == number || Some(account) == login;
        let is_range = range.count > 0 && range.first.checked_add(range.count).is_some();
        (is_theirs && is_range).then_some(range)
    });
    (login.map(str::to_owned), own.collect())
}

/// Parses the lines of subuid(5) or subgid(5), `ACCOUNT:FIRST:COUNT`, and leaves out other lines.
fn ranges(text: &str) -> impl Iterator<Item = (&str, SubordinateRange)> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let account = fields.next()?;
        let first = fields.next()?.parse().ok()?;
        let count = fields.next()?.parse().ok()?;
        Some((account, SubordinateRange { first, count }))
    })
}

/// Reads a file of accounts. A file that cannot be read has no lines.
fn text(path: &Path) -> String {
    let bytes = regular::read(path, Links::Followed, LARGEST).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The owner of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    User(u32),
    /// An unknown user, who has the range of ids that begins here.
    Range(u32),
}

/// The accounts of the host and their ranges, as the files are now.
#[derive(Debug)]
pub struct Subordinates {
    ranges: Watched,
    accounts: Watched,
    known: Known,
}

#[derive(Debug, Default)]
struct Known {
    /// The first id, the number of ids, and their owner.
    ranges: Vec<(u32, u32, Whose)>,
    accounts: HashSet<u32>,
}

/// A file, and the inode number, time and size by which a change is noticed.
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
}

impl Subordinates {
    /// The accounts and ranges of the host with the root path `root`.
    pub fn new(root: &Path) -> Self {
        Self {
            ranges: Watched::new(root.join("etc/subuid")),
            accounts: Watched::new(root.join("etc/passwd")),
            known: Known::default(),
        }
    }

    /// Returns the owner of the id `user`.
    pub fn whose(&mut self, user: u32) -> Whose {
        // `|` and not `||`: both files must be checked.
        if self.ranges.has_changed() | self.accounts.has_changed() {
            self.known = Known::read(&text(&self.accounts.path), &text(&self.ranges.path));
        }
        self.known.whose(user)
    }
}

impl Known {
    fn read(accounts: &str, ranges: &str) -> Self {
        let accounts: HashMap<&str, u32> = accounts.lines().filter_map(account).collect();
        let ranges = self::ranges(ranges).map(|(account, range)| {
            let owner = account.parse().ok();
            let owner = owner.or_else(|| accounts.get(account).copied());
            let first = range.first;
            let owner = owner.map_or(Whose::Range(first), Whose::User);
            (first, range.count, owner)
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
    fn ranges_are_a_users_by_login_name_and_number() {
        let etc = tempfile::tempdir().unwrap();
        let accounts = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\nodd\n";
        fs::write(etc.path().join("passwd"), accounts).unwrap();
        let text = "a:1:2\nann:100000:65536\nann:5:5\n1000:300000:10\nann:x:1\nann:5:0\nann:4294967295:9\n";
        fs::write(etc.path().join("subuid"), text).unwrap();
        let (login, ranges) = of_user(etc.path(), "subuid", 1000);
        let ranges: Vec<_> = ranges.iter().map(|it| (it.first, it.count)).collect();
        assert_eq!(login.as_deref(), Some("ann"));
        assert_eq!(ranges, [(100_000, 65_536), (5, 5), (300_000, 10)]);
        assert_eq!(of_user(etc.path(), "subuid", 1), (None, Vec::new()));
        assert_eq!(of_user(etc.path(), "subgid", 1000).1, []);
    }

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
