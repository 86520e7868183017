//! The worker's own cost per job: parsing the message, making and writing the report.
//!
//! `cargo bench --package imageshare-worker --bench stages`; `README.md` explains the figures.
#![allow(
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench is a program for people that reads a clock, and ends where a helper fails"
)]

mod timing;

use imageshare_core::ids::AccountId;
use imageshare_engine::job::{AccountOutcome, Report as EngineReport};
use imageshare_worker::wire::{
    Defaults, Report,
    job::{self, Job},
    report::Circumstances,
};
use jiff::Timestamp;
use serde_json::Value;

use timing::{Row, compare_with_first};

fn main() {
    for accounts in [1, 50, 500] {
        let message = message(accounts);
        let defaults = Defaults { job_id: "line-1".to_owned(), region: None };
        let read = || job::parse(message.as_bytes(), &defaults).unwrap();
        let report = || report(read(), accounts);
        let title = format!("{accounts} accounts, a message of {} bytes", message.len());
        let finished = report();
        let rows = vec![
            Row::new("bare serde_json into values", || serde_json::from_str::<Value>(&message).unwrap()),
            Row::new("parse the message", read),
            Row::new("parse the message and make the report", report),
            Row::new("write the report", || serde_json::to_vec(&finished).unwrap()),
        ];
        compare_with_first(&title, rows);
    }
}

fn message(accounts: u64) -> String {
    let ids: Vec<String> = account_ids(accounts).map(|id| format!("\"{id}\"")).collect();
    format!(
        r#"{{"job_id":"job-000001","image_id":"img-6pb6lrmy","region":"ap-singapore","permission":"SHARE","account_ids":[{}]}}"#,
        ids.join(",")
    )
}

fn account_ids(accounts: u64) -> impl Iterator<Item = u64> {
    (0..accounts).map(|nth| 100_022_975_249 + nth * 7_919)
}

/// Returns the report of a job that succeeded.
fn report(job: Job, accounts: u64) -> Report {
    let (identity, _) = job.into_parts(None, false);
    let outcomes =
        account_ids(accounts).map(|id| (AccountId::new(id).unwrap(), AccountOutcome::Changed(None))).collect();
    let done = EngineReport { outcomes, cancelled: Vec::new(), duplicates: 0, requests: 1 };
    let at = Timestamp::UNIX_EPOCH;
    let circumstances =
        Circumstances { redelivered: false, received_at: at, finished_at: at, worker: "host:1".to_owned() };
    Report::of_job(identity, "default", &[done], at, circumstances)
}
