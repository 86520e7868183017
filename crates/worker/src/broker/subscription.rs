//! One subscription of a lane. Three loops run concurrently. When one of them ends, the subscription ends.
//!
//! | loop | does |
//! |---|---|
//! | [`receive`] | decodes messages: jobs for the driver, invalid messages for `settle` |
//! | [`settle`](settle::Settling::run) | publishes reports and dead letters, awaits their confirms, acknowledges, proves ownership |
//! | `write_all` of [`LaneConnection`] | writes acknowledgements, questions and heartbeats to the socket |
//!
//! A subscription ends in one of two ways: the connection is closed while consumer and channel are alive, or its socket
//! is shut down. Only these make the broker requeue the deliveries in order. Therefore a subscription never rejects a
//! delivery, cancels its consumer, or closes the channel alone.

use std::sync::{Arc, atomic::AtomicBool};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{
    BrokerLane, Error, JobEnvelope, Publishers,
    delivery::InvalidMessage,
    lane_connection::LaneConnection,
    orders::{LaneOrder, Orders},
    receive::receive,
    settle::Settling,
    topology,
};
use crate::{
    lane_messages::{Epoch, FromLane, Requeue, ToLane},
    metrics::Up,
    ownership_proof::OwnershipProof,
    status::LaneRecord,
};

/// Invalid messages that wait to be published.
const INVALID_MAX: usize = 16;

/// What a subscription uses.
#[derive(Clone, Copy)]
pub(super) struct LaneContext<'a> {
    pub(super) lane: &'a BrokerLane,
    /// `host:pid`.
    pub(super) worker: &'a str,
    pub(super) publishers: &'a Publishers,
    pub(super) events: &'a mpsc::Sender<FromLane<Box<JobEnvelope>>>,
    pub(super) status: &'a LaneRecord,
    /// Bytes of invalid messages that all lanes may keep until they are confirmed.
    pub(super) invalid: &'a Arc<Semaphore>,
    /// Whether a job with a priority was logged.
    pub(super) is_priority_logged: &'a AtomicBool,
}

/// A lane that is consumed. Dropping it cuts the connection, and the broker requeues everything in order.
pub(super) struct Subscription {
    connection: LaneConnection,
    proof: Arc<OwnershipProof>,
    epoch: Epoch,
    /// Whether a message arrived, and the driver was informed.
    is_up: bool,
    /// Deliveries that were acknowledged.
    acknowledged: u32,
    _is_connected: Up,
}

/// The end of a subscription.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) ended: SubscriptionEnd,
    /// Whether a message arrived, and the driver was informed.
    pub(super) was_up: bool,
    /// Deliveries that were acknowledged.
    pub(super) acknowledged: u32,
}

/// Why there is no subscription.
#[derive(Debug)]
pub(super) enum SubscriptionEnd {
    /// The driver requeued or released the lane. All that was due is acknowledged.
    Requeued(Requeue),
    /// The driver detected that the process was suspended.
    Cut,
    /// The broker, or the network.
    Broker(Error),
    /// Something is missing or different at the broker.
    Topology(Vec<topology::Difference>),
    /// The broker has no consumer of this lane, and has not reported its end.
    NoConsumer,
    /// The broker ended the consumer, as it does when the queue is deleted, and from RabbitMQ 4.3 on when an
    /// acknowledgement takes longer than `consumer_timeout`. (Before, that closes the channel.)
    Cancelled,
    /// The process ends.
    Over,
}

/// An invalid message and the bytes that are reserved for it.
pub(super) type ReservedInvalid = (Box<InvalidMessage>, OwnedSemaphorePermit);

impl Subscription {
    /// Consumes a lane on its connection.
    pub(super) async fn open(
        mut connection: LaneConnection,
        is_connected: Up,
        lane: &BrokerLane,
        prefetch: u16,
        epoch: Epoch,
    ) -> Result<Self, SubscriptionEnd> {
        connection.consume(&topology::jobs_queue(&lane.name), prefetch).await?;
        let proof = Arc::new(OwnershipProof::new(connection.time_outs().heartbeat));
        Ok(Self { connection, proof, epoch, is_up: false, acknowledged: 0, _is_connected: is_connected })
    }

    /// Serves the lane until something ends it, and ends it in the way that this requires.
    pub(super) async fn serve(mut self, orders: &mut Orders, context: LaneContext<'_>) -> Served {
        context.status.subscribed(self.connection.time_outs().heartbeat);
        let ended = self.run(orders, context).await;
        self.proof.revoke();
        if let SubscriptionEnd::Requeued(_) = ended
            && self.acknowledged > 0
        {
            // If the broker does not answer, jobs that it did not remove are redelivered, and found done.
            drop(self.connection.until_acks_are_applied(&topology::jobs_queue(&context.lane.name)).await);
        }
        if let SubscriptionEnd::Requeued(_) | SubscriptionEnd::Over = ended {
            // If the broker does not answer, the connection is cut all the same.
            drop(self.connection.close().await);
        }
        let Self { epoch, is_up: was_up, acknowledged, .. } = self;
        drop(self);
        context.status.disconnected();
        if was_up {
            drop(context.events.send(FromLane::Down { lane: context.lane.id, epoch }).await);
        }
        Served { ended, was_up, acknowledged }
    }

    async fn run(&mut self, orders: &mut Orders, context: LaneContext<'_>) -> SubscriptionEnd {
        let Self { connection, proof, epoch, is_up, acknowledged, .. } = self;
        let (incoming, outgoing) = connection.split();
        let (invalid_sender, invalid) = mpsc::channel(INVALID_MAX);
        let queue = topology::jobs_queue(&context.lane.name);
        let settling = Settling::new(*epoch, &queue, outgoing, proof, acknowledged, context);
        tokio::select! {
            biased;
            ended = settling.run(orders, invalid) => ended,
            ended = receive(incoming, outgoing, *epoch, proof, is_up, &invalid_sender, context) => ended,
        }
    }
}

/// Drops an order for a subscription that ended. Its job returns, so its report is not published.
pub(super) fn void_order(order: &LaneOrder, lane: &LaneRecord) {
    if let ToLane::Settled(settled, _) = order {
        lane.acks_lost(Some(&settled.identity.identity.job_id), 1);
    }
}

impl From<Error> for SubscriptionEnd {
    fn from(error: Error) -> Self {
        Self::Broker(error)
    }
}
