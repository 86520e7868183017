//! A sheet that was exported as text: its separator, its fields, and the columns that its header names.

use std::str;

use csv_core::{ReadFieldResult, ReaderBuilder, Terminator};
use imageshare_core::text::excerpt;

use super::job;
use crate::spelling::nearest;

/// The separators that a header may have. If several fit, the first one counts.
const SEPARATORS: [u8; 4] = *b",;\t|";

/// Ignored columns that a notice names; more are counted.
const IGNORED_SHOWN_MAX: usize = 5;

/// The names of a column, the preferred one first. Upper and lower case, spaces, `_` and `-` make no difference.
pub(super) type Names = &'static [&'static str];

/// The rows of a sheet, of whose columns `N` are read.
pub(super) struct Sheet<const N: usize> {
    fields: Fields,
    /// Where each column is; `None` if the header does not name it.
    places: [Option<usize>; N],
    /// Whether the header names the column at each place.
    is_named: Vec<bool>,
    /// The names of other columns.
    ignored: Vec<String>,
}

impl<const N: usize> Sheet<N> {
    /// Reads a header. Returns the sheet, and a notice if it has other columns, which are ignored.
    ///
    /// # Errors
    /// If a column appears twice, or if the text cannot be a header.
    pub(super) fn new(header: &[u8], columns: [Names; N]) -> Result<(Self, Option<String>), String> {
        if header.contains(&b'\r') {
            return Err(
                "lines end with a carriage return alone (expected line feeds; save the sheet as CSV UTF-8)".to_owned()
            );
        }
        let mut fields = Fields::new(separator(header, &columns));
        let mut names = Vec::new();
        fields.split(header, |_, name| names.push(name.to_owned()))?;
        let mut places = [None; N];
        for (place, column) in places.iter_mut().zip(columns) {
            for name in column {
                let mut matching = names.iter().enumerate().filter(|(_, of)| is_named(of, name));
                let first = matching.next();
                if let Some((_, again)) = matching.next() {
                    return Err(format!("column {} twice (expected one column {name})", excerpt(again)));
                }
                if let Some((at, _)) = first {
                    *place = Some(at);
                    break;
                }
            }
        }
        let is_named = names.iter().map(|name| !name.is_empty()).collect();
        let ignored =
            names.into_iter().enumerate().filter(|(at, name)| !name.is_empty() && !places.contains(&Some(*at)));
        let ignored: Vec<_> = ignored.map(|(_, name)| name).collect();
        let notice = notice(&ignored);
        Ok((Self { fields, places, is_named, ignored }, notice))
    }

    /// Whether the header names a column.
    pub(super) fn has(&self, column: usize) -> bool {
        self.places.get(column).is_some_and(Option::is_some)
    }

    /// Returns the ignored column whose name is nearly this one.
    pub(super) fn misspelled(&self, column: &str) -> Option<&str> {
        nearest(column, self.ignored.iter().map(String::as_str))
    }

    /// Reads the columns of a row; `None` if all its fields are blank.
    ///
    /// # Errors
    /// If the row has too few fields, an unclosed quote, or a value in a column without a name. Such a value may belong to
    /// another column: a comma in a text without quotes moves all that follows.
    pub(super) fn row(&mut self, row: &[u8]) -> Result<Option<[String; N]>, String> {
        let mut values: [String; N] = [const { String::new() }; N];
        let mut nameless = None;
        let mut is_blank = true;
        let count = self.fields.split(row, |at, text| {
            is_blank &= text.is_empty();
            let column = self.places.iter().position(|place| *place == Some(at));
            match column.and_then(|column| values.get_mut(column)) {
                Some(value) => text.clone_into(value),
                None if text.is_empty() || self.is_named.get(at) == Some(&true) || nameless.is_some() => {}
                None => nameless = Some((at + 1, excerpt(text))),
            }
        })?;
        if is_blank {
            return Ok(None);
        }
        if let Some((number, value)) = nameless {
            let expected = "expected a blank field, since the header does not name this column";
            return Err(format!("value {value} in column {number} ({expected})"));
        }
        let width = self.places.iter().flatten().max().map_or(0, |last| last + 1);
        if count < width {
            return Err(format!("{count} fields (expected {width}, as in the header)"));
        }
        Ok(Some(values))
    }
}

/// Whether a line names at least one of these columns, and so can be a header.
pub(super) fn is_header(line: &[u8], columns: &[Names]) -> bool {
    SEPARATORS.iter().any(|&separator| columns_named(line, separator, columns) > 0)
}

/// Whether a line is a comment, or the line `sep=;` with which a file may tell a spreadsheet its separator. A field `#` is
/// no comment: such a column numbers the rows.
pub(super) fn is_comment(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let is_comment =
        line.strip_prefix(b"#").is_some_and(|rest| !rest.first().is_some_and(|byte| SEPARATORS.contains(byte)));
    is_comment || (line.len() <= 5 && line.get(..4).is_some_and(|word| word.eq_ignore_ascii_case(b"sep=")))
}

/// Returns what a spreadsheet did to a number, and what to do. It is not undone here: digits may be missing.
pub(super) fn damage(text: &str) -> Option<&'static str> {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if text.strip_prefix(['\'', '\u{2018}', '\u{2019}', '`']).is_some_and(is_digits) {
        return Some(
            "with an apostrophe (expected digits only; remove the apostrophe, which marks text in a spreadsheet)",
        );
    }
    if text.strip_prefix('=').is_some_and(|value| is_digits(value.trim_matches('"'))) {
        return Some("a formula (expected digits only; export values instead of formulas)");
    }
    if let Some((mantissa, exponent)) = text.split_once(['e', 'E'])
        && is_digits(&mantissa.replace(['.', ','], ""))
        && is_digits(exponent.trim_start_matches('+'))
    {
        return Some(
            "in scientific notation, which hides digits (expected all of them; format the column as a number without \
             decimals and export it again)",
        );
    }
    let decimals = text.rsplit_once(['.', ',']).filter(|(_, decimals)| decimals.len() < 3 && is_digits(decimals));
    let whole = decimals.map_or(text, |(whole, _)| whole);
    let is_separator = |c: char| c.is_whitespace() || ['.', ',', '\'', '\u{2019}', '_'].contains(&c);
    let groups: Vec<&str> = whole.split(is_separator).collect();
    if !groups.iter().all(|group| is_digits(group)) {
        return None;
    }
    match groups.split_first() {
        Some((first, [])) if decimals.is_some() && !first.is_empty() => Some(
            "with a decimal point (expected digits only; format the column as a number without decimals and export it \
             again)",
        ),
        Some((first, rest @ [_, ..])) if first.len() <= 3 && rest.iter().all(|group| group.len() == 3) => Some(
            "with thousands separators (expected digits only; format the column as a number without separators and \
             export it again)",
        ),
        _ => None,
    }
}

/// Returns the separator of a header: the one by which most columns are recognized.
fn separator(header: &[u8], columns: &[Names]) -> u8 {
    let counted = SEPARATORS.map(|separator| (columns_named(header, separator, columns), separator));
    let most = counted.into_iter().reduce(|best, other| if other.0 > best.0 { other } else { best });
    most.map_or(b',', |(_, separator)| separator)
}

/// Returns how many of these columns a line names, if it has this separator.
fn columns_named(line: &[u8], separator: u8, columns: &[Names]) -> usize {
    let bare = |field: &[u8]| {
        let field = field.trim_ascii();
        let bare = field.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(field);
        String::from_utf8_lossy(bare).into_owned()
    };
    let fields: Vec<String> = line.split(|&byte| byte == separator).map(bare).collect();
    let named = |names: &&Names| names.iter().any(|name| fields.iter().any(|field| is_named(field, name)));
    columns.iter().filter(named).count()
}

fn is_named(field: &str, name: &str) -> bool {
    let letters = |text: &str| {
        let text = text.chars().filter(|c| !c.is_whitespace() && !['_', '-'].contains(c));
        text.map(|c| c.to_ascii_lowercase()).collect::<String>()
    };
    letters(field) == letters(name)
}

fn notice(ignored: &[String]) -> Option<String> {
    let (shown, more) = ignored.split_at(ignored.len().min(IGNORED_SHOWN_MAX));
    let names: Vec<String> = shown.iter().map(|name| excerpt(name)).collect();
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    (!names.is_empty()).then(|| format!("columns ignored: {}{more}", names.join(", ")))
}

/// Splits rows into fields. Only one field is in memory at a time, so a sheet may have any number of columns.
struct Fields {
    parser: csv_core::Reader,
    field: Vec<u8>,
}

impl Fields {
    fn new(separator: u8) -> Self {
        // A carriage return within a line ends no row: what follows it would be lost.
        let parser = ReaderBuilder::new().delimiter(separator).terminator(Terminator::Any(b'\n')).build();
        Self { parser, field: Vec::new() }
    }

    /// Calls `each` with every field of a row, in order, without the white space around it. Returns how many there are.
    fn split(&mut self, row: &[u8], mut each: impl FnMut(usize, &str)) -> Result<usize, String> {
        let text = str::from_utf8(row).map_err(|error| job::not_utf8(row, error))?;
        // The parser takes an empty line for none.
        if text.is_empty() {
            return Ok(0);
        }
        self.field.resize(text.len() + 1, 0);
        self.parser.reset();
        // A byte order mark was removed from the first line of the file, and is part of the field elsewhere. The parser
        // removes one from whatever it reads first, so it reads the end of an empty line before each row.
        self.parser.read_field(b"\n", &mut self.field);
        let mut count = 0;
        let mut written = 0;
        // A line end ends the row, unless it is within quotes.
        for mut rest in [text.as_bytes(), b"\n"] {
            while !rest.is_empty() {
                let room = self.field.get_mut(written..).unwrap_or_default();
                let (result, read, more_written) = self.parser.read_field(rest, room);
                rest = rest.get(read..).unwrap_or_default();
                written += more_written;
                if let ReadFieldResult::Field { record_end } = result {
                    // Quotes and separators are removed from UTF-8 and leave UTF-8.
                    let field = self.field.get(..written).and_then(|field| str::from_utf8(field).ok());
                    each(count, field.unwrap_or_default().trim());
                    count += 1;
                    written = 0;
                    if record_end {
                        return Ok(count);
                    }
                }
            }
        }
        Err("quote is not closed (expected the closing quote in the same line)".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Names; 2] = [&["image_id"], &["account_id", "account"]];

    /// Reads a header and a row.
    fn read(header: &str, row: &str) -> Result<(Option<[String; 2]>, Option<String>), String> {
        let (mut sheet, notice) = Sheet::new(header.as_bytes(), COLUMNS)?;
        Ok((sheet.row(row.as_bytes())?, notice))
    }

    #[track_caller]
    fn check(header: &str, row: &str, expected: [&str; 2]) {
        assert!(is_header(header.as_bytes(), &COLUMNS), "{header}");
        assert_eq!(read(header, row).unwrap(), (Some(expected.map(str::to_owned)), None), "{header}");
    }

    #[test]
    fn header_names_are_recognized_in_any_spelling() {
        for header in ["image_id,account_id", "Image ID,Account-Id", "IMAGEID,ACCOUNTID", "\"image id\", AccountId "] {
            check(header, "a,b", ["a", "b"]);
        }
    }

    #[test]
    fn separator_is_the_one_of_header() {
        for separator in [',', ';', '\t', '|'] {
            let with = |text: &str| text.replace(',', &separator.to_string());
            check(&with("account_id,image_id"), &with("b,a"), ["a", "b"]);
            check(&with("account_id,image_id,,"), &with("b,\"a\",,"), ["a", "b"]);
        }
        check("image_id;account_id", "a,b;c", ["a,b", "c"]);
    }

    #[test]
    fn other_columns_are_ignored_with_one_notice() {
        let (row, notice) = read("Name,image_id,account_id,Note;s", "x,a,b,y").unwrap();
        assert_eq!(row, Some(["a", "b"].map(str::to_owned)));
        assert_eq!(notice.unwrap(), "columns ignored: \"Name\", \"Note;s\"");
        let (_, notice) = read("image_id,account_id,1,2,3,4,5,6,7,\u{1b}", "").unwrap();
        assert_eq!(notice.unwrap(), "columns ignored: \"1\", \"2\", \"3\", \"4\", \"5\" and 3 more");
    }

    #[test]
    fn preferred_name_wins_over_another_one() {
        let (row, notice) = read("account,account_id,image_id", "Acme,b,a").unwrap();
        assert_eq!(
            (row, notice.as_deref()),
            (Some(["a", "b"].map(str::to_owned)), Some("columns ignored: \"account\""))
        );
        check("account,image_id", "b,a", ["a", "b"]);
        assert_eq!(
            read("Image ID,image_id", "").unwrap_err(),
            "column \"image_id\" twice (expected one column image_id)"
        );
    }

    #[test]
    fn only_row_of_blank_fields_is_blank() {
        for row in ["", ",", ",,,", "\"\", ,", " ,\t,"] {
            assert_eq!(read("image_id,account_id,,Name", row).unwrap().0, None, "{row}");
        }
        assert_eq!(read("image_id,account_id,,Name", ",,,Acme").unwrap().0, Some(Default::default()));
        assert_eq!(
            read("image_id,account_id,,Name", "a,b,c,Acme").unwrap_err(),
            "value \"c\" in column 3 (expected a blank field, since the header does not name this column)"
        );
        assert_eq!(read("Name,image_id,account_id", "Acme,a").unwrap_err(), "2 fields (expected 3, as in the header)");
    }

    #[test]
    fn comments_and_separator_line_are_recognized() {
        for line in ["# customers", "  #", "sep=;", "SEP=\t", "sep="] {
            assert!(is_comment(line.as_bytes()), "{line}");
        }
        for line in ["image_id,#", "#,account_id", "sep=;x", "", "separator"] {
            assert!(!is_comment(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn carriage_returns_alone_are_explained() {
        let error = read("image_id,account_id\ra,b", "").unwrap_err();
        assert!(error.starts_with("lines end with a carriage return alone (expected line feeds"), "{error}");
    }
}
