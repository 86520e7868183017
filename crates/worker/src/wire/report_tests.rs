//! The reports of jobs, in all their forms.

use super::*;
use crate::wire::{Defaults, Images, Place, job};

fn id(number: u64) -> AccountId {
    AccountId::new(number).unwrap()
}

fn identity(permission: &str) -> Identity {
    let text = format!(
        r#"{{"job_id":"j","image_id":"img-6pb6lrmy","region":"ap-tokyo","permission":"{permission}","account_ids":[10001],"labels":{{"a":"b"}}}}"#
    );
    job::parse(text.as_bytes(), &Defaults { job_id: String::new(), region: None }).unwrap().identity
}

fn circumstances() -> Circumstances {
    Circumstances {
        redelivered: false,
        received_at: "2026-11-24T04:00:00.1234567Z".parse().unwrap(),
        finished_at: "2026-11-24T04:00:03Z".parse().unwrap(),
        worker: "host:17".to_owned(),
    }
}

/// The time at the engine's moment 0.
const EPOCH: Timestamp = Timestamp::constant(1_795_000_000, 250_000_000);

/// An account that a write changed whose response arrived after 1.5 s.
fn changed() -> AccountOutcome {
    let request_id = RequestId::new("0c0ffee0");
    AccountOutcome::Changed(Some(Arc::new(AcceptedWrite { request_id, at: Instant(1500) })))
}

fn failure() -> AccountOutcome {
    AccountOutcome::Failed(Arc::new(Failure {
        code: "InvalidAccountId.NotFound".into(),
        message: "no such account".into(),
        request_id: RequestId::new("71e69b56"),
    }))
}

#[test]
fn report_members_equal_the_manual() {
    let outcomes = vec![(id(10_001), changed()), (id(10_002), failure()), (id(10_003), AccountOutcome::Unchanged)];
    let report = EngineReport { outcomes, cancelled: vec![], duplicates: 1, requests: 3 };
    let report = Report::of_job(identity("SHARE"), "default", &[report], EPOCH, circumstances());
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(
        text,
        concat!(
            r#"{"job_id":"j","lane":"default","image_id":"img-6pb6lrmy","region":"ap-tokyo","permission":"SHARE","#,
            r#""status":"partial","changed":["10001"],"unchanged":["10003"],"failed":[{"#,
            r#""code":"InvalidAccountId.NotFound","message":"no such account","request_id":"71e69b56","#,
            r#""account_ids":["10002"]}],"changed_by":[{"request_id":"0c0ffee0","accepted_at":"2026-11-18T11:06:41.750Z","#,
            r#""account_ids":["10001"]}],"#,
            r#""duplicates":1,"requests":3,"redelivered":false,"received_at":"2026-11-24T04:00:00.123Z","#,
            r#""finished_at":"2026-11-24T04:00:03.000Z","labels":{"a":"b"},"worker":"host:17"}"#
        )
    );
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}

#[test]
fn sync_reports_what_it_cancelled() {
    let report = EngineReport {
        outcomes: vec![(id(10_001), AccountOutcome::Unchanged)],
        cancelled: vec![(id(10_002), changed()), (id(10_003), failure())],
        duplicates: 0,
        requests: 1,
    };
    let report = Report::of_job(identity("SYNC"), "default", &[report], EPOCH, circumstances());
    let [image] = &report.images[..] else { panic!("{report:?}") };
    assert_eq!(image.cancelled, Some(vec![id(10_002)]));
    assert_eq!((image.failed.len(), report.status), (1, Status::Partial));
    let text = serde_json::to_string(&report).unwrap();
    assert!(text.contains(r#""unchanged":["10001"],"cancelled":["10002"],"failed":"#), "{text}");
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}

#[track_caller]
fn check(outcomes: &[AccountOutcome], status: Status) {
    let outcomes = (10_001..).map(id).zip(outcomes.iter().cloned()).collect();
    let report = EngineReport { outcomes, cancelled: vec![], duplicates: 0, requests: 0 };
    assert_eq!(Report::of_job(identity("SHARE"), "default", &[report], EPOCH, circumstances()).status, status);
}

#[test]
fn status_follows_from_accounts() {
    check(&[changed(), AccountOutcome::Unchanged], Status::Succeeded);
    check(&[AccountOutcome::Unchanged, failure()], Status::Partial);
    check(&[changed(), failure()], Status::Partial);
    check(&[failure()], Status::Failed);
}

#[test]
fn rejected_job_has_reason_and_nulls() {
    let text = r#"{"image_id":"img-6pb6lrmy","region":"ap-tokyo","permission":"share","account_ids":[10001]}"#;
    let defaults = Defaults { job_id: "line-3".to_owned(), region: None };
    let rejection =
        job::parse(text.as_bytes(), &defaults).unwrap_err().at(Place { file: "jobs.ndjson".into(), line: 3 });
    let report = Report::of_rejection(&rejection, circumstances());
    let text = serde_json::to_string(&report).unwrap();
    let reason = r#"jobs.ndjson:3: permission: invalid value \"share\" (expected SHARE, CANCEL or SYNC in capitals)"#;
    assert!(
        text.starts_with(&format!(
            r#"{{"job_id":"line-3","lane":null,"image_id":"img-6pb6lrmy","region":"ap-tokyo","permission":null,"status":"rejected","reason":"{reason}","changed":[],"#
        )),
        "{text}"
    );
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}

/// The report of a SHARE whose accounts failed with these codes in these requests.
fn failed(failures: impl IntoIterator<Item = (&'static str, &'static str)>) -> Report {
    let failed = |(code, request_id): (&str, &str)| {
        let request_id = RequestId::new(request_id);
        AccountOutcome::Failed(Arc::new(Failure { code: code.into(), message: "m".into(), request_id }))
    };
    let outcomes = (1_000_000_000_000_000_000..).map(id).zip(failures.into_iter().map(failed)).collect();
    let report = EngineReport { outcomes, cancelled: vec![], duplicates: 0, requests: 0 };
    Report::of_job(identity("SHARE"), "default", &[report], EPOCH, circumstances())
}

#[track_caller]
fn check_groups(report: &Report, expected: &[(&str, Option<&str>, &[u64])]) {
    let first = 1_000_000_000_000_000_000;
    let groups: Vec<_> = report.images.iter().flat_map(|image| &image.failed).collect();
    assert_eq!(groups.len(), expected.len(), "{groups:?}");
    for (group, (code, request_id, accounts)) in groups.into_iter().zip(expected) {
        assert_eq!((group.code.as_str(), group.request_id.as_deref()), (*code, *request_id));
        assert_eq!(group.account_ids, accounts.iter().map(|n| id(first + n)).collect::<Vec<_>>());
    }
}

#[test]
fn failures_are_grouped_by_code_and_request() {
    let report = failed([("A", "r1"), ("A", "r1"), ("B", "r1"), ("A", "r2"), ("A", "r1")]);
    check_groups(&report, &[("A", Some("r1"), &[0, 1, 4]), ("B", Some("r1"), &[2]), ("A", Some("r2"), &[3])]);
}

/// The report of a job with `accounts` accounts. Each request changed `batch` of them.
fn changed_in_batches(accounts: usize, batch: usize) -> EngineReport {
    const REQUEST: &str = "71e69b56-6a35-4f5c-9bd6-7f7d8f9a";
    let write = |n: usize| {
        let request_id = RequestId::new(&format!("{REQUEST}{n:04}"));
        Arc::new(AcceptedWrite { request_id, at: Instant(0) })
    };
    let writes: Vec<_> = (0..accounts.div_ceil(batch)).map(write).collect();
    let outcome = |n: usize| AccountOutcome::Changed(Some(writes[n / batch].clone()));
    let outcomes = (1_000_000_000_000_000_000..).map(id).zip((0..accounts).map(outcome)).collect();
    EngineReport { outcomes, cancelled: vec![], duplicates: 0, requests: 0 }
}

#[test]
fn requests_name_each_account_they_changed() {
    let mut report = changed_in_batches(5, 2);
    report.cancelled.push((id(10_002), report.outcomes[4].1.clone()));
    let report = Report::of_job(identity("SYNC"), "default", &[report], EPOCH, circumstances());
    let first = 1_000_000_000_000_000_000;
    let accounts: Vec<_> = report.images[0].changed_by.iter().map(|request| &*request.account_ids).collect();
    assert_eq!(
        accounts,
        [&[id(first), id(first + 1)][..], &[id(first + 2), id(first + 3)], &[id(first + 4), id(10_002)]]
    );
}

#[test]
fn requests_of_changes_fit_unless_lists_are_short() {
    for (batch, fits) in [(50, true), (5, true), (1, false)] {
        let report = changed_in_batches(10_000, batch);
        let report = Report::of_job(identity("SHARE"), "default", &[report], EPOCH, circumstances());
        let read: Report = serde_json::from_slice(&report.clone().write(Report::len_max(1, 10_000))).unwrap();
        assert_eq!((read.truncated, &read.images[0].changed), (None, &report.images[0].changed));
        assert_eq!(read == report, fits, "lists of {batch}");
        assert_eq!(read.images[0].changed_by.is_empty(), !fits, "lists of {batch}");
    }
}

#[test]
fn long_report_has_one_failure_per_code() {
    let report = failed([("A", "r1"), ("B", "r2"), ("A", "r3")]);
    let whole = report.clone().write(usize::MAX);
    assert_eq!(serde_json::from_slice::<Report>(&whole).unwrap(), report);
    let merged = report.write(whole.len() - 1);
    assert!(merged.len() < whole.len());
    check_groups(&serde_json::from_slice(&merged).unwrap(), &[("A", None, &[0, 2]), ("B", Some("r2"), &[1])]);
}

#[test]
fn shortest_report_has_only_counts() {
    let report = failed([("A", "r1"), ("B", "r2")]);
    let counts = Counts { failed: 2, ..Counts::default() };
    let merged = report.clone().write(usize::MAX).len();
    let truncated: Report = serde_json::from_slice(&report.clone().write(merged - 1)).unwrap();
    assert_eq!((truncated.truncated, truncated.images[0].failed.len(), truncated.labels.len()), (Some(counts), 0, 1));
    let shortest: Report = serde_json::from_slice(&report.clone().write(0)).unwrap();
    assert_eq!((shortest.truncated, shortest.counts(), shortest.labels.len()), (Some(counts), counts, 0));
    assert_eq!((shortest.job_id, shortest.status), (report.job_id, Status::Failed));
}

#[test]
fn longest_report_fits_where_its_job_fits() {
    const REQUEST: &str = "71e69b56-6a35-4f5c-9bd6-7f7d8f9a0b1c";
    for (accounts, codes) in [(10_000, 1), (10_000, 3), (1, 1), (50, 50)] {
        let codes: Vec<&'static str> = (0..codes).map(|n| &*format!("InvalidAccountId.Code{n}").leak()).collect();
        let requests = (0..).map(|n: usize| &*format!("{REQUEST}-{n}").leak());
        let report = failed(codes.iter().copied().cycle().zip(requests).take(accounts));
        let len_max = Report::len_max(1, accounts);
        let text = report.write(len_max);
        assert!(text.len() <= len_max && len_max < 1024 * 1024, "{} bytes", text.len());
        let read: Report = serde_json::from_slice(&text).unwrap();
        assert_eq!((read.truncated, read.counts().failed), (None, accounts as u64));
    }
}

#[test]
fn rejected_report_is_shortened_too() {
    let text = format!(r#"{{"labels":{{"a":"b"}},"permission":"SYNC","{}":1}}"#, "x".repeat(60));
    let defaults = Defaults { job_id: "j".to_owned(), region: None };
    let mut rejection = job::parse(text.as_bytes(), &defaults).unwrap_err();
    rejection.problem = "long ".repeat(300);
    let report = Report::of_rejection(&rejection, circumstances());
    let shortest = report.clone().write(0);
    assert!(shortest.len() < 1024, "{} bytes", shortest.len());
    let read: Report = serde_json::from_slice(&shortest).unwrap();
    assert_eq!((read.status, &read.images[0].cancelled), (Status::Rejected, &Some(vec![])));
    assert!(report.reason.unwrap().starts_with(&read.reason.unwrap()));
}

#[test]
fn worker_is_a_host_and_process() {
    let name = worker_name();
    let (host, process) = name.rsplit_once(':').unwrap();
    assert!(!host.is_empty() && process == std::process::id().to_string(), "{name}");
}

/// The report of a job of these images, for each of which the first account succeeds and the others fail with a code.
fn of_images(images: usize, accounts: u64) -> Report {
    let image = |n: usize| JobImage {
        region: "ap-chongqing-northeast".parse().unwrap(),
        image_id: format!("img-{n:08}").parse().unwrap(),
    };
    let images: Vec<_> = (0..images).map(image).collect();
    let outcome = |n: u64| if n == 0 { changed() } else { failure() };
    let of_image = EngineReport {
        outcomes: (0..accounts).map(|n| (id(1_000_000_000_000_000_000 + n), outcome(n))).collect(),
        cancelled: vec![],
        duplicates: 1,
        requests: 2,
    };
    let reports = vec![of_image; images.len()];
    let identity = Identity { images: Images::new(images).unwrap(), ..identity("SHARE") };
    Report::of_job(identity, "default", &reports, EPOCH, circumstances())
}

#[test]
fn several_images_have_lists_of_their_own() {
    let report = of_images(2, 2);
    let text = serde_json::to_string(&report).unwrap();
    let image = |n: u32| {
        format!(
            r#"{{"image_id":"img-0000000{n}","region":"ap-chongqing-northeast","changed":["1000000000000000000"],"unchanged":[],"failed":[{{"code":"InvalidAccountId.NotFound","message":"no such account","request_id":"71e69b56","account_ids":["1000000000000000001"]}}],"changed_by":[{{"request_id":"0c0ffee0","accepted_at":"2026-11-18T11:06:41.750Z","account_ids":["1000000000000000000"]}}]}}"#
        )
    };
    let (first, second) = (image(0), image(1));
    let images = format!(
        r#"{{"job_id":"j","lane":"default","permission":"SHARE","status":"partial","images":[{first},{second}],"duplicates":2,"requests":4,"redelivered":false,"#
    );
    assert!(text.starts_with(&images), "{text}");
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    assert_eq!(report.counts(), Counts { changed: 2, failed: 2, ..Counts::default() });
}

#[test]
fn report_of_many_images_fits() {
    for (images, accounts) in [(1_000, 10), (1_000, 1), (2, 5_000)] {
        let report = of_images(images, accounts);
        let len_max = Report::len_max(images, images * usize::try_from(accounts).unwrap());
        let text = report.clone().write(len_max);
        assert!(text.len() <= len_max && len_max <= REPORT_LEN_MAX, "{} bytes", text.len());
        let read: Report = serde_json::from_slice(&text).unwrap();
        assert_eq!((read.truncated, read.counts(), read.images.len()), (None, report.counts(), images));
    }
    let report = of_images(3, 3);
    let shortest: Report = serde_json::from_slice(&report.clone().write(0)).unwrap();
    assert_eq!((shortest.images.len(), shortest.counts()), (0, report.counts()));
}

#[test]
fn mixed_forms_are_refused() {
    let mut text = serde_json::to_value(of_images(2, 2)).unwrap();
    text["changed"] = serde_json::json!([]);
    assert!(serde_json::from_value::<Report>(text).is_err());
    let mut text = serde_json::to_value(of_images(1, 2)).unwrap();
    text.as_object_mut().unwrap().remove("failed");
    assert!(serde_json::from_value::<Report>(text).is_err());
}
