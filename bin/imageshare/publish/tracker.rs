//! Follows published jobs to their confirms and, with `--wait`, to their reports.

use std::{collections::VecDeque, future::pending, time::Duration};

use imageshare_worker::{
    broker::{Confirmation, Error, Followed, Follower, Lost, TimeOuts, Url},
    wire::{
        Known, Rejection, Report,
        report::{Circumstances, worker_name},
    },
};
use jiff::Timestamp;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    NAME,
    pending_jobs::PendingJobs,
    publish_thread::Published,
    queue_watch::{LostJobs, QueueWatch},
};
use crate::{
    broker::{self, StallDetector},
    exit::{Exit, Problem},
    output::counted,
    terminal::{Bar, ProgressDisplay, Terminal},
    work::reports::Reports,
};

/// How long the broker may take to confirm published jobs after an interrupt.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// Receives the reports of the published jobs.
pub(super) struct ReportCollector {
    follower: Follower,
    pub(super) pending: PendingJobs,
    url: Url,
    time_outs: TimeOuts,
    /// Runs once all jobs are confirmed.
    queue_watch: Option<QueueWatch>,
}

/// Counts of one publish.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) jobs_confirmed: u64,
    pub(super) accounts_confirmed: u64,
    /// Jobs that the broker dropped.
    pub(super) jobs_dropped: u64,
    accounts_published: u64,
    accounts_reported: u64,
    /// The first line of the last job before which every job is confirmed or rejected.
    pub(super) confirmed_through: Option<u64>,
    /// Whether every job of the input is confirmed or rejected.
    pub(super) is_whole: bool,
}

/// The result of one publish.
pub(super) struct PublishResult {
    pub(super) reports: Reports,
    pub(super) counts: Counts,
    pub(super) is_interrupted: bool,
    /// Why it ended early.
    pub(super) problem: Option<Problem>,
}

/// Follows the jobs of one publish.
pub(super) struct Tracker {
    published: mpsc::Receiver<Published>,
    /// In the order of the input.
    unconfirmed: VecDeque<UnconfirmedJob>,
    collector: Option<ReportCollector>,
    reports: Reports,
    worker: String,
    terminal: Terminal,
    display: ProgressDisplay,
    counts: Counts,
}

struct UnconfirmedJob {
    line: u64,
    accounts: u64,
    confirmation: Confirmation,
}

impl ReportCollector {
    pub(super) fn new(follower: Follower, url: &Url, time_outs: TimeOuts) -> Self {
        Self { follower, pending: PendingJobs::default(), url: url.clone(), time_outs, queue_watch: None }
    }

    /// Starts to watch the queues, unless that has started. Call it when all jobs are confirmed.
    fn watch_queues(&mut self) {
        let Self { pending, url, time_outs, queue_watch, .. } = self;
        queue_watch.get_or_insert_with(|| QueueWatch::start(url.clone(), NAME, *time_outs, pending.clone()));
    }
}

impl Tracker {
    pub(super) fn new(
        published: mpsc::Receiver<Published>,
        collector: Option<ReportCollector>,
        reports: Reports,
        terminal: Terminal,
        bar: Bar,
    ) -> Self {
        let (unconfirmed, counts, worker) = (VecDeque::new(), Counts::default(), worker_name());
        let display = terminal.progress(bar);
        Self { published, unconfirmed, collector, reports, worker, terminal, display, counts }
    }

    /// Runs until every job is confirmed, and reported if there is a collector. An interrupt ends the reading of jobs
    /// and the wait for reports; a second one, or a broker that makes no progress, ends everything.
    pub(super) async fn run(mut self, mut stall: StallDetector, interrupts: &mut mpsc::Receiver<()>) -> PublishResult {
        let mut deadline = None;
        let problem = self.follow(&mut stall, interrupts, &mut deadline).await.err();
        if let Some(ReportCollector { follower, .. }) = self.collector {
            follower.close().await;
        }
        PublishResult { reports: self.reports, counts: self.counts, is_interrupted: deadline.is_some(), problem }
    }

    async fn follow(
        &mut self,
        stall: &mut StallDetector,
        interrupts: &mut mpsc::Receiver<()>,
        deadline: &mut Option<Instant>,
    ) -> Result<(), Problem> {
        let mut is_reading = true;
        loop {
            let is_sent = !is_reading && self.unconfirmed.is_empty();
            self.counts.is_whole |= is_sent && deadline.is_none();
            let is_reported = self.collector.as_ref().is_none_or(|collector| collector.pending.count() == 0);
            if is_sent && (is_reported || deadline.is_some()) {
                return Ok(());
            }
            if let Some(collector) = &mut self.collector
                && is_sent
            {
                collector.watch_queues();
            }
            tokio::select! {
                biased;
                Some(()) = interrupts.recv() => {
                    if deadline.is_some() {
                        return Ok(());
                    }
                    *deadline = Some(Instant::now() + CONFIRM_TIMEOUT);
                    self.published.close();
                }
                () = until(*deadline) => return Ok(()),
                problem = stall.give_up(self.terminal), if !is_sent => return Err(problem),
                confirmed = first(&mut self.unconfirmed) => self.confirm(confirmed)?,
                published = self.published.recv(), if is_reading => match published {
                    Some(published) => self.add(published),
                    None => is_reading = false,
                },
                event = next(&mut self.collector) => match event {
                    CollectorEvent::Followed(followed) => self.finish(followed.map_err(|error| {
                        let message = "cannot receive further reports; the jobs are published";
                        Problem::new(broker::exit(&error), format!("{error}: {message}"))
                    })?),
                    CollectorEvent::Lost(lost) => self.drop_lane(&lost),
                }
            }
            self.show();
        }
    }

    fn add(&mut self, published: Published) {
        match published {
            Published::Sent { line, accounts, confirmation } => {
                self.counts.accounts_published += accounts;
                self.unconfirmed.push_back(UnconfirmedJob { line, accounts, confirmation });
            }
            Published::Rejected(rejection) => self.reject(&rejection),
        }
    }

    fn confirm(&mut self, confirmed: Result<(), Lost>) -> Result<(), Problem> {
        let Some(UnconfirmedJob { line, accounts, .. }) = self.unconfirmed.pop_front() else { return Ok(()) };
        confirmed.map_err(|lost| {
            let message = match lost {
                Lost::Ended | Lost::TooLong { .. } => lost.to_string(),
                Lost::Unroutable { .. } => format!("{lost}\nhint: run imageshare topology --declare"),
            };
            Problem::new(Exit::Refused, format!("the job of line {line}: {message}"))
        })?;
        self.counts.jobs_confirmed += 1;
        self.counts.accounts_confirmed += accounts;
        self.counts.confirmed_through = Some(line);
        Ok(())
    }

    fn finish(&mut self, followed: Followed) {
        let Some(ReportCollector { pending, .. }) = &self.collector else { return };
        match followed {
            Followed::Reported(report) => {
                if let Some(accounts) = pending.take_reported(&report) {
                    self.counts.accounts_reported += accounts;
                    self.reports.take(&report);
                }
            }
            Followed::Dropped { identity, dropped } => {
                if let Some(accounts) = pending.take_dropped(&identity) {
                    let known = Known { lane: dropped.lane.clone(), ..Known::from(&*identity) };
                    self.drop_job(known, accounts, dropped.detail());
                }
            }
        }
    }

    /// Reports every pending job of a lane as dropped.
    fn drop_lane(&mut self, LostJobs { lane, reason }: &LostJobs) {
        let Some(ReportCollector { pending, .. }) = &self.collector else { return };
        for (known, accounts) in pending.take_lane(lane) {
            self.drop_job(known, accounts, format!("dropped by the broker or removed from lane {lane}: {reason}"));
        }
    }

    /// Reports a job that the broker dropped, since no worker does.
    fn drop_job(&mut self, known: Known, accounts: u64, reason: String) {
        self.counts.accounts_reported += accounts;
        self.counts.jobs_dropped += 1;
        let rejection = Rejection { known: Box::new(known), ..Rejection::of_text(reason) };
        self.reject(&rejection);
    }

    fn reject(&mut self, rejection: &Rejection) {
        let (now, worker) = (Timestamp::now(), self.worker.clone());
        let circumstances = Circumstances { redelivered: false, received_at: now, finished_at: now, worker };
        self.reports.take(&Report::of_rejection(rejection, circumstances));
    }

    fn show(&self) {
        let Counts { jobs_confirmed, accounts_confirmed, accounts_published, accounts_reported, .. } = self.counts;
        let done = if self.collector.is_some() { accounts_reported } else { accounts_confirmed };
        let parts = vec![
            format!("{done} of {accounts_published} accounts"),
            format!("{} confirmed", counted(jobs_confirmed, "job")),
        ];
        self.display.show(done, accounts_published, parts);
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

async fn first(unconfirmed: &mut VecDeque<UnconfirmedJob>) -> Result<(), Lost> {
    match unconfirmed.front_mut() {
        Some(job) => (&mut job.confirmation).await,
        None => pending().await,
    }
}

enum CollectorEvent {
    Followed(Result<Followed, Error>),
    Lost(LostJobs),
}

async fn next(collector: &mut Option<ReportCollector>) -> CollectorEvent {
    let Some(ReportCollector { follower, queue_watch, .. }) = collector else { return pending().await };
    let lost = async {
        match queue_watch {
            Some(queue_watch) => queue_watch.next().await,
            None => None,
        }
    };
    tokio::select! {
        biased;
        followed = follower.next() => CollectorEvent::Followed(followed),
        Some(lost) = lost => CollectorEvent::Lost(lost),
    }
}
