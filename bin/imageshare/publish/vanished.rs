//! Jobs that are waited for and are in no queue any more: purged, deleted with their queue, or dropped where no dead letter
//! shows it.

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

use super::awaited::Awaited;

/// How often the queues are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a queue has to be empty and without a consumer. A worker that holds jobs is a consumer; when it is gone, the
/// jobs are back at once, and the report of what it finished is here before the job is acknowledged. The rest is for a
/// node that is cut off from its cluster, which calls every queue empty until its connections end.
const EMPTY_FOR: Duration = Duration::from_secs(15);

/// Times that a queue has to be missing, one after the other.
const MISSING_LOOKS: u32 = 3;

/// The jobs of a lane are gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Vanished {
    pub(super) lane: String,
    /// How that is known.
    pub(super) reason: &'static str,
}

/// Looks at the queues of all lanes whose jobs are waited for. Ends when it is dropped.
pub(super) struct Lookout {
    vanished: mpsc::Receiver<Vanished>,
    task: JoinHandle<()>,
}

/// What a lane's queue was like.
#[derive(Default)]
struct Lane {
    empty_since: Option<Instant>,
    missing: u32,
}

impl Lookout {
    /// Begins when all jobs are confirmed: until then a queue may be empty because they are still to come.
    pub(super) fn start(url: Url, name: &'static str, time_outs: TimeOuts, awaited: Awaited) -> Self {
        let (sender, vanished) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            let (mut connection, mut lanes) = (None, BTreeMap::<String, Lane>::new());
            loop {
                sleep(LOOK_EVERY).await;
                for lane in awaited.lanes() {
                    let Ok(depth) = look(&mut connection, &url, name, time_outs, &lane).await else {
                        // Whatever was seen before may be different now.
                        (connection, lanes) = (None, BTreeMap::new());
                        break;
                    };
                    let Some(reason) = lanes.entry(lane.clone()).or_default().note(depth, Instant::now()) else {
                        continue;
                    };
                    lanes.remove(&lane);
                    if sender.send(Vanished { lane, reason }).await.is_err() {
                        return;
                    }
                }
            }
        });
        Self { vanished, task }
    }

    /// The next lane whose jobs are gone. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Option<Vanished> {
        self.vanished.recv().await
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Lane {
    /// Notes what a look showed; why the jobs are gone, if they are.
    fn note(&mut self, depth: Option<Depth>, now: Instant) -> Option<&'static str> {
        let Some(Depth { ready, consumers }) = depth else {
            self.missing += 1;
            self.empty_since = None;
            return (self.missing >= MISSING_LOOKS).then_some("its queue was deleted");
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

async fn look(
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

    /// What each of these looks, one every five seconds, says.
    #[track_caller]
    fn check(looks: &[Option<(u32, u32)>], expected: &[bool]) {
        let (mut lane, begin) = (Lane::default(), Instant::now());
        let is_gone: Vec<_> = (0..)
            .zip(looks)
            .map(|(number, look)| {
                let depth = look.map(|(ready, consumers)| Depth { ready, consumers });
                lane.note(depth, begin + number * Duration::from_secs(5)).is_some()
            })
            .collect();
        assert_eq!(is_gone, expected);
    }

    #[test]
    fn empty_queue_without_worker_lost_its_jobs() {
        check(&[Some((0, 0)); 4], &[false, false, false, true]);
    }

    #[test]
    fn job_or_worker_restarts_the_wait() {
        for other in [(1, 0), (0, 1)] {
            let looks =
                [Some((0, 0)), Some((0, 0)), Some(other), Some((0, 0)), Some((0, 0)), Some((0, 0)), Some((0, 0))];
            check(&looks, &[false, false, false, false, false, false, true]);
        }
    }

    #[test]
    fn queue_missing_three_times_lost_its_jobs() {
        check(&[None, None, Some((0, 1)), None, None, None], &[false, false, false, false, false, true]);
    }
}
