//! Flags to an order: pure.
//!
//! [`Flags`] are what a person wrote, [`Found`] what was looked up on the host for them, [`compile`] makes an [`Order`] of
//! the two. An image and the root file system's /etc/passwd are there only later: [`complete`] adds what they say.

use std::os::fd::BorrowedFd;

use super::order::{ImageConfig, Order};

/// The flags of `agent run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {}

/// What was looked up on the host.
#[derive(Clone, Debug, Default)]
pub struct Found {}

/// Why flags, or a bundle, are no order. Docker exits with 125 for all of them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no command to run: name one after the flags, or use an image that has one")]
    NoCommand,
}

/// Makes an order of flags.
///
/// # Errors
/// A value that is none, or flags that exclude each other.
pub fn compile(_flags: &Flags, _found: &Found) -> Result<Order, Error> {
    Err(Error::NoCommand)
}

/// Completes the command of an order: entrypoint, arguments, environment, directory and user, by what the image and the
/// root file system's /etc/passwd and /etc/group say. To be called once, when the root is there and before the launch.
///
/// # Errors
/// There is no command, or no such user or group.
pub fn complete(
    _order: &mut Order,
    _image: Option<&ImageConfig>,
    _root: BorrowedFd<'_>,
) -> Result<(), Error> {
    Ok(())
}

/// The user that a process is to run as, in a root file system: `user` is `USER[:GROUP]`, names or numbers, and `groups`
/// more groups. With it the directory that is its home.
///
/// # Errors
/// There is no such user or group.
pub fn user_in(
    _root: BorrowedFd<'_>,
    _user: Option<&str>,
    _groups: &[String],
) -> Result<(oci_spec::runtime::User, String), Error> {
    Ok((oci_spec::runtime::User::default(), "/".to_owned()))
}
