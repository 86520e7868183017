//! Finds pending jobs that are in no queue any more: purged, deleted with their queue, or dropped without a dead letter.

use std::{collections::BTreeMap, time::Duration};

use imageshare_worker::broker::{
    Connection, Error, TimeOuts, Url,
    topology::{self, Depth},
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::pending_jobs::PendingJobs;

/// The pause between two checks of the queues.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// How long a queue must be empty without a consumer before its jobs count as lost. A worker that holds jobs is a
/// consumer. When it ends, the broker requeues its jobs at once, and the report of a finished job arrives before the job
/// is acknowledged. The time is for a node that is cut off from its cluster: it reports every queue as empty until its
/// connections end.
const EMPTY_FOR: Duration = Duration::from_secs(15);

/// How many checks in a row must miss a queue before its jobs count as lost.
const MISSING_CHECKS: u32 = 3;

/// The pending jobs of a lane are in no queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LostJobs {
    pub(super) lane: String,
    /// What shows it.
    pub(super) reason: &'static str,
}

/// Checks the queues of all lanes with pending jobs. Dropping it ends the task.
pub(super) struct QueueWatch {
    lost: mpsc::Receiver<LostJobs>,
    task: JoinHandle<()>,
}

/// The state of a lane's queue over the last checks.
#[derive(Default)]
struct QueueState {
    empty_since: Option<Instant>,
    missing: u32,
}

impl QueueWatch {
    /// Starts the task. Call it when all jobs are confirmed: before that, a queue may be empty because its jobs have not
    /// arrived.
    pub(super) fn start(url: Url, name: &'static str, time_outs: TimeOuts, pending: PendingJobs) -> Self {
        let (sender, lost) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            let (mut connection, mut queues) = (None, BTreeMap::<String, QueueState>::new());
            loop {
                sleep(CHECK_EVERY).await;
                for lane in pending.lanes() {
                    let Ok(depth) = depth(&mut connection, &url, name, time_outs, &lane).await else {
                        // Earlier checks prove nothing about a broker that was unreachable meanwhile.
                        (connection, queues) = (None, BTreeMap::new());
                        break;
                    };
                    let state = queues.entry(lane.clone()).or_default();
                    let Some(reason) = state.update(depth, Instant::now()) else { continue };
                    queues.remove(&lane);
                    if sender.send(LostJobs { lane, reason }).await.is_err() {
                        return;
                    }
                }
            }
        });
        Self { lost, task }
    }

    /// Returns the next lane whose jobs are lost. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<LostJobs> {
        self.lost.recv().await
    }
}

impl Drop for QueueWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl QueueState {
    /// Records the result of a check. Returns the reason once the jobs count as lost.
    fn update(&mut self, depth: Option<Depth>, now: Instant) -> Option<&'static str> {
        let Some(Depth { ready, consumers }) = depth else {
            self.missing += 1;
            self.empty_since = None;
            return (self.missing >= MISSING_CHECKS).then_some("its queue was deleted");
        };
        self.missing = 0;
        if ready > 0 || consumers > 0 {
            self.empty_since = None;
            return None;
        }
        let since = *self.empty_since.get_or_insert(now);
        (now.duration_since(since) >= EMPTY_FOR).then_some("its queue is empty and no worker is subscribed")
    }
}

/// Returns the depth of a lane's queue; `None` if the queue is missing. Keeps the connection for the next check.
async fn depth(
    connection: &mut Option<Connection>,
    url: &Url,
    name: &str,
    time_outs: TimeOuts,
    lane: &str,
) -> Result<Option<Depth>, Error> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(Connection::open(url, name, time_outs).await?),
    };
    topology::depth(connection, lane).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks which of these results, one every five seconds, count the jobs as lost.
    #[track_caller]
    fn check(depths: &[Option<(u32, u32)>], expected: &[bool]) {
        let (mut state, begin) = (QueueState::default(), Instant::now());
        let is_lost: Vec<_> = (0..)
            .zip(depths)
            .map(|(number, depth)| {
                let depth = depth.map(|(ready, consumers)| Depth { ready, consumers });
                state.update(depth, begin + number * Duration::from_secs(5)).is_some()
            })
            .collect();
        assert_eq!(is_lost, expected);
    }

    #[test]
    fn empty_queue_without_worker_lost_its_jobs() {
        check(&[Some((0, 0)); 4], &[false, false, false, true]);
    }

    #[test]
    fn job_or_worker_restarts_the_wait() {
        for other in [(1, 0), (0, 1)] {
            let depths =
                [Some((0, 0)), Some((0, 0)), Some(other), Some((0, 0)), Some((0, 0)), Some((0, 0)), Some((0, 0))];
            check(&depths, &[false, false, false, false, false, false, true]);
        }
    }

    #[test]
    fn queue_missing_three_times_lost_its_jobs() {
        check(&[None, None, Some((0, 1)), None, None, None], &[false, false, false, false, false, true]);
    }
}
