//! The JSON Schemas of jobs and reports, for programs that publish jobs and read reports.
//!
//! They are written by hand, because the parser, not a type, has many of a job's rules. The tests below compare them
//! with the parser and the types.

/// The JSON Schema of a job (draft 2020-12).
pub const JOB: &str = include_str!("job.json");

/// The JSON Schema of a report (draft 2020-12).
pub const REPORT: &str = include_str!("report.json");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jsonschema::Validator;
    use serde_json::{Value, json};

    use super::*;
    use crate::wire::{
        Defaults, Report,
        job::{self, MEMBERS},
        report::{Circumstances, Counts, Status},
    };

    fn schema(text: &str) -> (Value, Validator) {
        let schema: Value = serde_json::from_str(text).unwrap();
        assert!(jsonschema::meta::is_valid(&schema));
        let validator = jsonschema::validator_for(&schema).unwrap();
        (schema, validator)
    }

    fn names(object: &Value) -> BTreeSet<&str> {
        object.as_object().unwrap().keys().map(String::as_str).collect()
    }

    fn good_job() -> Value {
        json!({"job_id": "j", "image_id": "img-6pb6lrmy", "region": "ap-singapore", "permission": "SHARE",
               "account_ids": ["1038493875", 100_022_975_249_u64], "labels": {"release": "2026.11"}})
    }

    /// A good job with this member, as it is.
    fn good_job_and(member: &str, value: &Value) -> Value {
        with(good_job(), &json!({member: value}))
    }

    /// A good job with these members put in place of its own; null takes one away.
    fn job_with(members: &Value) -> Value {
        let mut job = good_job();
        for (name, value) in members.as_object().unwrap() {
            if value.is_null() {
                job.as_object_mut().unwrap().remove(name);
            } else {
                job[name] = value.clone();
            }
        }
        job
    }

    /// A job of these images, which has accounts for all of them.
    fn job_of(images: &Value) -> Value {
        json!({"images": images, "permission": "SHARE", "account_ids": [10_001]})
    }

    fn images() -> Value {
        json!([{"region": "ap-tokyo", "image_id": "img-6pb6lrmy"}, {"Region": "ap-seoul", "ImageId": "img-gvbnzy6f"}])
    }

    fn own_lists() -> Value {
        json!([{"image_id": "img-6pb6lrmy", "account_ids": [10_001]}, {"image_id": "img-gvbnzy6f", "AccountIds": [10_002]}])
    }

    /// A job with these members, as they are.
    fn with(mut job: Value, members: &Value) -> Value {
        for (name, value) in members.as_object().unwrap() {
            job[name] = value.clone();
        }
        job
    }

    #[test]
    fn job_schema_has_all_parsed_members() {
        let known: BTreeSet<&str> = MEMBERS.iter().flat_map(|names| names.iter().copied()).collect();
        assert_eq!(names(&schema(JOB).0["properties"]), known);
    }

    #[track_caller]
    fn check_jobs(jobs: Vec<Value>, is_good: bool) {
        let (_, validator) = schema(JOB);
        let defaults = Defaults { job_id: "line-1".to_owned(), region: "eu-frankfurt".parse().ok() };
        for job in jobs {
            let parsed = job::parse(job.to_string().as_bytes(), &defaults);
            let shown = job.to_string().chars().take(300).collect::<String>();
            assert_eq!(parsed.is_ok(), is_good, "parser: {shown} {:?}", parsed.err());
            assert_eq!(validator.is_valid(&job), is_good, "schema: {shown}");
        }
    }

    #[test]
    fn schema_and_parser_agree_on_good_jobs() {
        let ids = |count: u64| (0..count).map(|n| Value::from(10_000 + n)).collect::<Vec<_>>();
        check_jobs(
            vec![
                good_job(),
                json!({"ImageId": "img-6pb6lrmy", "AccountIds": ["1038493875"], "Permission": "CANCEL", "Region": "ap-tokyo"}),
                job_with(&json!({"job_id": null, "region": null, "labels": null})),
                job_with(&json!({"permission": "SYNC", "force": true})),
                job_with(&json!({"permission": "SYNC", "force": false})),
                job_with(&json!({"permission": null, "Permission": "SYNC", "force": true})),
                job_with(&json!({"force": false})),
                good_job_and("job_id", &json!("")),
                good_job_and("job_id", &json!(null)),
                good_job_and("lane", &json!("")),
                good_job_and("lane", &json!(null)),
                good_job_and("region", &json!("")),
                good_job_and("region", &json!(null)),
                good_job_and("labels", &json!(null)),
                good_job_and("expires_at", &json!("")),
                good_job_and("expires_at", &json!(null)),
                good_job_and("force", &json!(null)),
                job_with(&json!({"account_ids": ids(10_000)})),
                job_with(
                    &json!({"account_ids": [10_000, 9_999_999_999_999_999_999_u64, "9999999999999999999", " 10000\t"]}),
                ),
                job_with(&json!({"job_id": "~ with spaces ".repeat(9)})),
                job_with(&json!({"lane": "a"})),
                job_with(&json!({"lane": format!("0{}", "-".repeat(62))})),
                job_with(&json!({"labels": {}})),
                job_with(&json!({"labels": {"k".repeat(63): "v".repeat(256), "e": ""}})),
                job_with(&json!({"expires_at": "2026-11-24T04:00:00Z"})),
                job_with(&json!({"expires_at": "2026-11-24T04:00:00.123456789+08:00"})),
                job_with(&json!({"image_id": format!("img-{}", "a".repeat(32))})),
                job_with(&json!({"region": "ap-jinan-ec"})),
                job_of(&images()),
                job_of(&json!([{"image_id": "img-6pb6lrmy"}])),
                job_of(&json!([{"image_id": "img-6pb6lrmy", "region": "", "account_ids": null}])),
                with(job_of(&images()), &json!({"image_id": null, "region": ""})),
                with(job_of(&images()), &json!({"ImageId": "", "Region": null})),
                with(job_of(&own_lists()), &json!({"account_ids": null})),
                with(good_job(), &json!({"images": null})),
            ],
            true,
        );
    }

    #[test]
    fn schema_and_parser_agree_on_times() {
        let jobs = |times: &[&str]| times.iter().map(|time| job_with(&json!({"expires_at": time}))).collect();
        let good = [
            "2026-11-24t04:00:00z",
            "2026-11-24 04:00:00Z",
            "2026-11-24T04:00:00.1Z",
            "2026-11-24T04:00:00.123456789Z",
            "2026-11-24T04:00:00.12345678901234567890-23:59",
            "2016-12-31T23:59:60Z",
            "2028-02-29T00:00:00+00:00",
            "2000-02-29T00:00:00Z",
            "9999-12-31T23:59:59.999999999Z",
            "9999-12-31T23:59:59-23:59",
            "0000-01-01T00:00:00+23:59",
        ];
        check_jobs(jobs(&good), true);
        let bad = [
            "2026-11-24T04:00Z",
            "2026-11-24T04:00:00",
            "2026-11-24T04:00:00.Z",
            "2026-11-24T04:00:00,1Z",
            "2026-11-24T04:00:61Z",
            "2026-11-24T04:60:00Z",
            "2026-11-24T24:00:00Z",
            "2026-11-24T04:00:00+24:00",
            "2026-11-24T04:00:00+08:60",
            "2026-11-24T04:00:00+0800",
            "2026-11-24T04:00:00 Z",
            "2026-11-24_04:00:00Z",
            "2026-11-31T04:00:00Z",
            "2026-02-29T04:00:00Z",
            "2100-02-29T04:00:00Z",
            "2026-00-10T04:00:00Z",
            "2026-13-10T04:00:00Z",
            "2026-11-00T04:00:00Z",
            " 2026-11-24T04:00:00Z",
            "+2026-11-24T04:00:00Z",
        ];
        check_jobs(jobs(&bad), false);
    }

    #[test]
    fn schema_and_parser_agree_on_bad_jobs() {
        let ids = |count: u64| (0..count).map(|n| Value::from(10_000 + n)).collect::<Vec<_>>();
        let labels =
            |count: u64| (0..count).map(|n| (format!("k{n}"), Value::from(""))).collect::<serde_json::Map<_, _>>();
        let account = |id: Value| job_with(&json!({"account_ids": ["1038493875", id]}));
        check_jobs(
            vec![
                json!([]),
                json!({}),
                job_with(&json!({"account_id": "1038493875"})),
                job_with(&json!({"image_id": null})),
                job_with(&json!({"ImageId": "img-6pb6lrmy"})),
                job_with(&json!({"Region": "ap-tokyo"})),
                job_with(&json!({"Permission": "SHARE"})),
                job_with(&json!({"AccountIds": [10_000]})),
                job_with(&json!({"account_ids": null})),
                job_with(&json!({"account_ids": []})),
                job_with(&json!({"account_ids": "1038493875"})),
                job_with(&json!({"account_ids": ids(10_001)})),
                account(json!("01038493875")),
                account(json!("1038a93875")),
                account(json!("9999")),
                account(json!(9_999)),
                account(json!("10000000000000000000")),
                account(json!(10_000_000_000_000_000_000_u64)),
                account(json!(-1_038_493_875)),
                account(json!(10_000.5)),
                account(json!(null)),
                job_with(&json!({"permission": null})),
                job_with(&json!({"permission": "share"})),
                job_with(&json!({"permission": "REVOKE"})),
                job_with(&json!({"image_id": "lhbp-a1b2c3d4"})),
                job_with(&json!({"image_id": "img-6PB6LRMY"})),
                job_with(&json!({"image_id": "img-abc"})),
                job_with(&json!({"region": "Singapore"})),
                job_with(&json!({"region": "ap-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"})),
                job_with(&json!({"force": true})),
                good_job_and("image_id", &json!(null)),
                good_job_and("image_id", &json!("")),
                good_job_and("permission", &json!(null)),
                good_job_and("permission", &json!("")),
                good_job_and("account_ids", &json!(null)),
                good_job_and("labels", &json!("")),
                good_job_and("force", &json!("")),
                job_with(&json!({"permission": "SYNC", "force": 1})),
                job_with(&json!({"job_id": "x".repeat(129)})),
                job_with(&json!({"job_id": "a\nb"})),
                job_with(&json!({"job_id": 1})),
                job_with(&json!({"lane": "-a"})),
                job_with(&json!({"lane": "A"})),
                job_with(&json!({"lane": "a".repeat(64)})),
                job_with(&json!({"labels": labels(17)})),
                job_with(&json!({"labels": {"": ""}})),
                job_with(&json!({"labels": {"k".repeat(64): ""}})),
                job_with(&json!({"labels": {"k": "v".repeat(257)}})),
                job_with(&json!({"labels": {"k": "a\u{7}b"}})),
                job_with(&json!({"labels": {"k\u{9f}": ""}})),
                job_with(&json!({"labels": {"k": 1}})),
                job_with(&json!({"labels": []})),
                job_with(&json!({"expires_at": "2026-11-24"})),
                job_with(&json!({"expires_at": 1_700_000_000})),
                job_of(&json!([])),
                job_of(&json!(["img-6pb6lrmy"])),
                job_of(&json!("img-6pb6lrmy")),
                job_of(&json!([{"region": "ap-tokyo"}])),
                job_of(&json!([{"region": "ap-tokyo", "image_id": null}])),
                job_of(&json!([{"region": "Tokyo", "image_id": "img-6pb6lrmy"}])),
                job_of(&json!([{"region": "ap-tokyo", "Region": "ap-tokyo", "image_id": "img-6pb6lrmy"}])),
                job_of(&json!([{"image_id": "img-6pb6lrmy", "name": "golden"}])),
                job_of(&vec![json!({"image_id": "img-6pb6lrmy"}); 1_001].into()),
                job_of(&own_lists()),
                with(job_of(&images()), &json!({"account_ids": null})),
                with(job_of(&json!([own_lists()[0], {"image_id": "img-gvbnzy6f"}])), &json!({"account_ids": null})),
                with(
                    job_of(&json!([own_lists()[0], own_lists()[0], {"account_ids": []}])),
                    &json!({"account_ids": null}),
                ),
                with(good_job(), &json!({"images": images()})),
                with(job_of(&images()), &json!({"region": "ap-tokyo"})),
            ],
            false,
        );
    }

    fn good_report() -> Value {
        json!({"job_id": "j", "lane": "default", "image_id": "img-6pb6lrmy", "region": "ap-tokyo", "permission": "SYNC",
               "status": "partial", "changed": ["10001"], "unchanged": [], "cancelled": ["10002"],
               "failed": [{"code": "Local.NoAnswer", "message": "m", "request_id": null, "account_ids": ["10003"]}],
               "changed_by": [{"request_id": "r", "accepted_at": "2026-11-24T04:00:03.000Z", "account_ids": ["10001", "10002"]}],
               "duplicates": 0, "requests": 2, "redelivered": true, "received_at": "2026-11-24T04:00:00.000Z",
               "finished_at": "2026-11-24T04:00:03.500Z", "labels": {"a": "b"}, "worker": "host:17"})
    }

    fn good_report_of_images() -> Value {
        let mut report = good_report();
        let mut image = json!({});
        for name in ["image_id", "region", "changed", "unchanged", "cancelled", "failed", "changed_by"] {
            image[name] = report.as_object_mut().unwrap().remove(name).unwrap();
        }
        let other = with(image.clone(), &json!({"region": "ap-seoul"}));
        report["images"] = json!([image, other]);
        report
    }

    #[test]
    fn report_schema_has_all_written_members() {
        let rejected = Report {
            status: Status::Rejected,
            reason: Some("r".to_owned()),
            truncated: Some(Counts::default()),
            ..serde_json::from_value(good_report()).unwrap()
        };
        let (schema, validator) = schema(REPORT);
        // With every optional member there, all members are.
        let rejected = serde_json::to_value(&rejected).unwrap();
        let several = serde_json::to_value(serde_json::from_value::<Report>(good_report_of_images()).unwrap()).unwrap();
        assert_eq!(names(&schema["properties"]), names(&rejected).union(&names(&several)).copied().collect());
        assert_eq!(names(&schema["properties"]["images"]["items"]["properties"]), names(&several["images"][0]));
        assert_eq!(names(&schema["$defs"]["failed"]["items"]["properties"]), names(&rejected["failed"][0]));
        let changed_by = &schema["$defs"]["changed_by"]["items"]["properties"];
        assert_eq!(names(changed_by), names(&rejected["changed_by"][0]));
        assert_eq!(names(&schema["properties"]["truncated"]["properties"]), names(&rejected["truncated"]));
        assert!(!validator.is_valid(&rejected), "a truncated report has empty lists");
        let shortest: Report = serde_json::from_value(rejected).unwrap();
        let shortest: Value = serde_json::from_slice(&shortest.write(0)).unwrap();
        assert!(validator.is_valid(&shortest), "{shortest}");
    }

    #[test]
    fn report_of_unreadable_text_matches_schema() {
        let defaults = Defaults { job_id: "line-1".to_owned(), region: None };
        let circumstances = Circumstances {
            redelivered: false,
            received_at: jiff::Timestamp::UNIX_EPOCH,
            finished_at: jiff::Timestamp::UNIX_EPOCH,
            worker: "host:17".to_owned(),
        };
        for text in ["nonsense", r#"{"permission":"SYNC"}"#, r#"{"permission":"share","image_id":"img-6pb6lrmy"}"#] {
            let rejection = job::parse(text.as_bytes(), &defaults).unwrap_err();
            let report = serde_json::to_value(Report::of_rejection(&rejection, circumstances.clone())).unwrap();
            assert!(schema(REPORT).1.is_valid(&report), "{report}");
        }
    }

    #[test]
    fn reports_match_their_schema() {
        let (_, validator) = schema(REPORT);
        let one = |name: &str, value: Value| with(good_report(), &json!({name: value}));
        let without = |name: &str| {
            let mut report = good_report();
            report.as_object_mut().unwrap().remove(name);
            report
        };
        for good in [good_report(), good_report_of_images()] {
            assert!(validator.is_valid(&good), "{good}");
            let read: Report = serde_json::from_value(good.clone()).unwrap();
            assert_eq!(serde_json::to_value(&read).unwrap(), good);
            let shortest: Value = serde_json::from_slice(&read.write(0)).unwrap();
            assert!(validator.is_valid(&shortest), "{shortest}");
        }
        let several = |name: &str, value: Value| with(good_report_of_images(), &json!({name: value}));
        for bad in [
            one("status", json!("rejected")),
            one("status", json!("done")),
            one("reason", json!("r")),
            one("job_id", json!(null)),
            one("permission", json!("SHARE")),
            one("changed", json!([10_001])),
            one("requests", json!(-1)),
            one("more", json!(1)),
            one("failed", json!([{"code": "c", "message": "m", "account_ids": ["10003"]}])),
            one("failed", json!([{"code": "c", "message": "m", "request_id": null, "account_ids": []}])),
            one("truncated", json!({"changed": 1, "unchanged": 0, "cancelled": 1, "failed": 1})),
            without("cancelled"),
            without("worker"),
            without("failed"),
            several("changed", json!([])),
            several("region", json!("ap-tokyo")),
            several("permission", json!("SHARE")),
            several("images", json!([{"image_id": "img-6pb6lrmy", "region": "ap-tokyo"}])),
        ] {
            assert!(!validator.is_valid(&bad), "{bad}");
        }
    }
}
