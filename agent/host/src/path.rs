//! A cgroup's path as text. The kernel takes any bytes in a name except `/`, NUL and newline; labels, JSON and
//! terminals take text.
//!
//! A path that is UTF-8 is its own text. In any other path, each byte that is not UTF-8 and each backslash is written
//! as `\xHH`. `//`, with which no cgroup's path begins, is put in front. So no two paths have the same text, and
//! [`to_bytes`] restores the bytes.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::iter;

/// The text of a path.
pub fn to_text(path: &[u8]) -> String {
    if let Ok(text) = str::from_utf8(path) {
        return text.to_owned();
    }
    let mut text = String::from("/");
    for chunk in path.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', r"\x5c"));
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, r"\x{byte:02x}");
        }
    }
    text
}

/// The path that has this text.
pub fn to_bytes(text: &str) -> Vec<u8> {
    let Some(escaped) = text.strip_prefix('/').filter(|rest| rest.starts_with('/')) else {
        return text.as_bytes().to_vec();
    };
    let mut parts = escaped.split(r"\x");
    let mut path = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let byte = part.get(..2).map(|hex| u8::from_str_radix(hex, 16));
        match byte {
            Some(Ok(byte)) => {
                path.push(byte);
                path.extend_from_slice(&part.as_bytes()[2..]);
            }
            // `to_text` does not write this: it is kept unchanged.
            _ => {
                path.extend_from_slice(br"\x");
                path.extend_from_slice(part.as_bytes());
            }
        }
    }
    path
}

/// Returns the texts of a path and of all its ancestors, up to the root.
pub fn with_parents(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    iter::successors(Some(Cow::Borrowed(text)), |text| parent(text))
}

fn parent<'a>(text: &Cow<'a, str>) -> Option<Cow<'a, str>> {
    let above = |path: &[u8]| {
        let slash = path.iter().rposition(|&byte| byte == b'/')?;
        (path.len() > 1).then_some(slash.max(1))
    };
    match text {
        // An ancestor of a path with odd bytes may have none, so that its text is not a part of this text.
        Cow::Borrowed(text) if !text.starts_with("//") => {
            Some(Cow::Borrowed(&text[..above(text.as_bytes())?]))
        }
        text => {
            let path = to_bytes(text);
            Some(Cow::Owned(to_text(&path[..above(&path)?])))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn utf8_is_its_own_text() {
        for path in ["/", "/system.slice/a\\x2db.mount", "/größe", r"/\xff"] {
            assert_eq!(to_text(path.as_bytes()), path);
            assert_eq!(to_bytes(path), path.as_bytes());
        }
    }

    #[test]
    fn other_bytes_are_escaped() {
        assert_eq!(to_text(b"/a\\\xff\xc3/b"), r"//a\x5c\xff\xc3/b");
    }

    #[test]
    fn parents() {
        let all = |path: &[u8]| {
            with_parents(&to_text(path))
                .map(Cow::into_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(all(b"/"), ["/"]);
        assert_eq!(all(b"/a/b"), ["/a/b", "/a", "/"]);
        assert_eq!(
            all(b"/a\\/\xff/b"),
            [r"//a\x5c/\xff/b", r"//a\x5c/\xff", r"/a\", "/"]
        );
    }

    proptest! {
        #[test]
        fn bytes_come_back(names in prop::collection::vec(
            prop::collection::vec(prop_oneof![Just(b'\\'), Just(b'x'), Just(b'f'), any::<u8>()], 1..8)
                .prop_map(|mut name| { name.retain(|byte| !b"/\0\n".contains(byte)); name.push(b'_'); name }),
            1..4,
        )) {
            let path = [&b"/"[..], &names.join(&b'/')].concat();
            prop_assert_eq!(to_bytes(&to_text(&path)), path);
        }

        #[test]
        fn any_text_is_taken(text in "[/\\\\xfä]{0,12}") {
            to_bytes(&text);
        }
    }
}
