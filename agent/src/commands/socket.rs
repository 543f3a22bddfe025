//! Parses the values of `--socket`, `AGENT_SOCKET` and `--docker-socket`: paths of unix sockets. A value without a slash
//! would name a file in the working directory, and is most likely a typing error, such as `of` for `off`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use agent_model::text::shell_word;
use agent_stream::socket::OFF;
use clap::builder::{OsStringValueParser, StringValueParser, TypedValueParser};
use thiserror::Error;

/// Why a value is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum ValueError {
    #[error(
        "want off or a path with a slash; {} is that file in the working directory",
        here(name)
    )]
    Asked { name: PathBuf },
    #[error(
        "want a path with a slash; {} is that file in the working directory",
        here(name)
    )]
    Made { name: PathBuf },
    #[error(
        "agent serve always has a socket: want a path with a slash; leave --socket off out, and AGENT_SOCKET unset, for the \
         default"
    )]
    Off,
}

fn here(name: &Path) -> String {
    let name = name.to_string_lossy();
    shell_word(&format!("./{name}")).into_owned()
}

/// The socket of the server to ask; `off` asks none.
pub(super) fn asked() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|told: OsString| match PathBuf::from(told) {
        path if path == Path::new(OFF) || has_slash(&path) => Ok(path),
        name => Err(ValueError::Asked { name }),
    })
}

/// The socket of an engine; `off` and the empty string ask none.
pub(super) fn of_engine() -> impl TypedValueParser<Value = String> {
    StringValueParser::new().try_map(|told: String| match &*told {
        "" | OFF => Ok(told),
        _ if has_slash(Path::new(&told)) => Ok(told),
        _ => Err(ValueError::Asked { name: told.into() }),
    })
}

/// The socket that `agent serve` makes.
pub(super) fn made() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|told: OsString| match PathBuf::from(told) {
        path if has_slash(&path) => Ok(path),
        name if name == Path::new(OFF) => Err(ValueError::Off),
        name => Err(ValueError::Made { name }),
    })
}

fn has_slash(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().contains(&b'/')
}
