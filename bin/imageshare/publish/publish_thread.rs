//! The thread that reads jobs, routes them to lanes and passes them to the publisher.

use std::{io::BufRead, thread, time::Duration};

use anyhow::Context as _;
use imageshare_worker::{
    broker::{Confirmation, Message, PublishMode, Publisher, Routes},
    lane::LaneConfig,
    lanes::route,
    wire::{JobLine, JobReader, Rejection, job},
};
use tokio::{runtime::Handle, sync::mpsc};

use super::pending_jobs::PendingJobs;
use crate::exit::{Exit, OrExit as _, Problem};

/// A broker that restarts returns messages until its queues are available.
const MODE: PublishMode = PublishMode::UntilAnswered { missing_max: Duration::from_secs(3) };

/// The outcome of a line.
pub(super) enum Published {
    /// The line is not a job, or no lane accepts it.
    Rejected(Box<Rejection>),
    /// The job was passed to the publisher.
    Sent {
        /// The line on which the job begins.
        line: u64,
        /// The number of its accounts, counted for each of its images.
        accounts: u64,
        /// Completes when the broker has confirmed the job.
        confirmation: Confirmation,
    },
}

/// The input of the thread. The thread ends with the file, with the publisher, or when the receiver of `published` is dropped.
pub(super) struct PublishThread {
    pub(super) lanes: Vec<LaneConfig>,
    /// The lane of jobs that name none.
    pub(super) lane: Option<String>,
    pub(super) publisher: Publisher,
    pub(super) routes: Routes,
    /// Gets each job whose report the command waits for.
    pub(super) pending: Option<PendingJobs>,
    pub(super) published: mpsc::Sender<Published>,
}

impl PublishThread {
    /// Starts the thread. Must be called on the runtime.
    pub(super) fn start<R: BufRead + Send + 'static>(self, jobs: JobReader<R>) -> Result<(), Problem> {
        let runtime = Handle::current();
        let thread = thread::Builder::new().name("publish".to_owned());
        let started = thread.spawn(move || self.run(jobs, &runtime));
        started.map(drop).context("cannot start the thread that reads jobs").or_exit(Exit::Failed)
    }

    fn run<R: BufRead>(mut self, jobs: JobReader<R>, runtime: &Handle) {
        for read in jobs {
            let published = match read.and_then(|line| self.message(line, runtime)) {
                Ok((line, accounts, message)) => {
                    let confirmation = runtime.block_on(self.publisher.publish(message, MODE));
                    let Ok(confirmation) = confirmation else { return };
                    Published::Sent { line, accounts, confirmation }
                }
                Err(rejection) => Published::Rejected(Box::new(rejection)),
            };
            if self.published.blocking_send(published).is_err() {
                return;
            }
        }
    }

    /// Returns the line of a job, the number of its accounts, and its message for the lane.
    fn message(&mut self, line: JobLine, runtime: &Handle) -> Result<(u64, u64, Message), Rejection> {
        let JobLine { place, job } = line;
        let identity = &job.identity;
        let named = identity.lane.as_deref().or(self.lane.as_deref());
        let lane = match route(&self.lanes, named, identity.images.regions()) {
            Ok(lane) => &self.lanes.get(lane.place()).expect("lanes are numbered in their order").name,
            Err(error) => return Err(Rejection::of_job(identity, None, error.to_string()).at(place)),
        };
        let accounts = job.accounts() as u64;
        if let Some(pending) = &self.pending {
            pending.add(identity, lane, accounts);
        }
        let body = job::write(identity, &job.account_ids, job.expires_at, job.force);
        let route = runtime.block_on(self.routes.find(lane));
        Ok((place.line, accounts, route.job(identity.job_id.as_str().into(), body)))
    }
}
