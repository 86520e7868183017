//! Settlement: what was published for a delivery is confirmed before the delivery is acknowledged, and acknowledgements
//! become due in the order in which the deliveries were settled.

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::events::Finished;

/// A delivery and the confirms that it waits for.
#[derive(Debug)]
pub(super) struct Due<C> {
    /// What it is acknowledged by.
    pub(super) tag: u64,
    /// Of its report.
    pub(super) report: C,
    /// Of what is left of it, if anything.
    pub(super) dead_letter: Option<C>,
    /// The room that its bytes take until they are confirmed, if that is counted.
    pub(super) room: Option<OwnedSemaphorePermit>,
    /// What is to be said when it may be acknowledged.
    pub(super) finished: Finished,
}

/// Tells `acknowledge` of what is confirmed, in the order in which it was settled, until no more is to come.
///
/// Confirms may come in any order: the first in line holds up the others. So of the jobs of an account, which are settled
/// in their order, a crash never takes back an earlier one without the later ones.
///
/// # Errors
/// If something will never be confirmed, or cannot be acknowledged: nothing after it is acknowledged either.
pub(super) async fn settle<C, L, E>(
    mut due: mpsc::UnboundedReceiver<Due<C>>,
    mut acknowledge: impl FnMut(u64, Finished) -> Result<(), E>,
) -> Result<(), E>
where
    C: Future<Output = Result<(), L>>,
    E: From<L>,
{
    while let Some(Due { tag, report, dead_letter, room, finished }) = due.recv().await {
        report.await?;
        if let Some(dead_letter) = dead_letter {
            dead_letter.await?;
        }
        drop(room);
        acknowledge(tag, finished)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        future::poll_fn,
        pin::pin,
        task::{Context, Poll, Waker},
        time::SystemTime,
    };

    use proptest::prelude::*;
    use tokio::sync::oneshot;

    use super::*;
    use crate::wire::report::Status;

    #[derive(Debug, PartialEq, Eq)]
    struct Never;

    impl From<oneshot::error::RecvError> for Never {
        fn from(_: oneshot::error::RecvError) -> Self {
            Self
        }
    }

    /// A confirm as the publisher gives it.
    struct Confirm(oneshot::Receiver<()>);

    impl Future for Confirm {
        type Output = Result<(), oneshot::error::RecvError>;

        fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            std::pin::Pin::new(&mut self.0).poll(cx)
        }
    }

    fn due_for(tag: u64, report: oneshot::Receiver<()>, dead_letter: Option<Confirm>) -> Due<Confirm> {
        let finished = Finished { status: Status::Succeeded, received_at: SystemTime::now(), is_dead: false };
        Due { tag, report: Confirm(report), dead_letter, room: None, finished }
    }

    proptest! {
        /// Whatever the order of the confirms, the acknowledged are always the longest beginning of the settled of which
        /// all is confirmed.
        #[test]
        fn acks_go_out_in_the_order_of_settlement_and_none_before_its_confirms(
            has_dead_letter in prop::collection::vec(any::<bool>(), 1..20),
            order in prop::collection::vec(any::<prop::sample::Index>(), 40),
        ) {
            let (sender, due) = mpsc::unbounded_channel();
            let mut open = Vec::new();
            for (place, &has_dead_letter) in has_dead_letter.iter().enumerate() {
                let (report, report_confirm) = oneshot::channel();
                open.push((place, report));
                let dead_letter = has_dead_letter.then(|| {
                    let (letter, confirm) = oneshot::channel();
                    open.push((place, letter));
                    Confirm(confirm)
                });
                // Tags come in another order than settlements.
                let tag = 1000 - place as u64;
                sender.send(due_for(tag, report_confirm, dead_letter)).unwrap();
            }
            drop(sender);
            let acked = RefCell::new(Vec::new());
            let mut settling = pin!(settle(due, |tag, _| -> Result<(), Never> {
                acked.borrow_mut().push(tag);
                Ok(())
            }));
            let mut cx = Context::from_waker(Waker::noop());
            for index in order {
                let ended = settling.as_mut().poll(&mut cx);
                let first_open = open.iter().map(|(place, _)| *place).min().unwrap_or(has_dead_letter.len());
                let expected: Vec<u64> = (0..first_open as u64).map(|place| 1000 - place).collect();
                prop_assert_eq!(&*acked.borrow(), &expected);
                prop_assert_eq!(ended.is_ready(), open.is_empty());
                if open.is_empty() {
                    break;
                }
                let (_, confirm) = open.swap_remove(index.index(open.len()));
                confirm.send(()).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn nothing_is_acknowledged_after_what_was_never_confirmed() {
        let (sender, due) = mpsc::unbounded_channel();
        let confirms: Vec<_> = (1..=3)
            .map(|tag| {
                let (confirm, confirmed) = oneshot::channel();
                sender.send(due_for(tag, confirmed, None)).unwrap();
                confirm
            })
            .collect();
        for (confirm, is_confirmed) in confirms.into_iter().zip([true, false, true]) {
            if is_confirmed {
                confirm.send(()).unwrap();
            }
        }
        let mut acked = Vec::new();
        let ended = settle(due, |tag, _| -> Result<(), Never> {
            acked.push(tag);
            Ok(())
        })
        .await;
        assert_eq!((ended, acked), (Err(Never), vec![1]));
    }

    #[tokio::test]
    async fn it_waits_for_more_until_no_more_is_to_come() {
        let (sender, due) = mpsc::unbounded_channel::<Due<Confirm>>();
        let mut settling = Box::pin(settle(due, |_, _| Ok::<(), Never>(())));
        let is_ready = poll_fn(|cx| Poll::Ready(settling.as_mut().poll(cx).is_ready())).await;
        assert!(!is_ready);
        drop(sender);
        assert_eq!(settling.await, Ok(()));
    }
}
