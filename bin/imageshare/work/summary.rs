//! What a run came to, in words for people.

use std::{fmt::Write as _, time::Duration};

use imageshare_worker::{
    driver::{End, Extent, Summary},
    tally::{Failures, Tally},
    wire::report::Status,
};
use textwrap::Options;

use crate::{
    output::Table,
    terminal::{self, BAD},
};

/// Where the summary is printed.
pub(crate) struct Screen {
    /// Where the failures are that it does not list.
    pub(crate) rest: String,
    /// The width of its lists.
    pub(crate) width: usize,
}

impl Screen {
    /// Returns the width of the stream that has the summary: standard output if that is for people, else standard error.
    pub(crate) fn width_of(for_people: bool) -> usize {
        let width = if for_people { terminal::stdout_width() } else { terminal::stderr_width() };
        width.unwrap_or(terminal::WIDTH)
    }
}

/// The words. Every name in them was made printable where it came in.
pub(crate) fn words(
    summary: &Summary,
    tally: &Tally,
    extent: Extent,
    is_interrupted: bool,
    took: Duration,
    screen: &Screen,
) -> String {
    let mut text = String::new();
    rejections(tally, &mut text, screen);
    failures(tally, &mut text, screen);
    let mut table = Table::new(["", "", ""]);
    table.row(["jobs".into(), count(tally.jobs.values().sum()), jobs(tally)]);
    table.row(["accounts".into(), count(accounts(tally)), outcomes(tally)]);
    let requests: u64 = summary.calls.values().sum();
    // Who waits for reports made no calls.
    if !summary.calls.is_empty() {
        table.row(["requests".into(), count(requests), calls(summary)]);
    }
    table.row(["seconds".into(), format!("{:.1}", took.as_secs_f64()), String::new()]);
    text.push_str(table.to_text(None).trim_start_matches('\n'));
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
pub(crate) fn rejections(tally: &Tally, text: &mut String, screen: &Screen) {
    if tally.rejections.is_empty() {
        return;
    }
    line(text, &format!("{BAD}rejected:{BAD:#}"));
    for reason in &tally.rejections {
        line(text, &format!("  {reason}"));
    }
    more(tally.rejections_more, "jobs", text, screen);
    text.push('\n');
}

fn failures(tally: &Tally, text: &mut String, screen: &Screen) {
    if tally.failures.is_empty() {
        return;
    }
    line(text, &format!("{BAD}failed:{BAD:#}"));
    for ((image_id, code), Failures { message, account_ids, more }) in &tally.failures {
        let image = image_id.map_or_else(|| "no image".to_owned(), |id| id.to_string());
        line(text, &format!("  {image}  {code}: {message}"));
        let accounts: Vec<String> = account_ids.iter().map(ToString::to_string).collect();
        let margin = Options::new(screen.width).initial_indent("    ").subsequent_indent("    ").break_words(false);
        line(text, &textwrap::fill(&accounts.join(" "), margin));
        if *more > 0 {
            line(text, &format!("    and {} more accounts: {}", count(*more), screen.rest));
        }
    }
    more(tally.failures_more, "accounts", text, screen);
    text.push('\n');
}

fn more(number: u64, noun: &str, text: &mut String, screen: &Screen) {
    if number > 0 {
        line(text, &format!("  and {} more {noun}: {}", count(number), screen.rest));
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
