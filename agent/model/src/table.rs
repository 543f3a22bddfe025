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

/// The head of a column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// The title.
    pub title: &'static str,
    /// The alignment of the column's text, the title included.
    pub align: Align,
    /// Where lines have no room for all columns, those with the highest ranks are left out first. Columns of rank 0 stay.
    pub rank: u8,
}

impl Column {
    /// A column whose text begins at the left edge.
    pub const fn left(title: &'static str, rank: u8) -> Self {
        let align = Align::Left;
        Self { title, align, rank }
    }

    /// A column whose text ends at the right edge.
    pub const fn right(title: &'static str, rank: u8) -> Self {
        let align = Align::Right;
        Self { title, align, rank }
    }
}

/// The columns that a flexible column keeps, if it needs them, while other columns can be left out.
const FLEXIBLE_LEAST: usize = 24;

/// Renders the header and the rows as lines of at most `columns` columns of a terminal.
///
/// If there is no room for all, columns are left out by their ranks, so that the column with the index `flexible` keeps
/// its text or 24 columns of it. Then that column is cut, to no less than its title. If that is not enough, the last
/// columns are cut.
///
/// Whatever the cells hold, the only control characters in a line are those that set colours, and only if `colour`.
pub fn render<R: AsRef<[Cell]>>(
    header: &[Column],
    flexible: usize,
    rows: &[R],
    columns: usize,
    colour: bool,
) -> String {
    let titles = header.iter().map(|column| Cell::new(column.title, DIM));
    let titles: Vec<Cell> = titles.collect();
    let rows = rows.iter().map(AsRef::as_ref);
    let lines: Vec<&[Cell]> = std::iter::once(&*titles).chain(rows).collect();
    let mut widths = vec![0; header.len()];
    for line in &lines {
        for (column, cell) in widths.iter_mut().zip(*line) {
            *column = width(&escape(&cell.text)).max(*column);
        }
    }
    narrow(&mut widths, header, flexible, columns);
    let mut text = String::new();
    for row in lines {
        text.push_str(&line(row, header, &widths, columns, colour));
        text.push('\n');
    }
    text
}

/// Makes a line of these widths fit into `columns`. A column that is left out gets the width 0.
fn narrow(widths: &mut [usize], header: &[Column], flexible: usize, columns: usize) {
    let Some(natural) = widths.get(flexible).copied() else {
        return;
    };
    let can_give = natural.saturating_sub(FLEXIBLE_LEAST);
    let mut by_rank: Vec<usize> = (0..widths.len()).collect();
    by_rank.retain(|&at| header[at].rank > 0 && at != flexible);
    by_rank.sort_by_key(|&at| header[at].rank);
    while total(widths) > columns.saturating_add(can_give)
        && let Some(last) = by_rank.pop()
    {
        widths[last] = 0;
    }
    let excess = total(widths).saturating_sub(columns);
    let least = width(header[flexible].title);
    widths[flexible] = natural.saturating_sub(excess).max(least);
}

/// The width of a line with columns of these widths.
fn total(widths: &[usize]) -> usize {
    let shown = widths.iter().filter(|it| **it > 0);
    shown.map(|it| it + GAP).sum::<usize>().saturating_sub(GAP)
}

/// Renders one line. All text of a table goes through this function, which escapes, cuts and pads each cell.
fn line(row: &[Cell], header: &[Column], widths: &[usize], columns: usize, colour: bool) -> String {
    let mut line = String::new();
    let mut left = columns;
    // The spaces to write before the next text. None are written at the end of a line.
    let mut due = 0;
    let cells = row.iter().zip(header).zip(widths);
    for ((cell, Column { align, .. }), column) in cells.filter(|(_, column)| **column > 0) {
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
        Column::left("NAME", 0),
        Column::right("PID", 1),
        Column::left("STATE", 0),
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
    fn columns_are_left_out_by_rank_and_the_flexible_one_is_cut() {
        let rows = [row("a-very-long-name", "4711", "running")];
        for (columns, wanted) in [
            (29, "a-very-long-name 4711 running"),
            (28, "a-very-long-name running"),
            (20, "a-very-long… running"),
            (10, "a-v… runn…"),
        ] {
            let text = render(&HEADER, 0, &rows, columns, false);
            assert_eq!(text.lines().nth(1), Some(wanted), "{columns}");
        }
        let long = "a-name-of-more-than-24-columns";
        let text = render(&HEADER, 0, &[row(long, "4711", "running")], 37, false);
        let line = "a-name-of-more-than-24-… 4711 running";
        assert_eq!(text.lines().nth(1), Some(line));
        let text = render(&HEADER, 0, &[row(long, "4711", "running")], 36, false);
        let line = "a-name-of-more-than-24-colu… running";
        assert_eq!(text.lines().nth(1), Some(line));
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
