//! `imageshare publish`: sends the jobs of a file, or of standard input, to the queues of their lanes.

mod pending_jobs;
mod publish_thread;
mod queue_watch;
mod tracker;

use std::time::{Duration, Instant};

use imageshare_worker::{
    broker::{Follower, Publisher, Routes},
    driver::{End, Extent, Summary},
    settings::{Flags, Settings},
    wire::{Format, JobReader},
};
use tokio::{
    sync::mpsc,
    time::{Instant as Moment, timeout},
};

use self::{
    publish_thread::PublishThread,
    tracker::{Counts, ReportCollector, Tracker},
};
use crate::{
    broker,
    cli::{Common, PublishArguments},
    exit::{CommandResult, Exit},
    output::{self, counted},
    run::{STDIN, open},
    runtime,
    terminal::{Bar, Terminal},
    work::{
        self,
        input_files::InputFiles,
        reports::{Reports, Written},
        summary::{self, SummaryStyle},
    },
};

/// Jobs that are published and wait for the tracker.
const AHEAD: usize = 64;

/// How long the connection may take to close, and a reader to take the last reports after an interrupt.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The name under which the broker lists the connections.
const NAME: &str = "imageshare publish";

pub(crate) fn run(common: &Common, arguments: &PublishArguments) -> CommandResult {
    let (region, give_up_after) = (arguments.region.clone(), arguments.give_up_after.clone());
    let settings = work::load(&Flags { region, give_up_after, ..work::flags(common) })?;
    let (url, time_outs) = (broker::url(&settings)?, broker::time_outs(&settings));
    let (input, name) = open(&arguments.file)?;
    let format = if name == STDIN { None } else { Format::of_name(&name) };
    let notices = Terminal::new(settings.output.quiet);
    let jobs = JobReader::new(input, &name, format, settings.region).with_notices(move |line| notices.note(line));
    runtime::run(async {
        let started = Instant::now();
        let for_people = output::is_for_people(settings.output.json);
        let terminal = Terminal::new(settings.output.quiet);
        let reports = Reports::open(None, &InputFiles::default(), !for_people, terminal)?;
        let mut interrupts = runtime::interrupts(move || {
            terminal.note("interrupted: waiting for outstanding confirms (interrupt again to stop now)");
        })?;

        // Subscribe before the first job is published, so that no report is missed.
        let collector = if arguments.wait {
            let opened = Follower::open(&url, NAME, time_outs).await;
            let follower = opened.map_err(|error| broker::problem(&url, &error))?;
            Some(ReportCollector::new(follower, &url, time_outs))
        } else {
            None
        };
        let pending = collector.as_ref().map(|collector| collector.pending.clone());
        let (publisher, publishing) = Publisher::new(url.clone(), NAME, time_outs);
        let (state, publishing) = (publisher.state(), tokio::spawn(publishing.run()));
        let (published, to_confirm) = mpsc::channel(AHEAD);
        let Settings { lanes, lane, give_up_after, .. } = settings;
        let routes = Routes::new(url.clone(), NAME, time_outs);
        PublishThread { lanes, lane, publisher, routes, pending: pending.clone(), published }.start(jobs)?;
        let tracker = Tracker::new(to_confirm, collector, reports, terminal, Bar::beside_stdout(for_people));
        let stall = broker::StallDetector::new(url, state, give_up_after);
        let result = tracker.run(stall, &mut interrupts.each).await;
        if result.counts.is_whole {
            // The thread has dropped the publisher, so the task is about to end.
            drop(timeout(CLOSE_TIMEOUT, publishing).await);
        }
        let deadline = async {
            interrupts.any().await;
            Moment::now() + CLOSE_TIMEOUT
        };
        let written = result.reports.finish(deadline, terminal).await;
        if result.counts.is_whole && result.counts.jobs_confirmed == 0 && written.tally.jobs.is_empty() {
            terminal.warn(work::NO_JOBS);
        }
        let jobs_pending = pending.map(|pending| pending.count() as u64);
        let style = SummaryStyle {
            rest: if for_people {
                "publish again without a terminal to list all"
            } else {
                "in the reports on standard output"
            }
            .to_owned(),
            width: SummaryStyle::width_of(for_people),
        };
        let text = summary_text(&result.counts, &written, jobs_pending, started.elapsed(), &style);
        let is_success = written.tally.is_all_done() && !written.is_incomplete && result.counts.is_whole;
        let exit = if is_success { Exit::Done } else { Exit::Failed };
        let exit = result.problem.map_or(exit, |problem| exit.worse(problem.show()));
        let exit = if result.is_interrupted { Exit::Interrupted } else { exit };
        if for_people {
            return Ok(exit.after(output::print_for_people(&text)));
        }
        terminal.note(text.trim_end());
        Ok(exit)
    })
}

/// Returns the summary. `jobs_pending` is the number of jobs without a report; `None` without `--wait`.
fn summary_text(
    counts: &Counts,
    written: &Written,
    jobs_pending: Option<u64>,
    took: Duration,
    style: &SummaryStyle,
) -> String {
    let mut text = if let Some(jobs_pending) = jobs_pending {
        let extent = Extent { last_line: None, end: End::Whole };
        let mut text = summary::text(&Summary::default(), &written.tally, extent, false, took, style);
        if counts.jobs_dropped > 0 {
            let jobs = counted(counts.jobs_dropped, "job");
            text.push_str(&format!("the broker dropped {jobs}; see `imageshare dead list`\n"));
        }
        if jobs_pending > 0 {
            let jobs = counted(jobs_pending, "job");
            text.push_str(&format!("without a report yet: {jobs}, in the queues of their lanes\n"));
        }
        text
    } else {
        let mut text = String::new();
        summary::rejections(&written.tally, &mut text, style);
        text
    };
    text.push_str(&format!(
        "published and confirmed: {} for {}\n",
        counted(counts.jobs_confirmed, "job"),
        counted(counts.accounts_confirmed, "account")
    ));
    if !counts.is_whole {
        text.push_str(&match counts.confirmed_through {
            Some(line) => format!(
                "jobs up to the one that begins on line {line} of the input are confirmed; publish the later ones again \
                 (some may have arrived)\n"
            ),
            None => "no job is confirmed; publish all of them again (some may have arrived)\n".to_owned(),
        });
    }
    text
}
