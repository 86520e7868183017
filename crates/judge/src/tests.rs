//! Tests that the judge accepts a correct record and detects every kind of falsification.

use serde_json::{Value, json};

use crate::{
    judge,
    record::{JobKind, LoggedRequest, Record, ReportedFailure, ReportedOutcome},
};

type Falsify = fn(&mut Record);

/// A round of five jobs on two images, with an unknown account and a SYNC.
fn good() -> Record {
    let job = |id: &str, image: &str, permission: &str, accounts: &[&str]| json!({"job_id": id, "image_id": image, "permission": permission, "account_ids": accounts, "force": true});
    let time = |second: f64| format!("2026-01-01T00:00:{second:06.3}Z");
    let request = |id: &str, second: f64, image: &str, permission: &str, accounts: &[&str], code: &str| {
        json!({"request_id": id, "time": time(second), "host": "h", "action": "ModifyImageSharePermission", "code": code,
            "image_id": image, "permission": permission, "accounts": accounts})
    };
    let report = |id: &str, image: &str, second: f64, status: &str, changed: &[&str], others: [&[&str]; 2]| {
        let failed = if status == "partial" {
            json!([{"account_ids": ["8"], "code": "InvalidAccountId.NotFound", "request_id": "r4"}])
        } else {
            json!([])
        };
        json!({"job_id": id, "image_id": image, "status": status, "changed": changed, "unchanged": others[0],
            "cancelled": others[1], "failed": failed, "redelivered": false, "received_at": time(second),
            "finished_at": time(second + 1.0), "worker": "machine:1"})
    };
    Record::parse(json!({
        "jobs": [
            job("a", "i", "SHARE", &["1", "9"]),
            job("b", "i", "CANCEL", &["1"]),
            job("c", "i", "SHARE", &["2", "8"]),
            job("d", "i", "SYNC", &["2"]),
            job("e", "j", "SHARE", &["5"]),
        ],
        "reports": [
            report("a", "i", 1.0, "succeeded", &["1"], [&["9"], &[]]),
            report("b", "i", 3.0, "succeeded", &["1"], [&[], &[]]),
            report("c", "i", 5.0, "partial", &["2"], [&[], &[]]),
            report("d", "i", 7.0, "succeeded", &[], [&["2"], &["9"]]),
            report("e", "j", 9.0, "succeeded", &["5"], [&[], &[]]),
        ],
        "requests": [
            request("r1", 1.5, "i", "SHARE", &["1"], "ok"),
            request("r2", 3.5, "i", "CANCEL", &["1"], "ok"),
            request("r3", 5.5, "i", "SHARE", &["2"], "ok"),
            request("r4", 5.6, "i", "SHARE", &["8"], "InvalidAccountId.NotFound"),
            request("r5", 7.5, "i", "CANCEL", &["9"], "ok"),
            request("r6", 9.5, "j", "SHARE", &["5"], "ok"),
        ],
        "dead": [{"reason": "failed", "code": "InvalidAccountId.NotFound", "body": {"job_id": "c", "account_ids": ["8"]}}],
        "initial": {"i": [9]}, "last": {"i": [2], "j": [5]}, "invalid": [], "left": 0, "hosts": {"1": "h"},
        "unknown": [8], "cap": 500, "in_flight": 1_000_000, "in_doubt": 2_000_000, "is_calm": false,
    }))
    .unwrap()
}

#[test]
fn good_round_has_no_problem() {
    let problems = judge(&good());
    assert!(problems.is_empty(), "{problems:#?}");
}

/// Replaces an outcome by its place in the report of a job.
fn put(record: &mut Record, report: usize, at: usize, outcome: ReportedOutcome) {
    record.reports[report].outcomes[at].1 = outcome;
}

fn failed(code: &str, request_id: Option<&str>) -> ReportedOutcome {
    ReportedOutcome::Failed(ReportedFailure { code: code.to_owned(), request_id: request_id.map(str::to_owned) })
}

#[test]
fn every_falsification_is_detected() {
    const UNKNOWN: &str = "InvalidAccountId.NotFound";
    let falsifications: &[(&str, &str, Falsify)] = &[
        ("lost", "still hold 1", |record| record.left = 1),
        ("lost", "e has no report", |record| drop(record.reports.pop())),
        ("lost", "no dead letter", |record| record.dead.clear()),
        ("lost", "although nothing failed", |record| record.dead[0].body.job_id = "a".to_owned()),
        ("lost", "was never published", |record| drop(record.jobs.pop())),
        ("lost", "an invalid message", |record| record.invalid = ["x".to_owned()].into()),
        ("end state", "(expected ", |record| record.last.clear()),
        ("end state", "unlike in the sandbox's log", |record| record.last.clear()),
        ("end state", "(expected ", |record| record.jobs.swap(0, 3)),
        // A write that no worker sent.
        ("end state", "(expected ", |record| {
            let cancel = LoggedRequest {
                permission: Some(JobKind::Cancel),
                host: "foreign".to_owned(),
                ..record.requests[5].clone()
            };
            record.requests.push(cancel);
            record.last.remove("j");
        }),
        ("untrue", "caused it", |record| put(record, 0, 0, ReportedOutcome::Unchanged)),
        ("untrue", "sent no request", |record| put(record, 0, 1, ReportedOutcome::Changed)),
        ("untrue", "was not as requested", |record| put(record, 2, 1, ReportedOutcome::Changed)),
        ("untrue", "was not as requested", |record| put(record, 2, 1, ReportedOutcome::Unchanged)),
        ("untrue", "Local.NotAttempted", |record| put(record, 0, 0, failed("Local.NotAttempted", None))),
        ("untrue", "Local.CancelLimit", |record| put(record, 0, 0, failed("Local.CancelLimit", None))),
        ("untrue", UNKNOWN, |record| put(record, 0, 0, failed(UNKNOWN, None))),
        ("untrue", "has no request", |record| put(record, 2, 1, failed(UNKNOWN, Some("invented")))),
        ("untrue", "was for j", |record| put(record, 2, 1, failed(UNKNOWN, Some("r6")))),
        ("untrue", "not for this account", |record| put(record, 2, 1, failed(UNKNOWN, Some("r3")))),
        ("untrue", "another worker sent", |record| record.requests[3].host = "foreign".to_owned()),
        ("untrue", "two reports of one delivery differ", |record| {
            record.reports.push(record.reports[0].clone());
            put(record, 5, 0, ReportedOutcome::Unchanged);
        }),
        ("untrue", "reports None for 9", |record| drop(record.reports[3].outcomes.pop())),
        ("untrue", "no outcome", |record| drop(record.reports[0].outcomes.pop())),
        ("untrue", "twice", |record| record.reports[0].outcomes.push((1, ReportedOutcome::Changed))),
        ("untrue", "contradicts", |record| put(record, 0, 0, ReportedOutcome::Cancelled)),
        ("untrue", "names k", |record| record.reports[0].image = "k".to_owned()),
        ("untrue", "not a worker", |record| record.reports[0].worker = "2".to_owned()),
        ("untrue", "the status is", |record| record.reports[0].status = "failed".to_owned()),
        ("untrue", "before it begins", |record| record.reports[0].finished = 0),
        ("calm", "c is partial", |record| record.is_calm = true),
        ("calm", "were as requested", |record| {
            record.requests.push(record.requests[5].clone());
            record.repeats_max = Some(0);
        }),
    ];
    for (rule, words, falsify) in falsifications {
        let mut record = good();
        falsify(&mut record);
        let problems = judge(&record);
        let is_expected = |problem: &String| problem.starts_with(rule) && problem.contains(words);
        assert!(problems.iter().any(is_expected), "{words:?} is not among {problems:#?}");
    }
}

/// Judges a job for two images after a change of its record.
fn check_two_images(change: fn(&mut Value), expected: &[&str]) {
    let image = |image: &str, request: &str| {
        let changed_by = json!([{"request_id": request, "accepted_at": "2026-01-01T00:00:01Z", "account_ids": ["1"]}]);
        json!({"image_id": image, "changed": ["1"], "unchanged": [], "failed": [], "changed_by": changed_by})
    };
    let request = |id: &str, image: &str| {
        json!({"request_id": id, "time": "2026-01-01T00:00:01Z", "host": "h", "action": "ModifyImageSharePermission",
            "code": "ok", "image_id": image, "permission": "SHARE", "accounts": ["1"]})
    };
    let mut record = json!({
        "jobs": [{"job_id": "a", "images": [{"image_id": "i"}, {"image_id": "j"}], "permission": "SHARE",
            "account_ids": ["1"]}],
        "reports": [{"job_id": "a", "status": "succeeded", "images": [image("i", "r1"), image("j", "r2")], "redelivered": false,
            "received_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:00:02Z", "worker": "machine:1"}],
        "requests": [request("r1", "i"), request("r2", "j")], "dead": [], "initial": {}, "last": {"i": [1], "j": [1]},
        "invalid": [], "left": 0, "hosts": {"1": "h"}, "unknown": [], "cap": 500, "in_flight": 1_000_000,
        "in_doubt": 2_000_000, "is_calm": true,
    });
    change(&mut record);
    let problems = judge(&Record::parse(record).unwrap());
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, part) in problems.iter().zip(expected) {
        assert!(problem.contains(part), "{problem}");
    }
}

#[test]
fn each_image_of_a_job_is_judged() {
    check_two_images(|_| {}, &[]);
    let omit = |record: &mut Value| drop(record["reports"][0]["images"].as_array_mut().unwrap().pop());
    check_two_images(omit, &["a/j has no report"]);
    check_two_images(
        |record| record["last"]["j"] = json!([]),
        &["j is not shared with 1", "unlike in the sandbox's log"],
    );
    check_two_images(|record| record["reports"][0]["images"][1]["changed"] = json!([]), &["has no outcome for 1"]);
    let fail = |record: &mut Value| {
        let failed = json!([{"code": "InvalidAccountId.NotFound", "request_id": "r2", "account_ids": ["1"]}]);
        record["reports"][0]["images"][1] = json!({"image_id": "j", "failed": failed});
        record["reports"][0]["status"] = json!("partial");
        record["requests"][1]["code"] = json!("InvalidAccountId.NotFound");
        let body = json!({"job_id": "a", "image_id": "j", "account_ids": ["1"]});
        record["dead"] = json!([{"reason": "failed", "code": "InvalidAccountId.NotFound", "body": body}]);
        (record["last"]["j"], record["unknown"], record["is_calm"]) = (json!([]), json!([1]), json!(false));
    };
    check_two_images(fail, &[]);
    let other = |record: &mut Value| record["reports"][0]["images"][1]["changed_by"][0]["request_id"] = json!("r1");
    check_two_images(other, &["r1 was for i"]);
}
