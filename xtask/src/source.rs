//! A Rust file split into code, comments and string literals, so that a rule about one is not misled by another.

/// One line of a file.
#[derive(Debug, Default, PartialEq)]
pub struct Line {
    /// String literals stand in it as `""`.
    pub code: String,
    pub comment: String,
    /// The string literals that begin here, as they are written between their quotes.
    pub strings: Vec<String>,
    pub in_test: bool,
}

pub struct Source {
    /// Relative to the workspace.
    pub path: String,
    pub lines: Vec<Line>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let mut lines = scan(text);
        let first_test = if path.ends_with("/tests.rs") {
            0
        } else {
            first_test(&lines)
        };
        for line in lines.iter_mut().skip(first_test) {
            line.in_test = true;
        }
        Self {
            path: path.to_owned(),
            lines,
        }
    }

    /// The numbers of the lines that `wrong` holds for, from 1.
    pub fn lines_where(&self, wrong: impl Fn(&Line) -> bool) -> Vec<usize> {
        let numbered = (1..).zip(&self.lines);
        numbered
            .filter(|(_, line)| wrong(line))
            .map(|(number, _)| number)
            .collect()
    }
}

/// The index of the line from which on a file holds tests: by custom they are its last module.
fn first_test(lines: &[Line]) -> usize {
    let opens_tests = |(index, line): (usize, &Line)| {
        let mut below = lines.iter().skip(index + 1);
        let item = below.find(|line| !line.code.starts_with("#["));
        line.code == "#[cfg(test)]"
            && item.is_some_and(|item| item.code.contains("mod ") && item.code.ends_with('{'))
    };
    let position = lines.iter().enumerate().position(opens_tests);
    position.unwrap_or(lines.len())
}

fn scan(text: &str) -> Vec<Line> {
    let mut lines = vec![Line::default()];
    let mut rest = text.strip_suffix('\n').unwrap_or(text);
    while !rest.is_empty() {
        let (kind, length) = first_piece(rest);
        let (piece, after) = rest.split_at(length);
        if let (Kind::String, Some(line)) = (kind, lines.last_mut()) {
            line.strings.push(between_quotes(piece).to_owned());
            line.code.push_str("\"\"");
        }
        for (index, part) in piece.split('\n').enumerate() {
            if index > 0 {
                lines.push(Line::default());
            }
            match (kind, lines.last_mut()) {
                (Kind::Code, Some(line)) => line.code.push_str(part),
                (Kind::Comment, Some(line)) => line.comment.push_str(part),
                _ => {}
            }
        }
        rest = after;
    }
    lines
}

#[derive(Clone, Copy)]
enum Kind {
    Code,
    Comment,
    String,
}

/// What `text` begins with, and how many bytes it takes: never none where there is text.
fn first_piece(text: &str) -> (Kind, usize) {
    if text.starts_with("//") {
        return (Kind::Comment, text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return (Kind::Comment, block_comment(text));
    }
    if text.starts_with('\'') {
        return (Kind::Code, character(text));
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let word = text.find(|c| !is_word(c)).unwrap_or(text.len());
    let (prefix, after) = text.split_at(word);
    let unhashed = after.trim_start_matches('#');
    let hashes = after.len() - unhashed.len();
    match prefix {
        "r" | "br" | "cr" if unhashed.starts_with('"') => {
            let close = format!("\"{}", "#".repeat(hashes));
            let begin = word + hashes + 1;
            (Kind::String, end_of(text, begin, &close))
        }
        "" | "b" | "c" if after.starts_with('"') => (Kind::String, string(text, word + 1)),
        "" => (Kind::Code, text.chars().next().map_or(0, char::len_utf8)),
        _ => (Kind::Code, word),
    }
}

/// The length of the block comment that `text` begins with: they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (1_usize, 2);
    while depth > 0 {
        let rest = text.get(at..).unwrap_or_default();
        let Some(next) = rest.find(['/', '*']) else {
            return text.len();
        };
        at += next;
        match text.get(at..at + 2) {
            Some("/*") => (depth, at) = (depth + 1, at + 2),
            Some("*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

/// The length of the character literal that `text` begins with, or of the quote that begins a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), Some(escaped)) => end_of(text, 2 + escaped.len_utf8(), "'"),
        (Some(c), Some('\'')) => 2 + c.len_utf8(),
        _ => 1,
    }
}

/// Where the string literal ends whose contents begin at the byte `begin`.
fn string(text: &str, begin: usize) -> usize {
    let mut escaped = false;
    let contents = text.get(begin..).unwrap_or_default();
    let close = contents.find(|c| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    });
    close.map_or(text.len(), |close| begin + close + 1)
}

/// The byte behind the first `close` from the byte `begin` on.
fn end_of(text: &str, begin: usize, close: &str) -> usize {
    let found = text.get(begin..).and_then(|rest| rest.find(close));
    found.map_or(text.len(), |found| begin + found + close.len())
}

fn between_quotes(literal: &str) -> &str {
    let (_, contents) = literal.split_once('"').unwrap_or_default();
    let contents = contents.trim_end_matches('#');
    contents.strip_suffix('"').unwrap_or(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code, comments and strings of `text`, each kind over all lines.
    fn split(text: &str) -> (String, String, Vec<String>) {
        let lines = scan(text);
        let joined = |part: fn(&Line) -> &str| lines.iter().map(part).collect::<Vec<_>>().join("|");
        let strings = lines.iter().flat_map(|line| line.strings.clone()).collect();
        (
            joined(|line| &line.code),
            joined(|line| &line.comment),
            strings,
        )
    }

    #[test]
    fn tells_code_comments_and_strings_apart() {
        let cases: &[(&str, &str, &str, &[&str])] = &[
            ("let a; // b \"c\"", "let a; ", "// b \"c\"", &[]),
            (
                "a /* b /* c */\n \"d\" */ e",
                "a | e",
                "/* b /* c */| \"d\" */",
                &[],
            ),
            (
                r#"f("a // b", "\"\\", "c")"#,
                r#"f("", "", "")"#,
                "",
                &["a // b", r#"\"\\"#, "c"],
            ),
            (
                r##"r#"a "b" \"# + br"\" + b"c" + r"d""##,
                r#""" + "" + "" + """#,
                "",
                &[r#"a "b" \"#, "\\", "c", "d"],
            ),
            ("\"a\nb\" c", "\"\"| c", "|", &["a\nb"]),
            (
                r#"'"' '\'' b'\\' '\u{2f}' "a""#,
                r#"'"' '\'' b'\\' '\u{2f}' """#,
                "",
                &["a"],
            ),
            (
                "fn f<'a>(x: &'a str) {} // 'b",
                "fn f<'a>(x: &'a str) {} ",
                "// 'b",
                &[],
            ),
            ("r#type + var", "r#type + var", "", &[]),
            ("é \"ü\" 'ß' // ñ", "é \"\" 'ß' ", "// ñ", &["ü"]),
            ("/", "/", "", &[]),
            ("", "", "", &[]),
        ];
        for (text, code, comment, strings) in cases {
            let expected = (
                code.to_string(),
                comment.to_string(),
                strings.iter().map(ToString::to_string).collect(),
            );
            assert_eq!(split(text), expected, "{text}");
        }
    }

    #[test]
    fn survives_what_is_not_closed() {
        for text in [
            "\"a",
            "r#\"a\"",
            "/* a /* b */",
            "'",
            "'\\",
            "'\\é",
            "b\"\\",
            "\"a\\\"",
            "/*",
            "/**",
            "r#",
        ] {
            assert_eq!(scan(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn counts_lines_as_an_editor_does() {
        assert_eq!(Source::new("a.rs", "a\nb\n").lines.len(), 2);
        assert_eq!(
            Source::new("a.rs", "a\n\"b\nc\"\nd").lines_where(|line| line.code == "d"),
            [4]
        );
    }

    #[test]
    fn knows_tests() {
        let first_test = |path, text| {
            Source::new(path, text)
                .lines_where(|line| line.in_test)
                .first()
                .copied()
        };
        let inline = "fn a() {}\n#[cfg(test)]\n#[expect(unused)]\npub(super) mod tests {\n    fn b() {}\n}\n";
        assert_eq!(first_test("a.rs", inline), Some(2));
        assert_eq!(first_test("a/tests.rs", "fn a() {}"), Some(1));
        assert_eq!(
            first_test("a.rs", "#[cfg(test)]\nmod tests;\nfn a() {}\n"),
            None
        );
        assert_eq!(
            first_test("a.rs", "#[cfg(test)]\nuse b;\nfn a() {}\n"),
            None
        );
        assert_eq!(
            first_test("a.rs", "// #[cfg(test)]\nmod tests {\n}\n"),
            None
        );
    }
}
