//! The metrics as they are given out, against the list that rules and dashboards are made from, and what hostile input
//! makes of them: nothing.

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
use prometheus::proto::MetricType;

use super::{Metrics, labels};
use crate::{driver::Settled, events, status::Status};

/// A metric: its type, and its label sets as texts, in order. Buckets for a histogram.
#[derive(Debug, Default, PartialEq, Eq)]
struct Described {
    kind: String,
    help: String,
    buckets: Vec<String>,
    series: BTreeSet<String>,
}

fn of_repository(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
}

/// What there is, with a broker or without, for these lanes.
fn exported(lanes: &[&str], has_broker: bool) -> BTreeMap<String, Described> {
    let (metrics, _of_lanes) = Metrics::new(lanes.iter().copied());
    let mut found = BTreeMap::new();
    for family in metrics.families(has_broker) {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            MetricType::SUMMARY | MetricType::UNTYPED => "other",
        };
        let mut described = Described { kind: kind.into(), help: family.help().into(), ..Described::default() };
        for metric in family.get_metric() {
            let mut labels: Vec<_> = metric.get_label().iter().map(|l| format!("{}={}", l.name(), l.value())).collect();
            labels.sort();
            described.series.insert(labels.join(" "));
            let bounds = metric.get_histogram().get_bucket().iter().map(|bucket| bucket.upper_bound());
            described.buckets = bounds.filter(|bound| bound.is_finite()).map(|bound| bound.to_string()).collect();
        }
        found.insert(family.name().to_owned(), described);
    }
    found
}

/// What the list says there is for a lane of this name. Its own words on the form of a line are at its beginning.
fn listed(text: &str, lane: &str) -> BTreeMap<String, Described> {
    let mut sets: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut found: BTreeMap<String, Described> = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(set) = line.strip_prefix("set ") {
            let mut words = set.split(' ');
            sets.entry(words.next().unwrap()).or_default().extend(words);
        } else if let Some(more) = line.strip_prefix("    ") {
            let described = found.get_mut(&last).unwrap();
            match more.strip_prefix("buckets ") {
                Some(buckets) => described.buckets = buckets.split(' ').map(str::to_owned).collect(),
                // A metric that stands there twice has its meaning twice.
                None if described.help.ends_with(more) => {}
                None => described.help = format!("{} {more}", described.help).trim().to_owned(),
            }
        } else {
            let (kind, rest) = line.split_once(' ').unwrap();
            let (name, labels) = rest.strip_suffix('}').unwrap().split_once('{').unwrap();
            name.clone_into(&mut last);
            let described = found.entry(name.to_owned()).or_default();
            kind.clone_into(&mut described.kind);
            described.series.extend(label_sets(labels, &sets, lane));
        }
    }
    found
}

/// All combinations of the values of these labels.
fn label_sets(labels: &str, sets: &BTreeMap<&str, Vec<&str>>, lane: &str) -> Vec<String> {
    let mut combined = vec![Vec::new()];
    for label in labels.split(", ").filter(|label| !label.is_empty()) {
        let (name, values) = label.split_once('=').unwrap_or((label, ""));
        let values: Vec<String> = match (name, values) {
            ("lane", "") => vec![lane.to_owned()],
            ("version", "") => vec![env!("CARGO_PKG_VERSION").to_owned()],
            ("revision", "") => vec![crate::REVISION.to_owned()],
            (_, set) if let Some(set) = set.strip_prefix('@') => {
                sets[set].iter().map(|&value| value.to_owned()).collect()
            }
            (_, values) => values.split('|').map(|value| value.replace("LANE", lane)).collect(),
        };
        let with = |before: &Vec<String>| {
            let before = before.clone();
            values.iter().map(move |value| [&before[..], &[format!("{name}={value}")]].concat()).collect::<Vec<_>>()
        };
        combined = combined.iter().flat_map(with).collect();
    }
    combined
        .into_iter()
        .map(|mut labels| {
            labels.sort();
            labels.join(" ")
        })
        .collect()
}

#[test]
fn what_is_exported_is_what_rules_and_dashboards_are_made_from() {
    let mut exported = exported(&["default"], true);
    let mut listed = listed(&of_repository("deploy/prometheus/metrics.txt"), "default");
    for described in [&mut exported, &mut listed] {
        // The words of these are the library's.
        described.iter_mut().filter(|(name, _)| name.starts_with("process_")).for_each(|(_, of)| of.help.clear());
    }
    let names = |of: &BTreeMap<String, Described>| of.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&exported), names(&listed));
    for (name, exported) in &exported {
        assert_eq!(exported, &listed[name], "{name}");
    }
}

#[test]
fn without_a_broker_there_is_nothing_about_one() {
    let names: Vec<String> = exported(&["default"], false).into_keys().collect();
    assert!(names.contains(&"imageshare_accounts_total".to_owned()));
    let of_broker = ["broker_", "consuming", "last_delivery_", "acks_", "messages_", "dead_", "lanes_given_back_"];
    for name in &names {
        let is_of_broker = of_broker.iter().any(|what| name.starts_with(&format!("imageshare_{what}")));
        assert!(!is_of_broker, "{name}");
    }
}

#[test]
fn the_manual_has_a_row_for_every_metric_and_no_other() {
    let text = of_repository("docs/operations.md");
    let (_, section) = text.split_once("\n## Metrics\n").unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows: BTreeMap<&str, &str> = rows.filter_map(|row| row.split_once("` | ")).collect();
    let exported = exported(&["default"], true);
    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), exported.keys().map(String::as_str).collect::<Vec<_>>());
    for (name, Described { kind, help, series, .. }) in &exported {
        let labels = series.iter().flat_map(|series| series.split(' ')).filter_map(|label| label.split_once('='));
        let labels: BTreeSet<String> = labels.map(|(label, _)| format!("`{label}`")).collect();
        let cells: Vec<&str> = rows[name.as_str()].trim_end_matches(" |").split(" | ").map(str::trim).collect();
        let [found_kind, found_labels, found_help] = cells[..] else { panic!("{name}: {cells:?}") };
        let found_labels: BTreeSet<String> =
            found_labels.split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect();
        assert_eq!((found_kind, &found_labels), (kind.as_str(), &labels), "{name}");
        // The words of the others are the library's.
        assert!(found_help == help || name.starts_with("process_"), "{name}: {help}");
    }
}

#[test]
fn there_are_few_series_for_one_lane_and_for_three() {
    let lines = |lanes: &[&str]| {
        let (metrics, _of_lanes) = Metrics::new(lanes.iter().copied());
        metrics.text(true).lines().filter(|line| !line.starts_with('#')).count()
    };
    assert!(lines(&["default"]) < 400, "{}", lines(&["default"]));
    let three = lines(&["americas", "asia", "europe"]);
    assert!(three <= 450, "{three}");
}

#[test]
fn every_code_that_is_counted_by_itself_is_one_of_ours_or_of_the_table() {
    let known = |code: &str| code.starts_with("Local.") || code::table().iter().any(|(known, _)| *known == code);
    for code in labels::CODES.iter().filter(|code| **code != "other") {
        assert!(known(code), "{code}");
    }
}

#[test]
fn classes_are_results_and_what_a_reading_cannot_get_is_unknown() {
    let status = Status::new(["default"]);
    let lane = status.lanes().next().unwrap();
    for (code, class) in code::table() {
        let ended = |requests: &super::handles::Requests| requests.ended.of(class.as_str()).clone();
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

fn refused(lane: &crate::status::OfLane, action: &'static str, code: &str) {
    let outcome = Outcome::Refused {
        code: code.into(),
        class: imageshare_core::Class::of(code),
        message: "no".into(),
        request_id: RequestId::new("71e69b56"),
    };
    let call = events::Call { action, image_id: "img-6pb6lrmy".parse().unwrap(), accounts: None };
    events::Answered { lane, call: &call, outcome: &outcome, request_id: None, took: None }.record();
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
        let settled =
            Settled { identity: (), lane: lane_id, mode: Mode::Share, report, received_at: at, finished_at: at };
        events::Settled::of(lane, &settled).record();
    }
    let text = status.metrics();
    assert!(text.contains(&format!("imageshare_account_failures_total{{code=\"other\"}} {}\n", codes.len())), "{text}");
    assert_eq!(text.lines().count(), before);
    assert!(text.is_ascii());
}

#[test]
fn the_state_of_a_lane_is_one_at_any_time() {
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
fn jobs_that_are_done_when_their_subscription_ends_come_again_and_are_counted() {
    let status = Status::new(["default"]);
    let lane = status.lanes().next().unwrap();
    lane.subscribed(std::time::Duration::MAX / 2);
    for _ in 0..3 {
        events::Delivered { lane, is_redelivered: false }.record();
    }
    let report = Report { outcomes: vec![], cancelled: vec![], duplicates: 0, requests: 0 };
    let at = std::time::SystemTime::now();
    let lane_id = imageshare_engine::io::LaneId(0);
    let settled = Settled { identity: (), lane: lane_id, mode: Mode::Share, report, received_at: at, finished_at: at };
    events::Settled::of(lane, &settled).record();
    events::Settled::of(lane, &settled).record();
    let status_of = crate::wire::report::Status::Succeeded;
    events::Finished { status: status_of, received_at: at, is_dead: false }.record(lane);
    assert_eq!((lane.metrics.jobs_held.get(), status.of_process().acks_lost.get()), (2, 0));
    lane.disconnected();
    assert_eq!((lane.metrics.jobs_held.get(), status.of_process().acks_lost.get()), (0, 1));
}

#[test]
fn what_goes_well_is_recorded_without_an_allocation() {
    let status = Status::new(["default"]);
    let lane = status.lanes().next().unwrap();
    let call = events::Call { action: labels::WRITE, image_id: "img-6pb6lrmy".parse().unwrap(), accounts: Some(50) };
    let outcome = Outcome::Accepted(Answer::Modified);
    let request_id = RequestId::new("71e69b56");
    let account = "100022975249".parse().unwrap();
    let report =
        Report { outcomes: vec![(account, AccountOutcome::Changed)], cancelled: vec![], duplicates: 0, requests: 1 };
    let at = std::time::SystemTime::now();
    let lane_id = imageshare_engine::io::LaneId(0);
    let settled = Settled { identity: (), lane: lane_id, mode: Mode::Share, report, received_at: at, finished_at: at };
    let took = std::time::Duration::from_millis(80);
    let allocated = measure(|| {
        events::Delivered { lane, is_redelivered: false }.record();
        events::Sent { lane, call: &call }.record();
        events::Answered { lane, call: &call, outcome: &outcome, request_id, took: Some(took) }.record();
        events::Settled::of(lane, &settled).record();
        events::Confirmed { metrics: status.of_process(), took }.record();
        let status = crate::wire::report::Status::Succeeded;
        events::Finished { status, received_at: at, is_dead: false }.record(lane);
    });
    assert_eq!(allocated.count_total, 0);
    assert_eq!((lane.metrics.jobs_held.get(), lane.metrics.shared.changed.get()), (0, 1));
}
