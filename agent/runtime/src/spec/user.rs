//! Finds users and groups by name in the container's own /etc/passwd and /etc/group (passwd(5), group(5)).

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::BorrowedFd;

use agent_host::regular;
use agent_rootfs::lookup::{self, LinkPolicy};
use oci_spec::runtime::User;
use rustix::fs::OFlags;

use super::Error;

/// The most bytes of a file that are read. The author of the root file system is not trusted.
const MOST: u64 = 4 << 20;

/// The contents of /etc/passwd and /etc/group.
#[derive(Clone, Debug, Default)]
pub(super) struct Users {
    passwd: String,
    group: String,
}

/// A line of /etc/passwd.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// A line of /etc/group.
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl Users {
    /// Reads both files in a root file system. A missing file counts as empty.
    ///
    /// # Errors
    /// A file cannot be read, or is not a regular file.
    pub(super) fn read(root: BorrowedFd<'_>) -> Result<Self, Error> {
        let read = |path: &'static str| {
            read_below(root, path).map_err(|source| Error::Accounts { path, source })
        };
        Ok(Self {
            passwd: read("etc/passwd")?,
            group: read("etc/group")?,
        })
    }

    /// Finds `user` (`USER[:GROUP]`, names or numbers; root by default) and the user's home directory. `groups` are
    /// supplementary groups.
    ///
    /// # Errors
    /// There is no such user or group.
    pub(super) fn find(
        &self,
        user: Option<&str>,
        groups: &[String],
    ) -> Result<(User, String), Error> {
        let text = user.unwrap_or_default();
        let (name, group) = match text.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (text, None),
        };
        let name = if name.is_empty() { "0" } else { name };
        let number = name.parse::<u32>().ok();
        let account = self
            .accounts()
            .find(|it| it.name == name)
            .or_else(|| self.accounts().find(|it| Some(it.uid) == number));
        let uid = account.as_ref().map(|it| it.uid).or(number);
        let uid = uid.filter(|&uid| uid != u32::MAX).ok_or_else(|| {
            Error::flag(
                "--user",
                text,
                &format!("the container's /etc/passwd has no {name:?}"),
            )
        })?;
        let gid = match group {
            Some(group) => self.gid("--user", group)?,
            None => account.as_ref().map_or(0, |it| it.gid),
        };
        let mut more: Vec<u32> = Vec::new();
        if group.is_none()
            && let Some(account) = &account
        {
            let is_in = |it: &Group<'_>| it.members.split(',').any(|one| one == account.name);
            more.extend(self.groups().filter(is_in).map(|it| it.gid));
        }
        for group in groups {
            more.push(self.gid("--group-add", group)?);
        }
        more.sort_unstable();
        more.dedup();
        let mut user = User::default();
        user.set_uid(uid);
        user.set_gid(gid);
        user.set_additional_gids((!more.is_empty()).then_some(more));
        let home = account.map_or("/", |it| it.home);
        Ok((user, if home.is_empty() { "/" } else { home }.to_owned()))
    }

    fn gid(&self, flag: &'static str, group: &str) -> Result<u32, Error> {
        let named = self.groups().find(|it| it.name == group).map(|it| it.gid);
        let gid = named.or_else(|| group.parse().ok());
        gid.filter(|&gid| gid != u32::MAX).ok_or_else(|| {
            let reason = format!("the container's /etc/group has no {group:?}");
            Error::flag(flag, group, &reason)
        })
    }

    fn accounts(&self) -> impl Iterator<Item = Account<'_>> {
        self.passwd.lines().filter_map(|line| {
            let mut parts = line.split(':');
            let name = parts.next()?;
            let uid = parts.nth(1)?.parse().ok()?;
            let gid = parts.next()?.parse().ok()?;
            let home = parts.nth(1).unwrap_or_default();
            Some(Account {
                name,
                uid,
                gid,
                home,
            })
        })
    }

    fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        self.group.lines().filter_map(|line| {
            let mut parts = line.split(':');
            let name = parts.next()?;
            let gid = parts.nth(1)?.parse().ok()?;
            let members = parts.next().unwrap_or_default();
            Some(Group { name, gid, members })
        })
    }
}

/// Reads a file below `root`, which is not trusted. Symbolic links cannot lead out of it, and only a regular file is
/// read.
fn read_below(root: BorrowedFd<'_>, path: &str) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match lookup::open(root, path, LinkPolicy::Follow, flags) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(String::new()),
        Err(errno) => return Err(errno.into()),
    };
    let mut bytes = Vec::new();
    regular::regular(file)?.take(MOST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use rustix::fs::Mode;

    use super::*;

    fn users() -> Users {
        Users {
            passwd: "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/var/www:/bin/sh\n1000:x:5:5::/odd:\nbroken:x\n"
                .to_owned(),
            group: "root:x:0:\nwww:x:34:\nlog:x:4:other,web\nkvm:x:61:web\n".to_owned(),
        }
    }

    #[track_caller]
    fn found(user: &str, groups: &[&str]) -> (u32, u32, Vec<u32>, String) {
        let groups: Vec<String> = groups.iter().map(|&it| it.to_owned()).collect();
        let (user, home) = users().find(Some(user), &groups).unwrap();
        let more = user.additional_gids().clone().unwrap_or_default();
        (user.uid(), user.gid(), more, home)
    }

    #[test]
    fn users_by_name_and_number() {
        assert_eq!(found("", &[]), (0, 0, vec![], "/root".to_owned()));
        assert_eq!(
            found("web", &[]),
            (33, 34, vec![4, 61], "/var/www".to_owned())
        );
        assert_eq!(
            found("33", &["7"]),
            (33, 34, vec![4, 7, 61], "/var/www".to_owned())
        );
        assert_eq!(
            found("web:log", &["kvm"]),
            (33, 4, vec![61], "/var/www".to_owned())
        );
        assert_eq!(found("7:8", &[]), (7, 8, vec![], "/".to_owned()));
        assert_eq!(found("7", &[]), (7, 0, vec![], "/".to_owned()));
        // A name of digits is a name first.
        assert_eq!(found("1000", &[]), (5, 5, vec![], "/odd".to_owned()));
        for user in [
            "nobody",
            "web:nobody",
            "-1",
            "4294967295",
            "0:4294967295",
            "broken",
        ] {
            assert!(users().find(Some(user), &[]).is_err(), "{user}");
        }
    }

    #[test]
    fn a_link_out_of_the_root_leads_back_into_it() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("inside"), "x:x:1:1::/:").unwrap();
        std::os::unix::fs::symlink("../../../../inside", root.path().join("etc/passwd")).unwrap();
        let directory = File::open(root.path()).unwrap();
        let users = Users::read(directory.as_fd()).unwrap();
        assert_eq!((&*users.passwd, &*users.group), ("x:x:1:1::/:", ""));
    }

    #[test]
    fn a_pipe_is_no_file() {
        let root = tempfile::tempdir().unwrap();
        let directory = File::open(root.path()).unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        rustix::fs::mknodat(
            &directory,
            "etc/group",
            rustix::fs::FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .unwrap();
        assert!(matches!(
            Users::read(directory.as_fd()),
            Err(Error::Accounts { .. })
        ));
    }
}
