//! The depths of the queues whose depth no subscription of this process receives: the dead letters, and the lanes that it does
//! not consume.
//!
//! A subscription receives the depth of its queue with each ownership proof. For the others this task asks at the same
//! intervals. It has a connection of its own, since the broker closes the channel if a queue is missing, and that must end no
//! subscription.

use std::sync::Arc;

use prometheus::Gauge;
use tokio::{
    sync::{Semaphore, watch},
    time::{interval, sleep},
};

use super::{
    Error, State, TimeOuts, Url, events,
    lane_connection::{LaneConnection, LaneReader, LaneWriter},
    settle::PROOFS_PER_HEARTBEAT,
    topology,
};
use crate::{
    pauses::Pauses,
    status::{LaneRecord, Status},
};

/// A queue whose depth is shown.
struct WatchedQueue<'a> {
    name: String,
    gauge: &'a Gauge,
    /// The lane of its jobs; `None` of the dead letters.
    lane: Option<&'a LaneRecord>,
}

/// Shows the depths of the queues until the `publisher` of the process has ended. The broker lists its connection as that of
/// `worker`.
pub(crate) async fn watch_depths(
    url: Url,
    worker: String,
    time_outs: TimeOuts,
    status: Arc<Status>,
    mut publisher: watch::Receiver<State>,
) {
    let name = format!("imageshare worker {worker} depths");
    let dead_letters =
        WatchedQueue { name: topology::DEAD.to_owned(), gauge: &status.of_process().dead_letters_ready, lane: None };
    let mut queues: Vec<_> = status.lanes().map(WatchedQueue::of_lane).chain([dead_letters]).collect();
    let watch = async {
        let mut pauses = Pauses::between_connections();
        loop {
            // No message arrives on it, so it needs no room for bodies.
            let room = Arc::new(Semaphore::new(0));
            let failed = match LaneConnection::open(&url, &name, time_outs, room).await {
                Ok(connection) => {
                    pauses.reset();
                    ask_all(connection, &mut queues).await
                }
                Err(error) => error,
            };
            queues.iter().for_each(WatchedQueue::forget);
            let pause = pauses.after(&failed);
            events::DepthsUnknown { detail: &failed, pause }.record();
            sleep(pause).await;
        }
    };
    let ended = async { while publisher.changed().await.is_ok() {} };
    tokio::select! {
        () = ended => {}
        () = watch => {}
    }
}

/// Asks for all depths, again and again, until the connection fails.
async fn ask_all(mut connection: LaneConnection, queues: &mut [WatchedQueue<'_>]) -> Error {
    let (incoming, outgoing) = connection.split();
    tokio::select! {
        failed = ask(outgoing, queues) => failed,
        failed = end_of(incoming) => failed,
    }
}

async fn ask(outgoing: &LaneWriter, queues: &mut [WatchedQueue<'_>]) -> Error {
    let mut next_round = interval(outgoing.time_outs().heartbeat / PROOFS_PER_HEARTBEAT);
    loop {
        next_round.tick().await;
        for nth in 0..queues.len() {
            let Some(queue) = queues.get(nth).filter(|queue| queue.is_asked_for()) else { continue };
            match outgoing.depth(&queue.name).await {
                Ok(depth) => queue.gauge.set(depth.ready.into()),
                Err(failed) => {
                    // It may be missing. The next connection asks for the others first.
                    queues.rotate_left(nth + 1);
                    return failed;
                }
            }
        }
    }
}

/// Reads answers until the connection fails.
async fn end_of(incoming: &mut LaneReader) -> Error {
    loop {
        // It has no consumer.
        if let Err(failed) = incoming.next().await {
            return failed;
        }
    }
}

impl<'a> WatchedQueue<'a> {
    fn of_lane(lane: &'a LaneRecord) -> Self {
        Self { name: topology::jobs_queue(lane.name()), gauge: &lane.metrics.queue_ready, lane: Some(lane) }
    }

    /// Returns whether no subscription of this process receives its depth.
    fn is_asked_for(&self) -> bool {
        self.lane.is_none_or(|lane| !lane.is_consuming())
    }

    /// Shows that its depth is not known any more.
    fn forget(&self) {
        if self.is_asked_for() {
            self.gauge.set(f64::NAN);
        }
    }
}
