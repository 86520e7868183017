//! The loop that settles. It owns the deliveries that are not acknowledged, the messages that are not confirmed, and the
//! channel on which they are published.

use std::{future::pending, pin::Pin};

use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    Error, JobEnvelope, PublishMode, ReplyAddress,
    delivery::{InvalidMessage, published_at, traceparent},
    events::{self, Finished},
    lane_connection::LaneWriter,
    orders::{LaneOrder, Orders},
    outgoing_messages::{Lengths, OutgoingMessages, Reporter},
    publish_queue::{FinishedMessage, PublishQueue},
    room::{Room, RoomClass, Rooms},
    settlement::Settlement,
    subscription::{LaneContext, ReservedInvalid, SubscriptionEnd, void_order},
    topology::Depth,
};
use crate::{
    lane_messages::{Epoch, Requeue, SettledJob, ToLane, UnpublishedOutcomes},
    ownership_proof::{Moment, OwnershipProof},
    wire::report::Status,
};

/// Proofs in a heartbeat.
pub(super) const PROOFS_PER_HEARTBEAT: u32 = 4;

/// The loop of one subscription.
pub(super) struct Settling<'a> {
    epoch: Epoch,
    context: LaneContext<'a>,
    reporter: Reporter<'a>,
    outgoing: &'a LaneWriter,
    proof: &'a OwnershipProof,
    queue: &'a str,
    /// Deliveries that are settled and not acknowledged.
    settlement: Settlement,
    /// Messages that are not confirmed.
    messages: PublishQueue<PartOfDelivery>,
    /// Deliveries that were acknowledged.
    acknowledged: &'a mut u32,
    question: Option<Question<'a>>,
    /// The delivery whose messages wait for room. No other is taken meanwhile.
    waiting: Option<WaitingForRoom<'a>>,
    /// Why the lane is requeued once all is acknowledged.
    leaves: Option<Requeue>,
}

/// What a published message belongs to.
struct PartOfDelivery {
    /// In [`Settlement`].
    number: u64,
    /// The recipient of a copy, sent after the broker confirms the message.
    reply: Option<Box<ReplyAddress>>,
    /// What its bytes take until then.
    _room: Room,
    _invalid_room: Option<OwnedSemaphorePermit>,
}

/// A question to the broker whose answer proves that the lane is ours, and that the broker has processed what was sent
/// before.
struct Question<'a> {
    asked_at: Moment,
    /// Whether it was asked after the last acknowledgement.
    is_for_acks: bool,
    depth: Pin<Box<dyn Future<Output = Result<Depth, Error>> + Send + 'a>>,
}

/// A delivery with its outcome.
enum Reportable {
    Job(Box<SettledJob<Box<JobEnvelope>>>, UnpublishedOutcomes),
    Invalid(Box<InvalidMessage>, OwnedSemaphorePermit),
}

/// The orders that are accepted at the moment.
enum Accepted {
    All,
    /// Only that to cut this subscription. The others keep their places.
    Cut(Epoch),
    None,
}

struct WaitingForRoom<'a> {
    delivery: Reportable,
    rooms: Pin<Box<dyn Future<Output = ReportRooms> + Send + 'a>>,
}

/// Room for the messages of one delivery.
struct ReportRooms {
    report: Room,
    dead_letter: Option<Room>,
}

impl<'a> Settling<'a> {
    /// The loop of a subscription to this queue that was just opened.
    pub(super) fn new(
        epoch: Epoch,
        queue: &'a str,
        outgoing: &'a LaneWriter,
        proof: &'a OwnershipProof,
        acknowledged: &'a mut u32,
        context: LaneContext<'a>,
    ) -> Self {
        Self {
            epoch,
            context,
            reporter: Reporter { lane: &context.lane.name, worker: context.worker },
            outgoing,
            proof,
            queue,
            settlement: Settlement::new(),
            messages: context.publishers.open_queue(),
            acknowledged,
            question: None,
            waiting: None,
            leaves: None,
        }
    }

    /// Settles until the lane is requeued and all is acknowledged, or something fails.
    pub(super) async fn run(
        mut self,
        orders: &mut Orders,
        mut invalid: mpsc::Receiver<ReservedInvalid>,
    ) -> SubscriptionEnd {
        let mut next_proof = interval(self.outgoing.time_outs().heartbeat / PROOFS_PER_HEARTBEAT);
        next_proof.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(why) = self.leaves
                && self.settlement.is_empty()
            {
                return SubscriptionEnd::Requeued(why);
            }
            let is_open = self.waiting.is_none() && self.leaves.is_none();
            let accepted = match (&self.waiting, self.leaves) {
                (Some(_), _) => Accepted::Cut(self.epoch),
                (None, None) => Accepted::All,
                (None, Some(_)) => Accepted::None,
            };
            let wakes_at = self.settlement.wakes_at();
            let step = tokio::select! {
                biased;
                depth = answer(&mut self.question) => self.answered(depth),
                _ = next_proof.tick(), if self.question.is_none() => {
                    self.ask();
                    Ok(())
                }
                order = next_order(orders, accepted) => match order {
                    Some(ToLane::Settled(settled, outcomes)) if settled.identity.epoch == self.epoch => {
                        events::Settled::of_queue(self.context.status, &settled).record();
                        self.report(Reportable::Job(settled, outcomes));
                        Ok(())
                    }
                    Some(ToLane::Requeue(of, why)) if of == self.epoch => {
                        self.leaves = Some(why);
                        self.settlement.close(Instant::now());
                        Ok(())
                    }
                    Some(ToLane::Release) => {
                        self.leaves = Some(Requeue::Paused);
                        self.settlement.close(Instant::now());
                        Ok(())
                    }
                    Some(ToLane::Cut(of)) if of == self.epoch => Err(SubscriptionEnd::Cut),
                    Some(void) => {
                        void_order(&void, self.context.status);
                        Ok(())
                    }
                    None => Err(SubscriptionEnd::Over),
                },
                rooms = rooms(&mut self.waiting) => {
                    if let Some(WaitingForRoom { delivery, .. }) = self.waiting.take() {
                        self.publish(delivery, rooms);
                    }
                    Ok(())
                }
                Some((message, room)) = invalid.recv(), if is_open => {
                    let InvalidMessage { rejection, reason, properties, .. } = &*message;
                    let traceparent = traceparent(properties);
                    events::Rejected { lane: self.context.status, rejection, reason, traceparent }.record();
                    self.report(Reportable::Invalid(message, room));
                    Ok(())
                }
                published = self.messages.finished() => self.published(published),
                () = sleep_until(wakes_at.unwrap_or_else(Instant::now)), if wakes_at.is_some() => Ok(()),
            };
            if let Err(ended) = step {
                return ended;
            }
            self.acknowledge();
        }
    }

    /// Publishes the messages of a delivery, once there is room for them.
    fn report(&mut self, delivery: Reportable) {
        let lengths = match &delivery {
            Reportable::Job(settled, _) => Lengths::from_job(&settled.reports),
            Reportable::Invalid(message, _) => Lengths::from_invalid(message),
        };
        let rooms: &'a Rooms = self.context.publishers.rooms();
        match ReportRooms::try_reserve(rooms, lengths) {
            Some(rooms) => self.publish(delivery, rooms),
            None => {
                self.waiting = Some(WaitingForRoom { delivery, rooms: Box::pin(ReportRooms::reserve(rooms, lengths)) });
            }
        }
    }

    fn publish(&mut self, delivery: Reportable, rooms: ReportRooms) {
        let (tag, status, times, messages, invalid_room) = match delivery {
            Reportable::Job(settled, _outcomes) => {
                let JobEnvelope { tag, published_at, .. } = *settled.identity;
                let (times, status) = ((published_at, settled.received_at), Status::of(&settled.reports));
                (tag, status, times, OutgoingMessages::from_job(*settled, self.reporter), None)
            }
            Reportable::Invalid(message, room) => {
                let (tag, times) = (message.tag, (published_at(&message.properties), message.received_at));
                let messages = OutgoingMessages::from_invalid(*message, self.reporter);
                (tag, Status::Rejected, times, messages, Some(room))
            }
        };
        let OutgoingMessages { report, dead_letter, reply } = messages;
        // Room is reserved for every dead letter.
        let dead_letter = dead_letter.zip(rooms.dead_letter);
        let (published_at, received_at) = times;
        let finished = Finished { status, published_at, received_at, is_dead: dead_letter.is_some() };
        let number = self.settlement.add(tag, 1 + usize::from(dead_letter.is_some()), finished);
        let mut publish = |message: imageshare_amqp::Message, mut room: Room, reply, invalid_room| {
            room.shrink_to(message.body.len());
            let of = PartOfDelivery { number, reply, _room: room, _invalid_room: invalid_room };
            self.messages.publish(message, PublishMode::UntilConfirmed, of);
        };
        publish(report, rooms.report, reply, None);
        if let Some((dead_letter, room)) = dead_letter {
            publish(dead_letter, room, None, invalid_room);
        }
    }

    fn published(&mut self, published: Vec<FinishedMessage<PartOfDelivery>>) -> Result<(), SubscriptionEnd> {
        let now = Instant::now();
        for FinishedMessage { of, message, result } in published {
            // What is published until it is confirmed is lost only when the process ends.
            result.map_err(|_| SubscriptionEnd::Over)?;
            if let Some(reply) = &of.reply {
                self.context.publishers.send_copy(&message, reply);
            }
            self.settlement.confirmed(now, of.number, |finished| finished.record(self.context.status));
        }
        Ok(())
    }

    fn acknowledge(&mut self) {
        let Self { settlement, outgoing, acknowledged, context, .. } = self;
        settlement.acknowledge(Instant::now(), |ack| {
            **acknowledged += ack.count;
            context.status.metrics.acknowledged(ack.count.into());
            context.status.moves();
            outgoing.ack(ack.tag, ack.multiple);
        });
        if self.settlement.awaits_answer() && self.question.is_none() {
            self.ask();
        }
    }

    /// Asks the broker whether the queue has a consumer, on the channel on which this worker is one.
    fn ask(&mut self) {
        self.question = Some(Question {
            asked_at: Moment::now(),
            is_for_acks: self.settlement.awaits_answer(),
            depth: Box::pin(self.outgoing.proven_depth(self.queue)),
        });
    }

    fn answered(&mut self, depth: Result<Depth, Error>) -> Result<(), SubscriptionEnd> {
        let Some(Question { asked_at, is_for_acks, .. }) = self.question.take() else { return Ok(()) };
        let Depth { ready, consumers } = depth?;
        if consumers == 0 {
            return Err(SubscriptionEnd::NoConsumer);
        }
        self.context.status.metrics.queue_ready.set(ready.into());
        self.proof.renew(asked_at);
        self.context.status.moves();
        if is_for_acks {
            self.settlement.answered(Instant::now());
        }
        Ok(())
    }
}

/// Waits for an accepted order. Returns `None` when the driver has ended.
async fn next_order(orders: &mut Orders, accepted: Accepted) -> Option<LaneOrder> {
    match accepted {
        Accepted::All => orders.recv().await,
        Accepted::Cut(epoch) => {
            orders.cut(epoch).await;
            Some(ToLane::Cut(epoch))
        }
        Accepted::None => pending().await,
    }
}

/// Waits for the answer to a question; without a question, never completes.
async fn answer(question: &mut Option<Question<'_>>) -> Result<Depth, Error> {
    match question {
        Some(question) => question.depth.as_mut().await,
        None => pending().await,
    }
}

/// Waits for the room of a delivery, forever if none waits.
async fn rooms(waiting: &mut Option<WaitingForRoom<'_>>) -> ReportRooms {
    match waiting {
        Some(waiting) => waiting.rooms.as_mut().await,
        None => pending().await,
    }
}

impl ReportRooms {
    /// Waits for room. That of the dead letter comes first: while its queue refuses messages, those that wait for it take no
    /// room from reports.
    async fn reserve(rooms: &Rooms, Lengths { report, dead_letter }: Lengths) -> Self {
        let dead_letter = match dead_letter {
            Some(len) => Some(rooms.reserve(RoomClass::DeadLetter, len).await),
            None => None,
        };
        Self { report: rooms.reserve(RoomClass::Other, report).await, dead_letter }
    }

    /// The same if there is room now.
    fn try_reserve(rooms: &Rooms, Lengths { report, dead_letter }: Lengths) -> Option<Self> {
        let dead_letter = match dead_letter {
            Some(len) => Some(rooms.try_reserve(RoomClass::DeadLetter, len)?),
            None => None,
        };
        Some(Self { report: rooms.try_reserve(RoomClass::Other, report)?, dead_letter })
    }
}
