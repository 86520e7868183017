//! Standard output: text, JSON lines and tables.

use std::{
    fmt::{Display, Write as _},
    io::{self, IsTerminal, Write as _},
    sync::{Once, OnceLock},
};

use anstream::AutoStream;
use imageshare_core::text::is_printable;
use serde::Serialize;
use textwrap::{Options, WordSplitter, core::display_width};

use crate::{
    cli::OutputFormat,
    exit::Problem,
    terminal::{self, colored, stdout_width, wrap},
};

/// Columns of a table are not made narrower than this.
const COLUMN_MIN: usize = 12;

/// Spaces between two columns.
const GAP: usize = 2;

/// The format that `--output` requests.
static FORMAT: OnceLock<OutputFormat> = OnceLock::new();

/// Sets the format of standard output. The first call counts.
pub(crate) fn set_format(format: OutputFormat) {
    FORMAT.get_or_init(|| format);
}

/// Whether standard output gets text and tables for people; otherwise it gets JSON lines for programs.
pub(crate) fn is_for_people(json: bool) -> bool {
    match FORMAT.get() {
        Some(OutputFormat::Table) => true,
        Some(OutputFormat::Ids | OutputFormat::Json) => false,
        None => !json && is_terminal(),
    }
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Returns whether standard output was closed when the program started, so that all output is lost. In that case the
/// standard library opens `/dev/null` for reading and writing. After `> /dev/null` in a shell it is open only for writing,
/// and the user discards the output deliberately.
#[cfg(target_os = "linux")]
pub(crate) fn is_lost() -> bool {
    use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, major, minor};

    /// The number of `/dev/null` (`Documentation/admin-guide/devices.txt` of Linux).
    const NULL: (u32, u32) = (1, 3);
    let out = io::stdout();
    let is_null = fstat(&out).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && (major(stat.st_rdev), minor(stat.st_rdev)) == NULL
    });
    is_null && fcntl_getfl(&out).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDWR)
}

/// Not detected on other systems.
#[cfg(not(target_os = "linux"))]
pub(crate) const fn is_lost() -> bool {
    false
}

/// Writes a text to standard output. The first call of a process warns if the output is lost.
pub(crate) fn print(text: &str) -> Result<(), Problem> {
    static WARNING: Once = Once::new();
    WARNING.call_once(|| {
        if is_lost() {
            terminal::warn("standard output: closed or discarded; the output of this command is lost");
        }
    });
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Problem::output)
}

/// Writes a text for people to standard output, wrapped to the terminal and colored.
pub(crate) fn print_for_people(text: &str) -> Result<(), Problem> {
    print(&colored(wrap(text, stdout_width()), AutoStream::choice(&io::stdout())))
}

/// Returns a number with its noun: `1 request`, `2 requests`.
pub(crate) fn counted<N: Copy + Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// Returns a value as one line of JSON. Control characters are escaped, since a publisher may put an escape sequence for
/// the terminal into a label.
pub(crate) fn json_line(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).expect("a value with text keys and no floats always has a JSON form");
    let mut line = String::with_capacity(json.len() + 1);
    // serde_json writes such characters only inside strings, where JSON permits escapes.
    for part in json.split_inclusive(|c| !is_printable(c)) {
        let mut before = part.chars();
        match before.next_back().filter(|&c| !is_printable(c)) {
            None => line.push_str(part),
            Some(c) => {
                line.push_str(before.as_str());
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(line, "\\u{unit:04x}").expect("writing to a String never fails");
                }
            }
        }
    }
    line.push('\n');
    line
}

/// Rows under a header, in columns of the width of their longest cell.
pub(crate) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(head: [&str; N]) -> Self {
        Self { rows: vec![head.map(str::to_owned)] }
    }

    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    /// Prints the table, fitted to the terminal.
    pub(crate) fn print(&self) -> Result<(), Problem> {
        print(&self.to_text(stdout_width()))
    }

    /// Returns the table in lines of at most this width. Cells break at spaces; a word longer than its column is broken.
    pub(crate) fn to_text(&self, width: Option<usize>) -> String {
        let widths = self.widths(width.unwrap_or(usize::MAX));
        let mut text = String::new();
        for row in &self.rows {
            let mut cells: Vec<_> =
                row.iter().zip(widths).map(|(cell, width)| lines(cell, width).into_iter()).collect();
            loop {
                let next: Vec<_> = cells.iter_mut().map(Iterator::next).collect();
                if next.iter().all(Option::is_none) {
                    break;
                }
                let mut line = String::new();
                for (cell, width) in next.iter().zip(widths) {
                    let cell = cell.as_deref().unwrap_or_default();
                    let padding = width.saturating_sub(display_width(cell)) + GAP;
                    write!(line, "{cell}{:padding$}", "").expect("writing to a String never fails");
                }
                text.push_str(line.trim_end());
                text.push('\n');
            }
        }
        text
    }

    /// Returns the widths of the columns. If the lines would be too long, the widest columns shrink.
    fn widths(&self, total: usize) -> [usize; N] {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(display_width(cell));
            }
        }
        let gaps = GAP * N.saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > total {
            let Some(widest) = widths.iter_mut().max().filter(|width| **width > COLUMN_MIN) else { break };
            *widest -= 1;
        }
        widths
    }
}

/// Returns the lines of a cell. An empty cell has one line.
fn lines(cell: &str, width: usize) -> Vec<String> {
    let options = Options::new(width.max(1)).word_splitter(WordSplitter::NoHyphenation);
    textwrap::wrap(cell, options).into_iter().map(|line| line.into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<3> {
        let mut table = Table::new(["IMAGE", "ACCOUNTS", "WHY"]);
        table.row(["img-6pb6lrmy", "3", "the account does not exist, or is a sub-account"].map(str::to_owned));
        table
    }

    #[test]
    fn table_has_the_widths_that_it_needs() {
        let text =
            "IMAGE         ACCOUNTS  WHY\nimg-6pb6lrmy  3         the account does not exist, or is a sub-account\n";
        assert_eq!((table().to_text(None).as_str(), table().to_text(Some(80)).as_str()), (text, text));
    }

    #[test]
    fn wide_columns_of_a_table_break_at_spaces() {
        let text = "IMAGE         ACCOUNTS  WHY\n\
                    img-6pb6lrmy  3         the account does\n                        not exist, or is\n\
                    \x20                       a sub-account\n";
        assert_eq!(table().to_text(Some(41)), text);
    }
}
