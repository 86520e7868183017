//! The depths of the queues whose depth no subscription of this process receives: the dead letters, and the lanes that it does
//! not consume.
//!
//! A subscription receives the depth of its queue with each ownership proof. For the others this task asks at the same
//! intervals. It has a connection of its own, since the broker closes the channel if a queue is missing, and that must end no
//! subscription.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

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
                Ok(connection) => ask_all(connection, &mut queues, &mut pauses).await,
                Err(error) => {
                    queues.iter().for_each(WatchedQueue::forget);
                    error
                }
            };
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
async fn ask_all(mut connection: LaneConnection, queues: &mut [WatchedQueue<'_>], pauses: &mut Pauses) -> Error {
    let (incoming, outgoing) = connection.split();
    let asked = AtomicUsize::new(0);
    let failed = tokio::select! {
        failed = ask(outgoing, queues, &asked, pauses) => failed,
        failed = end_of(incoming) => failed,
    };
    // The queue may be missing, for which the broker closes the channel. The next connection asks for the others first.
    queues.rotate_left(asked.into_inner() + 1);
    match &failed {
        // The other depths are of this connection, or of the one before if several queues are missing.
        Error::Closed { .. } => queues.last().into_iter().for_each(WatchedQueue::forget),
        _ => queues.iter().for_each(WatchedQueue::forget),
    }
    failed
}

/// Asks for the depths. `asked` is the index of the queue that is being asked for.
async fn ask(outgoing: &LaneWriter, queues: &[WatchedQueue<'_>], asked: &AtomicUsize, pauses: &mut Pauses) -> Error {
    let mut next_round = interval(outgoing.time_outs().heartbeat / PROOFS_PER_HEARTBEAT);
    loop {
        next_round.tick().await;
        for (nth, queue) in queues.iter().enumerate().filter(|(_, queue)| queue.is_asked_for()) {
            asked.store(nth, Relaxed);
            match outgoing.depth(&queue.name).await {
                Ok(depth) => queue.gauge.set(depth.ready.into()),
                Err(failed) => return failed,
            }
        }
        pauses.reset();
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

#[cfg(test)]
mod tests {
    use imageshare_amqp::{encode_method, fake_broker::FakeBroker};
    use lapin::protocol::{AMQPClass, channel, queue};

    use super::*;

    const MISSING: &str = "imageshare.jobs.a";

    /// A broker without the queue of the first lane. The other queues have seven messages.
    async fn broker() -> FakeBroker {
        FakeBroker::start(|channel, received| {
            let AMQPClass::Queue(queue::AMQPMethod::Declare(declare)) = received else { return vec![] };
            let answer = if declare.queue.as_str() == MISSING {
                let reply_text = "NOT_FOUND".into();
                let close = channel::Close { reply_code: 404, reply_text, class_id: 0, method_id: 0 };
                AMQPClass::Channel(channel::AMQPMethod::Close(close))
            } else {
                let (queue, message_count, consumer_count) = (declare.queue.clone(), 7, 0);
                AMQPClass::Queue(queue::AMQPMethod::DeclareOk(queue::DeclareOk {
                    queue,
                    message_count,
                    consumer_count,
                }))
            };
            vec![encode_method(channel, &answer)]
        })
        .await
    }

    #[tokio::test]
    async fn missing_queue_hides_no_other_depth() {
        let (broker, status) = (broker().await, Status::new(["a", "b"]));
        let dead = &status.of_process().dead_letters_ready;
        let dead_letters = WatchedQueue { name: topology::DEAD.to_owned(), gauge: dead, lane: None };
        let mut queues: Vec<_> = status.lanes().map(WatchedQueue::of_lane).chain([dead_letters]).collect();
        let mut pauses = Pauses::between_connections();
        let mut longest = 0;
        for _ in 0..8 {
            let room = Arc::new(Semaphore::new(0));
            let url = broker.url().parse().unwrap();
            let connection = LaneConnection::open(&url, "test", TimeOuts::default(), room).await.unwrap();
            let failed = ask_all(connection, &mut queues, &mut pauses).await;
            assert!(matches!(failed, Error::Closed { code: 404, .. }), "{failed:?}");
            longest = longest.max(pauses.after(&failed).as_millis());
        }
        assert_eq!(dead.get(), 7.0);
        let depths: Vec<_> = status.lanes().map(|lane| lane.metrics.queue_ready.get()).collect();
        assert!(depths[0].is_nan() && depths[1] == 7.0, "{depths:?}");
        assert!(longest > 1000, "the pauses grow although connections open: {longest} ms");
    }
}
