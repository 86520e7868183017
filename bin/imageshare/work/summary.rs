//! The summary of a run for people.

use std::{fmt::Write as _, time::Duration};

use imageshare_worker::{
    driver::{End, Extent, Summary},
    tally::{Failures, Tally},
    wire::report::Status,
};
use textwrap::Options;

use crate::{
    output::{Table, counted},
    terminal::{self, BAD},
};

/// How to print the summary.
pub(crate) struct SummaryStyle {
    /// Where to find the failures that the summary omits.
    pub(crate) rest: String,
    /// The width for lists of accounts.
    pub(crate) width: usize,
}

impl SummaryStyle {
    /// Returns the width of the stream with the summary: standard output if it is for people, otherwise standard error.
    pub(crate) fn width_of(for_people: bool) -> usize {
        let width = if for_people { terminal::stdout_width() } else { terminal::stderr_width() };
        width.unwrap_or(terminal::WIDTH)
    }
}

/// Returns the summary. All names in it are printable: parsers of external text ensure that.
pub(crate) fn text(
    summary: &Summary,
    tally: &Tally,
    extent: Extent,
    is_interrupted: bool,
    took: Duration,
    style: &SummaryStyle,
) -> String {
    let mut text = String::new();
    rejections(tally, &mut text, style);
    failures(tally, &mut text, style);
    let mut table = Table::new(["", "", ""]);
    table.row(["jobs".into(), count(tally.jobs.values().sum()), jobs(tally)]);
    table.row(["accounts".into(), count(accounts(tally)), outcomes(tally)]);
    let requests: u64 = summary.calls.values().sum();
    // `publish --wait` sends no requests.
    if !summary.calls.is_empty() {
        table.row(["requests".into(), count(requests), calls(summary)]);
    }
    table.row(["seconds".into(), format!("{:.1}", took.as_secs_f64()), String::new()]);
    text.push_str(table.to_text(None).trim_start_matches('\n'));
    if is_interrupted {
        line(
            &mut text,
            "interrupted: accounts that were not attempted failed with Local.NotAttempted; run the file again to continue",
        );
    }
    if extent.end != End::Whole {
        line(
            &mut text,
            &extent.last_line.map_or_else(
                || "no job was read".to_owned(),
                |last| {
                    format!(
                        "jobs up to the one that begins on line {last} of the input were read; later jobs have no report and \
                         are not counted"
                    )
                },
            ),
        );
    }
    if summary.jobs_unsettled > 0 {
        line(
            &mut text,
            &format!("stopped with {} in progress, which have no report", counted(summary.jobs_unsettled, "job")),
        );
    }
    text
}

/// Writes the reasons of rejected jobs.
pub(crate) fn rejections(tally: &Tally, text: &mut String, style: &SummaryStyle) {
    if tally.rejections.is_empty() {
        return;
    }
    line(text, &format!("{BAD}rejected:{BAD:#}"));
    for reason in &tally.rejections {
        line(text, &format!("  {reason}"));
    }
    more(tally.rejections_more, "  ", "job", text, style);
    text.push('\n');
}

fn failures(tally: &Tally, text: &mut String, style: &SummaryStyle) {
    if tally.failures.is_empty() {
        return;
    }
    line(text, &format!("{BAD}failed:{BAD:#}"));
    for ((image_id, code), Failures { message, account_ids, more: left }) in &tally.failures {
        let image = image_id.map_or_else(|| "no image".to_owned(), |id| id.to_string());
        line(text, &format!("  {image}  {code}: {message}"));
        let accounts: Vec<String> = account_ids.iter().map(ToString::to_string).collect();
        let margin = Options::new(style.width).initial_indent("    ").subsequent_indent("    ").break_words(false);
        line(text, &textwrap::fill(&accounts.join(" "), margin));
        more(*left, "    ", "account", text, style);
    }
    more(tally.failures_more, "  ", "account", text, style);
    text.push('\n');
}

fn more(number: u64, margin: &str, noun: &str, text: &mut String, style: &SummaryStyle) {
    if number > 0 {
        let plural = if number == 1 { "" } else { "s" };
        line(text, &format!("{margin}and {} more {noun}{plural}: {}", count(number), style.rest));
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

/// Joins the parts that are not zero: `3 changed, 1 failed`.
fn parts<'a>(parts: impl IntoIterator<Item = (u64, &'a str)>) -> String {
    let shown = parts.into_iter().filter(|(number, _)| *number > 0);
    shown.map(|(number, word)| format!("{} {word}", count(number))).collect::<Vec<_>>().join(", ")
}

/// Returns a number with thousands separators: `12,345`.
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
