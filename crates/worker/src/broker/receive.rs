//! The loop that receives: jobs go to the driver, invalid messages to the loop that [settles](super::settle).

use std::sync::Arc;

use tokio::sync::mpsc;

use super::events;
use super::{
    delivery::{priority, published_at, read},
    lane_connection::{LaneReader, LaneWriter},
    subscription::{LaneContext, ReservedInvalid, SubscriptionEnd},
};
use crate::{
    lane_messages::{Epoch, FromLane},
    ownership_proof::OwnershipProof,
};

/// Receives until the broker or the process ends it.
///
/// It waits for room at either receiver, and both make progress whatever happens here.
pub(super) async fn receive(
    incoming: &mut LaneReader,
    outgoing: &LaneWriter,
    epoch: Epoch,
    proof: &Arc<OwnershipProof>,
    is_up: &mut bool,
    invalid: &mpsc::Sender<ReservedInvalid>,
    context: LaneContext<'_>,
) -> SubscriptionEnd {
    let LaneContext { lane, events, status, .. } = context;
    loop {
        let (message, reserved) = match incoming.next().await {
            Ok(Some(next)) => next,
            Ok(None) => return SubscriptionEnd::Cancelled,
            Err(error) => return SubscriptionEnd::Broker(error),
        };
        // The lane comes up with its first message. Until then another worker may have it, whose calls still count against
        // the limit and may still take effect.
        if !*is_up {
            status.delivered();
            let up = FromLane::Up { lane: lane.id, epoch, proof: Arc::clone(proof) };
            if events.send(up).await.is_err() {
                return SubscriptionEnd::Over;
            }
            *is_up = true;
        }
        let published_at = published_at(&message.properties);
        events::Delivered { lane: status, is_redelivered: message.redelivered, published_at }.record();
        if let Some(priority) = priority(&message.properties)
            && !outgoing.broker().acts_on_priority()
        {
            let is_logged = context.is_priority_logged;
            events::PriorityIgnored { lane: status, priority, broker: outgoing.broker(), is_logged }.record();
        }
        let is_taken = match read(message, epoch, lane, outgoing.broker()) {
            Ok(job) => events.send(FromLane::Delivered(epoch, job)).await.is_ok(),
            Err(message) => {
                // Its bytes stay reserved in one of two places until its dead letter is confirmed.
                let bytes = u32::try_from(message.body.len()).unwrap_or(u32::MAX);
                match Arc::clone(context.invalid).acquire_many_owned(bytes).await {
                    Ok(room) => invalid.send((message, room)).await.is_ok(),
                    Err(_) => false,
                }
            }
        };
        drop(reserved);
        if !is_taken {
            return SubscriptionEnd::Over;
        }
    }
}
