//! What a reader makes of files, good and bad, and that no line of them is lost.

use std::{
    collections::BTreeSet,
    io::{self, BufReader, Read},
    sync::Mutex,
};

use imageshare_core::text::excerpt;
use proptest::prelude::*;

use super::*;
use crate::wire::Permission;

fn job(image: &str, accounts: &str) -> String {
    format!(r#"{{"image_id":"{image}","region":"ap-tokyo","permission":"SHARE","account_ids":[{accounts}]}}"#)
}

fn good() -> String {
    job("img-6pb6lrmy", "1038493875")
}

/// What was read, a word or two for each: `job_id permission accounts`, or the rejection's text.
fn read(text: impl AsRef<[u8]>, file: &str) -> Vec<String> {
    let reader = BufReader::with_capacity(7, text.as_ref());
    let shown = |read: Result<JobLine, Rejection>| match read {
        Ok(JobLine { place, job }) => {
            let Identity { job_id, permission, .. } = job.identity;
            assert!(job_id == format!("line-{}", place.line) || job_id.starts_with(&format!("line-{}-", place.line)));
            let ids: Vec<String> = job.account_ids.iter().flatten().map(ToString::to_string).collect();
            format!("{job_id} {permission} {}", if ids.len() > 5 { ids.len().to_string() } else { ids.join(",") })
        }
        Err(rejection) => rejection.to_string(),
    };
    JobReader::new(reader, file, Format::of_name(file), None).map(shown).collect()
}

use crate::wire::Identity;

#[track_caller]
fn check(text: impl AsRef<[u8]>, file: &str, expected: &[&str]) {
    assert_eq!(read(text, file), expected);
}

#[test]
fn malformed_line_costs_none_of_others() {
    let good = good();
    let text = format!("{good}\n{good}\n{{\"image_id\":\n{good}\r\n\n{good}");
    check(
        text,
        "jobs.ndjson",
        &[
            "line-1 SHARE 1038493875",
            "line-2 SHARE 1038493875",
            "jobs.ndjson:3: malformed JSON at column 12: EOF while parsing a value \
             (expected one JSON object)",
            "line-4 SHARE 1038493875",
            "line-6 SHARE 1038493875",
        ],
    );
}

#[test]
fn bad_input_is_located() {
    let lines = [
        good().replace("\"image_id\"", "\"image\""),
        job("img-6pb6lrmy", r#""1038493875","01038","abc""#),
        job("lhbp-a1b2c3d4", "1038493875"),
        good().replace("SHARE", "share"),
        job("img-6pb6lrmy", ""),
        job("img-6pb6lrmy", &["1038493875"; 10_001].join(",")),
    ];
    check(
        lines.join("\n"),
        "jobs.ndjson",
        &[
            "jobs.ndjson:1: \"image\": unknown member (expected job_id, lane, image_id, \
             region, images, permission, account_ids, labels, expires_at, force; did you mean images?)",
            "jobs.ndjson:2: account_ids[1]: invalid value \"01038\" \
             (expected a root account id of 5 to 19 digits without a leading zero)",
            "jobs.ndjson:3: image_id: invalid value \"lhbp-a1b2c3d4\" \
             (expected img- followed by 4 to 32 lowercase letters or digits)",
            "jobs.ndjson:4: permission: invalid value \"share\" (expected SHARE, CANCEL or SYNC in capitals)",
            "jobs.ndjson:5: account_ids: empty list (expected 1 to 10000 account ids)",
            "jobs.ndjson:6: account_ids: 10001 account ids (expected 1 to 10000 account ids)",
        ],
    );
}

#[test]
fn invalid_line_is_rejected_and_next_read() {
    let mut text = vec![b' '; JOB_BYTES_MAX + 1];
    text.extend_from_slice(b"\n{\"job_id\":\"\xff\"}\n");
    text.extend_from_slice(good().as_bytes());
    check(
        &text,
        "jobs.ndjson",
        &[
            "jobs.ndjson:1: more than 1048576 bytes (expected at most 1048576)",
            "jobs.ndjson:2: invalid byte 0xff at byte 11 (expected UTF-8)",
            "line-3 SHARE 1038493875",
        ],
    );
}

#[test]
fn blank_rows_and_columns_of_csv_are_nothing() {
    let sync = "img-6pb6lrmy,ap-tokyo,SYNC,1038493875";
    for blank in ["", ",,,", " , ,\t, ", "\"\",\"\",,", ",,,,,,", ",", "\"\""] {
        let text =
            format!("image_id,region,permission,account_id\r\n{blank}\r\n{sync}\r\n{blank}\r\n{sync}\r\n{blank}");
        check(text, "a.csv", &["line-3 SYNC 1038493875,1038493875"]);
    }
    let header = "image_id,,region,permission,account_id,,";
    let blank = "expected a blank field, since the header does not name this column";
    check(
        format!("{header}\nimg-6pb6lrmy,x,ap-tokyo,SHARE,1038493875\nimg-6pb6lrmy,,ap-tokyo,SHARE,1038493875,,x\n"),
        "a.csv",
        &[
            &format!("a.csv:2: value \"x\" in column 2 ({blank})"),
            &format!("a.csv:3: value \"x\" in column 7 ({blank})"),
        ],
    );
    // As a spreadsheet exports a sheet that is as wide as it can be.
    let wide = ",".repeat(16_384);
    check(
        format!(
            "{header}{wide}\nimg-6pb6lrmy,,ap-tokyo,SHARE,1038493875{wide}\n{wide}\n\
             img-6pb6lrmy,,ap-tokyo,SHARE,1038493876\nimg-6pb6lrmy,,ap-tokyo,SHARE,1038493877{wide}x\n"
        ),
        "a.csv",
        &[&format!("a.csv:5: value \"x\" in column 16389 ({blank})"), "line-2 SHARE 1038493875,1038493876"],
    );
    check(
        format!("{wide}image_id,region,permission,account_id\n{wide}img-6pb6lrmy,ap-tokyo,SHARE,1038493875\n"),
        "a.csv",
        &["line-2 SHARE 1038493875"],
    );
}

#[test]
fn csv_of_spreadsheets_is_read_as_it_is() {
    let text =
        "# release\r\nsep=,\r\nRegion,Image ID,Permission,Account-ID\r\nap-tokyo,img-6pb6lrmy,Share,1038493875\r\n";
    for separator in [',', ';', '\t', '|'] {
        for file in ["a.csv", "a.tsv", "-"] {
            let text = format!("\u{feff}{text}#ap-tokyo\n").replace(',', &separator.to_string());
            check(text, file, &["line-4 SHARE 1038493875"]);
        }
    }
}

#[test]
fn further_columns_are_noticed_once() {
    let noticed = Arc::new(Mutex::new(Vec::new()));
    let text = "Customer,image,permission,UIN,Notes\nAcme,img-6pb6lrmy,share,1038493875,\nAcme,img-6pb6lrmy,share,1038493876,x\n";
    let seen = Arc::clone(&noticed);
    let reader = JobReader::new(text.as_bytes(), "a.csv", Some(Format::Csv), "ap-tokyo".parse().ok());
    let jobs: Vec<_> = reader.with_notices(move |line| seen.lock().unwrap().push(line.to_owned())).collect();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].as_ref().unwrap().job.accounts(), 2);
    assert_eq!(*noticed.lock().unwrap(), ["a.csv:1: columns ignored: \"Customer\", \"Notes\""]);
}

#[test]
fn binary_file_is_named_and_not_read() {
    for (beginning, name) in [
        (&b"\x1f\x8b\x08\0\n\n"[..], "compressed with gzip"),
        (b"\x28\xb5\x2f\xfd\n\n", "compressed with zstd"),
        (b"PK\x03\x04\n\n", "a workbook or a ZIP archive"),
        (b"\xff\xfei\0m\0\n\0\n\0", "text in UTF-16"),
        (b"\xfe\xff\0i\0m\0\n\0\n", "text in UTF-16"),
        (b"i\0m\0a\0\n\0", "text in UTF-16"),
        (b"\0i\0m\0a\0\n", "text in UTF-16"),
        (b"\xd0\xcf\x11\xe0\n", "a workbook or a ZIP archive"),
    ] {
        for file in ["a.csv", "a.ndjson", "-"] {
            let [said] = &read(beginning, file)[..] else { panic!("{name} in {file}") };
            assert!(said.starts_with(&format!("{file}:1: {name} (expected ")), "{said}");
            assert!(said.ends_with("; nothing of the file was read"), "{said}");
        }
    }
}

#[test]
fn json_spans_lines_or_is_a_list() {
    let (job, pretty) = (good(), good().replace(',', ",\n  ").replace('{', "{\n  ").replace('}', "\n}"));
    let read_of = |text: &str| read(text, "a.json");
    assert_eq!(read_of(&pretty), ["line-1 SHARE 1038493875"]);
    assert_eq!(read_of(&format!("{pretty}\n{pretty}\n")), ["line-1 SHARE 1038493875", "line-7 SHARE 1038493875"]);
    assert_eq!(
        read_of(&format!("\u{feff}[\r\n{pretty},\r\n{pretty}\r\n]")),
        ["line-2 SHARE 1038493875", "line-8 SHARE 1038493875"]
    );
    assert_eq!(
        read_of(&format!("\n[{job},{job}, {{}}]")),
        [
            "line-2 SHARE 1038493875",
            "line-2-2 SHARE 1038493875",
            "a.json:2: image_id: missing (expected img- followed by 4 to 32 lowercase letters or digits)",
        ]
    );
    assert_eq!(read_of("[]"), Vec::<String>::new());
    let read = read_of(&format!("[{job},\n{job}"));
    assert!(
        read[2].starts_with("a.json:2: malformed JSON: the file ends before the value that begins here"),
        "{read:?}"
    );
}

#[test]
fn files_of_other_programs_are_recognized() {
    check(
        "{\n  \"builds\": [],\n  \"last_run_uuid\": \"\"\n}",
        "a.json",
        &["a.json:1: a manifest of Packer, which names images and no accounts (expected jobs; share its images with \
           imageshare share --packer-manifest FILE)"],
    );
    let read = read("{\"image\": {\"sensitive\": false, \"type\": \"string\", \"value\": \"img-6pb6lrmy\"}}", "a.json");
    assert!(read.len() == 1 && read[0].starts_with("a.json:1: all outputs of Terraform (expected jobs; "), "{read:?}");
}

#[test]
fn first_line_reveals_the_format() {
    let csv = "image_id,region,permission,account_id\nimg-6pb6lrmy,ap-tokyo,SHARE,1038493875\n";
    check(format!("\u{feff}\n  {}", good()), "-", &["line-2 SHARE 1038493875"]);
    check(csv, "-", &["line-2 SHARE 1038493875"]);
    check(format!("\"image_id\"{}", csv.trim_start_matches("image_id")), "-", &["line-2 SHARE 1038493875"]);
    check(format!("[]\n{}", good()), "-", &["line-2 SHARE 1038493875"]);
    check("", "-", &[]);
    // A first line that is wrong in some other way costs itself alone.
    for first in ["s", "image_id region", "\"a\",1", "\"image_id\":\"img-6pb6lrmy\",\"region\":\"ap-tokyo\"}"] {
        check(
            format!("{first}\n{}", good()),
            "-",
            &[&format!("-:1: invalid value {} (expected one JSON object)", excerpt(first)), "line-2 SHARE 1038493875"],
        );
    }
    // One column is enough to see that a header was meant, and what is wrong with it.
    let read = read("picture,region,permission,account\n", "-");
    assert!(read[0].starts_with("-:1: missing column image_id (expected a header with"), "{read:?}");
    for (name, format) in
        [("a.CSV", Some(Format::Csv)), ("a.jsonl", Some(Format::Ndjson)), ("a.b/c", None), ("-", None)]
    {
        assert_eq!(Format::of_name(name), format, "{name}");
    }
}

#[test]
fn read_error_keeps_earlier_jobs() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }
    let problem = "cannot read the file: gone; later lines were not read";
    let results = |text: String, file: &str| {
        let reader = BufReader::new(io::Cursor::new(text).chain(Broken));
        let reader = JobReader::new(reader, file, Format::of_name(file), None);
        reader.map(|read| read.map_or_else(|r| r.to_string(), |r| r.job.identity.job_id)).collect::<Vec<_>>()
    };
    assert_eq!(
        results(format!("{0}\n{0}\n", good()), "a.ndjson"),
        ["line-1", "line-2", &format!("a.ndjson:3: {problem}")]
    );
    let csv = |permission: &str| format!("{HEADER}\nimg-6pb6lrmy,ap-tokyo,{permission},1038493875\n");
    assert_eq!(results(csv("SHARE"), "a.csv"), [format!("a.csv:3: {problem}"), "line-2".to_owned()]);
    // A SYNC whose list may go on would take the image from those who were to come.
    let sync = results(csv("SYNC"), "a.csv");
    assert!(sync[1].starts_with("a.csv:2: line 3 may belong to this SYNC and is invalid"), "{sync:?}");
}

const HEADER: &str = "image_id,region,permission,account_id";

/// Rows of CSV written short: `a` and `b` are images, `S`, `C` and `Y` permissions.
fn csv(rows: &[&str]) -> String {
    let full = |row: &&str| match row.split(' ').collect::<Vec<_>>()[..] {
        [image, permission, account] => {
            let permission = match permission {
                "S" => "SHARE",
                "C" => "CANCEL",
                "Y" => "SYNC",
                other => other,
            };
            format!("img-{}, ap-tokyo,{permission},{account}\n", image.repeat(8))
        }
        _ => format!("{row}\n"),
    };
    format!("{HEADER}\n{}", rows.iter().map(full).collect::<String>())
}

#[test]
fn consecutive_rows_form_one_job() {
    check(
        csv(&["a S 10001", "a S 10002", "b S 10003", "a S 10004", "a C 10004"]),
        "a.csv",
        &["line-2 SHARE 10001,10002", "line-4 SHARE 10003", "line-5 SHARE 10004", "line-6 CANCEL 10004"],
    );
}

#[test]
fn bad_row_is_rejected_by_itself() {
    check(
        csv(&["a S 10001", "a S 1", "a s 10002", "x", "", "\"img-bbbbbbbb,ap-tokyo,SHARE,1", "a S 10003"]),
        "a.csv",
        &[
            "a.csv:3: account_id: invalid value \"1\" \
             (expected a root account id of 5 to 19 digits without a leading zero)",
            "a.csv:4: permission: invalid value \"s\" (expected SHARE, CANCEL or SYNC)",
            "a.csv:5: 1 fields (expected 4, as in the header)",
            "a.csv:7: quote is not closed (expected the closing quote in the same line)",
            "line-2 SHARE 10001,10003",
        ],
    );
}

#[test]
fn open_quote_hides_no_line() {
    let unclosed = "a.csv:2: quote is not closed (expected the closing quote in the same line)";
    check(csv(&["img-aaaaaaaa,ap-tokyo,SHARE,\"10001"]), "a.csv", &[unclosed]);
    check(
        csv(&["img-aaaaaaaa,ap-tokyo,SHARE,\"10001\"", "a S \"\"\"10002"]),
        "a.csv",
        &["a.csv:3: quote is not closed (expected the closing quote in the same line)", "line-2 SHARE 10001"],
    );
    // The second account of such a line was once left out without a word.
    check(
        csv(&["img-aaaaaaaa,ap-tokyo,SHARE,10001\rimg-aaaaaaaa,ap-tokyo,SHARE,10002"]),
        "a.csv",
        &["a.csv:2: value \"ap-tokyo\" in column 5 \
           (expected a blank field, since the header does not name this column)"],
    );
}

#[test]
fn byte_order_mark_within_file_is_data() {
    let row = "img-aaaaaaaa,ap-tokyo,SHARE,10001";
    check(
        format!("\u{feff}{HEADER}\n{row}\n\u{feff}{row}\n"),
        "a.csv",
        &[
            "a.csv:3: image_id: invalid value \"\\u{feff}img-aaaaaaaa\" (expected img- followed by 4 to 32 lowercase letters or digits)",
            "line-2 SHARE 10001",
        ],
    );
}

#[test]
fn sync_with_rejected_row_is_rejected() {
    let begins = |rows: &[&str], expected: &[&str]| {
        let read = read(csv(rows), "a.csv");
        assert_eq!(read.len(), expected.len(), "{read:?}");
        for (read, expected) in read.iter().zip(expected) {
            assert!(read.starts_with(expected), "{read}");
        }
    };
    let spoiled = |line: u64, by: u64| format!("a.csv:{line}: line {by} may belong to this SYNC");
    begins(&["a Y 10001", "a Y 1", "a Y 10003"], &["a.csv:3: account_id", &spoiled(2, 3)]);
    begins(&["x", "a Y 10001"], &["a.csv:2: 1 fields", &spoiled(3, 2)]);
    begins(&["a Y 10001", "x"], &["a.csv:3: 1 fields", &spoiled(2, 3)]);
    begins(&["a Y 10001", "b S 10001", "x"], &[&spoiled(2, 4), "a.csv:4: 1 fields", "line-3 SHARE 10001"]);
    // Of these rows it is known that they belong to something else.
    begins(&["b S 1", "a Y 10001", "a S 1"], &["a.csv:2: ", "a.csv:4: ", "line-3 SYNC 10001"]);
    begins(&["X S 10001", "a Y 10001"], &["a.csv:2: image_id", "line-3 SYNC 10001"]);
}

#[test]
fn sync_in_two_places_is_rejected() {
    let read = read(csv(&["a Y 10001", "b S 10001", "a Y 10002", "b Y 10003"]), "a.csv");
    assert!(read[0].starts_with("a.csv:2: line 4 belongs to this SYNC too"), "{read:?}");
    assert_eq!(read[1], "line-3 SHARE 10001");
    assert!(read[2].starts_with("a.csv:4: line 2 belongs to this SYNC too"), "{read:?}");
    assert_eq!(read[3..], ["line-5 SYNC 10003"]);
}

#[test]
fn sync_is_held_for_limited_rows() {
    let mut rows = vec!["a Y 10001".to_owned()];
    rows.extend((0..99_999).map(|number| format!("b S {}", 10_001 + number)));
    let read_rows = |rows: &[String]| read(csv(&rows.iter().map(String::as_str).collect::<Vec<_>>()), "a.csv");
    assert_eq!(read_rows(&rows)[0], "line-2 SYNC 10001");
    rows.extend(["b S 10001", "c Y 10001", "c S 10002"].map(str::to_owned));
    let read = read_rows(&rows);
    assert!(read[0].starts_with("a.csv:2: more than 100000 rows from the first SYNC on"), "{}", read[0]);
    assert!(read[read.len() - 2].starts_with("a.csv:100003: more than 100000 rows"), "{}", read[read.len() - 2]);
    assert_eq!((read.len(), read[read.len() - 1].as_str()), (13, "line-100004 SHARE 10002"));
}

#[test]
fn job_has_at_most_ten_thousand_rows() {
    let rows = |permission: &str, count: u64| {
        let rows: Vec<String> = (0..count).map(|n| format!("a {permission} {}", 10_000 + n)).collect();
        csv(&rows.iter().map(String::as_str).collect::<Vec<_>>())
    };
    check(rows("S", 10_001), "a.csv", &["line-2 SHARE 10000", "line-10002 SHARE 20000"]);
    check(rows("Y", 10_000), "a.csv", &["line-2 SYNC 10000"]);
    check(rows("Y", 10_002), "a.csv", &["a.csv:2: more than 10000 rows of one SYNC (expected at most 10000)"]);
}

#[test]
fn header_accepts_any_column_order() {
    check(
        "account_id,Permission,\"ImageId\",region\n10001,SHARE,\"img-6pb6lrmy\",ap-tokyo\n",
        "a.csv",
        &["line-2 SHARE 10001"],
    );
    let bad = |header: &str, problem: &str| {
        let read = read(format!("{header}\nimg-6pb6lrmy,ap-tokyo,SHARE,10001\n"), "a.csv");
        assert_eq!(read.len(), 1, "{read:?}");
        assert!(read[0].starts_with(&format!("a.csv:1: {problem}")), "{read:?}");
        assert!(read[0].ends_with("; nothing of the file was read"), "{read:?}");
    };
    bad("image_id,region,permission", "missing column account_id (expected a header with");
    bad(
        "image_id,region,permision,account_id",
        "missing column permission (expected a header with the columns image_id, region, permission and account_id in any \
         order, or NDJSON, which begins with {; is \"permision\" misspelled?)",
    );
    bad("image_id,Image ID,region,permission,account_id", "column \"Image ID\" twice (expected one column image_id)");
    bad("image_id,permission,account_id", "missing column region (expected a header with");
}

#[test]
fn default_region_replaces_empty_fields() {
    let region = "eu-frankfurt".parse().ok();
    for text in [
        "image_id,permission,account_id\nimg-6pb6lrmy,SHARE,10001",
        "image_id,region,permission,account_id\nimg-6pb6lrmy,,SHARE,10001",
    ] {
        let read: Vec<_> = JobReader::new(text.as_bytes(), "a.csv", None, region).collect();
        assert_eq!(read[0].as_ref().unwrap().job.identity.images[0].region.as_str(), "eu-frankfurt");
    }
}

/// Lines as they should count: what stands between line feeds, without the blank ones.
fn lines_in(text: &[u8]) -> usize {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    text.split(|&b| b == b'\n').filter(|line| !line.trim_ascii().is_empty()).count()
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let mutated = (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| {
        let mut line = good().into_bytes();
        let at = at.index(line.len());
        line[at] = byte;
        line
    });
    let cut = any::<prop::sample::Index>().prop_map(|at| good().as_bytes()[..at.index(good().len())].to_vec());
    prop_oneof![
        Just(good().into_bytes()),
        Just(vec![]),
        mutated,
        cut,
        prop::collection::vec(any::<u8>(), 0..40),
        Just(vec![b'['; 70]),
    ]
}

proptest! {
    #[test]
    fn each_ndjson_line_is_read_once(lines in prop::collection::vec(line(), 0..12), capacity in 1_usize..64) {
        let text = lines.join(&b'\n');
        let reader = BufReader::with_capacity(capacity, text.as_slice());
        let read: Vec<_> = JobReader::new(reader, "f", Some(Format::Ndjson), None).collect();
        let first = text.split(|&byte| byte == b'\n').find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
        prop_assume!(!is_spread(first));
        prop_assert_eq!(read.len(), if job::foreign_format(&text).is_some() { 1 } else { lines_in(&text) });
        let places: Vec<u64> =
            read.iter().map(|read| read.as_ref().map_or_else(|r| r.place.as_ref().unwrap().line, |r| r.place.line)).collect();
        prop_assert!(places.is_sorted_by(|a, b| a < b), "{:?}", places);
    }

    #[test]
    fn no_job_of_list_is_lost(gaps in prop::collection::vec(prop::sample::select(vec!["", "\n", " ", "\r\n\t"]), 1..20), capacity in 1_usize..64) {
        let jobs = gaps.iter().map(|gap| good().replace(',', &format!(",{gap}")) + gap).collect::<Vec<_>>();
        let text = format!("[{}]", jobs.join(","));
        let read: Vec<_> = JobReader::new(BufReader::with_capacity(capacity, text.as_bytes()), "f", None, None).collect();
        prop_assert_eq!(read.len(), gaps.len());
        let job_ids: BTreeSet<_> = read.into_iter().map(|read| read.unwrap().job.identity.job_id).collect();
        prop_assert_eq!(job_ids.len(), gaps.len());
    }

    #[test]
    fn each_csv_row_is_read_once(
        rows in prop::collection::vec(prop::sample::select(vec!["a S 10001", "a C 10001", "b S 10002", "a S 1", "x", "\"", "c S 10003"]), 0..40),
    ) {
        let read: Vec<_> = JobReader::new(csv(&rows).as_bytes(), "f", Some(Format::Csv), None).collect();
        let accounts: usize = read.iter().map(|read| read.as_ref().map_or(1, |line| line.job.accounts())).sum();
        prop_assert_eq!(accounts, rows.len());
        prop_assert!(read.iter().flatten().all(|line| line.job.identity.permission != Permission::Sync));
    }

    #[test]
    fn no_bytes_make_a_reader_panic(text in prop::collection::vec(any::<u8>(), 0..400), is_csv: bool) {
        let mut all = if is_csv { format!("{HEADER}\n").into_bytes() } else { vec![] };
        all.extend(text);
        let read = JobReader::new(all.as_slice(), "f", is_csv.then_some(Format::Csv), None).count();
        // A list may have many values on a line.
        let read_max = if is_csv { lines_in(&all) } else { all.len() + 1 };
        prop_assert!(read <= read_max);
    }
}
