//! The form, width and colour of what commands print.

use std::env;
use std::io::{self, IsTerminal};

use rustix::termios::tcgetwinsize;

/// The form of what a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    Human,
    Json,
}

/// The width without a terminal and without COLUMNS: enough for most events.
const COLUMNS: usize = 160;

/// The width of the terminal, else the variable COLUMNS, else [`COLUMNS`].
pub(super) fn columns() -> usize {
    let terminal = tcgetwinsize(io::stdout())
        .ok()
        .map(|it| usize::from(it.ws_col));
    let variable = env::var("COLUMNS").ok().and_then(|it| it.parse().ok());
    let mut known = [terminal, variable].into_iter().flatten();
    known.find(|it| *it > 0).unwrap_or(COLUMNS)
}

/// Whether to colour the output.
pub(super) fn colour() -> bool {
    is_coloured(&io::stdout())
}

/// Whether to colour what is written to this stream. NO_COLOR may forbid it (<https://no-color.org>).
pub(super) fn is_coloured(stream: &impl IsTerminal) -> bool {
    obeys_sequences(stream) && env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
}

/// Whether this stream is a terminal that obeys control sequences. One of the type `dumb` shows them as text.
pub(super) fn obeys_sequences(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && env::var_os("TERM").is_none_or(|it| it != "dumb")
}
