//! Carrying jobs out: from where they come to their reports, with progress and a summary.

use std::{
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use imageshare_engine::io::CloseReason;
use imageshare_worker::{
    driver::{Connections, Delivery, Driver, Lane, Said, Settled, Summary, route},
    wire::{
        Identity, JobLine, Rejection, Report,
        report::{Circumstances, worker_name},
    },
};
use jiff::Timestamp;
use tokio::{sync::mpsc, task::block_in_place, time::sleep};

use super::{Work, notices, reports::Reports, summary};
use crate::{
    cli::Common,
    exit::{Ended, Exit, OrExit as _, Problem},
    output, runtime,
    voice::Voice,
};

/// Jobs that are read and not taken yet. Few, since the driver holds as many as it can use.
const JOBS_AHEAD: usize = 64;

/// Reports and notices that are said and not written yet.
const SAID_AHEAD: usize = 1024;

/// How long the last reports may take to be written after an interrupt.
const PATIENCE: Duration = Duration::from_secs(2);

/// Carries out the jobs of a source. What is no job gets a report of its own.
pub(crate) async fn carry_out<S>(work: Work, source: S, report: Option<&Path>, common: &Common) -> Ended
where
    S: Iterator<Item = Result<JobLine, Rejection>> + Send + 'static,
{
    let started = Instant::now();
    let for_people = output::is_for_people(common.json);
    let voice = Voice::new(common.quiet, for_people || !output::is_terminal());
    let reports = Reports::open(report, !for_people, voice.clone())?;
    let announcer = voice.clone();
    let interrupts = runtime::interrupts(move || {
        announcer.say("interrupted: requests in flight are waited for; interrupt again to end at once");
    })?;

    let lanes: Arc<[Lane]> = work.lanes.clone().into();
    let driver = Driver::new(&lanes, work.limits.clone(), work.client.clone());
    let progress = driver.progress();
    let (jobs, jobs_taken) = mpsc::channel(JOBS_AHEAD);
    let (said, to_say) = mpsc::channel(SAID_AHEAD);
    let (rejections, rejected) = mpsc::channel(JOBS_AHEAD);
    read(source, lanes, work.settings.lane.clone(), jobs, rejections)?;

    let moving = voice.follow(progress);
    let scribe = Scribe { reports, voice, lanes: work.lane_names(), worker: worker_name() };
    let scribe = tokio::spawn(scribe.write(to_say, rejected));
    let interrupted = interrupts.any();
    let summary = driver.run(Connections { jobs: jobs_taken, said, interrupts: interrupts.each }).await;
    let impatience = async {
        interrupted.await;
        sleep(PATIENCE).await;
    };
    // A reader of the reports that takes none would hold up an end that somebody wants.
    let reports = tokio::select! {
        reports = scribe => reports.context("the reports could not be written").or_exit(Exit::Failed)?,
        () = impatience => {
            let words = "interrupted; nobody takes the reports, so some are not written";
            return Err(Problem::new(Exit::Interrupted, words));
        }
    };
    drop(moving);

    let words = summary::words(&summary, &reports.tally, started.elapsed());
    let exit = exit(&summary, &reports);
    if for_people {
        output::print(&words)?;
    } else if !common.quiet {
        Voice::new(false, false).insist(words.trim_end());
    }
    if let Some(sandbox) = work.sandbox {
        sandbox.stop().await;
    }
    Ok(exit)
}

/// Reads the source on a thread of its own: a file that comes slowly holds nobody up, and standard input that never
/// ends does not keep the process from ending.
fn read<S>(
    source: S,
    lanes: Arc<[Lane]>,
    lane: Option<String>,
    jobs: mpsc::Sender<Delivery<Identity>>,
    rejections: mpsc::Sender<Rejection>,
) -> Result<(), Problem>
where
    S: Iterator<Item = Result<JobLine, Rejection>> + Send + 'static,
{
    let run = move || {
        for line in source {
            let is_taken = match line.and_then(|line| delivery(line, &lanes, lane.as_deref())) {
                Ok(delivery) => jobs.blocking_send(delivery).is_ok(),
                Err(rejection) => rejections.blocking_send(rejection).is_ok(),
            };
            if !is_taken {
                break;
            }
        }
    };
    thread::Builder::new()
        .name("reader".to_owned())
        .spawn(run)
        .map(drop)
        .context("the thread that reads cannot be started")
        .or_exit(Exit::Failed)
}

/// A job on its way to its lane.
fn delivery(line: JobLine, lanes: &[Lane], lane: Option<&str>) -> Result<Delivery<Identity>, Rejection> {
    let JobLine { place, job } = line;
    // A time that this system cannot hold lies beyond the end of any run.
    let expires_at = job.expires_at.and_then(|time| SystemTime::try_from(time).ok());
    let (identity, job) = job.into_parts(None, false);
    match route(lanes, identity.lane.as_deref().or(lane), &identity.region) {
        Ok(lane) => Ok(Delivery { identity, lane, job, expires_at }),
        Err(error) => Err(Rejection::of_job(&identity, None, error.to_string()).at(place)),
    }
}

/// Writes down what is said.
struct Scribe {
    reports: Reports,
    voice: Voice,
    /// The lanes' names in their order.
    lanes: Vec<String>,
    worker: String,
}

impl Scribe {
    /// Writes until the driver has said all, and everything that was rejected before that.
    async fn write(
        mut self,
        mut said: mpsc::Receiver<Said<Identity>>,
        mut rejected: mpsc::Receiver<Rejection>,
    ) -> Reports {
        loop {
            tokio::select! {
                biased;
                Some(rejection) = rejected.recv() => self.reject(&rejection),
                next = said.recv() => match next {
                    Some(next) => self.take(next),
                    None => break,
                },
            }
            if said.is_empty() && rejected.is_empty() {
                block_in_place(|| self.reports.flush());
            }
        }
        // The reader rejects before it lets go of the driver; one that still reads was interrupted.
        rejected.close();
        while let Ok(rejection) = rejected.try_recv() {
            self.reject(&rejection);
        }
        block_in_place(|| self.reports.flush());
        self.reports
    }

    fn take(&mut self, said: Said<Identity>) {
        match said {
            Said::Settled(settled) => {
                let Settled { identity, lane, report, received_at, finished_at } = *settled;
                let at = |time| Timestamp::try_from(time).unwrap_or(Timestamp::MAX);
                let circumstances = self.circumstances(at(received_at), at(finished_at));
                let report = Report::of_job(identity, self.lane(lane.0), &report, circumstances);
                block_in_place(|| self.reports.take(&report));
            }
            Said::Notice(lane, notice) => self.voice.say(&notices::words(self.lane(lane.0), &notice)),
            Said::RefreshFailed(lane, reason) => self.voice.say(&format!("lane {}: {reason}", self.lane(lane.0))),
            // The engine settles all jobs of a command that runs once; this is for sources that deliver again.
            Said::GivenBack { .. } => {}
        }
    }

    fn reject(&mut self, rejection: &Rejection) {
        let now = Timestamp::now();
        let report = Report::of_rejection(rejection, self.circumstances(now, now));
        block_in_place(|| self.reports.take(&report));
    }

    fn lane(&self, lane: u32) -> &str {
        usize::try_from(lane).ok().and_then(|lane| self.lanes.get(lane)).map_or("", String::as_str)
    }

    fn circumstances(&self, received_at: Timestamp, finished_at: Timestamp) -> Circumstances {
        Circumstances { redelivered: false, received_at, finished_at, worker: self.worker.clone() }
    }
}

/// The exit code of a run, by what weighs most.
fn exit(summary: &Summary, reports: &Reports) -> Exit {
    let closed = |reasons: &[CloseReason]| {
        summary.closed.values().any(|closing| !closing.is_over && reasons.contains(&closing.reason))
    };
    if summary.is_interrupted {
        Exit::Interrupted
    } else if closed(&[CloseReason::Clock, CloseReason::Credential, CloseReason::Permission]) {
        Exit::Refused
    } else if closed(&[CloseReason::Endpoint]) {
        Exit::OutOfReach
    } else if !reports.tally.is_all_done() || reports.is_incomplete() || summary.reports_lost > 0 {
        Exit::Failed
    } else {
        Exit::Done
    }
}
