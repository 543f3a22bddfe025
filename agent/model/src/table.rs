//! Tables for people: each column is as wide as its widest cell, and a line is no wider than the screen.

use crate::text::{escape, fit, width};

/// The number of spaces between two columns of a table.
const GAP: usize = 1;

/// The colour of usual text: none. The colours are parameters of SGR (ECMA-48).
pub const PLAIN: &str = "";
/// The colour of text that matters less.
pub const DIM: &str = "2";
/// The colour of a name.
pub const NAME: &str = "1";
/// The colour of a state that is as it should be.
pub const GOOD: &str = "32";
/// The colour of a state that needs attention.
pub const ALARM: &str = "1;31";

/// A cell of a table: raw text and its colour.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The text, not escaped yet.
    pub text: String,
    /// The parameter of SGR, such as [`NAME`]; [`PLAIN`] for none.
    pub colour: &'static str,
}

impl Cell {
    /// A cell with a colour.
    pub fn new(text: impl Into<String>, colour: &'static str) -> Self {
        Self {
            text: text.into(),
            colour,
        }
    }

    /// A cell without a colour.
    pub fn plain(text: impl Into<String>) -> Self {
        Self::new(text, PLAIN)
    }
}

/// The alignment of a column's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text begins at the left edge.
    Left,
    /// Text ends at the right edge.
    Right,
}

/// The title and the alignment of a column.
pub type Column = (&'static str, Align);

/// Renders the header and the rows as lines of at most `columns` columns of a terminal.
///
/// If there is no room for all, the column with the index `flexible` is cut, to no less than its title. If that is not
/// enough, the last columns are cut.
///
/// Whatever the cells hold, the only control characters in a line are those that set colours, and only if `colour`.
pub fn render<const N: usize>(
    header: &[Column; N],
    flexible: usize,
    rows: &[[Cell; N]],
    columns: usize,
    colour: bool,
) -> String {
    let titles = header.map(|(title, _)| Cell::new(title, DIM));
    let mut widths = [0; N];
    for row in rows.iter().chain([&titles]) {
        for (column, cell) in widths.iter_mut().zip(row) {
            *column = width(&escape(&cell.text)).max(*column);
        }
    }
    let all = widths.iter().sum::<usize>() + GAP * (N - 1);
    if let Some(column) = widths.get_mut(flexible) {
        let least = width(header[flexible].0);
        *column = column
            .saturating_sub(all.saturating_sub(columns))
            .max(least);
    }
    let mut text = String::new();
    for row in [&titles].into_iter().chain(rows) {
        text.push_str(&line(row, header, &widths, columns, colour));
        text.push('\n');
    }
    text
}

/// Renders one line. All text of a table goes through this function, which escapes, cuts and pads each cell.
fn line<const N: usize>(
    row: &[Cell; N],
    header: &[Column; N],
    widths: &[usize; N],
    columns: usize,
    colour: bool,
) -> String {
    let mut line = String::new();
    let mut left = columns;
    // The spaces to write before the next text. None are written at the end of a line.
    let mut due = 0;
    for ((cell, (_, align)), column) in row.iter().zip(header).zip(widths) {
        let Some(room) = left.checked_sub(due).filter(|room| *room > 0) else {
            break;
        };
        let escaped = escape(&cell.text);
        let text = fit(&escaped, (*column).min(room));
        let used = width(&text);
        let fill = column.saturating_sub(used).min(room - used);
        let (before, after) = match align {
            Align::Left => (0, fill),
            Align::Right => (fill, 0),
        };
        due += before;
        if used > 0 {
            line.extend(std::iter::repeat_n(' ', due));
            if colour && cell.colour != PLAIN {
                line.push_str(&format!("\x1b[{}m{text}\x1b[0m", cell.colour));
            } else {
                line.push_str(&text);
            }
            left -= due + used;
            due = 0;
        }
        due += after + GAP;
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: [Column; 3] = [
        ("NAME", Align::Left),
        ("PID", Align::Right),
        ("STATE", Align::Left),
    ];

    fn row(name: &str, pid: &str, state: &str) -> [Cell; 3] {
        [
            Cell::new(name, NAME),
            Cell::plain(pid),
            Cell::new(state, GOOD),
        ]
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = [row("web", "4711", "running"), row("日本\x1b", "1", "")];
        let text = render(&HEADER, 0, &rows, 80, false);
        assert_eq!(
            text,
            "NAME      PID STATE\n\
             web      4711 running\n\
             日本\\x1b    1\n"
        );
        let text = render(&HEADER, 0, &rows[..1], 80, true);
        let line = text.lines().nth(1).unwrap();
        assert_eq!(line, "\x1b[1mweb\x1b[0m  4711 \x1b[32mrunning\x1b[0m");
    }

    #[test]
    fn the_flexible_column_gives_way() {
        let rows = [row("a-very-long-name", "4711", "running")];
        let text = render(&HEADER, 0, &rows, 20, false);
        assert_eq!(text, "NAME     PID STATE\na-very… 4711 running\n");
        // The flexible column is no narrower than its title; then the last columns are cut.
        let text = render(&HEADER, 0, &rows, 14, false);
        assert_eq!(text, "NAME  PID STA…\na-v… 4711 run…\n");
    }

    proptest! {
        #[test]
        fn no_cell_leaves_its_line(
            texts in prop::collection::vec(any::<(String, String, String)>(), 0..5),
            columns in 0..100_usize,
        ) {
            let rows: Vec<_> = texts.iter().map(|(a, b, c)| row(a, b, c)).collect();
            let text = render(&HEADER, 0, &rows, columns, false);
            prop_assert_eq!(text.lines().count(), rows.len() + 1);
            for line in text.lines() {
                prop_assert!(width(line) <= columns, "{line:?}");
                prop_assert_eq!(&escape(line), line);
            }
        }
    }
}
