//! The values of a filter's options, on the command line and in a query.

use std::num::{NonZeroU32, ParseIntError};

use agent_ebpf::NamespaceType;
use thiserror::Error;

use super::kind::EventKind;

/// The longest thread name in bytes (`TASK_COMM_LEN` of `include/linux/sched.h`, without its NUL).
const COMM_MAX: usize = 15;

/// Why a filter does not take a value. The message says what it takes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(
    missing_docs,
    reason = "each variant is named as its option, and its message says the rest"
)]
pub enum FilterValueError {
    #[error("want one of {}", EventKind::ALL.map(EventKind::name).join(", "))]
    Kind,
    #[error("want a container's name or id")]
    Container,
    #[error("want a process id, a whole number above 0")]
    Pid(#[source] ParseIntError),
    #[error("want one of {}", namespace_names().join(", "))]
    Namespace,
    #[error("want at most {COMM_MAX} bytes, as many as the kernel keeps: {kept:?}")]
    Comm {
        /// The part that the kernel keeps.
        kept: String,
    },
    #[error("want true or false")]
    Host,
}

fn namespace_names() -> Vec<&'static str> {
    NamespaceType::ALL.iter().map(|it| it.name()).collect()
}

/// An event kind by its name.
pub fn parse_kind(text: &str) -> Result<EventKind, FilterValueError> {
    let mut kinds = EventKind::ALL.into_iter();
    kinds
        .find(|kind| kind.name() == text)
        .ok_or(FilterValueError::Kind)
}

/// A container's name, id or start of an id: any text but the empty one.
pub fn parse_container(text: &str) -> Result<String, FilterValueError> {
    if text.is_empty() {
        return Err(FilterValueError::Container);
    }
    Ok(text.to_owned())
}

/// A process or thread id above 0.
pub fn parse_pid(text: &str) -> Result<NonZeroU32, FilterValueError> {
    text.parse().map_err(FilterValueError::Pid)
}

/// A namespace type by its name in `/proc/PID/ns`; `mount` is `mnt`.
pub fn parse_namespace(text: &str) -> Result<NamespaceType, FilterValueError> {
    let name = if text == "mount" { "mnt" } else { text };
    let mut types = NamespaceType::ALL.iter();
    let found = types.find(|it| it.name() == name);
    found.copied().ok_or(FilterValueError::Namespace)
}

/// A thread's name of at most 15 bytes. A longer one than the kernel keeps would match nothing.
pub fn parse_comm(text: &str) -> Result<String, FilterValueError> {
    let mut bytes = 0;
    let kept: String = text
        .chars()
        .take_while(|c| {
            bytes += kernel_bytes(*c);
            bytes <= COMM_MAX
        })
        .collect();
    if kept.len() < text.len() {
        return Err(FilterValueError::Comm { kept });
    }
    Ok(kept)
}

/// The least number of bytes in the kernel that `c` stands for in an event's comm: U+FFFD may stand for any one byte.
fn kernel_bytes(c: char) -> usize {
    if c == char::REPLACEMENT_CHARACTER {
        1
    } else {
        c.len_utf8()
    }
}

/// `true` or `false`. Only a query has this value.
pub(crate) fn parse_host(text: &str) -> Result<bool, FilterValueError> {
    text.parse().map_err(|_| FilterValueError::Host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comm_may_be_as_long_as_the_kernel_keeps() {
        assert_eq!(parse_comm("").unwrap(), "");
        assert_eq!(parse_comm("123456789012345").unwrap(), "123456789012345");
        let kept = |text| match parse_comm(text) {
            Err(FilterValueError::Comm { kept }) => kept,
            other => panic!("{other:?}"),
        };
        assert_eq!(kept("1234567890123456"), "123456789012345");
        assert_eq!(kept("日日日日日日"), "日日日日日");
        // 15 bytes that are not UTF-8, as an event shows them.
        let replaced = "\u{fffd}".repeat(15);
        assert_eq!(parse_comm(&replaced).unwrap(), replaced);
    }
}
