//! The orders of the driver to one lane, in their order.

use std::{collections::VecDeque, future::pending};

use tokio::sync::mpsc;

use super::JobEnvelope;
use crate::lane_messages::{Epoch, ToLane};

/// One order.
pub(super) type LaneOrder = ToLane<Box<JobEnvelope>>;

/// The receiving end. What one subscription leaves is for the next one.
///
/// The channel has no limit, because the driver must not wait for one lane. What it holds is bounded all the same: for each
/// subscription one report for each unacknowledged delivery, at most the prefetch, and one of each other order (consume,
/// requeue, release, cut), or two if an operator pauses and resumes the lane meanwhile. The supervisor takes out all orders
/// for a subscription that ended before the next one gets its first delivery.
#[derive(Debug)]
pub(super) struct Orders {
    incoming: mpsc::UnboundedReceiver<LaneOrder>,
    /// Orders that were read ahead, oldest first.
    ahead: VecDeque<LaneOrder>,
}

impl Orders {
    /// Both ends.
    pub(super) fn new() -> (mpsc::UnboundedSender<LaneOrder>, Self) {
        let (line, incoming) = mpsc::unbounded_channel();
        (line, Self { incoming, ahead: VecDeque::new() })
    }

    /// Returns the next order, or `None` when the driver has ended. Nothing is lost when this is dropped before.
    pub(super) async fn recv(&mut self) -> Option<LaneOrder> {
        match self.ahead.pop_front() {
            Some(order) => Some(order),
            None => self.incoming.recv().await,
        }
    }

    /// Waits for the order to cut this subscription. Reads ahead for that, and keeps all other orders. Never returns if the
    /// driver ends: what it ordered before is still to be done.
    pub(super) async fn cut(&mut self, epoch: Epoch) {
        loop {
            match self.incoming.recv().await {
                Some(ToLane::Cut(of)) if of == epoch => return,
                Some(order) => self.ahead.push_back(order),
                None => pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;
    use crate::lane_messages::Requeue;

    const EPOCH: Epoch = Epoch(7);

    fn is_cut(orders: &mut Orders) -> bool {
        pin!(orders.cut(EPOCH)).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[tokio::test]
    async fn orders_read_ahead_are_kept_in_order() {
        let (line, mut orders) = Orders::new();
        line.send(ToLane::Requeue(EPOCH, Requeue::Operations)).unwrap();
        line.send(ToLane::Consume).unwrap();
        assert!(!is_cut(&mut orders));
        line.send(ToLane::Cut(Epoch(6))).unwrap();
        drop(line);
        assert!(!is_cut(&mut orders), "the driver has ended");
        assert!(matches!(orders.recv().await, Some(ToLane::Requeue(EPOCH, _))));
        assert!(matches!(orders.recv().await, Some(ToLane::Consume)));
        assert!(matches!(orders.recv().await, Some(ToLane::Cut(Epoch(6)))));
        assert!(orders.recv().await.is_none());
    }

    #[test]
    fn cut_overtakes_what_waits() {
        let (line, mut orders) = Orders::new();
        line.send(ToLane::Consume).unwrap();
        line.send(ToLane::Cut(EPOCH)).unwrap();
        assert!(is_cut(&mut orders));
    }
}
