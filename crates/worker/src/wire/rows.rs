//! Rows of CSV, one account each, gathered into jobs.

use std::{collections::VecDeque, ops::ControlFlow, str, sync::Arc};

use csv_core::{ReadRecordResult, ReaderBuilder, Terminator};
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

/// Fields of a row that are looked at; a row with more is refused.
const FIELDS_MAX: usize = 16;

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
/// A row that cannot be read is rejected by itself. Only a SYNC suffers from it: that takes the image from everybody
/// whom its list leaves out, so a list of which a row may be missing is rejected as a whole.
pub(super) struct Rows {
    file: Arc<str>,
    region: Option<Region>,
    parser: csv_core::Reader,
    /// The text of a row's fields.
    fields: Vec<u8>,
    header: Option<Header>,
    group: Option<Group>,
    /// The last rejected row, if no good one came since, and what could be read of its key.
    suspect: Option<(u64, Option<Key>)>,
}

/// Where each of [`COLUMNS`] stands, and how many fields a row has.
#[derive(Clone, Copy)]
struct Header {
    places: [Option<usize>; COLUMNS.len()],
    width: usize,
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
        Self { file, region, parser, fields: Vec::new(), header: None, group: None, suspect: None }
    }

    /// Takes one line, the header first. Breaks off if that is none: what the rows mean is then unknown.
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
        match self.split(line).and_then(|fields| Header::read(&fields, self.region)) {
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

    /// What a row says; `None` if it is blank.
    fn row(&mut self, header: Header, line: Line<'_>) -> Result<Option<(Key, AccountId)>, BadRow> {
        let default_region = self.region;
        let whole = |problem| BadRow { column: None, problem, known: Box::default() };
        let fields = self.split(line).map_err(whole)?;
        let width = width(&fields);
        if width == 0 {
            return Ok(None);
        }
        if width > header.width || fields.len() < header.width {
            return Err(whole(format!("found {} fields, allowed are {} as in the header", fields.len(), header.width)));
        }
        let is_nameless = |&place: &usize| !header.places.contains(&Some(place));
        if let Some(place) =
            (0..width).filter(is_nameless).find(|&place| fields.get(place).is_some_and(|field| !field.is_empty()))
        {
            return Err(whole(format!("found a value in field {}, whose column has no name in the header", place + 1)));
        }
        let field = |column: usize| {
            let place = header.places.get(column).copied().flatten();
            place.and_then(|place| fields.get(place)).map_or("", |field| field.as_str())
        };
        let image_id: Result<ImageId, _> = field(0).parse();
        let region: Result<Region, _> = match (field(1), default_region) {
            ("", Some(region)) => Ok(region),
            (text, _) => text.parse(),
        };
        let permission: Result<Permission, _> = field(2).parse();
        let account_id: Result<AccountId, _> = field(3).parse();
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

    /// The fields of a line without the white space around them.
    fn split(&mut self, line: Line<'_>) -> Result<Vec<String>, String> {
        let Line::Bytes(bytes) = line else { return Err(job::too_long()) };
        let text = str::from_utf8(bytes).map_err(|error| job::not_utf8(bytes, error))?;
        self.fields.resize(text.len() + 1, 0);
        let mut ends = [0; FIELDS_MAX];
        self.parser.reset();
        // A byte order mark is no part of a file, and was taken off its first line. The parser takes one off whatever it
        // reads first, so it reads the end of an empty line before each row.
        self.parser.read_record(b"\n", &mut self.fields, &mut ends);
        let (_, _, written, ended) = self.parser.read_record(text.as_bytes(), &mut self.fields, &mut ends);
        // A line end ends the row, unless it stands within quotes.
        let (result, _, more_written, more_ended) = self.parser.read_record(
            b"\n",
            self.fields.get_mut(written..).unwrap_or_default(),
            ends.get_mut(ended..).unwrap_or_default(),
        );
        match result {
            ReadRecordResult::Record => {}
            ReadRecordResult::OutputEndsFull => {
                return Err(format!("found more than {FIELDS_MAX} fields, allowed are {}", COLUMNS.len()));
            }
            ReadRecordResult::InputEmpty | ReadRecordResult::OutputFull | ReadRecordResult::End => {
                return Err("found a quote that is not closed, allowed are fields whose quotes are closed in their \
                            own line"
                    .to_owned());
            }
        }
        let fields = self.fields.get(..written + more_written).unwrap_or_default();
        let mut start = 0;
        let field = |&end: &usize| {
            let field = fields.get(start..end).unwrap_or_default();
            start = end;
            // Quotes and commas are removed from UTF-8 and leave UTF-8.
            str::from_utf8(field).unwrap_or_default().trim().to_owned()
        };
        Ok(ends.get(..ended + more_ended).unwrap_or_default().iter().map(field).collect())
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
                let problem = format!("found more than {ACCOUNTS_MAX} rows of one SYNC, allowed are {ACCOUNTS_MAX}");
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
    fn read(fields: &[String], region: Option<Region>) -> Result<Self, String> {
        if let [only] = fields
            && let Some(separator) = [';', '\t', '|'].into_iter().find(|&separator| only.contains(separator))
        {
            let name = if separator == '\t' { "tabs".to_owned() } else { format!("\"{separator}\"") };
            return Err(format!(
                "found columns separated by {name} (expected commas; save the sheet as CSV with commas)"
            ));
        }
        let mut places = [None; COLUMNS.len()];
        for (place, field) in fields.iter().enumerate() {
            // A blank column, which has no values either.
            if field.is_empty() {
                continue;
            }
            let column = COLUMNS.iter().position(|names| names.contains(&field.as_str()));
            let Some(slot) = column.and_then(|column| places.get_mut(column)) else {
                return Err(format!("found a column {}, allowed is {ALLOWED_HEADER}", excerpt(field)));
            };
            if slot.replace(place).is_some() {
                return Err(format!("found the column {} twice, allowed is {ALLOWED_HEADER}", excerpt(field)));
            }
        }
        for (names, place) in COLUMNS.iter().zip(places) {
            let is_needed = region.is_none() || names.first() != Some(&"region");
            if place.is_none() && is_needed {
                let name = names.first().copied().unwrap_or_default();
                return Err(format!("found no column {name}, allowed is {ALLOWED_HEADER}"));
            }
        }
        Ok(Self { places, width: width(fields) })
    }
}

/// Returns the number of fields without the empty ones at the end.
fn width(fields: &[String]) -> usize {
    fields.iter().rposition(|field| !field.is_empty()).map_or(0, |last| last + 1)
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
        "found that line {line}, which may belong to this SYNC, cannot be read, allowed is a SYNC of which every row \
         can be: it cancels what its list leaves out"
    )
}
