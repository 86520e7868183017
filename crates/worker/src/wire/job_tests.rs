//! What is a job and what is not, with the words that say why.

use super::*;

const GOOD: &str = r#"{"job_id":"rel-2026.11-0042","image_id":"img-6pb6lrmy","region":"ap-singapore","permission":"SHARE","account_ids":["1038493875",100022975249],"labels":{"release":"2026.11"}}"#;

fn defaults() -> Defaults {
    Defaults { job_id: "line-3".to_owned(), region: None }
}

fn read(text: &str) -> Result<Job, Rejection> {
    parse(text.as_bytes(), &defaults())
}

/// A good job with one part of its text replaced.
fn changed(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replace(from, to)
}

#[track_caller]
fn check(text: &str, message: &str) {
    assert_eq!(read(text).unwrap_err().to_string(), message);
}

#[test]
fn example_of_manual_is_read_whole() {
    let job = read(GOOD).unwrap();
    assert_eq!(job.identity.job_id, "rel-2026.11-0042");
    assert_eq!(job.identity.images.single().unwrap().to_string(), "ap-singapore:img-6pb6lrmy");
    assert_eq!((job.identity.permission, job.identity.lane.as_deref()), (Permission::Share, None));
    assert_eq!(job.account_ids[0].iter().map(|id| id.get()).collect::<Vec<_>>(), [1_038_493_875, 100_022_975_249]);
    assert_eq!(job.identity.labels, BTreeMap::from([("release".to_owned(), "2026.11".to_owned())]));
    assert_eq!((job.expires_at, job.force), (None, false));
}

#[test]
fn api_console_body_with_region_is_accepted() {
    let text =
        r#" {"ImageId":"img-6pb6lrmy","AccountIds":["1038493875"],"Permission":"CANCEL","Region":"eu-frankfurt"} "#;
    let job = read(text).unwrap();
    assert_eq!((job.identity.job_id.as_str(), job.identity.permission), ("line-3", Permission::Cancel));
}

#[test]
fn optional_members_are_read() {
    let text = changed(
        r#""permission":"SHARE""#,
        r#""permission":"SYNC","force":true,"lane":"eu-2","expires_at":"2026-11-24T05:00:00.5+01:00""#,
    );
    let job = read(&text).unwrap();
    assert_eq!((job.force, job.identity.lane.as_deref()), (true, Some("eu-2")));
    assert_eq!(job.expires_at.unwrap().to_string(), "2026-11-24T04:00:00.5Z");
    let (identity, jobs) = job.into_parts(Some(Instant(7)), true);
    let [job] = &jobs[..] else { panic!("{jobs:?}") };
    assert_eq!(identity.permission, Permission::Sync);
    assert_eq!(
        (job.deadline, job.redelivered, job.force, job.mode),
        (Some(Instant(7)), true, true, imageshare_engine::job::Mode::Sync)
    );
}

#[test]
fn default_region_replaces_only_a_missing_one() {
    let given = Defaults { region: "eu-frankfurt".parse().ok(), ..defaults() };
    let without = changed(r#""region":"ap-singapore","#, "");
    assert_eq!(parse(without.as_bytes(), &given).unwrap().identity.images[0].region.as_str(), "eu-frankfurt");
    assert_eq!(parse(GOOD.as_bytes(), &given).unwrap().identity.images[0].region.as_str(), "ap-singapore");
    check(&without, "region: missing (expected a region id such as ap-singapore, at most 32 characters)");
}

#[test]
fn invalid_account_id_is_located() {
    let expected = "(expected a root account id of 5 to 19 digits without a leading zero)";
    for (bad, found) in [
        (r#""01038493875""#, r#""01038493875""#),
        (r#""10384a3875""#, r#""10384a3875""#),
        (r#""\u001b[31m""#, r#""\u{1b}[31m""#),
        ("1234", "1234"),
        ("-1038493875", "-1038493875"),
        ("1e9", "1000000000.0"),
        ("1038493875.0", "1038493875.0"),
        ("18446744073709551616", "1.8446744073709552e19"),
        ("null", "null"),
        ("[1]", "an array"),
    ] {
        check(&changed("100022975249", bad), &format!("account_ids[1]: invalid value {found} {expected}"));
    }
}

#[test]
fn number_of_accounts_is_bounded() {
    let list = |count: usize| {
        let ids: Vec<String> = (0..count).map(|n| format!("\"{}\"", 1_000_000 + n)).collect();
        changed(r#"["1038493875",100022975249]"#, &format!("[{}]", ids.join(",")))
    };
    assert_eq!(read(&list(10_000)).unwrap().accounts(), 10_000);
    check(&list(0), "account_ids: empty list (expected 1 to 10000 account ids)");
    check(&list(0).replace("SHARE", "SYNC"), "account_ids: empty list (expected 1 to 10000 account ids)");
    check(&list(10_001), "account_ids: 10001 account ids (expected 1 to 10000 account ids)");
    check(
        &changed(r#"["1038493875",100022975249]"#, r#""1038493875""#),
        r#"account_ids: invalid value "1038493875" (expected 1 to 10000 account ids)"#,
    );
    check(
        &changed(r#","account_ids":["1038493875",100022975249]"#, ""),
        "account_ids: missing (expected 1 to 10000 account ids)",
    );
}

#[test]
fn invalid_members_name_the_expected_values() {
    check(
        &changed("img-6pb6lrmy", "lhbp-a1b2c3d4"),
        r#"image_id: invalid value "lhbp-a1b2c3d4" (expected img- followed by 4 to 32 lowercase letters or digits)"#,
    );
    check(
        &changed(r#""img-6pb6lrmy""#, "17"),
        "image_id: invalid value 17 (expected img- followed by 4 to 32 lowercase letters or digits)",
    );
    check(
        &changed("ap-singapore", "Singapore"),
        r#"region: invalid value "Singapore" (expected a region id such as ap-singapore, at most 32 characters)"#,
    );
    check(
        &changed("SHARE", "share"),
        r#"permission: invalid value "share" (expected SHARE, CANCEL or SYNC in capitals)"#,
    );
    check(
        &changed(r#""SHARE""#, "{}"),
        "permission: invalid value an object (expected SHARE, CANCEL or SYNC in capitals)",
    );
}

#[test]
fn unknown_and_duplicate_members_are_named() {
    check(
        &changed(r#""labels""#, r#""account_id":"1038493875","labels""#),
        "\"account_id\": unknown member (expected job_id, lane, image_id, region, images, permission, \
         account_ids, labels, expires_at, force; did you mean account_ids?)",
    );
    let twice = "set twice (expected once, under one of its names)";
    check(&changed(r#""labels""#, r#""region":"ap-tokyo","labels""#), &format!("region: {twice}"));
    check(&changed(r#""labels""#, r#""AccountIds":[1],"labels""#), &format!("AccountIds: {twice}"));
}

#[test]
fn names_and_labels_are_bounded() {
    let id = |id: &str| changed("rel-2026.11-0042", id);
    assert!(read(&id(&"x".repeat(128))).is_ok());
    assert!(read(&id("with space")).is_ok());
    for (bad, found) in [("é", r#""\u{e9}""#), ("a\\nb", r#""a\nb""#)] {
        check(&id(bad), &format!("job_id: invalid value {found} (expected 1 to 128 printable ASCII characters)"));
    }
    assert!(read(&id(&"x".repeat(129))).is_err());

    let label = |labels: &str| changed(r#"{"release":"2026.11"}"#, labels);
    let many = |count: usize| {
        let labels: Vec<String> = (0..count).map(|n| format!("\"k{n}\":\"\"")).collect();
        label(&format!("{{{}}}", labels.join(",")))
    };
    assert_eq!(read(&many(16)).unwrap().identity.labels.len(), 16);
    let expected = "(expected an object of at most 16 labels with string values)";
    check(&many(17), &format!("labels: 17 labels {expected}"));
    check(&label("[]"), &format!("labels: invalid value an array {expected}"));
    let expected = "(expected a string of at most 256 bytes without control characters)";
    check(&label(r#"{"a":1}"#), &format!("labels[\"a\"]: invalid value 1 {expected}"));
    check(&label(r#"{"a":"b\u0007"}"#), &format!("labels[\"a\"]: invalid value \"b\\u{{7}}\" {expected}"));
    assert!(read(&label(&format!(r#"{{"a":"{}"}}"#, "x".repeat(256)))).is_ok());
    assert!(read(&label(&format!(r#"{{"a":"{}"}}"#, "x".repeat(257)))).is_err());
    assert!(read(&label(&format!(r#"{{"{}":""}}"#, "x".repeat(63)))).is_ok());
    check(
        &label(r#"{"":"b"}"#),
        "labels[\"\"]: invalid key of 0 bytes (expected 1 to 63 bytes without control characters)",
    );
    assert!(read(&label(&format!(r#"{{"{}":""}}"#, "x".repeat(64)))).is_err());
    check(&label(r#"{"a":"","a":""}"#), "labels[\"a\"]: set twice (expected once)");
}

#[test]
fn lane_time_and_force_are_checked() {
    let with = |member: &str| changed(r#""labels""#, &format!("{member},\"labels\""));
    for bad in ["-a", "A", "a_b", &"x".repeat(64)] {
        let error = read(&with(&format!("\"lane\":\"{bad}\""))).unwrap_err().to_string();
        assert!(
            error.starts_with("lane: invalid value") && error.ends_with("lowercase letters, digits and hyphens)"),
            "{error}"
        );
    }
    for bad in [
        "2026-11-24",
        "2026-11-24T04:00:00",
        "2026-11-31T04:00:00Z",
        "2026-02-29T04:00:00Z",
        "2026-11-24T24:00:00Z",
        "2026-11-24T04:00:00+0800",
        "2026-11-24T04:00:00Z[UTC]",
        "2026-11-24T04:00:00.Z",
        "tomorrow",
    ] {
        check(
            &with(&format!("\"expires_at\":\"{bad}\"")),
            &format!("expires_at: invalid value \"{bad}\" (expected a time such as 2026-11-24T04:00:00Z (RFC 3339))"),
        );
    }
    check(&with("\"force\":true"), "force: set with SHARE (expected only with SYNC)");
    check(&with("\"force\":1").replace("SHARE", "SYNC"), "force: invalid value 1 (expected true or false)");
}

#[test]
fn malformed_json_is_located() {
    check(
        &GOOD.replace(r#""region":"#, r#""region" "#),
        "malformed JSON at column 65: expected `:` (expected one JSON object)",
    );
    check(
        GOOD.trim_end_matches('}'),
        &format!("malformed JSON at column {}: EOF while parsing an object (expected one JSON object)", GOOD.len() - 2),
    );
    check("[1]", "is a list (expected one JSON object per line; convert a list with jq -c '.[]')");
    check(
        "{\"labels\":{",
        "malformed JSON at column 11: EOF while parsing an object (expected one JSON object in one line; \
         convert one over several lines with jq -c .)",
    );
    check("", "invalid value \"\" (expected one JSON object)");
    check(
        &format!("{GOOD}{GOOD}"),
        &format!("malformed JSON at column {}: trailing characters (expected one JSON object)", GOOD.len() + 1),
    );
    let deep = format!("{{\"labels\":{}", "[".repeat(200_000));
    check(&deep, "brackets are more than 16 deep at byte 25 (expected at most 16)");
    assert_eq!(
        parse(b"{\"job_id\":\"\xff\"}", &defaults()).unwrap_err().to_string(),
        "invalid byte 0xff at byte 11 (expected UTF-8)"
    );
    assert_eq!(
        parse(&vec![b' '; 1024 * 1024 + 1], &defaults()).unwrap_err().to_string(),
        "more than 1048576 bytes (expected at most 1048576)"
    );
}

#[test]
fn null_and_empty_members_count_as_absent() {
    let absent = r#""job_id":null,"lane":"","labels":null,"expires_at":null,"force":false,"region":"","#;
    let job = format!("{{{absent}\"image_id\":\"img-6pb6lrmy\",\"permission\":\"SHARE\",\"account_ids\":[10001]}}");
    let defaults = Defaults { region: "ap-tokyo".parse().ok(), ..defaults() };
    let job = parse(job.as_bytes(), &defaults).unwrap();
    assert_eq!((job.identity.job_id, job.identity.lane), ("line-3".to_owned(), None));
    assert_eq!((Some(job.identity.images[0].region), job.expires_at, job.force), (defaults.region, None, false));
    assert!(job.identity.labels.is_empty());
    check(
        &changed(r#""img-6pb6lrmy""#, "null"),
        "image_id: invalid value null (expected img- followed by 4 to 32 lowercase letters or digits)",
    );
}

#[test]
fn readable_members_of_rejected_job_are_kept() {
    let known = read(&changed("SHARE", "share")).unwrap_err().known;
    assert_eq!(known.job_id.as_deref(), Some("rel-2026.11-0042"));
    assert_eq!((known.image_id, known.region), ("img-6pb6lrmy".parse().ok(), "ap-singapore".parse().ok()));
    assert_eq!((known.permission, known.labels.len()), (None, 1));

    let cut = GOOD.split_at(GOOD.find(",\"permission").unwrap()).0;
    let known = read(cut).unwrap_err().known;
    assert_eq!((known.job_id.as_deref(), known.region), (Some("rel-2026.11-0042"), "ap-singapore".parse().ok()));

    let known = read("nothing").unwrap_err().known;
    assert_eq!(*known, Known { job_id: Some("line-3".to_owned()), ..Known::default() });

    let known = read(&changed("ap-singapore", "nowhere")).unwrap_err().known;
    assert_eq!(known.region, None);
}

/// A job with these members in the place of image and accounts.
fn of_images(members: &str) -> String {
    format!(r#"{{"job_id":"j","permission":"SHARE",{members}}}"#)
}

const TWO: &str =
    r#"[{"region":"ap-tokyo","image_id":"img-6pb6lrmy"},{"Region":"eu-frankfurt","ImageId":"img-gvbnzy6f"}]"#;

#[test]
fn job_of_several_images_has_lists_for_each() {
    let job = read(&of_images(&format!(r#""images":{TWO},"image_id":null,"region":"","account_ids":[10001,10002]"#)))
        .unwrap();
    let names: Vec<_> = job.identity.images.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["ap-tokyo:img-6pb6lrmy", "eu-frankfurt:img-gvbnzy6f"]);
    assert_eq!((job.account_ids.len(), job.accounts()), (2, 4));
    let text = write(&job.identity, &job.account_ids, None, false);
    let expected = r#"{"job_id":"j","images":[{"region":"ap-tokyo","image_id":"img-6pb6lrmy"},{"region":"eu-frankfurt","image_id":"img-gvbnzy6f"}],"permission":"SHARE","account_ids":["10001","10002"]}"#;
    assert_eq!(str::from_utf8(&text).unwrap(), expected);
    assert_eq!((parse(&text, &defaults()), parse(&write_short(&job), &defaults())), (Ok(job.clone()), Ok(job.clone())));
    let (_, jobs) = job.into_parts(None, false);
    assert_eq!(jobs.iter().map(|job| job.image_id.as_str()).collect::<Vec<_>>(), ["img-6pb6lrmy", "img-gvbnzy6f"]);
}

#[test]
fn images_may_have_account_ids_of_their_own() {
    let own = r#""images":[{"region":"ap-tokyo","image_id":"img-6pb6lrmy","account_ids":[10001]},{"region":"ap-tokyo","image_id":"img-gvbnzy6f","AccountIds":["10002",10003]}]"#;
    let job = read(&of_images(own)).unwrap();
    assert_eq!(job.account_ids.iter().map(|list| list.len()).collect::<Vec<_>>(), [1, 2]);
    let text = write(&job.identity, &job.account_ids, None, false);
    assert!(str::from_utf8(&text).unwrap().contains(r#""image_id":"img-gvbnzy6f","account_ids":["10002","10003"]}]"#));
    assert_eq!((parse(&text, &defaults()), parse(&write_short(&job), &defaults())), (Ok(job.clone()), Ok(job)));
    check(
        &of_images(&format!(r#"{own},"account_ids":[10001]"#)),
        "account_ids: set together with account ids of the images (expected account ids of the job, or of each of its \
         images)",
    );
    check(
        &of_images(&own.replace(r#","AccountIds":["10002",10003]"#, "")),
        "images[1].account_ids: missing (expected 1 to 10000 account ids)",
    );
}

#[test]
fn list_of_one_image_is_an_ordinary_job() {
    let listed = of_images(r#""images":[{"region":"ap-tokyo","image_id":"img-6pb6lrmy"}],"account_ids":[10001]"#);
    let plain = of_images(r#""region":"ap-tokyo","image_id":"img-6pb6lrmy","account_ids":[10001]"#);
    assert_eq!(read(&listed), read(&plain));
}

#[test]
fn default_region_is_that_of_images_without_one() {
    let given = Defaults { region: "eu-frankfurt".parse().ok(), ..defaults() };
    let text = of_images(
        r#""images":[{"image_id":"img-6pb6lrmy"},{"region":"ap-tokyo","image_id":"img-6pb6lrmy"}],"account_ids":[10001]"#,
    );
    let job = parse(text.as_bytes(), &given).unwrap();
    let names: Vec<_> = job.identity.images.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["eu-frankfurt:img-6pb6lrmy", "ap-tokyo:img-6pb6lrmy"]);
    check(&text, "images[0].region: missing (expected a region id such as ap-singapore, at most 32 characters)");
}

#[test]
fn images_are_refused_with_their_place() {
    let check_images = |images: &str, message: &str| {
        check(&of_images(&format!(r#""images":{images},"account_ids":[10001]"#)), message);
    };
    let image = r#"{"region":"ap-tokyo","image_id":"img-6pb6lrmy"}"#;
    check_images("[]", "images: empty list (expected 1 to 1000 images)");
    check_images("{}", "images: invalid value an object (expected a list of images)");
    check_images(&format!("[{}]", vec![image; 1001].join(",")), "images: 1001 images (expected 1 to 1000 images)");
    check_images(
        &format!("[{image},{image}]"),
        "images[1]: ap-tokyo:img-6pb6lrmy is in the list twice (expected each image once)",
    );
    check_images(
        r#"["img-6pb6lrmy"]"#,
        "images[0]: invalid value \"img-6pb6lrmy\" (expected an object with region and image_id)",
    );
    check_images(
        r#"[{"region":"ap-tokyo","image_id":"ami-1"}]"#,
        "images[0].image_id: invalid value \"ami-1\" (expected img- followed by 4 to 32 lowercase letters or digits)",
    );
    check_images(
        r#"[{"region":"ap-tokyo"}]"#,
        "images[0].image_id: missing (expected img- followed by 4 to 32 lowercase letters or digits)",
    );
    check_images(
        r#"[{"region":"ap-tokyo","image_id":"img-6pb6lrmy","name":"\u001b"}]"#,
        "images[0].\"name\": unknown member (expected region, image_id, account_ids)",
    );
    check_images(
        r#"[{"region":"ap-tokyo","Region":"ap-tokyo","image_id":"img-6pb6lrmy"}]"#,
        "images[0].Region: set twice (expected once, under one of its names)",
    );
    let together = "(expected region and image_id in each of the images)";
    check(
        &changed(r#""labels""#, &format!(r#""images":{TWO},"labels""#)),
        &format!("images: set together with image_id {together}"),
    );
    check(
        &of_images(&format!(r#""images":{TWO},"region":"ap-tokyo","account_ids":[10001]"#)),
        &format!("images: set together with region {together}"),
    );
}

#[test]
fn accounts_are_bounded_over_all_images() {
    let ids = |count: u64| (0..count).map(|n| (10_000 + n).to_string()).collect::<Vec<_>>().join(",");
    let job = |count| of_images(&format!(r#""images":{TWO},"account_ids":[{}]"#, ids(count)));
    assert_eq!(read(&job(5_000)).unwrap().accounts(), 10_000);
    check(&job(5_001), "account_ids: 5001 account ids for each of 2 images (expected at most 10000 for all images)");
    let own = TWO.replace('}', &format!(r#","account_ids":[{}]}}"#, ids(5_001)));
    check(
        &of_images(&format!(r#""images":{own}"#)),
        "images: 10002 account ids of all images (expected at most 10000 per job)",
    );
}

#[test]
fn images_of_a_rejected_job_are_kept() {
    let known = read(&of_images(&format!(r#""images":{TWO},"account_ids":[]"#))).unwrap_err().known;
    assert_eq!((known.image_id, known.region, known.images.map(|images| images.len())), (None, None, Some(2)));
    let given = Defaults { region: "eu-frankfurt".parse().ok(), ..defaults() };
    let text = of_images(r#""images":[],"account_ids":[10001]"#);
    let known = parse(text.as_bytes(), &given).unwrap_err().known;
    assert_eq!((known.image_id, known.region, known.images), (None, None, None));
}
