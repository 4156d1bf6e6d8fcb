//! What people read: text made from results alone.
//!
//! Invariant: a report is a pure function of result files and of a [`Style`]; printing it is somebody else's
//! work. Nothing taken from a file reaches the terminal with its control characters alive.
//! Deliberately absent: any number that a result does not hold or imply.

use std::io::{self, IsTerminal, Write};

pub mod anatomy;
pub mod calibration;
pub mod compare;
pub mod comparison;
mod csv;
pub mod curve;
pub mod export;
mod gobench;
mod hgrm;
mod hlog;
pub mod html;
pub mod import;
mod particulars;
mod prometheus;
pub mod series;
pub mod terminal;
pub mod text;
pub mod verdict;

/// How much a terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Where long lines are broken, in columns. Tables keep their shape even if this is too narrow.
    pub width_columns: usize,
    /// Whether ANSI colours may be used.
    pub color: bool,
}

impl Style {
    /// For files, pipes and golden texts.
    pub const PLAIN: Style = Style { width_columns: 100, color: false };

    /// What standard output can show: [`Style::PLAIN`] unless it is a terminal; no colour under `NO_COLOR`.
    pub fn of_stdout() -> Style {
        if !io::stdout().is_terminal() {
            return Style::PLAIN;
        }
        let columns = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Style { width_columns: if columns == 0 { 80 } else { columns.clamp(60, 120) }, color: !no_color }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// What stands out.
    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// What should make the reader stop.
    fn warning(self, text: &str) -> String {
        self.paint("33", text)
    }
}

/// An error and its causes in a line; causes that an error names itself are not said twice.
pub fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
}

/// Writes a line to standard error, as `eprintln!` does; where nobody reads it any more, it is lost, and the exit code tells.
pub fn tell(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes a report to standard output. A reader that has seen enough (`| head`) is no error.
pub fn print(report: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(report.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
