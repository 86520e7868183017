//! Files of jobs or accounts.

use std::{
    io::{BufRead, BufReader},
    str,
};

use imageshare_core::ids::{AccountId, ImageId, Region};
use imageshare_worker::wire::{
    Defaults, Format, JobImage, JobLine, JobReader, Permission, Rejection,
    job::{self, ACCOUNTS_MAX},
    read_accounts,
};

use crate::{
    assert_shown,
    job::{check_job, check_rejection},
    source::documents,
};

/// Maximum length of the error of an account file in characters: 21 lines.
const ERROR_CHARS_MAX: usize = 21 * 300;

type Read = Vec<Result<JobLine, Rejection>>;

/// Checks files as CSV, JSON and account lists. The result does not depend on the size of reads. Each line gives a job, an
/// account or a printable rejection with the line number. Rows without quotes agree with splitting at commas, and lists of
/// plain ids with splitting at line feeds.
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
    if is_spread(data) {
        // Each value and each error ends with a byte of its own, or with the file.
        assert!(read.len() <= data.len() + 1, "more jobs than bytes");
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

/// Returns whether the first line shows another format.
fn is_foreign(data: &[u8]) -> bool {
    const MARKS: [&[u8]; 6] =
        [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"\xff\xfe", b"\xfe\xff", b"\xd0\xcf\x11\xe0"];
    let line = data.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let zeros = line.first_chunk::<4>().map(|four| four.map(|byte| byte == 0));
    MARKS.iter().any(|mark| line.starts_with(mark))
        || [Some([false, true, false, true]), Some([true, false, true, false])].contains(&zeros)
}

/// Returns whether the first line begins a list, or an object that does not end in it.
fn is_spread(data: &[u8]) -> bool {
    let line = filled(data).next().map_or(&b""[..], |(_, line)| line.trim_ascii());
    line.starts_with(b"[") || (line.starts_with(b"{") && matches!(line.last(), Some(b'{' | b'[' | b',')))
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
    let accounts = read.iter().flatten().map(|read| read.job.accounts()).sum::<usize>();
    let refused = read.iter().filter_map(|read| read.as_ref().err()).count();
    assert!(accounts + refused <= rows.len(), "more accounts and rejections than rows");
    // Quoted fields may contain commas, other bytes may separate them, and the rows of a SYNC depend on each other.
    let is_sync = |four: &[u8]| four.eq_ignore_ascii_case(b"SYNC");
    if data.iter().any(|byte| b"\";\t|#\r=".contains(byte)) || data.windows(4).any(is_sync) {
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
                let JobImage { region, image_id } = job.identity.images.single().expect("a row has one image");
                parsed.push((place.line, (image_id, region, job.identity.permission), job.account_ids.concat()));
            }
            Err(rejection) => refused.push(line_of(&rejection)),
        }
    }
    assert_eq!((parsed, refused), (expected, bad));
}

/// The columns of a header: whether each has a name, and the index of those that are read.
struct Columns {
    is_named: Vec<bool>,
    places: [Option<usize>; 4],
}

fn places(header: &[u8], region: Option<Region>) -> Option<Columns> {
    const NAMES: [&[&str]; 4] = [&["imageid", "image"], &["region"], &["permission"], &["accountid", "uin", "account"]];
    let fields: Vec<String> = str::from_utf8(header).ok()?.split(',').map(letters).collect();
    let mut places = [None; 4];
    for (place, names) in places.iter_mut().zip(NAMES) {
        let name = names.iter().find(|name| fields.iter().any(|field| field == *name));
        let matching: Vec<usize> = (0..fields.len()).filter(|&at| Some(&fields[at].as_str()) == name).collect();
        if matching.len() > 1 {
            return None;
        }
        *place = matching.first().copied();
    }
    let [image_id, of_region, permission, account_id] = places;
    let is_whole = image_id.and(permission).and(account_id).is_some() && (of_region.is_some() || region.is_some());
    let is_named = str::from_utf8(header).ok()?.split(',').map(|field| !field.trim().is_empty()).collect();
    is_whole.then_some(Columns { is_named, places })
}

/// Returns a name without white space, `_` and `-`, in lower case.
fn letters(name: &str) -> String {
    name.chars().filter(|c| !c.is_whitespace() && !"_-".contains(*c)).collect::<String>().to_ascii_lowercase()
}

/// Parses a row; `Some(None)` if it is blank.
fn row(
    line: &[u8],
    Columns { is_named, places }: &Columns,
    region: Option<Region>,
) -> Option<Option<(RowKey, AccountId)>> {
    let fields: Vec<_> = str::from_utf8(line).ok()?.split(',').map(str::trim).collect();
    if fields.iter().all(|field| field.is_empty()) {
        return Some(None);
    }
    let is_nameless = |place: usize| !fields[place].is_empty() && is_named.get(place) != Some(&true);
    if fields.len() <= places.iter().flatten().max().copied()? || (0..fields.len()).any(is_nameless) {
        return None;
    }
    let field = |column: usize| places[column].map_or("", |place| fields[place]);
    let region = match (field(1), region) {
        ("", Some(region)) => region,
        (text, _) => text.parse().ok()?,
    };
    let permission = field(2).to_ascii_uppercase().parse().ok()?;
    Some(Some(((field(0).parse().ok()?, region, permission), field(3).parse().ok()?)))
}

fn check_accounts(data: &[u8]) {
    let read = read_accounts(data, "f");
    assert_eq!(read_accounts(BufReader::with_capacity(1, data), "f"), read, "byte by byte");
    match &read {
        Ok(file) => assert!((1..=ACCOUNTS_MAX).contains(&file.account_ids.len())),
        Err(error) => {
            let shown = error.to_string();
            assert!(shown.starts_with('f') && shown.chars().count() <= ERROR_CHARS_MAX, "{shown}");
            shown.lines().for_each(|line| assert_shown(line, ERROR_CHARS_MAX));
        }
    }
    let lines: Vec<&[u8]> = filled(data).map(|(_, line)| line).collect();
    if !lines.iter().all(|line| line.iter().all(u8::is_ascii_digit)) {
        return;
    }
    let account = |line: &&[u8]| str::from_utf8(line).ok()?.parse().ok();
    let expected: Option<Vec<AccountId>> = lines.iter().map(account).collect();
    let expected = expected.filter(|accounts| (1..=ACCOUNTS_MAX).contains(&accounts.len()));
    assert_eq!(read.ok().map(|file| file.account_ids), expected);
}
