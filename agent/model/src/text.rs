//! Untrusted text on a terminal: escapes it, and cuts it to a width.
//!
//! A name, a comm or a path may hold any bytes. Written as they are, such bytes could move the cursor, set colours,
//! reorder the line or break it in two, and so forge the agent's output.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write;

use unicode_width::UnicodeWidthChar;

/// The character that replaces the part of a text that was cut off. It takes one column.
const CUT: char = '…';

/// The most bytes of a name or an image that are kept. People choose both.
pub const NAME_BYTES: usize = 512;

/// Whether `c` would control a terminal or be invisible: a control character, white space other than the space, or a
/// character without a width (bidirectional controls, joiners, variation selectors, combining marks).
fn is_hidden(c: char) -> bool {
    matches!(c.width(), None | Some(0)) || (c.is_whitespace() && c != ' ')
}

/// Returns `text` with every hidden character written as `\x1b` (below U+0100) or `\u{202e}`.
///
/// A backslash stays as it is, because the names of systemd's units are full of them. So the original text cannot
/// always be told from the output, which is for people; JSON is exact.
pub fn escape(text: &str) -> Cow<'_, str> {
    replace_hidden(text, |c, out| {
        let number = u32::from(c);
        let written = if number < 0x100 {
            write!(out, "\\x{number:02x}")
        } else {
            write!(out, "\\u{{{number:x}}}")
        };
        written.expect("a String takes all that is written to it");
    })
}

/// Returns a JSON text with every hidden character above U+001F written as an escape of JSON, such as `\u202e`. The
/// text has the same value, and is safe to show. Characters up to U+001F stay: in a JSON text they are white space.
pub fn escape_json(json: &str) -> Cow<'_, str> {
    replace_hidden(json, |c, out| {
        if c < ' ' {
            out.push(c);
            return;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}").expect("a String takes all that is written to it");
        }
    })
}

fn replace_hidden(text: &str, replace: impl Fn(char, &mut String)) -> Cow<'_, str> {
    // Almost all text is plain ASCII, and this check takes a fraction of the time of the next one.
    if is_plain_ascii(text.as_bytes()) {
        return Cow::Borrowed(text);
    }
    let Some(first) = text.find(is_hidden) else {
        return Cow::Borrowed(text);
    };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for c in text[first..].chars() {
        if is_hidden(c) {
            replace(c, &mut out);
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Whether all bytes are visible ASCII or spaces. It checks whole pieces, for which the compiler can use vectors.
fn is_plain_ascii(text: &[u8]) -> bool {
    text.chunks(64).all(|piece| {
        let plain = piece.iter().map(|byte| matches!(byte, b' '..=b'~'));
        plain.fold(true, |all, this| all & this)
    })
}

/// Returns a word of a shell command: unchanged if a shell takes it literally, else in single quotes.
pub fn shell_word(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', "'\\''")))
}

/// The start of a line that reports no error.
pub const NOTE: &str = "agent: note: ";

/// Writes a note that is no error to standard error. A closed standard error is ignored.
pub fn note(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{NOTE}{}", said(text));
}

/// The bytes of a long error that are shown at its beginning and at its end. It may quote a long text from an image,
/// and has its advice at the end.
const BEGIN_BYTES: usize = 1500;
const END_BYTES: usize = 500;

/// Prepares untrusted `text` for an error or a note: escapes it, so that it cannot forge a line, and cuts out its
/// middle if it is longer than 2000 bytes.
pub fn said(text: &str) -> Cow<'_, str> {
    let escaped = escape(text);
    if escaped.len() <= BEGIN_BYTES + END_BYTES {
        return escaped;
    }
    let begin = &escaped[..escaped.floor_char_boundary(BEGIN_BYTES)];
    let end = &escaped[escaped.ceil_char_boundary(escaped.len() - END_BYTES)..];
    Cow::Owned(format!("{begin}{CUT}{end}"))
}

/// Returns an error and its causes in one line. Only the first line of each is used: the kernel's verifier writes many.
pub fn error_line(error: &(dyn Error + 'static)) -> String {
    let mut line = String::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        let first = said(text.lines().next().unwrap_or_default().trim());
        // Some errors have the text of their cause, or quote it.
        if !line.contains(&*first) {
            let colon = if line.is_empty() { "" } else { ": " };
            line.push_str(colon);
            line.push_str(&first);
        }
        cause = error.source();
    }
    line
}

/// Returns the first [`NAME_BYTES`] bytes of a name, or fewer where a character would be cut.
pub fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES)]
}

/// The columns that escaped `text` takes on a terminal: the sum of its characters' widths.
pub fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// Cuts escaped `text` to at most `columns`. A `…` replaces the part that was cut off.
pub fn fit(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let Some(room) = columns.checked_sub(1) else {
        return Cow::Borrowed("");
    };
    let mut used = 0;
    let mut kept: String = text
        .chars()
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= room
        })
        .collect();
    kept.push(CUT);
    Cow::Owned(kept)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Said(&'static str, #[source] Option<Box<Said>>);

    #[test]
    fn an_error_is_one_line() {
        let cause = Said("EPERM", None);
        let quoting = Said("refused: EPERM", Some(Box::new(cause)));
        let long = Said(" cannot load \nmov r0, 1\x1b", Some(Box::new(quoting)));
        assert_eq!(error_line(&long), "cannot load: refused: EPERM");
        let advising = Said(
            "refused: EPERM; be root",
            Some(Box::new(Said("EPERM", None))),
        );
        assert_eq!(error_line(&advising), "refused: EPERM; be root");
        assert_eq!(error_line(&Said("\x1b", None)), "\\x1b");
    }

    #[test]
    fn an_error_has_a_sane_length_its_end_included() {
        let long: &str = format!(
            "--user {}: there is no such user",
            "\x1b\u{e9}".repeat(1 << 20)
        )
        .leak();
        let line = error_line(&Said(long, Some(Box::new(Said("EPERM", None)))));
        assert!(line.len() < 3 * 1024, "{}", line.len());
        assert!(line.starts_with("--user \\x1b\u{e9}"), "{line}");
        assert!(line.ends_with("there is no such user: EPERM"), "{line}");
        assert_eq!(said(&"x".repeat(2000)).len(), 2000);
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        for (text, escaped) in [
            ("nginx", "nginx"),
            ("Isolated Web Co", "Isolated Web Co"),
            ("caf\u{e9} 日本", "caf\u{e9} 日本"),
            ("dev-disk\\x2duuid.device", "dev-disk\\x2duuid.device"),
            ("\x1b[31mred", "\\x1b[31mred"),
            ("a\nb\r\tc\x07", "a\\x0ab\\x0d\\x09c\\x07"),
            ("\x7f\u{85}\u{9b}2J", "\\x7f\\x85\\x9b2J"),
            // bidirectional controls
            ("a\u{202e}b", "a\\u{202e}b"),
            (
                "\u{2066}\u{2069}\u{200f}\u{61c}",
                "\\u{2066}\\u{2069}\\u{200f}\\u{61c}",
            ),
            // no width: space, joiner, selector, mark, tag, soft hyphen, byte order mark
            ("\u{200b}\u{200d}\u{fe0f}", "\\u{200b}\\u{200d}\\u{fe0f}"),
            (
                "e\u{301}\u{e0041}\u{ad}\u{feff}",
                "e\\u{301}\\u{e0041}\\xad\\u{feff}",
            ),
            // other spaces and line breaks
            (
                "\u{a0}\u{3000}\u{2028}\u{2029}",
                "\\xa0\\u{3000}\\u{2028}\\u{2029}",
            ),
        ] {
            assert_eq!(escape(text), escaped);
        }
    }

    #[test]
    fn a_cut_text_says_so_and_never_splits_a_wide_character() {
        for (text, columns, fitted) in [
            ("nginx", 5, "nginx"),
            ("nginx", 4, "ngi…"),
            ("nginx", 1, "…"),
            ("nginx", 0, ""),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("", 0, ""),
        ] {
            assert_eq!(fit(text, columns), fitted, "{text} in {columns}");
        }
    }

    proptest! {
        #[test]
        fn an_escaped_text_hides_nothing(text in any::<Vec<char>>()) {
            let text: String = text.into_iter().collect();
            let escaped = escape(&text);
            prop_assert!(!escaped.contains(is_hidden), "{escaped:?}");
            prop_assert_eq!(escape(&escaped), &*escaped);
        }

        #[test]
        fn escaped_json_is_the_same_value(text in any::<Vec<char>>()) {
            let text: String = text.into_iter().collect();
            let json = serde_json::to_string(&text).unwrap();
            let escaped = escape_json(&json);
            prop_assert!(!escaped.contains(is_hidden), "{escaped:?}");
            prop_assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
        }

        #[test]
        fn a_fitted_text_fits(text in any::<Vec<char>>(), columns in 0..40_usize) {
            let escaped = escape(&text.into_iter().collect::<String>()).into_owned();
            prop_assert!(width(&fit(&escaped, columns)) <= columns);
        }
    }
}
