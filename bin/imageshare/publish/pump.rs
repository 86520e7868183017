//! A publish under way: confirms, and reports where they are waited for.

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
    awaited::Awaited,
    source::Published,
    vanished::{Lookout, Vanished},
};
use crate::{
    broker::{self, Watch},
    exit::{Exit, Problem},
    terminal::{Bar, Moving, Terminal},
    work::reports::Reports,
};

/// How long what is on its way may take to be confirmed after an interrupt.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reports that are waited for, and the jobs that they are of.
pub(super) struct Following {
    follower: Follower,
    pub(super) awaited: Awaited,
    url: Url,
    time_outs: TimeOuts,
    /// There when all is confirmed.
    lookout: Option<Lookout>,
}

/// What is counted.
#[derive(Default)]
pub(super) struct Sums {
    pub(super) jobs_confirmed: u64,
    pub(super) accounts_confirmed: u64,
    /// Jobs that the broker dropped.
    pub(super) jobs_dropped: u64,
    accounts_published: u64,
    accounts_reported: u64,
    /// Where the last job begins up to which all are confirmed or rejected.
    pub(super) confirmed_through: Option<u64>,
    /// Whether the whole input is confirmed or rejected.
    pub(super) is_whole: bool,
}

/// What a publish came to.
pub(super) struct Outcome {
    pub(super) reports: Reports,
    pub(super) sums: Sums,
    pub(super) is_interrupted: bool,
    /// What ended it early.
    pub(super) problem: Option<Problem>,
}

pub(super) struct Pump {
    published: mpsc::Receiver<Published>,
    /// In the order of the input.
    unconfirmed: VecDeque<Sent>,
    following: Option<Following>,
    reports: Reports,
    worker: String,
    terminal: Terminal,
    moving: Moving,
    sums: Sums,
}

struct Sent {
    line: u64,
    accounts: u64,
    confirmation: Confirmation,
}

impl Following {
    pub(super) fn new(follower: Follower, url: &Url, time_outs: TimeOuts) -> Self {
        Self { follower, awaited: Awaited::default(), url: url.clone(), time_outs, lookout: None }
    }

    /// From now on the queues are looked at: all jobs are there.
    fn look_out(&mut self) {
        let Self { awaited, url, time_outs, lookout, .. } = self;
        lookout.get_or_insert_with(|| Lookout::start(url.clone(), NAME, *time_outs, awaited.clone()));
    }
}

impl Pump {
    pub(super) fn new(
        published: mpsc::Receiver<Published>,
        following: Option<Following>,
        reports: Reports,
        terminal: Terminal,
        bar: Bar,
    ) -> Self {
        let (unconfirmed, sums, worker) = (VecDeque::new(), Sums::default(), worker_name());
        let moving = terminal.moving(bar);
        Self { published, unconfirmed, following, reports, worker, terminal, moving, sums }
    }

    /// Runs until all is confirmed, and reported where that is waited for; until an interrupt, and then what is on its
    /// way is confirmed; or until nothing can be hoped for.
    pub(super) async fn run(mut self, mut watch: Watch, interrupts: &mut mpsc::Receiver<()>) -> Outcome {
        let mut ends_at = None;
        let problem = self.work(&mut watch, interrupts, &mut ends_at).await.err();
        if let Some(Following { follower, .. }) = self.following {
            follower.close().await;
        }
        Outcome { reports: self.reports, sums: self.sums, is_interrupted: ends_at.is_some(), problem }
    }

    async fn work(
        &mut self,
        watch: &mut Watch,
        interrupts: &mut mpsc::Receiver<()>,
        ends_at: &mut Option<Instant>,
    ) -> Result<(), Problem> {
        let mut is_reading = true;
        loop {
            let is_sent = !is_reading && self.unconfirmed.is_empty();
            self.sums.is_whole = is_sent && ends_at.is_none();
            let is_reported = self.following.as_ref().is_none_or(|following| following.awaited.jobs() == 0);
            if is_sent && (is_reported || ends_at.is_some()) {
                return Ok(());
            }
            if let Some(following) = &mut self.following
                && is_sent
            {
                following.look_out();
            }
            tokio::select! {
                biased;
                Some(()) = interrupts.recv() => {
                    if ends_at.is_some() {
                        return Ok(());
                    }
                    *ends_at = Some(Instant::now() + PATIENCE);
                    self.published.close();
                }
                () = until(*ends_at) => return Ok(()),
                problem = watch.gives_up(self.terminal), if !is_sent => return Err(problem),
                confirmed = first(&mut self.unconfirmed) => self.confirm(confirmed)?,
                published = self.published.recv(), if is_reading => match published {
                    Some(published) => self.note(published),
                    None => is_reading = false,
                },
                heard = next(&mut self.following) => match heard {
                    Heard::Followed(followed) => self.hear(followed.map_err(|error| {
                        let words = "the reports cannot be followed any more; the jobs are published all the same";
                        Problem::new(broker::exit(&error), format!("{error}: {words}"))
                    })?),
                    Heard::Vanished(vanished) => self.give_up_lane(&vanished),
                }
            }
            self.show();
        }
    }

    fn note(&mut self, published: Published) {
        match published {
            Published::Sent { line, accounts, confirmation } => {
                self.sums.accounts_published += accounts;
                self.unconfirmed.push_back(Sent { line, accounts, confirmation });
            }
            Published::Rejected(rejection) => self.reject(&rejection),
        }
    }

    fn confirm(&mut self, confirmed: Result<(), Lost>) -> Result<(), Problem> {
        let Some(Sent { line, accounts, .. }) = self.unconfirmed.pop_front() else { return Ok(()) };
        confirmed.map_err(|lost| {
            let words = match lost {
                Lost::Ended | Lost::TooLong { .. } => lost.to_string(),
                Lost::Unroutable { .. } => format!("{lost}\nhint: run imageshare topology --declare"),
            };
            Problem::new(Exit::Refused, format!("the job of line {line}: {words}"))
        })?;
        self.sums.jobs_confirmed += 1;
        self.sums.accounts_confirmed += accounts;
        self.sums.confirmed_through = Some(line);
        Ok(())
    }

    fn hear(&mut self, followed: Followed) {
        let Some(Following { awaited, .. }) = &self.following else { return };
        match followed {
            Followed::Reported(report) => {
                if let Some(accounts) = awaited.take(&report) {
                    self.sums.accounts_reported += accounts;
                    self.reports.take(&report);
                }
            }
            Followed::Dropped { identity, dropped } => {
                if let Some(accounts) = awaited.take_job(&identity) {
                    let known = Known { lane: dropped.lane.clone(), ..Known::from(&*identity) };
                    self.drop_job(known, accounts, dropped.detail());
                }
            }
        }
    }

    /// The jobs of a lane are gone.
    fn give_up_lane(&mut self, Vanished { lane, reason }: &Vanished) {
        let Some(Following { awaited, .. }) = &self.following else { return };
        for (known, accounts) in awaited.take_lane(lane) {
            self.drop_job(known, accounts, format!("dropped by the broker or removed from lane {lane}: {reason}"));
        }
    }

    /// A job that no worker has had, or will have again.
    fn drop_job(&mut self, known: Known, accounts: u64, why: String) {
        self.sums.accounts_reported += accounts;
        self.sums.jobs_dropped += 1;
        let rejection = Rejection { known: Box::new(known), ..Rejection::of_text(why) };
        self.reject(&rejection);
    }

    /// Reports what no worker reports.
    fn reject(&mut self, rejection: &Rejection) {
        let (now, worker) = (Timestamp::now(), self.worker.clone());
        let circumstances = Circumstances { redelivered: false, received_at: now, finished_at: now, worker };
        self.reports.take(&Report::of_rejection(rejection, circumstances));
    }

    fn show(&self) {
        let Sums { jobs_confirmed, accounts_confirmed, accounts_published, accounts_reported, .. } = self.sums;
        let done = if self.following.is_some() { accounts_reported } else { accounts_confirmed };
        let words =
            vec![format!("{done} of {accounts_published} accounts"), format!("{jobs_confirmed} jobs confirmed")];
        self.moving.show(done, accounts_published, words);
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

async fn first(unconfirmed: &mut VecDeque<Sent>) -> Result<(), Lost> {
    match unconfirmed.front_mut() {
        Some(sent) => (&mut sent.confirmation).await,
        None => pending().await,
    }
}

/// What is heard of the jobs that are waited for.
enum Heard {
    Followed(Result<Followed, Error>),
    Vanished(Vanished),
}

async fn next(following: &mut Option<Following>) -> Heard {
    let Some(Following { follower, lookout, .. }) = following else { return pending().await };
    let vanished = async {
        match lookout {
            Some(lookout) => lookout.next().await,
            None => None,
        }
    };
    tokio::select! {
        biased;
        followed = follower.next() => Heard::Followed(followed),
        Some(vanished) = vanished => Heard::Vanished(vanished),
    }
}
