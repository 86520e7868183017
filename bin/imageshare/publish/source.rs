//! Where jobs come from: read, routed and handed to the publisher on a thread of their own.

use std::{io::BufRead, thread, time::Duration};

use anyhow::Context as _;
use imageshare_worker::{
    broker::{Confirmation, Message, PublishMode, Publisher, Routes},
    lane::LaneConfig,
    lanes::route,
    wire::{JobLine, JobReader, Rejection, job},
};
use tokio::{runtime::Handle, sync::mpsc};

use super::awaited::Awaited;
use crate::exit::{Exit, OrExit as _, Problem};

/// A broker that starts again returns messages until its queues are available.
const MODE: PublishMode = PublishMode::UntilAnswered { missing_max: Duration::from_secs(3) };

/// The outcome of a line.
pub(super) enum Published {
    /// It is no job, or one that no lane takes.
    Rejected(Box<Rejection>),
    /// It is on its way.
    Sent {
        /// Where it begins.
        line: u64,
        /// How many accounts it names, counted for each of its images.
        accounts: u64,
        /// When it has arrived.
        confirmation: Confirmation,
    },
}

/// The input of the reading thread. The thread ends with the file, with the publisher, or when its receiver is dropped.
pub(super) struct Source {
    pub(super) lanes: Vec<LaneConfig>,
    /// The lane of jobs that name none.
    pub(super) lane: Option<String>,
    pub(super) publisher: Publisher,
    pub(super) routes: Routes,
    /// Where jobs are noted whose reports are waited for.
    pub(super) awaited: Option<Awaited>,
    pub(super) published: mpsc::Sender<Published>,
}

impl Source {
    /// Begins to read. Must be called on the runtime.
    pub(super) fn read<R: BufRead + Send + 'static>(self, jobs: JobReader<R>) -> Result<(), Problem> {
        let runtime = Handle::current();
        let thread = thread::Builder::new().name("source".to_owned());
        let started = thread.spawn(move || self.run(jobs, &runtime));
        started.map(drop).context("the thread that reads cannot be started").or_exit(Exit::Failed)
    }

    fn run<R: BufRead>(mut self, jobs: JobReader<R>, runtime: &Handle) {
        for read in jobs {
            let published = match read.and_then(|line| self.message(line, runtime)) {
                Ok((line, accounts, message)) => {
                    let handed_over = runtime.block_on(self.publisher.publish(message, MODE));
                    let Ok(confirmation) = handed_over else { return };
                    Published::Sent { line, accounts, confirmation }
                }
                Err(rejection) => Published::Rejected(Box::new(rejection)),
            };
            if self.published.blocking_send(published).is_err() {
                return;
            }
        }
    }

    /// The job as one message for its lane, with its line and how many accounts it names.
    fn message(&mut self, line: JobLine, runtime: &Handle) -> Result<(u64, u64, Message), Rejection> {
        let JobLine { place, job } = line;
        let identity = &job.identity;
        let named = identity.lane.as_deref().or(self.lane.as_deref());
        let lane = match route(&self.lanes, named, identity.images.regions()) {
            Ok(lane) => &self.lanes.get(lane.place()).expect("lanes are numbered in their order").name,
            Err(error) => return Err(Rejection::of_job(identity, None, error.to_string()).at(place)),
        };
        let accounts = job.accounts() as u64;
        if let Some(awaited) = &self.awaited {
            awaited.add(identity, lane, accounts);
        }
        let body = job::write(identity, &job.account_ids, job.expires_at, job.force);
        let route = runtime.block_on(self.routes.find(lane));
        Ok((place.line, accounts, route.job(identity.job_id.as_str().into(), body)))
    }
}
