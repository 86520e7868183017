//! `imageshare publish`: sends the jobs of a file, or of standard input, to the queues of their lanes.

mod awaited;
mod pump;
mod source;
mod vanished;

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
    pump::{Following, Pump, Sums},
    source::Source,
};
use crate::{
    broker,
    cli::{Common, PublishArguments},
    exit::{Ended, Exit},
    output,
    run::{STDIN, open},
    runtime,
    terminal::{Bar, Terminal},
    work::{
        self,
        inputs::Inputs,
        reports::{Reports, Written},
        summary::{self, Screen},
    },
};

/// Jobs that are published and not taken note of.
const AHEAD: usize = 64;

/// How long the end may take when all is done: of the connection, and of a reader of reports after an interrupt.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the broker lists the connections under.
const NAME: &str = "imageshare publish";

pub(crate) fn run(common: &Common, arguments: &PublishArguments) -> Ended {
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
        let reports = Reports::open(None, &Inputs::default(), !for_people, terminal)?;
        let mut interrupts = runtime::interrupts(move || {
            terminal.note("interrupted: waiting for outstanding confirms (interrupt again to stop now)");
        })?;

        // Before anything is published, so that no report is missed.
        let following = if arguments.wait {
            let opened = Follower::open(&url, NAME, time_outs).await;
            let follower = opened.map_err(|error| broker::problem(&url, &error))?;
            Some(Following::new(follower, &url, time_outs))
        } else {
            None
        };
        let awaited = following.as_ref().map(|following| following.awaited.clone());
        let (publisher, publishing) = Publisher::new(url.clone(), NAME, time_outs);
        let (state, publishing) = (publisher.state(), tokio::spawn(publishing.run()));
        let (published, to_confirm) = mpsc::channel(AHEAD);
        let Settings { lanes, lane, give_up_after, .. } = settings;
        let routes = Routes::new(url.clone(), NAME, time_outs);
        Source { lanes, lane, publisher, routes, awaited: awaited.clone(), published }.read(jobs)?;
        let pump = Pump::new(to_confirm, following, reports, terminal, Bar::beside_stdout(for_people));
        let ended = pump.run(broker::Watch::new(url, state, give_up_after), &mut interrupts.each).await;
        if ended.sums.is_whole {
            // It ends by itself, since the source has let go of it.
            drop(timeout(PATIENCE, publishing).await);
        }
        let impatience = async {
            interrupts.any().await;
            Moment::now() + PATIENCE
        };
        let written = ended.reports.finish(impatience, terminal).await;
        if ended.sums.is_whole && ended.sums.jobs_confirmed == 0 && written.tally.jobs.is_empty() {
            terminal.warn(work::NO_JOBS);
        }
        let jobs_awaited = awaited.map(|awaited| awaited.jobs() as u64);
        let screen = Screen {
            rest: if for_people {
                "publish again without a terminal to list all"
            } else {
                "in the reports on standard output"
            }
            .to_owned(),
            width: Screen::width_of(for_people),
        };
        let words = words(&ended.sums, &written, jobs_awaited, started.elapsed(), &screen);
        let is_all_well = written.tally.is_all_done() && !written.is_incomplete && ended.sums.is_whole;
        let exit = if is_all_well { Exit::Done } else { Exit::Failed };
        let exit = ended.problem.map_or(exit, |problem| exit.worse(problem.show()));
        let exit = if ended.is_interrupted { Exit::Interrupted } else { exit };
        if for_people {
            return Ok(exit.after(output::print_for_people(&words)));
        }
        terminal.note(words.trim_end());
        Ok(exit)
    })
}

/// What it came to. `jobs_awaited` is how many reports did not come, if they were waited for.
fn words(sums: &Sums, written: &Written, jobs_awaited: Option<u64>, took: Duration, screen: &Screen) -> String {
    let mut text = if let Some(jobs_unsettled) = jobs_awaited {
        let extent = Extent { last_line: None, end: End::Whole };
        let mut text = summary::words(&Summary::default(), &written.tally, extent, false, took, screen);
        if sums.jobs_dropped > 0 {
            let jobs = sums.jobs_dropped;
            text.push_str(&format!(
                "{jobs} jobs were dropped by the broker and not carried out; see `imageshare dead list`\n"
            ));
        }
        if jobs_unsettled > 0 {
            text.push_str(&format!("{jobs_unsettled} jobs have no report yet; they wait in their lanes' queues\n"));
        }
        text
    } else {
        let mut text = String::new();
        summary::rejections(&written.tally, &mut text, screen);
        text
    };
    text.push_str(&format!(
        "published and confirmed: {} jobs for {} accounts\n",
        sums.jobs_confirmed, sums.accounts_confirmed
    ));
    if !sums.is_whole {
        text.push_str(&match sums.confirmed_through {
            Some(line) => format!(
                "jobs up to line {line} of the input are confirmed; of later ones some may have arrived: publish them \
                 again\n"
            ),
            None => "no job is confirmed; some may have arrived: publish them again\n".to_owned(),
        });
    }
    text
}
