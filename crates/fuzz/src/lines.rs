//! Files of jobs or accounts.

use std::{
    io::{BufRead, BufReader},
    str,
};

use imageshare_core::ids::{AccountId, ImageId, Region};
use imageshare_worker::wire::{
    Defaults, Format, JobLine, JobReader, Permission, Rejection,
    job::{self, ACCOUNTS_MAX},
    read_accounts,
};

use crate::{
    job::{check_job, check_rejection},
    shown::assert_shown,
    source::documents,
};

/// Maximum length of a line of accounts in bytes.
const ACCOUNT_LINE_LEN_MAX: usize = 4_096;

/// Maximum length of the error of an account file in characters: 21 lines.
const ERROR_CHARS_MAX: usize = 21 * 300;

type Read = Vec<Result<JobLine, Rejection>>;

/// Checks files as CSV, NDJSON and account lists. The result does not depend on the size of reads. Each line gives a job, an
/// account or a printable rejection with the line number. Rows without quotes agree with splitting at commas.
///
/// # Panics
/// If a property does not hold.
pub fn lines(data: &[u8]) {
    documents(data).for_each(check_document);
}

fn check_document(data: &[u8]) {
    let region = Some("ap-tokyo".parse().expect("it is a region"));
    for region in [None, region] {
        check_rows(data, region);
        check_objects(data, region);
    }
    check_accounts(data);
}

fn read_jobs(data: &[u8], format: Format, region: Option<Region>) -> Read {
    let read = |reader: &mut dyn BufRead| JobReader::new(reader, "f", Some(format), region).collect::<Read>();
    let whole = read(&mut { data });
    assert_eq!(read(&mut BufReader::with_capacity(1, data)), whole, "byte by byte");
    for line in &whole {
        match line {
            Ok(JobLine { place, job }) => {
                assert!(place.line >= 1);
                check_job(job);
            }
            Err(rejection) => {
                assert!(rejection.place.is_some(), "{rejection}");
                check_rejection(rejection);
            }
        }
    }
    whole
}

/// Returns the lines that are not blank, with their numbers.
fn filled(data: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let data = data.strip_prefix("\u{feff}".as_bytes()).unwrap_or(data);
    let lines = data.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    (1..).zip(lines).filter(|(_, line)| !line.trim_ascii().is_empty())
}

fn check_objects(data: &[u8], region: Option<Region>) {
    let read = read_jobs(data, Format::Ndjson, region);
    if is_foreign(data) {
        assert!(matches!(&read[..], [Err(rejection)] if line_of(rejection) == 1), "rejected as a whole");
        return;
    }
    let expected = filled(data).map(|(number, line)| {
        let defaults = Defaults { job_id: format!("line-{number}"), region };
        (number, job::parse(line, &defaults).map_err(|rejection| rejection.problem))
    });
    let parsed = read.into_iter().map(|line| match line {
        Ok(JobLine { place, job }) => (place.line, Ok(job)),
        Err(rejection) => (line_of(&rejection), Err(rejection.problem)),
    });
    assert!(parsed.eq(expected), "a line depends on others");
}

/// Returns whether the first line shows another format, or JSON that is spread over lines.
fn is_foreign(data: &[u8]) -> bool {
    const MARKS: [&[u8]; 5] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"\xff\xfe", b"\xfe\xff"];
    let line = data.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let text = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line).trim_ascii();
    MARKS.iter().any(|mark| line.starts_with(mark)) || [&b"{"[..], b"[", b"[{"].contains(&text)
}

fn line_of(rejection: &Rejection) -> u64 {
    rejection.place.as_ref().map_or(0, |place| place.line)
}

type RowKey = (ImageId, Region, Permission);

/// The first line, key and accounts of a job.
type RowGroup = (u64, RowKey, Vec<AccountId>);

fn check_rows(data: &[u8], region: Option<Region>) {
    let read = read_jobs(data, Format::Csv, region);
    let rows: Vec<_> = filled(data).collect();
    let accounts = read.iter().flatten().map(|read| read.job.account_ids.len()).sum::<usize>();
    let refused = read.iter().filter_map(|read| read.as_ref().err()).count();
    assert!(accounts + refused <= rows.len(), "more accounts and rejections than rows");
    // Quoted fields may contain commas, and the rows of a SYNC depend on each other.
    if data.contains(&b'"') || data.windows(4).any(|four| four == b"SYNC") {
        return;
    }
    let Some((&(_, header), rows)) = rows.split_first() else { return assert!(read.is_empty()) };
    let Some(places) = places(header, region) else { return assert_eq!((accounts, refused), (0, 1)) };
    let (mut expected, mut bad): (Vec<RowGroup>, Vec<u64>) = Default::default();
    for &(number, line) in rows {
        match row(line, &places, region) {
            None => bad.push(number),
            // Blank.
            Some(None) => {}
            Some(Some((key, account))) => match expected.last_mut() {
                Some((_, of, accounts)) if *of == key && accounts.len() < ACCOUNTS_MAX => accounts.push(account),
                _ => expected.push((number, key, vec![account])),
            },
        }
    }
    let mut parsed: Vec<RowGroup> = Vec::new();
    let mut refused = Vec::new();
    for read in read {
        match read {
            Ok(JobLine { place, job }) => {
                let key = (job.identity.image_id, job.identity.region, job.identity.permission);
                parsed.push((place.line, key, job.account_ids.into()));
            }
            Err(rejection) => refused.push(line_of(&rejection)),
        }
    }
    assert_eq!((parsed, refused), (expected, bad));
}

/// Returns the minimum number of fields of a row, and the index of each column.
fn places(header: &[u8], region: Option<Region>) -> Option<(usize, [Option<usize>; 4])> {
    const COLUMNS: [[&str; 2]; 4] =
        [["image_id", "ImageId"], ["region", "Region"], ["permission", "Permission"], ["account_id", "AccountId"]];
    let fields: Vec<_> = str::from_utf8(header).ok()?.split(',').map(str::trim).collect();
    let mut places = [None; 4];
    for (place, field) in fields.iter().enumerate().filter(|(_, field)| !field.is_empty()) {
        let column = COLUMNS.iter().position(|names| names.contains(field))?;
        if places[column].replace(place).is_some() {
            return None;
        }
    }
    let [image_id, of_region, permission, account_id] = places;
    let is_whole = image_id.and(permission).and(account_id).is_some() && (of_region.is_some() || region.is_some());
    is_whole.then(|| (filled_len(&fields), places))
}

/// Returns the number of fields without trailing blank ones.
fn filled_len(fields: &[&str]) -> usize {
    fields.iter().rposition(|field| !field.is_empty()).map_or(0, |last| last + 1)
}

/// Parses a row; `Some(None)` if it is blank.
fn row(
    line: &[u8],
    (width, places): &(usize, [Option<usize>; 4]),
    region: Option<Region>,
) -> Option<Option<(RowKey, AccountId)>> {
    let fields: Vec<_> = str::from_utf8(line).ok()?.split(',').map(str::trim).collect();
    let len = filled_len(&fields);
    if len == 0 {
        return Some(None);
    }
    let is_nameless = |place: usize| !fields[place].is_empty() && !places.contains(&Some(place));
    if fields.len() < *width || (0..len).any(is_nameless) {
        return None;
    }
    let field = |column: usize| places[column].map_or("", |place| fields[place]);
    let region = match (field(1), region) {
        ("", Some(region)) => region,
        (text, _) => text.parse().ok()?,
    };
    Some(Some(((field(0).parse().ok()?, region, field(2).parse().ok()?), field(3).parse().ok()?)))
}

fn check_accounts(data: &[u8]) {
    let read = read_accounts(data, "f");
    assert_eq!(read_accounts(BufReader::with_capacity(1, data), "f"), read, "byte by byte");
    let account = |line: &[u8]| -> Option<Option<AccountId>> {
        let text = str::from_utf8(line).ok().filter(|text| text.len() <= ACCOUNT_LINE_LEN_MAX)?;
        match text.split('#').next().unwrap_or_default().trim() {
            "" => Some(None),
            text => text.parse().ok().map(Some),
        }
    };
    let expected: Option<Vec<_>> = filled(data).map(|(_, line)| account(line)).collect();
    let expected = expected.map(|accounts| accounts.into_iter().flatten().collect::<Vec<_>>());
    let expected = expected.filter(|accounts| (1..=ACCOUNTS_MAX).contains(&accounts.len()));
    match read {
        Ok(accounts) => assert_eq!(Some(accounts), expected),
        Err(error) => {
            assert_eq!(expected, None);
            let shown = error.to_string();
            assert!(shown.starts_with('f') && shown.chars().count() <= ERROR_CHARS_MAX, "{shown}");
            shown.lines().for_each(|line| assert_shown(line, ERROR_CHARS_MAX));
        }
    }
}
