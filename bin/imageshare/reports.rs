//! `imageshare reports`: searches the history of reports without removing any.

use std::{fmt, str::FromStr, time::Duration};

use imageshare_core::{
    ids::{AccountId, ImageId},
    text::printable,
};
use imageshare_worker::{
    broker::{Error, HistoryReader, Url},
    settings::{Flags, duration_of_flag},
    wire::{
        Report,
        report::{AcceptedRequest, FailureGroup, ImageOutcomes},
    },
};
use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};

use crate::{
    broker,
    cli::{Common, ReportsArguments},
    exit::{CommandResult, Exit, Problem},
    output::{self, Table, counted},
    runtime,
    terminal::Terminal,
    work,
};

/// The most rows of a table.
const ROWS_MAX: u64 = 1_000;

/// The most characters of a text from a report in a table.
const CELL_CHARS_MAX: usize = 200;

/// The name under which the broker lists the connection.
const NAME: &str = "imageshare reports";

const HEAD: [&str; 6] = ["FINISHED", "LANE", "JOB", "IMAGE", "PERMISSION", "OUTCOME"];

/// A time in a table. A narrow column breaks between date and time.
const TIME: &str = "%Y-%m-%d %H:%M:%SZ";

/// AMQP codes: NO_ROUTE (of a returned message) and NOT_FOUND.
const NO_ROUTE: u16 = 312;
const NOT_FOUND: u16 = 404;

/// The value of `--since`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since(Timestamp);

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const CENTURY: Duration = Duration::from_hours(100 * 366 * 24);
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(Self(time));
        }
        // The date parser would ignore a time of day without an offset, which is ambiguous.
        if text.len() == "2026-11-30".len()
            && let Ok(date) = text.parse::<Date>()
            && let Ok(midnight) = TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0))
        {
            return Ok(Self(midnight));
        }
        let age = duration_of_flag(text, Duration::ZERO..=CENTURY).ok();
        let since = age.and_then(|age| Timestamp::now().checked_sub(SignedDuration::try_from(age).ok()?).ok());
        since.map(Self).ok_or_else(|| {
            "expected a time such as 2026-11-30T08:00:00Z, a date such as 2026-11-30, or an age such as 24h or 7d"
                .to_owned()
        })
    }
}

pub(crate) fn run(common: &Common, arguments: &ReportsArguments) -> CommandResult {
    // The lane of a report may have been removed since, so --lane is not checked against the settings.
    let settings = work::load(&Flags { lane: None, ..work::flags(common) })?;
    let url = broker::url(&settings)?;
    runtime::run(async {
        let interrupted = runtime::interrupts(|| {})?.any();
        let filter = Filter { arguments, lane: common.lane.as_deref().or(settings.lane.as_deref()) };
        let table = output::is_for_people(settings.output.json).then(|| Table::new(HEAD));
        let mut search = Search { filter, table, counts: Counts::default() };
        let time_outs = broker::time_outs(&settings);
        let exit = tokio::select! {
            biased;
            () = interrupted => Exit::Interrupted,
            searched = async {
                let since = arguments.since.map(|Since(time)| time);
                let reader = HistoryReader::open(&url, NAME, time_outs, since).await;
                let mut reader = reader.map_err(|error| problem(&url, &error))?;
                while let Some(report) = reader.next().await.map_err(|error| problem(&url, &error))? {
                    search.show(report)?;
                }
                reader.close().await;
                Ok(Exit::Done)
            } => searched?,
        };
        search.end(Terminal::new(settings.output.quiet), exit)
    })
}

/// Returns an error of the broker as the problem that ends the command. The history is optional, so its absence has its
/// own hint.
fn problem(url: &Url, error: &Error) -> Problem {
    match error {
        Error::Closed { code: NO_ROUTE | NOT_FOUND, .. } => Problem::new(
            Exit::Refused,
            format!("{url}: {error}\nhint: run imageshare topology --declare --history 30d; the history starts then"),
        ),
        _ => broker::problem(url, error),
    }
}

/// Selects the reports to show.
struct Filter<'a> {
    arguments: &'a ReportsArguments,
    lane: Option<&'a str>,
}

struct Search<'a> {
    filter: Filter<'a>,
    /// `None` for JSON output.
    table: Option<Table<6>>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    read: u64,
    matching: u64,
    rows: u64,
    /// Reports that match except for account and image, which they do not name because they are truncated.
    truncated: u64,
    /// Messages that this version cannot parse as reports.
    unreadable: u64,
}

impl Filter<'_> {
    /// Whether a report matches, regardless of its images and accounts.
    fn matches(&self, report: &Report) -> bool {
        let ReportsArguments { job_id, status, since, .. } = self.arguments;
        self.lane.is_none_or(|lane| report.lane.as_deref() == Some(lane))
            && job_id.as_ref().is_none_or(|job_id| report.job_id.as_ref() == Some(job_id))
            && status.is_none_or(|status| report.status == status.into())
            && since.is_none_or(|Since(since)| report.finished_at >= since)
    }

    /// Whether a truncated report may be of the image: it names its image if it has only one.
    fn may_name(&self, report: &Report) -> bool {
        let mut images = report.images.iter();
        report.images.is_empty() || images.any(|of| self.arguments.image.is_none_or(|image| of.image_id == Some(image)))
    }

    /// Returns the results to show, each with its image: with `--account` one for each image, otherwise one for the whole
    /// report. Empty if the report does not name the image or account.
    fn results(&self, report: &Report) -> Vec<(String, String)> {
        let ReportsArguments { image, account, .. } = self.arguments;
        let named = |of: &&ImageOutcomes| image.is_none_or(|image| of.image_id == Some(image));
        let images: Vec<&ImageOutcomes> = report.images.iter().filter(named).collect();
        let name = |id: Option<ImageId>| id.map_or_else(String::new, |id| id.to_string());
        match account {
            Some(account) => images
                .into_iter()
                .filter_map(|of| Some((name(of.image_id), AccountResult::find(of, *account)?.to_string())))
                .collect(),
            None if images.is_empty() && image.is_some() => Vec::new(),
            None => {
                let image = match images.as_slice() {
                    [] => String::new(),
                    [one] => name(one.image_id),
                    several => format!("{} images", several.len()),
                };
                vec![(image, summary(report))]
            }
        }
    }
}

impl Search<'_> {
    fn show(&mut self, report: Result<Report, serde_json::Error>) -> Result<(), Problem> {
        self.counts.read += 1;
        let Ok(report) = report else {
            self.counts.unreadable += 1;
            return Ok(());
        };
        if !self.filter.matches(&report) {
            return Ok(());
        }
        let results = self.filter.results(&report);
        if results.is_empty() {
            self.counts.truncated += u64::from(report.truncated.is_some() && self.filter.may_name(&report));
            return Ok(());
        }
        self.counts.matching += 1;
        let Some(table) = &mut self.table else { return output::print(&output::json_line(&report)) };
        for (image, outcome) in results {
            self.counts.rows += 1;
            if self.counts.rows <= ROWS_MAX {
                table.row(cells(&report, &image, &outcome));
            }
        }
        Ok(())
    }

    fn end(self, terminal: Terminal, exit: Exit) -> CommandResult {
        let Self { table, counts: Counts { read, matching, rows, truncated, unreadable }, .. } = self;
        if let Some(table) = table {
            table.print()?;
        }
        if unreadable > 0 {
            terminal.warn(&format!(
                "history: {} cannot be read as a report by this version (expected the schema of `imageshare schema \
                 report`)",
                counted(unreadable, "message")
            ));
        }
        if truncated > 0 {
            terminal.warn(&format!(
                "history: {} may match, without naming accounts and images (leave out --account and --image to see it)",
                counted(truncated, "truncated report")
            ));
        }
        let cut = if rows > ROWS_MAX { format!("; the table has the first {ROWS_MAX} rows") } else { String::new() };
        terminal.note(&format!("{matching} of {}{cut}", counted(read, "report")));
        Ok(exit)
    }
}

/// The result of one account in a report.
enum AccountResult<'a> {
    /// With the request that changed it, if the report names it.
    Done(&'static str, Option<&'a AcceptedRequest>),
    Failed(&'a FailureGroup),
}

impl<'a> AccountResult<'a> {
    fn find(image: &'a ImageOutcomes, account: AccountId) -> Option<Self> {
        let lists = [
            ("changed", Some(&image.changed)),
            ("unchanged", Some(&image.unchanged)),
            ("cancelled", image.cancelled.as_ref()),
        ];
        let done = lists.into_iter().find(|(_, list)| list.is_some_and(|list| list.contains(&account)));
        match done {
            Some((word, _)) => {
                let is_of = |request: &&AcceptedRequest| request.account_ids.contains(&account);
                Some(Self::Done(word, image.changed_by.iter().find(is_of)))
            }
            None => image.failed.iter().find(|group| group.account_ids.contains(&account)).map(Self::Failed),
        }
    }
}

impl fmt::Display for AccountResult<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(word, None) => f.write_str(word),
            Self::Done(word, Some(AcceptedRequest { request_id, accepted_at, .. })) => {
                write!(f, "{word} at {}", accepted_at.strftime(TIME))?;
                request_id.as_ref().map_or(Ok(()), |request_id| write!(f, " ({request_id})"))
            }
            Self::Failed(FailureGroup { code, request_id: Some(request_id), .. }) => {
                write!(f, "failed: {code} ({request_id})")
            }
            Self::Failed(FailureGroup { code, .. }) => write!(f, "failed: {code}"),
        }
    }
}

fn cells(report: &Report, image: &str, outcome: &str) -> [String; 6] {
    let text = |text: Option<&String>| text.map_or_else(String::new, |text| printable(text, CELL_CHARS_MAX));
    [
        report.finished_at.strftime(TIME).to_string(),
        text(report.lane.as_ref()),
        text(report.job_id.as_ref()),
        image.to_owned(),
        report.permission.map_or_else(String::new, |permission| permission.to_string()),
        printable(outcome, CELL_CHARS_MAX),
    ]
}

/// Returns the status with the number of accounts for each outcome, or with the reason of a rejected job.
fn summary(report: &Report) -> String {
    let status = report.status.as_str();
    if let Some(reason) = &report.reason {
        return format!("{status}: {reason}");
    }
    let counts = report.counts();
    let counts = [
        (counts.changed, "changed"),
        (counts.unchanged, "unchanged"),
        (counts.cancelled, "cancelled"),
        (counts.failed, "failed"),
    ];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    format!("{status}: {}", counts.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(image: Option<&str>, account: Option<u64>, results: &[(&str, &str)]) {
        let report = r#"{"job_id":"j\u001b[0m","lane":"eu","permission":"SHARE","status":"partial","images":[
            {"image_id":"img-6pb6lrmy","region":"ap-singapore","changed":["10001"],"unchanged":[],"failed":[{"message":"m",
            "code":"InvalidAccountId.NotFound","request_id":"71e69b56","account_ids":["10002"]}],"changed_by":[
            {"request_id":"0c0ffee0","accepted_at":"2026-11-24T04:00:01.25Z","account_ids":["10001"]}]},
            {"image_id":"img-0therone","region":"ap-singapore","changed":[],"unchanged":["10001"],"failed":[]}],
            "duplicates":0,"requests":1,"redelivered":false,"received_at":"2026-11-24T04:00:00Z",
            "finished_at":"2026-11-24T04:00:03.5Z","labels":{},"worker":"host:17"}"#;
        let report: Report = serde_json::from_str(report).unwrap();
        let (image, account) = (image.map(|id| id.parse().unwrap()), account.map(|id| AccountId::new(id).unwrap()));
        let arguments = ReportsArguments { job_id: None, image, account, status: None, since: None };
        let results_of_report = Filter { arguments: &arguments, lane: None }.results(&report);
        let rows = results_of_report.iter().map(|(image, outcome)| cells(&report, image, outcome)).collect::<Vec<_>>();
        let expected = results.iter().map(|(image, outcome)| {
            ["2026-11-24 04:00:03Z", "eu", "j [0m", image, "SHARE", outcome].map(str::to_owned)
        });
        assert_eq!(rows, expected.collect::<Vec<_>>());
    }

    #[test]
    fn rows_show_the_account_for_each_image() {
        const FAILED: &str = "failed: InvalidAccountId.NotFound (71e69b56)";
        let (first, second) = ("img-6pb6lrmy", "img-0therone");
        check(None, Some(10_001), &[(first, "changed at 2026-11-24 04:00:01Z (0c0ffee0)"), (second, "unchanged")]);
        check(Some(second), Some(10_001), &[(second, "unchanged")]);
        check(None, Some(10_002), &[(first, FAILED)]);
        check(Some(second), Some(10_002), &[]);
        check(None, None, &[("2 images", "partial: 1 changed, 1 unchanged, 1 failed")]);
        check(Some(first), None, &[(first, "partial: 1 changed, 1 unchanged, 1 failed")]);
        check(Some("img-gvbnzy6f"), None, &[]);
    }

    #[test]
    fn since_is_time_date_or_age() {
        let time = |text: &str| text.parse::<Since>().map(|Since(time)| time);
        let midnight: Timestamp = "2026-11-30T00:00:00Z".parse().unwrap();
        assert_eq!(time("2026-11-30"), Ok(midnight));
        assert_eq!(time("2026-11-30T08:00:00+08:00"), Ok(midnight));
        let before = Timestamp::now();
        let age = before.duration_since(time("7d").unwrap());
        assert!(age <= SignedDuration::from_hours(7 * 24), "{age}");
        assert!(age > SignedDuration::from_hours(7 * 24 - 1), "{age}");
        for text in ["", "yesterday", "2026-13-01", "-1h", "2026-11-30T08:00:00"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
