//! The arguments of an exec as the kernel side sends them: at most 1,024 bytes. Separate strings could take many times
//! as much memory, and the process that executes the program chooses them.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The arguments, each followed by a NUL; a cut last argument has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Argv(Box<[u8]>);

impl Argv {
    /// Copies the bytes of an event.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The arguments one by one. Bytes that are not UTF-8 become U+FFFD.
    pub fn words(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let words = self.0.strip_suffix(b"\0").unwrap_or(&self.0);
        let words = (!self.0.is_empty()).then(|| words.split(|&byte| byte == 0));
        words.into_iter().flatten().map(String::from_utf8_lossy)
    }
}

impl<T: AsRef<str>> FromIterator<T> for Argv {
    fn from_iter<I: IntoIterator<Item = T>>(words: I) -> Self {
        let mut bytes = Vec::new();
        for word in words {
            bytes.extend_from_slice(word.as_ref().as_bytes());
            bytes.push(0);
        }
        Self(bytes.into())
    }
}

impl Serialize for Argv {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.words())
    }
}

impl<'de> Deserialize<'de> for Argv {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<String>::deserialize(deserializer)?.iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_is_between_nuls() {
        let words = |bytes: &[u8]| {
            let argv = Argv::new(bytes);
            argv.words().map(Cow::into_owned).collect::<Vec<_>>()
        };
        assert_eq!(words(b""), [""; 0]);
        assert_eq!(words(b"\0"), [""]);
        assert_eq!(words(b"sh\0-c\0\0\xff\0"), ["sh", "-c", "", "\u{fffd}"]);
        assert_eq!(words(b"ls\0-"), ["ls", "-"]);
        let argv: Argv = ["sh", "", "a b"].into_iter().collect();
        let json = serde_json::to_string(&argv).unwrap();
        assert_eq!(json, r#"["sh","","a b"]"#);
        assert_eq!(serde_json::from_str::<Argv>(&json).unwrap(), argv);
    }
}
