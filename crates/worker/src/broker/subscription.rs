//! One subscription of a lane: five loops that run beside each other until the first one ends, and with it all.
//!
//! | loop | does |
//! |---|---|
//! | `pump` | reads messages into jobs for the driver |
//! | `publish` | turns what the driver settled, and what is no job, into reports and dead letters |
//! | [`settle`] | says what may be acknowledged: what is confirmed, in its order |
//! | [`acks::acknowledge`] | acknowledges that, so that it costs the broker little |
//! | `prove` | shows that the lane is ours |
//!
//! A subscription ends in one of two ways, and no other keeps the order of what it holds: the connection is closed
//! while consumer and channel are alive, or its socket is shut down. Nothing is ever rejected, cancelled or closed
//! one by one.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{MissedTickBehavior, interval},
};

use super::events::{self, Finished};
use super::{
    Confirmation, Envelope, Error, Lane, Lost, Publisher,
    acks::{self, Ack},
    delivery::{NoJob, priority, read, traceparent},
    lane_connection::{Incoming, LaneConnection, Outgoing},
    letters::{Desk, Lengths, Letters},
    orders::{Order, Orders},
    room::{Class, Room},
    settlement::{Due, settle},
    topology,
};
use crate::{
    lane_messages::{Epoch, FromLane, Requeue, ToLane},
    metrics::Up,
    proof::{Moment, Proof},
    status::OfLane,
    wire::report::Status,
};

/// What is no job and waits to be published, in messages.
const NO_JOBS_MAX: usize = 16;

/// How long after an acknowledgement was sent a connection may be closed: the broker works on what it got before, but
/// what it has not looked at yet is lost when the close overtakes it.
const ACKS_APPLIED_AFTER: Duration = Duration::from_millis(500);

/// Proofs in a heartbeat.
const PROOFS_PER_HEARTBEAT: u32 = 4;

/// What a subscription has to do with.
pub(super) struct Surroundings<'a> {
    pub(super) lane: &'a Lane,
    /// `host:pid`.
    pub(super) worker: &'a str,
    pub(super) publisher: &'a Publisher,
    pub(super) events: &'a mpsc::Sender<FromLane<Box<Envelope>>>,
    pub(super) status: &'a OfLane,
    /// Bytes of invalid messages that all lanes may keep until they are confirmed.
    pub(super) invalid: &'a Arc<Semaphore>,
    /// Whether it was said that a job has a priority.
    pub(super) is_priority_said: &'a AtomicBool,
}

/// A lane that is consumed. Dropped, its connection is cut, and with that everything is requeued in its order.
pub(super) struct Subscription {
    connection: LaneConnection,
    proof: Arc<Proof>,
    epoch: Epoch,
    /// Whether anything came, of which the driver was told.
    is_up: bool,
    /// Deliveries that were acknowledged.
    settled: u32,
    /// Shows that there is a connection.
    _is_connected: Up,
}

/// What became of a subscription.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) ended: Ended,
    /// Whether anything came, of which the driver was told.
    pub(super) was_up: bool,
    /// Deliveries that were acknowledged.
    pub(super) settled: u32,
}

/// Why there is no subscription, or none any more.
#[derive(Debug)]
pub(super) enum Ended {
    /// The driver gave the lane back; all that was due is acknowledged.
    GivenBack(Requeue),
    /// The driver found that the process had stood still.
    Cut,
    /// The broker, or the way to it.
    Broker(Error),
    /// What there has to be at the broker is not, or is different.
    Topology(Vec<topology::Difference>),
    /// The broker has no consumer of this lane any more, and has not said so.
    NotOurs,
    /// The broker ended the consumer, as it does when the queue is deleted, and from RabbitMQ 4.3 on when an
    /// acknowledgement takes longer than `consumer_timeout`. (Before, that closes the channel.)
    Cancelled,
    /// The process ends.
    Over,
}

impl Subscription {
    /// Consumes a lane on its connection.
    pub(super) async fn open(
        mut connection: LaneConnection,
        is_connected: Up,
        lane: &Lane,
        prefetch: u16,
        epoch: Epoch,
    ) -> Result<Self, Ended> {
        connection.consume(&topology::jobs_queue(&lane.name), prefetch).await?;
        let proof = Arc::new(Proof::new(connection.time_outs().heartbeat));
        Ok(Self { connection, proof, epoch, is_up: false, settled: 0, _is_connected: is_connected })
    }

    /// Serves the lane until something ends it, and ends it in the way that this asks for.
    pub(super) async fn serve(mut self, orders: &mut Orders, around: &Surroundings<'_>) -> Served {
        around.status.subscribed(self.connection.time_outs().heartbeat);
        let ended = self.run(orders, around).await;
        self.proof.revoke();
        if let Ended::GivenBack(_) = ended {
            self.connection.rest(ACKS_APPLIED_AFTER).await;
        }
        if let Ended::GivenBack(_) | Ended::Over = ended {
            // If the broker does not answer, the connection is cut all the same.
            drop(self.connection.close().await);
        }
        let Self { epoch, is_up: was_up, settled, .. } = self;
        drop(self);
        around.status.disconnected();
        if was_up {
            drop(around.events.send(FromLane::Down { lane: around.lane.id, epoch }).await);
        }
        Served { ended, was_up, settled }
    }

    async fn run(&mut self, orders: &mut Orders, around: &Surroundings<'_>) -> Ended {
        let Self { connection, proof, epoch, is_up, settled, .. } = self;
        let (epoch, (incoming, outgoing)) = (*epoch, connection.split());
        let (no_jobs, no_jobs_in) = mpsc::channel(NO_JOBS_MAX);
        let (due_in, due) = mpsc::unbounded_channel();
        let (tags, tags_in) = mpsc::unbounded_channel();
        let queue = topology::jobs_queue(&around.lane.name);
        let is_due = move |tag, finished: Finished| {
            finished.record(around.status);
            // Whoever acknowledges ends only after this.
            tags.send(tag).ok();
            Ok(())
        };
        let send = |ack: Ack| {
            *settled += ack.count;
            around.status.moves();
            outgoing.ack(ack.tag, ack.multiple);
            Ok(())
        };
        let prover = Prover { outgoing, queue: &queue, proof, status: around.status };
        let answered = || prover.prove_once();
        // When publishing ends well, nothing more comes to be acknowledged, and what is due still is.
        let settlement = async {
            let publishing = publish(orders, no_jobs_in, due_in, epoch, around);
            tokio::try_join!(publishing, settle(due, is_due), acks::acknowledge(tags_in, send, answered))
        };
        let first = First { epoch, proof, is_up };
        tokio::select! {
            biased;
            ended = prover.prove() => ended,
            ended = settlement => ended.map_or_else(|ended| ended, |(why, (), ())| Ended::GivenBack(why)),
            ended = pump(incoming, outgoing, &no_jobs, first, around) => ended,
        }
    }
}

/// What is done with the first message.
struct First<'a> {
    epoch: Epoch,
    proof: &'a Arc<Proof>,
    is_up: &'a mut bool,
}

impl First<'_> {
    /// The lane comes up with the first message and not before. Until then another worker may have it, whose calls still
    /// count against the limit and may still land.
    async fn came(&mut self, around: &Surroundings<'_>) -> Result<(), Ended> {
        around.status.delivered();
        let up = FromLane::Up { lane: around.lane.id, epoch: self.epoch, proof: Arc::clone(self.proof) };
        around.events.send(up).await.map_err(|_| Ended::Over)?;
        *self.is_up = true;
        Ok(())
    }
}

/// An invalid message and the bytes that are reserved for it.
type ReservedNoJob = (Box<NoJob>, OwnedSemaphorePermit);

/// Reads messages: jobs go to the driver, what is no job to be published. Waits for neither longer than they take,
/// since both go on whatever happens here.
async fn pump(
    incoming: &mut Incoming,
    outgoing: &Outgoing,
    no_jobs: &mpsc::Sender<ReservedNoJob>,
    mut first: First<'_>,
    around: &Surroundings<'_>,
) -> Ended {
    let epoch = first.epoch;
    loop {
        let (message, reserved) = match incoming.next().await {
            Ok(Some(next)) => next,
            Ok(None) => return Ended::Cancelled,
            Err(error) => return Ended::Broker(error),
        };
        if !*first.is_up
            && let Err(ended) = first.came(around).await
        {
            return ended;
        }
        events::Delivered { lane: around.status, is_redelivered: message.redelivered }.record();
        if let Some(priority) = priority(&message.properties)
            && !outgoing.broker().acts_on_priority()
        {
            let is_said = around.is_priority_said;
            events::PriorityIgnored { lane: around.status, priority, broker: outgoing.broker(), is_said }.record();
        }
        let is_taken = match read(message, epoch, around.lane, outgoing.broker()) {
            Ok(job) => around.events.send(FromLane::Delivered(epoch, job)).await.is_ok(),
            Err(no_job) => {
                // Its bytes stay reserved in one of two places until its dead letter is confirmed.
                let bytes = u32::try_from(no_job.body.len()).unwrap_or(u32::MAX);
                match Arc::clone(around.invalid).acquire_many_owned(bytes).await {
                    Ok(room) => no_jobs.send((no_job, room)).await.is_ok(),
                    Err(_) => false,
                }
            }
        };
        drop(reserved);
        if !is_taken {
            return Ended::Over;
        }
    }
}

/// Publishes what was settled, and what is no job, until the lane is given back.
async fn publish(
    orders: &mut Orders,
    mut no_jobs: mpsc::Receiver<ReservedNoJob>,
    due: mpsc::UnboundedSender<Due<Confirmation>>,
    epoch: Epoch,
    around: &Surroundings<'_>,
) -> Result<Requeue, Ended> {
    let desk = Desk { lane: &around.lane.name, worker: around.worker };
    loop {
        let order = tokio::select! {
            biased;
            order = orders.recv() => order,
            Some((no_job, room)) = no_jobs.recv() => {
                let NoJob { rejection, reason, properties, .. } = &*no_job;
                let traceparent = traceparent(properties);
                events::Rejected { lane: around.status, rejection, reason, traceparent }.record();
                let (tag, received_at) = (no_job.tag, no_job.received_at);
                let finished = Finished { status: Status::Rejected, received_at, is_dead: true };
                let rooms = Rooms::reserve(around.publisher, Lengths::of_no_job(&no_job));
                let rooms = unless_cut(rooms, orders, epoch).await?;
                let letters = Letters::of_no_job(*no_job, desk);
                hand_in(tag, letters, rooms, finished, Some(room), &due, around.publisher).await?;
                continue;
            }
        };
        match order {
            Some(ToLane::Settled(settled, outcomes)) if settled.identity.epoch == epoch => {
                let tag = settled.identity.tag;
                events::Settled::of_queue(around.status, &settled).record();
                let (status, received_at) = (Status::of(&settled.report), settled.received_at);
                let rooms = Rooms::reserve(around.publisher, Lengths::of_job(&settled.report));
                let rooms = unless_cut(rooms, orders, epoch).await?;
                let letters = Letters::of_job(*settled, desk);
                let finished = Finished { status, received_at, is_dead: letters.dead_letter.is_some() };
                hand_in(tag, letters, rooms, finished, None, &due, around.publisher).await?;
                drop(outcomes);
            }
            Some(ToLane::Requeue(of, why)) if of == epoch => return Ok(why),
            Some(ToLane::Cut(of)) if of == epoch => return Err(Ended::Cut),
            Some(void) => void_order(&void, around.status),
            None => return Err(Ended::Over),
        }
    }
}

/// Room for the letters of one delivery.
struct Rooms {
    report: Room,
    dead_letter: Option<Room>,
}

impl Rooms {
    /// Waits for the room. That of the dead letter comes first: while its queue refuses messages, nobody who waits for it
    /// keeps room from reports.
    async fn reserve(publisher: &Publisher, Lengths { report, dead_letter }: Lengths) -> Self {
        let dead_letter = match dead_letter {
            Some(len) => Some(publisher.reserve(Class::DeadLetter, len).await),
            None => None,
        };
        Self { report: publisher.reserve(Class::Other, report).await, dead_letter }
    }
}

/// Waits for room, unless the subscription is to be cut.
async fn unless_cut(rooms: impl Future<Output = Rooms>, orders: &mut Orders, epoch: Epoch) -> Result<Rooms, Ended> {
    tokio::select! {
        biased;
        rooms = rooms => Ok(rooms),
        () = orders.cut(epoch) => Err(Ended::Cut),
    }
}

/// Publishes letters. What they are confirmed by is due for the delivery of this tag.
async fn hand_in(
    tag: u64,
    letters: Letters,
    rooms: Rooms,
    finished: Finished,
    room: Option<OwnedSemaphorePermit>,
    due: &mpsc::UnboundedSender<Due<Confirmation>>,
    publisher: &Publisher,
) -> Result<(), Ended> {
    let Letters { report, dead_letter, reply } = letters;
    let report = publisher.publish_in(rooms.report, report, reply).await?;
    let dead_letter = match (dead_letter, rooms.dead_letter) {
        (Some(letter), Some(room)) => Some(publisher.publish_in(room, letter, None).await?),
        // Room is reserved for every dead letter.
        (_, _) => None,
    };
    // Whoever acknowledges ends only with this.
    drop(due.send(Due { tag, report, dead_letter, room, finished }));
    Ok(())
}

/// Obtains proofs that a lane is ours.
#[derive(Clone, Copy)]
struct Prover<'a> {
    /// To the broker, on the channel on which the lane is consumed.
    outgoing: &'a Outgoing,
    queue: &'a str,
    proof: &'a Proof,
    status: &'a OfLane,
}

impl Prover<'_> {
    /// Obtains proofs, the first one at once, until one fails. Runs beside the pump, since an answer stands behind what
    /// was delivered before it.
    async fn prove(self) -> Ended {
        let mut next = interval(self.outgoing.time_outs().heartbeat / PROOFS_PER_HEARTBEAT);
        next.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            next.tick().await;
            if let Err(ended) = self.prove_once().await {
                return ended;
            }
        }
    }

    /// Asks the broker whether the queue has a consumer, on the channel on which we are one.
    ///
    /// The answer stands behind what was delivered before it. While that keeps coming, or is not read since too much is held,
    /// a late answer says nothing about the broker: no call leaves for want of a proof, and the lane is kept. When nothing
    /// came for a heartbeat the answer will not either.
    async fn prove_once(self) -> Result<(), Ended> {
        let Self { outgoing, queue, proof, status } = self;
        let began = Moment::now();
        if outgoing.consumers(queue).await? == 0 {
            return Err(Ended::NotOurs);
        }
        proof.renew(began);
        status.moves();
        Ok(())
    }
}

/// An order for a subscription that ended since. A report that comes too late is not published: its job comes again.
pub(super) fn void_order(order: &Order, lane: &OfLane) {
    if let ToLane::Settled(settled, _) = order {
        events::AckLost { lane, job_id: Some(&settled.identity.identity.job_id), jobs: 1 }.record();
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Broker(error)
    }
}

impl From<Lost> for Ended {
    /// The publisher ends only with the process.
    fn from(_: Lost) -> Self {
        Self::Over
    }
}
