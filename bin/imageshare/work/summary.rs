//! What a run came to, in words for people.

use std::{fmt::Write as _, time::Duration};

use imageshare_worker::{
    driver::{End, Extent, Summary},
    tally::{Failures, Tally},
    wire::report::Status,
};

use crate::output::Table;

/// The words. Every name in them was made printable where it came in.
pub(crate) fn words(summary: &Summary, tally: &Tally, extent: Extent, is_interrupted: bool, took: Duration) -> String {
    let mut text = String::new();
    rejections(tally, &mut text);
    failures(tally, &mut text);
    let mut table = Table::new(["", "", ""]);
    table.row(["jobs".into(), count(tally.jobs.values().sum()), jobs(tally)]);
    table.row(["accounts".into(), count(accounts(tally)), outcomes(tally)]);
    let requests: u64 = summary.calls.values().sum();
    // Who waits for reports made no calls.
    if !summary.calls.is_empty() {
        table.row(["requests".into(), count(requests), calls(summary)]);
    }
    table.row(["seconds".into(), format!("{:.1}", took.as_secs_f64()), String::new()]);
    text.push_str(table.to_text("").trim_start_matches('\n'));
    if is_interrupted {
        line(
            &mut text,
            "interrupted: accounts that were not attempted are reported as Local.NotAttempted; run the file again to continue",
        );
    }
    if extent.end != End::Whole {
        line(
            &mut text,
            &extent.last_line.map_or_else(
                || "no job was read".to_owned(),
                |last| {
                    format!(
                        "jobs up to line {last} of the input were read; later jobs are neither reported nor counted"
                    )
                },
            ),
        );
    }
    if summary.jobs_unsettled > 0 {
        line(
            &mut text,
            &format!(
                "{} jobs were in progress when the command was stopped and have no report",
                summary.jobs_unsettled
            ),
        );
    }
    text
}

/// Why jobs were rejected.
pub(crate) fn rejections(tally: &Tally, text: &mut String) {
    if tally.rejections.is_empty() {
        return;
    }
    line(text, "rejected:");
    for reason in &tally.rejections {
        line(text, &format!("  {reason}"));
    }
    more(tally.rejections_more, text);
    text.push('\n');
}

fn failures(tally: &Tally, text: &mut String) {
    if tally.failures.is_empty() {
        return;
    }
    line(text, "failed:");
    for ((image_id, code), Failures { message, account_ids, more }) in &tally.failures {
        let image = image_id.map_or_else(|| "no image".to_owned(), |id| id.to_string());
        line(text, &format!("  {image}  {code}: {message}"));
        let accounts: Vec<String> = account_ids.iter().map(ToString::to_string).collect();
        let rest = if *more > 0 { format!(" and {more} more, see the reports") } else { String::new() };
        line(text, &format!("    {}{rest}", accounts.join(" ")));
    }
    more(tally.failures_more, text);
    text.push('\n');
}

fn more(count: u64, text: &mut String) {
    if count > 0 {
        line(text, &format!("  and {count} more, see the reports"));
    }
}

fn jobs(tally: &Tally) -> String {
    parts(
        [Status::Succeeded, Status::Partial, Status::Failed, Status::Rejected]
            .map(|status| (tally.jobs(status), status.as_str())),
    )
}

fn accounts(tally: &Tally) -> u64 {
    tally.changed + tally.unchanged + tally.cancelled + tally.failed
}

fn outcomes(tally: &Tally) -> String {
    parts([
        (tally.changed, "changed"),
        (tally.unchanged, "unchanged"),
        (tally.cancelled, "removed by SYNC"),
        (tally.failed, "failed"),
    ])
}

fn calls(summary: &Summary) -> String {
    let calls = summary.calls.iter().map(|(action, calls)| (*calls, *action));
    parts(calls.chain([(summary.calls_throttled, "throttled")]))
}

/// The parts that are not zero: `3 changed, 1 failed`.
fn parts<'a>(parts: impl IntoIterator<Item = (u64, &'a str)>) -> String {
    let shown = parts.into_iter().filter(|(number, _)| *number > 0);
    shown.map(|(number, word)| format!("{} {word}", count(number))).collect::<Vec<_>>().join(", ")
}

/// A number with its thousands apart: `12,345`.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a String never fails");
}
