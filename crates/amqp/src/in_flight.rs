//! Published messages that are not yet confirmed, on one channel.
//!
//! The broker returns a message that no queue accepts, and confirms it afterwards. lapin 4.12.3 attaches a returned message
//! to the next confirm that it processes, of whichever message. With several messages in flight, a returned one can look
//! confirmed, and a confirmed one returned. Here a message is **proven** only once every message that was sent before its
//! confirm arrived is confirmed too: if it was returned, the return is attached to one of those confirms.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use lapin::{
    Channel, Confirmation, ErrorKind,
    message::BasicReturnMessage,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};

use crate::Message;

/// The broker's response to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishOutcome {
    /// The broker stored it.
    Confirmed,
    /// A queue refused it. Channel and connection remain usable.
    Nacked,
    /// No queue accepts it.
    Unroutable,
}

/// A message with the data that its owner needs once it is proven.
pub trait Outgoing {
    /// Returns the message.
    fn message(&self) -> &Message;
}

/// The messages of one channel in the order in which they were sent.
pub struct InFlightMessages<T> {
    channel: Channel,
    unconfirmed: VecDeque<SentMessage<T>>,
    /// Confirmed, each with the number of the message that was sent next at that time.
    unproven: VecDeque<(SentMessage<T>, u64)>,
    /// The number of the next message.
    next: u64,
    /// The failure of the channel, which is returned after the confirms before it.
    failure: Option<lapin::Error>,
}

struct SentMessage<T> {
    number: u64,
    outgoing: T,
    is_returned: bool,
    confirm: Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>,
}

impl<T: Outgoing> InFlightMessages<T> {
    /// Puts the channel in confirm mode.
    ///
    /// # Errors
    /// If the broker refuses.
    pub async fn open(channel: Channel) -> lapin::Result<Self> {
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { channel, unconfirmed: VecDeque::new(), unproven: VecDeque::new(), next: 0, failure: None })
    }

    /// Returns how many messages are not proven.
    #[must_use]
    pub fn len(&self) -> usize {
        self.unconfirmed.len() + self.unproven.len()
    }

    /// Returns whether all messages are proven.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends a message after those before it, without waiting for anything.
    pub fn send(&mut self, outgoing: T) {
        let mut confirm = Box::pin(publish(self.channel.clone(), outgoing.message().clone()));
        // The first poll passes the message to the library. Its waker matters only for the first in line.
        let first_poll = confirm.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let confirm: Pin<Box<dyn Future<Output = _> + Send>> = match first_poll {
            Poll::Pending => confirm,
            Poll::Ready(ended) => Box::pin(std::future::ready(ended)),
        };
        self.unconfirmed.push_back(SentMessage { number: self.next, outgoing, is_returned: false, confirm });
        self.next += 1;
    }

    /// Waits for the next confirm; without a message in flight, forever. Returns the messages that this and all further
    /// arrived confirms prove. Cancel safe.
    ///
    /// # Errors
    /// If the channel or the connection failed. The caller must send the messages that are not proven on another channel.
    pub async fn proven(&mut self) -> lapin::Result<Vec<(T, PublishOutcome)>> {
        let mut proven = Vec::new();
        poll_fn(|cx| self.poll_proven(cx, &mut proven)).await?;
        Ok(proven)
    }

    fn poll_proven(&mut self, cx: &mut Context<'_>, proven: &mut Vec<(T, PublishOutcome)>) -> Poll<lapin::Result<()>> {
        if let Some(error) = self.failure.take() {
            return Poll::Ready(Err(error));
        }
        let mut is_any = false;
        while let Some(first) = self.unconfirmed.front_mut()
            && let Poll::Ready(confirmation) = first.confirm.as_mut().poll(cx)
        {
            match confirmation {
                Ok(Confirmation::Ack(returned)) => self.confirmed(PublishOutcome::Confirmed, returned, proven),
                Ok(Confirmation::Nack(returned)) => self.confirmed(PublishOutcome::Nacked, returned, proven),
                ended => {
                    // Impossible in confirm mode.
                    let error = ended.err().unwrap_or_else(|| ErrorKind::FutureCompleted.into());
                    first.confirm = Box::pin(std::future::pending());
                    if !is_any {
                        return Poll::Ready(Err(error));
                    }
                    self.failure = Some(error);
                }
            }
            is_any = true;
        }
        if is_any { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Handles the confirm of the oldest message.
    fn confirmed(
        &mut self,
        outcome: PublishOutcome,
        returned: Option<BasicReturnMessage>,
        proven: &mut Vec<(T, PublishOutcome)>,
    ) {
        let Some(sent) = self.unconfirmed.pop_front() else { return };
        let through = sent.number;
        match outcome {
            PublishOutcome::Nacked => proven.push((sent.outgoing, outcome)),
            PublishOutcome::Confirmed | PublishOutcome::Unroutable => self.unproven.push_back((sent, self.next)),
        }
        if let Some(returned) = returned {
            self.mark_returned(&returned);
        }
        while let Some((sent, _)) = self.unproven.pop_front_if(|(_, until)| *until <= through + 1) {
            let outcome = if sent.is_returned { PublishOutcome::Unroutable } else { PublishOutcome::Confirmed };
            proven.push((sent.outgoing, outcome));
        }
    }

    /// Returns the messages that are not proven, in the order in which they were sent.
    pub fn into_unproven(self) -> impl Iterator<Item = T> {
        let unproven = self.unproven.into_iter().map(|(sent, _)| sent);
        unproven.chain(self.unconfirmed).map(|sent| sent.outgoing)
    }

    /// Marks the returned message. Of several equal messages any one will do.
    fn mark_returned(&mut self, returned: &BasicReturnMessage) {
        let unproven = self.unproven.iter_mut().map(|(sent, _)| sent);
        let mut all = unproven.chain(&mut self.unconfirmed);
        if let Some(sent) = all.find(|sent| !sent.is_returned && sent.outgoing.message().equals(&returned.delivery)) {
            sent.is_returned = true;
        }
    }
}

async fn publish(channel: Channel, message: Message) -> lapin::Result<Confirmation> {
    let Message { exchange, routing_key, properties, body } = message;
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    channel.basic_publish(exchange, routing_key, options, &body, properties).await?.await
}

impl<T: Outgoing> fmt::Debug for InFlightMessages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlightMessages").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::{AMQPClass, basic};

    use super::*;
    use crate::fake_broker::{self, FakeBroker};

    struct TestMessage(u64, Message);

    impl Outgoing for TestMessage {
        fn message(&self) -> &Message {
            &self.1
        }
    }

    /// The broker returns the second of two messages before it confirms both.
    #[tokio::test]
    async fn returned_message_is_the_unroutable_one() {
        let [first, second] = fake_broker::two_messages();
        let broker = FakeBroker::start(fake_broker::return_second_of_two(&second)).await;
        let connection = broker.connect().await;
        let mut in_flight = InFlightMessages::open(connection.create_channel().await.unwrap()).await.unwrap();
        in_flight.send(TestMessage(1, first));
        in_flight.send(TestMessage(2, second));
        let mut proven = Vec::new();
        while proven.len() < 2 {
            proven.extend(in_flight.proven().await.unwrap());
        }
        let outcomes: Vec<_> = proven.into_iter().map(|(TestMessage(number, _), outcome)| (number, outcome)).collect();
        assert_eq!(outcomes, [(1, PublishOutcome::Confirmed), (2, PublishOutcome::Unroutable)]);
        assert!(in_flight.is_empty());
    }

    /// A nack is final at once.
    #[tokio::test]
    async fn nacked_message_is_reported_before_later_ones() {
        let nack = |tag| {
            let nack = basic::Nack { delivery_tag: tag, multiple: false, requeue: false };
            crate::encode_method(1, &AMQPClass::Basic(basic::AMQPMethod::Nack(nack)))
        };
        let mut published = 0;
        let broker = FakeBroker::start(move |_, method| {
            published += u64::from(matches!(method, AMQPClass::Basic(basic::AMQPMethod::Publish(_))));
            if published == 1 { vec![nack(1)] } else { vec![] }
        })
        .await;
        let connection = broker.connect().await;
        let mut in_flight = InFlightMessages::open(connection.create_channel().await.unwrap()).await.unwrap();
        let [first, second] = fake_broker::two_messages();
        in_flight.send(TestMessage(1, first));
        let proven = in_flight.proven().await.unwrap();
        assert!(matches!(&proven[..], [(TestMessage(1, _), PublishOutcome::Nacked)]));
        in_flight.send(TestMessage(2, second));
        assert_eq!(in_flight.into_unproven().map(|TestMessage(number, _)| number).collect::<Vec<_>>(), [2]);
    }
}
