//! Images: what `docker save` writes, and OCI layouts.

/// What an image wants where the order says nothing: the `config` of its configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    /// `NAME=VALUE` each.
    pub environment: Vec<String>,
    pub directory: Option<String>,
    /// As `--user` takes it.
    pub user: Option<String>,
    /// The signal that ends it: a name or number.
    pub stop_signal: Option<String>,
    /// What the image is called.
    pub name: String,
}
