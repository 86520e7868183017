//! Rows of CSV, one account each, gathered into jobs.

use std::{collections::VecDeque, ops::ControlFlow, sync::Arc};

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
pub(super) const ACCOUNT_NAMES: [&str; 3] = ["account_id", "account", "uin"];

const ALLOWED_HEADER: &str = "a header with the columns image_id, region, permission and account_id in any order, \
                              or NDJSON, which begins with {";

/// Jobs and rejections that are read and not returned yet.
pub(super) type ReadyJobs = VecDeque<Result<JobLine, Rejection>>;

/// Consecutive rows with the same key are one job.
type RowKey = (ImageId, Region, Permission);

/// Gathers consecutive rows of one image, region and permission into jobs of at most [`ACCOUNTS_MAX`] accounts.
///
/// An invalid row is rejected alone, except in a SYNC. A SYNC cancels the shares of all accounts that its list omits,
/// so a list that may lack a row is rejected as a whole.
pub(super) struct Rows {
    file: Arc<str>,
    region: Option<Region>,
    /// `None` until the header is read.
    sheet: Option<Sheet<{ COLUMNS.len() }>>,
    /// Which columns are ignored.
    notice: Option<String>,
    group: Option<Group>,
    /// The last rejected row, if no valid one followed, and its key if that is valid.
    suspect: Option<(u64, Option<RowKey>)>,
}

/// The rows of one job.
struct Group {
    line: u64,
    key: RowKey,
    account_ids: Vec<AccountId>,
    /// Why a SYNC is rejected as a whole.
    spoiled: Option<String>,
}

/// An invalid row: the column and the problem, and the valid fields.
struct BadRow {
    column: Option<String>,
    problem: String,
    known: Box<Known>,
}

impl Rows {
    pub(super) fn new(file: Arc<str>, region: Option<Region>) -> Self {
        Self { file, region, sheet: None, notice: None, group: None, suspect: None }
    }

    /// Takes one line, the header first. Breaks if the header is invalid, since the rows have no meaning without it.
    pub(super) fn take(&mut self, number: u64, line: Line<'_>, ready: &mut ReadyJobs) -> ControlFlow<()> {
        let Some(sheet) = &mut self.sheet else { return self.take_header(number, line, ready) };
        match row(sheet, line, self.region) {
            // A blank row; spreadsheets leave many.
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

    /// Rejects a line without valid fields.
    pub(super) fn reject(&mut self, number: u64, problem: String, ready: &mut ReadyJobs) {
        self.spoil(number, None);
        let known = Box::new(Known { job_id: Some(job_id(number)), ..Known::default() });
        ready.push_back(Err(Rejection { place: Some(self.place(number)), member: None, problem, known }));
    }

    /// Returns the last job, at the end of the file.
    pub(super) fn finish(&mut self) -> Option<Result<JobLine, Rejection>> {
        self.group.take().map(|group| group.into_job(&self.file))
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

    /// Adds a valid row to the group, or begins another group.
    fn add(&mut self, number: u64, key: RowKey, account_id: AccountId, ready: &mut ReadyJobs) {
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

    /// Records a rejected row, which may belong to the group before or after it.
    fn spoil(&mut self, number: u64, key: Option<RowKey>) {
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

impl Group {
    fn into_job(self, file: &Arc<str>) -> Result<JobLine, Rejection> {
        let place = Place { file: file.clone(), line: self.line };
        let (image_id, region, permission) = self.key;
        let labels = Default::default();
        let images = JobImage { region, image_id }.into();
        let identity = Identity { job_id: job_id(self.line), lane: None, images, permission, labels };
        match self.spoiled {
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

fn row_missing(line: u64) -> String {
    format!(
        "line {line} may belong to this SYNC and is invalid (expected a SYNC with valid rows only, since it cancels all \
         accounts that its list omits)"
    )
}
