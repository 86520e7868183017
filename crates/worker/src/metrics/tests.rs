//! The exported metrics equal the table in docs/operations.md, and hostile input adds no series.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use allocation_counter::measure;
use imageshare_core::{code, ids::RequestId};
use imageshare_engine::{
    io::{Answer, Outcome},
    job::{AccountOutcome, Failure, Mode, Report},
};
use prometheus::proto::{MetricFamily, MetricType};

use super::{Metrics, labels};
use crate::{broker, events, lane_messages::SettledJob, status::Status};

fn of_repository(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
}

/// The row of a metric in the table of docs/operations.md.
fn row(family: &MetricFamily) -> String {
    let kind = match family.get_field_type() {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY | MetricType::UNTYPED => "other",
    };
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for metric in family.get_metric() {
        for label in metric.get_label() {
            values.entry(label.name()).or_default().insert(label.value());
        }
    }
    let cell = |(label, values): (&str, BTreeSet<&str>)| match label {
        // Their values come from the settings or the build.
        "lane" | "revision" | "version" => format!("`{label}`"),
        _ => format!("`{label}`: {}", values.into_iter().collect::<Vec<_>>().join(", ")),
    };
    let labels: Vec<String> = values.into_iter().map(cell).collect();
    format!("| `{}` | {kind} | {} | {} |", family.name(), labels.join("; "), family.help())
}

#[test]
fn docs_table_equals_exported_metrics() {
    let docs = of_repository("docs/operations.md");
    let (_, section) = docs.split_once("\n## Metrics\n").unwrap();
    let documented: BTreeSet<String> =
        section.lines().filter(|line| line.starts_with("| `")).map(str::to_owned).collect();
    let (metrics, _of_lanes) = Metrics::new(["LANE"]);
    let exported: BTreeSet<String> = metrics.families(true).iter().map(row).collect();
    let missing: Vec<_> = exported.difference(&documented).collect();
    let extra: Vec<_> = documented.difference(&exported).collect();
    assert!(missing.is_empty(), "docs/operations.md: missing rows: {missing:#?}");
    assert!(extra.is_empty(), "docs/operations.md: rows without a metric: {extra:#?}");
}

#[test]
fn without_broker_there_is_nothing_about_one() {
    let (metrics, _of_lanes) = Metrics::new(["default"]);
    let names: Vec<String> = metrics.families(false).iter().map(|family| family.name().to_owned()).collect();
    assert!(names.contains(&"imageshare_accounts_total".to_owned()));
    let of_broker = [
        "broker_",
        "consuming",
        "last_delivery_",
        "acks_",
        "messages_",
        "dead_",
        "lane_requeues_",
        "queue_",
        "job_wait_",
        "job_total_",
    ];
    for name in &names {
        let is_of_broker = of_broker.iter().any(|what| name.starts_with(&format!("imageshare_{what}")));
        assert!(!is_of_broker, "{name}");
    }
}

#[test]
fn series_are_few_for_three_lanes() {
    let lines = |lanes: &[&str]| {
        let (metrics, _of_lanes) = Metrics::new(lanes.iter().copied());
        metrics.text(true).lines().filter(|line| !line.starts_with('#')).count()
    };
    assert!(lines(&["default"]) < 400, "{}", lines(&["default"]));
    let three = lines(&["americas", "asia", "europe"]);
    assert!(three < 500, "{three}");
}

#[test]
fn each_counted_code_is_documented() {
    let known = |code: &str| code.starts_with("Local.") || code::table().iter().any(|(known, _)| *known == code);
    for code in labels::CODES.iter().filter(|code| **code != "other") {
        assert!(known(code), "{code}");
    }
}

#[test]
fn each_class_is_a_result_label() {
    let status = Status::new(["default"]);
    let lane = status.lanes().next().unwrap();
    for (code, class) in code::table() {
        let ended = |requests: &super::handles::RequestMetrics| requests.ended.of(class.as_str()).clone();
        let before = ended(&lane.metrics.writes).get();
        refused(lane, labels::WRITE, code);
        assert_eq!(ended(&lane.metrics.writes).get(), before + 1, "{code}");
        refused(lane, labels::READ_SHARES, code);
    }
    let of_writes: u64 = lane.metrics.writes.ended.all().map(|(_, counter)| counter.get()).sum();
    let of_readings: u64 = lane.metrics.share_readings.ended.all().map(|(_, counter)| counter.get()).sum();
    assert_eq!((of_writes, of_readings), (code::table().len() as u64, code::table().len() as u64));
    assert!(lane.metrics.share_readings.ended.of("unknown").get() > 0, "a reading has no quota");
}

fn refused(lane: &crate::status::LaneRecord, action: &'static str, code: &str) {
    let outcome = Outcome::Refused {
        code: code.into(),
        class: imageshare_core::Class::of(code),
        message: "no".into(),
        request_id: RequestId::new("71e69b56"),
    };
    let call = events::CallDetails { action, image_id: "img-6pb6lrmy".parse().unwrap(), accounts: None };
    events::CallEnded { lane, call: &call, outcome: &outcome, request_id: None, took: None }.record();
}

#[test]
fn hostile_codes_become_other_and_no_label() {
    let status = Status::new(["default"]);
    let lane = status.lanes().next().unwrap();
    let before = status.metrics().lines().count();
    let codes = ["", "\u{1b}[31m", "x\"} 1\ny{z=\"", "InvalidAccountId.NotFound ", "Ünknown", &"a".repeat(100_000)];
    for (nth, code) in codes.iter().enumerate() {
        refused(lane, labels::WRITE, code);
        let failure = Failure { code: (*code).into(), message: "m".into(), request_id: None };
        let account = (10_000 + nth as u64).to_string().parse().unwrap();
        let outcomes = vec![(account, AccountOutcome::Failed(Arc::new(failure)))];
        let report = Report { outcomes, cancelled: vec![], duplicates: 0, requests: 1 };
        let at = std::time::SystemTime::now();
        let lane_id = imageshare_engine::io::LaneId(0);
        let settled = SettledJob {
            identity: (),
            lane: lane_id,
            mode: Mode::Share,
            reports: vec![report],
            received_at: at,
            finished_at: at,
            engine_epoch: at,
        };
        events::Settled::of(lane, &settled).record();
    }
    let text = status.metrics();
    assert!(text.contains(&format!("imageshare_account_failures_total{{code=\"other\"}} {}\n", codes.len())), "{text}");
    assert_eq!(text.lines().count(), before);
    assert!(text.is_ascii());
}

#[test]
fn lane_has_one_state() {
    let status = Status::new(["default"]);
    let lane = status.lanes().next().unwrap();
    let shown = || {
        let ones = lane.metrics.state.all().filter(|(_, gauge)| gauge.get() == 1).map(|(state, _)| state);
        (ones.collect::<Vec<_>>(), lane.metrics.consuming.get())
    };
    assert_eq!(shown(), (vec!["disconnected"], 0));
    lane.subscribed(std::time::Duration::MAX / 2);
    assert_eq!(shown(), (vec!["subscribed"], 1));
    lane.delivered();
    assert_eq!(shown(), (vec!["serving"], 1));
    lane.close(imageshare_engine::io::CloseReason::Clock);
    assert_eq!(shown(), (vec!["closed"], 1));
    lane.disconnected();
    assert_eq!(shown(), (vec!["closed"], 0));
}

#[test]
fn finished_jobs_of_lost_subscription_are_counted() {
    let status = Status::new(["default"]);
    let lane = status.lanes().next().unwrap();
    lane.subscribed(std::time::Duration::MAX / 2);
    let at = std::time::SystemTime::now();
    for _ in 0..3 {
        events::Delivered { lane, is_redelivered: false, published_at: Some(at) }.record();
    }
    let report = Report { outcomes: vec![], cancelled: vec![], duplicates: 0, requests: 0 };
    let lane_id = imageshare_engine::io::LaneId(0);
    let settled = SettledJob {
        identity: (),
        lane: lane_id,
        mode: Mode::Share,
        reports: vec![report],
        received_at: at,
        finished_at: at,
        engine_epoch: at,
    };
    events::Settled::of(lane, &settled).record();
    events::Settled::of(lane, &settled).record();
    let status_of = crate::wire::report::Status::Succeeded;
    events::Finished { status: status_of, published_at: None, received_at: at, is_dead: false }.record(lane);
    assert_eq!(lane.metrics.jobs_held.get(), 3, "its delivery is not acknowledged");
    lane.metrics.acknowledged(1);
    assert_eq!((lane.metrics.jobs_held.get(), status.of_process().acks_lost.get()), (2, 0));
    lane.disconnected();
    assert_eq!((lane.metrics.jobs_held.get(), status.of_process().acks_lost.get()), (0, 1));
}

#[test]
fn wait_counts_first_deliveries_with_time() {
    let status = Status::new(["default"]);
    let lane = status.lanes().next().unwrap();
    let now = std::time::SystemTime::now();
    let minute = std::time::Duration::from_secs(60);
    // Published a minute ago, or in a minute by the publisher's clock.
    for (published_at, is_redelivered) in
        [(Some(now - minute), false), (Some(now + minute), false), (Some(now - minute), true), (None, false)]
    {
        events::Delivered { lane, is_redelivered, published_at }.record();
        events::Finished {
            status: crate::wire::report::Status::Succeeded,
            published_at,
            received_at: now,
            is_dead: false,
        }
        .record(lane);
    }
    let (wait, total) = (&lane.metrics.job_wait, &lane.metrics.job_total);
    assert_eq!((wait.get_sample_count(), total.get_sample_count()), (2, 3));
    assert!((60.0..70.0).contains(&wait.get_sample_sum()), "{}", wait.get_sample_sum());
    assert!((120.0..130.0).contains(&total.get_sample_sum()), "{}", total.get_sample_sum());
}

#[test]
fn what_goes_well_is_recorded_without_allocation() {
    let status = Status::new(["default"]);
    let lane = status.lanes().next().unwrap();
    let call =
        events::CallDetails { action: labels::WRITE, image_id: "img-6pb6lrmy".parse().unwrap(), accounts: Some(50) };
    let outcome = Outcome::Accepted(Answer::Modified(None));
    let request_id = RequestId::new("71e69b56");
    let account = "100022975249".parse().unwrap();
    let report = Report {
        outcomes: vec![(account, AccountOutcome::Changed(None))],
        cancelled: vec![],
        duplicates: 0,
        requests: 1,
    };
    let at = std::time::SystemTime::now();
    let lane_id = imageshare_engine::io::LaneId(0);
    let settled = SettledJob {
        identity: (),
        lane: lane_id,
        mode: Mode::Share,
        reports: vec![report],
        received_at: at,
        finished_at: at,
        engine_epoch: at,
    };
    let took = std::time::Duration::from_millis(80);
    let allocated = measure(|| {
        events::Delivered { lane, is_redelivered: false, published_at: Some(at) }.record();
        events::CallSent { lane, call: &call }.record();
        events::CallEnded { lane, call: &call, outcome: &outcome, request_id, took: Some(took) }.record();
        events::Settled::of(lane, &settled).record();
        broker::events::Confirmed { metrics: status.of_process(), took }.record();
        let status = crate::wire::report::Status::Succeeded;
        events::Finished { status, published_at: Some(at), received_at: at, is_dead: false }.record(lane);
        lane.metrics.acknowledged(1);
    });
    assert_eq!(allocated.count_total, 0);
    assert_eq!((lane.metrics.jobs_held.get(), lane.metrics.shared.changed.get()), (0, 1));
}
