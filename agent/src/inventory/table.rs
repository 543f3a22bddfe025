//! A table for the eye: columns as wide as what is in them, no wider than the screen.

use crate::text::{escape, fit, width};

/// The columns between two columns.
const GAP: usize = 1;

/// What a cell's colour says: the parameter of SGR (ECMA-48).
pub const PLAIN: &str = "";
pub const DIM: &str = "2";
pub const NAME: &str = "1";
pub const GOOD: &str = "32";
pub const ALARM: &str = "1;31";

/// Raw text, and its colour.
#[derive(Clone, Debug)]
pub struct Cell {
    pub text: String,
    pub colour: &'static str,
}

impl Cell {
    pub fn new(text: impl Into<String>, colour: &'static str) -> Self {
        Self {
            text: text.into(),
            colour,
        }
    }

    pub fn plain(text: impl Into<String>) -> Self {
        Self::new(text, PLAIN)
    }
}

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// What a column is called, and where its text stands.
pub type Column = (&'static str, Align);

/// Header and rows as lines of at most `columns`. The column `flexible` gives way where there is no
/// room for all. Whatever the cells hold, the only control characters in a line are those that
/// set colours, and these only with `colour`.
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

/// The only place where text gets into a line: each cell is escaped, cut and filled up here.
fn line<const N: usize>(
    row: &[Cell; N],
    header: &[Column; N],
    widths: &[usize; N],
    columns: usize,
    colour: bool,
) -> String {
    let mut line = String::new();
    let mut left = columns;
    let mut gap = 0;
    for ((cell, (_, align)), column) in row.iter().zip(header).zip(widths) {
        let escaped = escape(&cell.text);
        let text = fit(&escaped, (*column).min(left.saturating_sub(gap)));
        let fill = column.saturating_sub(width(&text));
        let (before, after) = match align {
            Align::Left => (gap, fill + GAP),
            Align::Right => (gap + fill, GAP),
        };
        left = left.saturating_sub(before + width(&text));
        if !text.is_empty() {
            line.extend(std::iter::repeat_n(' ', before));
            if colour && cell.colour != PLAIN {
                line.push_str(&format!("\x1b[{}m{text}\x1b[0m", cell.colour));
            } else {
                line.push_str(&text);
            }
            gap = after;
        } else {
            gap = before + after;
        }
    }
    line
}
