//! Rows of CSV, one account each, gathered into jobs.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::ControlFlow,
    sync::Arc,
};

use imageshare_core::{
    ids::{AccountId, ImageId, Region},
    text::excerpt,
};

use super::{
    JobImage,
    job::{self, ACCOUNTS_MAX, Identity, Job},
    lines::Line,
    mode::Permission,
    reader::JobLine,
    rejection::{Known, Place, Rejection},
    sheet::{Names, Sheet},
};

/// The columns and the names that a header may give them.
pub(super) const COLUMNS: [Names; 4] = [&["image_id", "image"], &["region"], &["permission"], &ACCOUNT_NAMES];

/// The names of a column of accounts.
pub(super) const ACCOUNT_NAMES: [&str; 3] = ["account_id", "uin", "account"];

const ALLOWED_HEADER: &str = "a header with the columns image_id, region, permission and account_id in any order, \
                              or NDJSON, which begins with {";

/// The most rows that are held for a SYNC.
const HELD_ROWS_MAX: usize = 100_000;

/// Jobs and rejections that are read and not returned yet.
pub(super) type ReadyJobs = VecDeque<Result<JobLine, Rejection>>;

/// Consecutive rows with the same key are one job.
type RowKey = (ImageId, Region, Permission);

/// Gathers consecutive rows of one image, region and permission into jobs of at most [`ACCOUNTS_MAX`] accounts.
///
/// An invalid row is rejected alone, except in a SYNC. A SYNC cancels the shares of all accounts that its list omits, so a
/// list that may lack a row is rejected as a whole. Only the end of the file shows that, so from the first row of a SYNC on
/// everything is held, in order.
pub(super) struct Rows {
    file: Arc<str>,
    region: Option<Region>,
    /// `None` until the header is read.
    sheet: Option<Sheet<{ COLUMNS.len() }>>,
    /// Which columns are ignored.
    notice: Option<String>,
    group: Option<Group>,
    /// The first rejected row that may belong to any SYNC.
    stray: Option<u64>,
    held: Option<Held>,
    /// Whether more than [`HELD_ROWS_MAX`] rows followed, so that every SYNC is rejected.
    is_too_long: bool,
}

/// What was read from the first row of a SYNC on.
#[derive(Default)]
struct Held {
    rows: usize,
    read: Vec<Result<Group, Rejection>>,
    /// The first rejected row of each SYNC.
    rejected: BTreeMap<RowKey, u64>,
}

/// The rows of one job.
struct Group {
    line: u64,
    key: RowKey,
    account_ids: Vec<AccountId>,
    /// Whether it is a SYNC of more than [`ACCOUNTS_MAX`] rows.
    is_too_long: bool,
}

/// An invalid row: the column and the problem, and the valid fields.
struct BadRow {
    column: Option<String>,
    problem: String,
    known: Box<Known>,
}

impl Rows {
    pub(super) fn new(file: Arc<str>, region: Option<Region>) -> Self {
        Self { file, region, sheet: None, notice: None, group: None, stray: None, held: None, is_too_long: false }
    }

    /// Takes one line, the header first. Breaks if the header is invalid, since the rows have no meaning without it.
    pub(super) fn take(&mut self, number: u64, line: Line<'_>, ready: &mut ReadyJobs) -> ControlFlow<()> {
        let Some(sheet) = &mut self.sheet else { return self.take_header(number, line, ready) };
        match row(sheet, line, self.region) {
            // A blank row; spreadsheets leave many.
            Ok(None) => {}
            Ok(Some((key, account_id))) => {
                self.hold(Some(key), ready);
                self.add(number, key, account_id, ready);
            }
            Err(bad) => {
                let key = match *bad.known {
                    Known { image_id: Some(image_id), region: Some(region), permission: Some(permission), .. } => {
                        Some((image_id, region, permission))
                    }
                    _ => None,
                };
                self.hold(key, ready);
                if !matches!(bad.known.permission, Some(Permission::Share | Permission::Cancel)) {
                    self.note_rejected(number, key);
                }
                let known = Known { job_id: Some(job_id(number)), ..*bad.known };
                let rejection =
                    Rejection { place: None, member: bad.column, problem: bad.problem, known: Box::new(known) };
                self.push(Err(rejection.at(self.place(number))), ready);
            }
        }
        ControlFlow::Continue(())
    }

    /// Rejects a line without valid fields.
    pub(super) fn reject(&mut self, number: u64, problem: String, ready: &mut ReadyJobs) {
        self.note_rejected(number, None);
        let known = Box::new(Known { job_id: Some(job_id(number)), ..Known::default() });
        self.push(Err(Rejection { place: Some(self.place(number)), member: None, problem, known }), ready);
    }

    /// The file has ended: returns what is left.
    pub(super) fn finish(&mut self, ready: &mut ReadyJobs) {
        self.end_group(ready);
        self.release(ready);
    }

    /// Returns the notice of the header, once.
    pub(super) fn take_notice(&mut self) -> Option<String> {
        self.notice.take()
    }

    fn take_header(&mut self, number: u64, line: Line<'_>, ready: &mut ReadyJobs) -> ControlFlow<()> {
        match self.header(line) {
            Ok(()) => ControlFlow::Continue(()),
            Err(problem) => {
                self.reject(number, format!("{problem}; nothing of the file was read"), ready);
                ControlFlow::Break(())
            }
        }
    }

    fn header(&mut self, line: Line<'_>) -> Result<(), String> {
        let (sheet, notice) = Sheet::new(bytes(line)?, COLUMNS)?;
        for (column, names) in COLUMNS.iter().enumerate() {
            let name = names.first().copied().unwrap_or_default();
            if !sheet.has(column) && (name != "region" || self.region.is_none()) {
                let hint = sheet.misspelled(name).map(|other| format!("; is {} misspelled?", excerpt(other)));
                let hint = hint.unwrap_or_default();
                return Err(format!("missing column {name} (expected {ALLOWED_HEADER}{hint})"));
            }
        }
        (self.sheet, self.notice) = (Some(sheet), notice);
        Ok(())
    }

    /// Counts a row. From the first one of a SYNC on everything is held.
    fn hold(&mut self, key: Option<RowKey>, ready: &mut ReadyJobs) {
        if self.held.is_none() && key.is_some_and(is_sync) && !self.is_too_long {
            self.held = Some(Held::default());
        }
        if let Some(held) = &mut self.held {
            held.rows += 1;
            if held.rows > HELD_ROWS_MAX {
                self.is_too_long = true;
                self.release(ready);
            }
        }
    }

    /// Adds a valid row to the group, or begins another group.
    fn add(&mut self, line: u64, key: RowKey, account_id: AccountId, ready: &mut ReadyJobs) {
        match &mut self.group {
            Some(group) if group.key == key && group.account_ids.len() < ACCOUNTS_MAX => {
                group.account_ids.push(account_id);
            }
            Some(group) if group.key == key && is_sync(key) => group.is_too_long = true,
            _ => {
                self.end_group(ready);
                self.group = Some(Group { line, key, account_ids: vec![account_id], is_too_long: false });
            }
        }
    }

    fn note_rejected(&mut self, line: u64, key: Option<RowKey>) {
        match (key, &mut self.held) {
            (None, _) => self.stray = self.stray.or(Some(line)),
            (Some(key), Some(held)) if is_sync(key) => {
                held.rejected.entry(key).or_insert(line);
            }
            (Some(_), _) => {}
        }
    }

    fn end_group(&mut self, ready: &mut ReadyJobs) {
        if let Some(group) = self.group.take() {
            self.push(Ok(group), ready);
        }
    }

    fn push(&mut self, read: Result<Group, Rejection>, ready: &mut ReadyJobs) {
        match &mut self.held {
            Some(held) => held.read.push(read),
            None => {
                let job = read.and_then(|group| {
                    let problem = (self.is_too_long && is_sync(group.key)).then(too_many_rows);
                    group.into_job(&self.file, problem)
                });
                ready.push_back(job);
            }
        }
    }

    /// Returns what is held. A SYNC that may lack a row is rejected.
    fn release(&mut self, ready: &mut ReadyJobs) {
        let Some(Held { read, rejected, .. }) = self.held.take() else { return };
        let mut first_lines = BTreeMap::new();
        // The first lines of the first two groups of a SYNC whose rows do not follow each other.
        let mut apart = BTreeMap::new();
        for group in read.iter().flatten().filter(|group| is_sync(group.key)) {
            if let Some(first) = first_lines.insert(group.key, group.line) {
                apart.entry(group.key).or_insert((first, group.line));
            }
        }
        for read in read {
            let job = read.and_then(|group| {
                let (line, key) = (group.line, group.key);
                let other = apart.get(&key).map(|&(first, second)| if line == first { second } else { first });
                let problem = match (rejected.get(&key).copied().or(self.stray), other) {
                    _ if !is_sync(key) => None,
                    _ if self.is_too_long => Some(too_many_rows()),
                    (Some(rejected), _) => Some(row_missing(rejected)),
                    (None, other) => other.map(row_apart),
                };
                group.into_job(&self.file, problem)
            });
            ready.push_back(job);
        }
    }

    fn place(&self, line: u64) -> Place {
        Place { file: self.file.clone(), line }
    }
}

impl Group {
    fn into_job(self, file: &Arc<str>, problem: Option<String>) -> Result<JobLine, Rejection> {
        let place = Place { file: file.clone(), line: self.line };
        let (image_id, region, permission) = self.key;
        let labels = Default::default();
        let images = JobImage { region, image_id }.into();
        let identity = Identity { job_id: job_id(self.line), lane: None, images, permission, labels };
        let too_long = || format!("more than {ACCOUNTS_MAX} rows of one SYNC (expected at most {ACCOUNTS_MAX})");
        match problem.or_else(|| self.is_too_long.then(too_long)) {
            Some(problem) => Err(Rejection::of_job(&identity, None, problem).at(place)),
            None => {
                let account_ids = [self.account_ids.into()].into();
                Ok(JobLine { place, job: Job { identity, account_ids, expires_at: None, force: false } })
            }
        }
    }
}

/// Parses a row; `None` if it is blank.
fn row(
    sheet: &mut Sheet<{ COLUMNS.len() }>,
    line: Line<'_>,
    default_region: Option<Region>,
) -> Result<Option<(RowKey, AccountId)>, BadRow> {
    let whole = |problem| BadRow { column: None, problem, known: Box::default() };
    let Some(fields) = bytes(line).and_then(|bytes| sheet.row(bytes)).map_err(whole)? else { return Ok(None) };
    let [image_id, region, permission, account_id] = fields;
    let image_id: Result<ImageId, _> = image_id.parse();
    let region: Result<Region, _> = match (&*region, default_region) {
        ("", Some(region)) => Ok(region),
        (text, _) => text.parse(),
    };
    let permission: Result<Permission, _> = permission
        .to_ascii_uppercase()
        .parse()
        .map_err(|_| format!("invalid value {} (expected SHARE, CANCEL or SYNC)", excerpt(&permission)));
    let account_id = job::parse_account_id(&account_id);
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
                permission.err(),
                account_id.err(),
            ];
            let first = COLUMNS.iter().zip(problems).find_map(|(names, problem)| Some((names, problem?)));
            let (column, problem) = first.map_or_else(Default::default, |(names, problem)| (names.first(), problem));
            Err(BadRow { column: column.map(|&name| name.to_owned()), problem, known: Box::new(known) })
        }
    }
}

fn bytes(line: Line<'_>) -> Result<&[u8], String> {
    match line {
        Line::Bytes(bytes) => Ok(bytes),
        Line::TooLong | Line::Foreign(_) => Err(job::too_long()),
    }
}

fn job_id(line: u64) -> String {
    format!("line-{line}")
}

const fn is_sync(key: RowKey) -> bool {
    matches!(key.2, Permission::Sync)
}

fn too_many_rows() -> String {
    format!(
        "more than {HELD_ROWS_MAX} rows from the first SYNC on (expected at most that, since all are read before it begins)"
    )
}

fn row_apart(line: u64) -> String {
    format!(
        "line {line} belongs to this SYNC too (expected all its rows to follow each other, since it cancels all accounts \
         that its list omits; sort the rows by image)"
    )
}

fn row_missing(line: u64) -> String {
    format!(
        "line {line} may belong to this SYNC and is invalid (expected a SYNC with valid rows only, since it cancels all \
         accounts that its list omits)"
    )
}
