//! Rows of CSV, one account each, gathered into jobs.

use std::{collections::VecDeque, ops::ControlFlow, str, sync::Arc};

use csv_core::{ReadFieldResult, ReaderBuilder, Terminator};
use imageshare_core::{
    ids::{AccountId, ImageId, Region},
    text::excerpt,
};

use super::{
    job::{self, ACCOUNTS_MAX, Identity, Job},
    lines::Line,
    mode::Permission,
    reader::JobLine,
    rejection::{Known, Place, Rejection},
};

/// The columns and the names that a header may give them.
const COLUMNS: [&[&str]; 4] =
    [&["image_id", "ImageId"], &["region", "Region"], &["permission", "Permission"], &["account_id", "AccountId"]];

const ALLOWED_HEADER: &str = "a header with the columns image_id, region, permission and account_id in any order, \
                              or NDJSON, which begins with {";

type Ready = VecDeque<Result<JobLine, Rejection>>;

/// What consecutive rows have to have in common to be one job.
type Key = (ImageId, Region, Permission);

/// Gathers consecutive rows of one image, region and permission into jobs of at most [`ACCOUNTS_MAX`] accounts.
///
/// An invalid row is rejected alone, except in a SYNC. A SYNC cancels the shares of all accounts that its list omits,
/// so a list that may lack a row is rejected as a whole.
pub(super) struct Rows {
    file: Arc<str>,
    region: Option<Region>,
    parser: csv_core::Reader,
    /// The text of one field.
    field: Vec<u8>,
    header: Option<Header>,
    group: Option<Group>,
    /// The last rejected row, if no good one came since, and what could be read of its key.
    suspect: Option<(u64, Option<Key>)>,
}

/// Where each of [`COLUMNS`] stands.
#[derive(Clone, Copy)]
struct Header {
    places: [Option<usize>; COLUMNS.len()],
}

/// Rows that are one job so far.
struct Group {
    line: u64,
    key: Key,
    account_ids: Vec<AccountId>,
    /// Why it cannot be carried out. For SYNC only.
    spoiled: Option<String>,
}

/// A column and what is wrong with its field, and the row's key where that could be read.
struct BadRow {
    column: Option<String>,
    problem: String,
    known: Box<Known>,
}

impl Rows {
    pub(super) fn new(file: Arc<str>, region: Option<Region>) -> Self {
        // A carriage return within a line ends no row: what stands behind it would be lost.
        let parser = ReaderBuilder::new().terminator(Terminator::Any(b'\n')).build();
        Self { file, region, parser, field: Vec::new(), header: None, group: None, suspect: None }
    }

    /// Takes one line, the header first. Breaks if the header is invalid, since the rows have no meaning without it.
    pub(super) fn take(&mut self, number: u64, line: Line<'_>, ready: &mut Ready) -> ControlFlow<()> {
        let Some(header) = self.header else { return self.take_header(number, line, ready) };
        match self.row(header, line) {
            // A blank row, of which spreadsheets leave many.
            Ok(None) => {}
            Ok(Some((key, account_id))) => self.add(number, key, account_id, ready),
            Err(bad) => {
                let key = match *bad.known {
                    Known { image_id: Some(image_id), region: Some(region), permission: Some(permission), .. } => {
                        Some((image_id, region, permission))
                    }
                    _ => None,
                };
                self.spoil(number, key);
                let known = Known { job_id: Some(job_id(number)), ..*bad.known };
                let rejection =
                    Rejection { place: None, member: bad.column, problem: bad.problem, known: Box::new(known) };
                ready.push_back(Err(rejection.at(self.place(number))));
            }
        }
        ControlFlow::Continue(())
    }

    /// Rejects a line about which nothing is known but what is wrong with it.
    pub(super) fn reject(&mut self, number: u64, problem: String, ready: &mut Ready) {
        self.spoil(number, None);
        let known = Box::new(Known { job_id: Some(job_id(number)), ..Known::default() });
        ready.push_back(Err(Rejection { place: Some(self.place(number)), member: None, problem, known }));
    }

    /// The last job, once there are no more rows.
    pub(super) fn finish(&mut self) -> Option<Result<JobLine, Rejection>> {
        self.group.take().map(|group| group.into_job(&self.file))
    }

    fn take_header(&mut self, number: u64, line: Line<'_>, ready: &mut Ready) -> ControlFlow<()> {
        match self.header(line) {
            Ok(header) => {
                self.header = Some(header);
                ControlFlow::Continue(())
            }
            Err(problem) => {
                self.reject(number, format!("{problem}; nothing of the file was read"), ready);
                ControlFlow::Break(())
            }
        }
    }

    fn header(&mut self, line: Line<'_>) -> Result<Header, String> {
        let mut places = [None; COLUMNS.len()];
        let mut problem = None;
        let mut first = String::new();
        let count = self.split(line, |place, text| {
            if place == 0 {
                text.clone_into(&mut first);
            }
            // A blank column, which has no values either.
            if text.is_empty() || problem.is_some() {
                return;
            }
            let column = COLUMNS.iter().position(|names| names.contains(&text));
            match column.and_then(|column| places.get_mut(column)) {
                None => problem = Some(format!("unknown column {} (expected {ALLOWED_HEADER})", excerpt(text))),
                Some(Some(_)) => {
                    problem = Some(format!("column {} twice (expected {ALLOWED_HEADER})", excerpt(text)));
                }
                Some(free) => *free = Some(place),
            }
        })?;
        if count == 1
            && let Some(separator) = [';', '\t', '|'].into_iter().find(|&separator| first.contains(separator))
        {
            let name = if separator == '\t' { "tabs".to_owned() } else { format!("\"{separator}\"") };
            return Err(format!(
                "columns are separated by {name} (expected commas; save the sheet as CSV with commas)"
            ));
        }
        problem.map_or_else(|| Header::new(places, self.region), Err)
    }

    /// What a row says; `None` if it is blank.
    fn row(&mut self, header: Header, line: Line<'_>) -> Result<Option<(Key, AccountId)>, BadRow> {
        let default_region = self.region;
        let whole = |problem| BadRow { column: None, problem, known: Box::default() };
        let mut fields: [String; COLUMNS.len()] = Default::default();
        let mut nameless = None;
        let count = self.split(line, |place, text| {
            let column = header.places.iter().position(|of| *of == Some(place));
            match column.and_then(|column| fields.get_mut(column)) {
                Some(field) => text.clone_into(field),
                None if text.is_empty() || nameless.is_some() => {}
                None => nameless = Some((place + 1, excerpt(text))),
            }
        });
        let count = count.map_err(whole)?;
        if let Some((number, found)) = nameless {
            let expected = "expected a blank field, since the header does not name this column";
            return Err(whole(format!("value {found} in column {number} ({expected})")));
        }
        if fields.iter().all(String::is_empty) {
            return Ok(None);
        }
        let width = header.width();
        if count < width {
            return Err(whole(format!("{count} fields (expected {width}, as in the header)")));
        }
        let [image_id, region, permission, account_id] = fields;
        let image_id: Result<ImageId, _> = image_id.parse();
        let region: Result<Region, _> = match (&*region, default_region) {
            ("", Some(region)) => Ok(region),
            (text, _) => text.parse(),
        };
        let permission: Result<Permission, _> = permission.parse();
        let account_id: Result<AccountId, _> = account_id.parse();
        let known = Known {
            image_id: image_id.as_ref().ok().copied(),
            region: region.as_ref().ok().copied(),
            permission: permission.as_ref().ok().copied(),
            ..Known::default()
        };
        match (image_id, region, permission, account_id) {
            (Ok(image_id), Ok(region), Ok(permission), Ok(account_id)) => {
                Ok(Some(((image_id, region, permission), account_id)))
            }
            (image_id, region, permission, account_id) => {
                let problems = [
                    image_id.err().map(|error| error.to_string()),
                    region.err().map(|error| error.to_string()),
                    permission.err().map(|error| error.to_string()),
                    account_id.err().map(|error| error.to_string()),
                ];
                let first = COLUMNS.iter().zip(problems).find_map(|(names, problem)| Some((names, problem?)));
                let (column, problem) =
                    first.map_or_else(Default::default, |(names, problem)| (names.first(), problem));
                Err(BadRow { column: column.map(|&name| name.to_owned()), problem, known: Box::new(known) })
            }
        }
    }

    /// Calls `each` with every field of a line, in order, without the white space around it. Returns how many there are.
    /// Only one field is in memory at a time, so a sheet may have any number of columns.
    fn split(&mut self, line: Line<'_>, mut each: impl FnMut(usize, &str)) -> Result<usize, String> {
        let Line::Bytes(bytes) = line else { return Err(job::too_long()) };
        let text = str::from_utf8(bytes).map_err(|error| job::not_utf8(bytes, error))?;
        self.field.resize(text.len() + 1, 0);
        self.parser.reset();
        // A byte order mark is no part of a file, and was taken off its first line. The parser takes one off whatever it
        // reads first, so it reads the end of an empty line before each row.
        self.parser.read_field(b"\n", &mut self.field);
        let mut count = 0;
        let mut written = 0;
        // A line end ends the row, unless it stands within quotes.
        for mut rest in [text.as_bytes(), b"\n"] {
            while !rest.is_empty() {
                let room = self.field.get_mut(written..).unwrap_or_default();
                let (result, read, more_written) = self.parser.read_field(rest, room);
                rest = rest.get(read..).unwrap_or_default();
                written += more_written;
                if let ReadFieldResult::Field { record_end } = result {
                    // Quotes and commas are removed from UTF-8 and leave UTF-8.
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

    /// Puts a good row to the group, or begins another one.
    fn add(&mut self, number: u64, key: Key, account_id: AccountId, ready: &mut Ready) {
        let is_sync = key.2 == Permission::Sync;
        let suspect = self.suspect.take();
        match &mut self.group {
            Some(group) if group.key == key && group.account_ids.len() < ACCOUNTS_MAX => {
                group.account_ids.push(account_id);
            }
            Some(group) if group.key == key && is_sync => {
                let problem = format!("more than {ACCOUNTS_MAX} rows of one SYNC (expected at most {ACCOUNTS_MAX})");
                group.spoiled.get_or_insert(problem);
            }
            _ => {
                ready.extend(self.finish());
                let spoiled = suspect.filter(|&(_, of)| is_sync && of.is_none_or(|of| of == key));
                let spoiled = spoiled.map(|(line, _)| row_missing(line));
                self.group = Some(Group { line: number, key, account_ids: vec![account_id], spoiled });
            }
        }
    }

    /// Notes that a row was rejected which may belong to the group before or after it.
    fn spoil(&mut self, number: u64, key: Option<Key>) {
        self.suspect = Some((number, key));
        if let Some(group) = &mut self.group
            && group.key.2 == Permission::Sync
            && key.is_none_or(|key| key == group.key)
        {
            group.spoiled.get_or_insert_with(|| row_missing(number));
        }
    }

    fn place(&self, line: u64) -> Place {
        Place { file: self.file.clone(), line }
    }
}

impl Header {
    /// Checks that no column is missing.
    fn new(places: [Option<usize>; COLUMNS.len()], region: Option<Region>) -> Result<Self, String> {
        for (names, place) in COLUMNS.iter().zip(places) {
            let is_needed = region.is_none() || names.first() != Some(&"region");
            if place.is_none() && is_needed {
                let name = names.first().copied().unwrap_or_default();
                return Err(format!("missing column {name} (expected {ALLOWED_HEADER})"));
            }
        }
        Ok(Self { places })
    }

    /// Returns how many fields a row has at least.
    fn width(&self) -> usize {
        self.places.into_iter().flatten().max().map_or(0, |last| last + 1)
    }
}

impl Group {
    fn into_job(self, file: &Arc<str>) -> Result<JobLine, Rejection> {
        let place = Place { file: file.clone(), line: self.line };
        let (image_id, region, permission) = self.key;
        let labels = Default::default();
        let identity = Identity { job_id: job_id(self.line), lane: None, image_id, region, permission, labels };
        match self.spoiled {
            Some(problem) => Err(Rejection::of_job(&identity, None, problem).at(place)),
            None => {
                let account_ids = self.account_ids.into_boxed_slice();
                Ok(JobLine { place, job: Job { identity, account_ids, expires_at: None, force: false } })
            }
        }
    }
}

/// Whether a line names a column, and so can be a header.
pub(super) fn names_a_column(line: &[u8]) -> bool {
    let is_column = |field: &[u8]| {
        let field = field.trim_ascii();
        let bare = field.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(field);
        COLUMNS.iter().any(|names| names.iter().any(|name| name.as_bytes() == bare))
    };
    line.split(|byte| b",;\t|".contains(byte)).any(is_column)
}

fn job_id(line: u64) -> String {
    format!("line-{line}")
}

fn row_missing(line: u64) -> String {
    format!(
        "line {line} may belong to this SYNC and is invalid (expected a SYNC with valid rows only, since it cancels all \
         accounts that its list omits)"
    )
}
