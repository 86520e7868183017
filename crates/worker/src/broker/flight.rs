//! Messages on their way to the broker, until it is certain what became of each.
//!
//! The library tells of a message that no queue took by hanging it on a confirm. But it takes the next confirm that it
//! works on, whichever message that is for, so that with many in flight a message may look confirmed that was
//! returned, and another one returned that was confirmed. Here a confirmed message is **proven** only when every
//! message that was sent before its confirm was seen is confirmed too: whatever returned it hangs on one of those.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use lapin::{Channel, Confirmation, message::BasicReturnMessage, options::BasicPublishOptions};

use super::{Error, Message};

/// The call that an error names, whether a confirm or an event of the connection brings it.
pub(super) const PUBLISH: &str = "basic.publish";

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The broker has it.
    Confirmed,
    /// A queue refused it. Channel and connection are as before.
    Nacked,
    /// No queue takes it.
    Unroutable,
}

/// What is on its way: a message, and what its owner needs when it has arrived.
pub(super) trait Outgoing {
    fn message(&self) -> &Message;
}

/// The messages of one channel, in the order in which they were sent.
pub(super) struct Flight<R> {
    channel: Channel,
    /// Without a confirm.
    unconfirmed: VecDeque<Sent<R>>,
    /// With a confirm, and what has to be confirmed until it is proven.
    unproven: VecDeque<(Sent<R>, u64)>,
    /// The number of the next message.
    next: u64,
}

struct Sent<R> {
    number: u64,
    request: R,
    is_returned: bool,
    confirm: Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>,
}

impl<R: Outgoing> Flight<R> {
    /// None yet. The channel has to be in confirm mode.
    pub(super) const fn new(channel: Channel) -> Self {
        Self { channel, unconfirmed: VecDeque::new(), unproven: VecDeque::new(), next: 0 }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.unconfirmed.len() + self.unproven.len()
    }

    /// Sends a message after those before it, and does not wait for anything.
    pub(super) fn send(&mut self, request: R) {
        let mut confirm = Box::pin(publish(self.channel.clone(), request.message().clone()));
        // The first poll hands the message to the library; nobody needs to be woken before it is the first in line.
        let handed_over = confirm.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let confirm: Pin<Box<dyn Future<Output = _> + Send>> = match handed_over {
            Poll::Pending => confirm,
            Poll::Ready(ended) => Box::pin(std::future::ready(ended)),
        };
        self.unconfirmed.push_back(Sent { number: self.next, request, is_returned: false, confirm });
        self.next += 1;
    }

    /// Waits for the next confirm and gives all messages that it proves. Waits for ever while there is none to come.
    /// Nothing is lost when it is dropped before it is ready.
    pub(super) async fn proven(&mut self) -> Result<Vec<(R, Outcome)>, Error> {
        let confirmation = poll_fn(|cx| match self.unconfirmed.front_mut() {
            Some(first) => first.confirm.as_mut().poll(cx),
            None => Poll::Pending,
        })
        .await;
        let Some(sent) = self.unconfirmed.pop_front() else { return Ok(Vec::new()) };
        let through = sent.number;
        let mut proven = Vec::new();
        let returned = match confirmation {
            Ok(Confirmation::Ack(returned)) => {
                self.unproven.push_back((sent, self.next));
                returned
            }
            Ok(Confirmation::Nack(returned)) => {
                proven.push((sent.request, Outcome::Nacked));
                returned
            }
            Ok(Confirmation::NotRequested) => {
                self.put_back(sent);
                return Err(Error::Lost { call: PUBLISH, detail: "the channel is in no confirm mode".to_owned() });
            }
            Err(error) => {
                self.put_back(sent);
                return Err(Error::of_call(PUBLISH, &error));
            }
        };
        if let Some(returned) = returned {
            self.note(&returned);
        }
        while let Some((sent, _)) = self.unproven.pop_front_if(|(_, until)| *until <= through + 1) {
            let outcome = if sent.is_returned { Outcome::Unroutable } else { Outcome::Confirmed };
            proven.push((sent.request, outcome));
        }
        Ok(proven)
    }

    /// Ends it: what is not proven has to be sent again.
    pub(super) fn into_unproven(self) -> impl Iterator<Item = R> {
        let unproven = self.unproven.into_iter().map(|(sent, _)| sent);
        unproven.chain(self.unconfirmed).map(|sent| sent.request)
    }

    /// Keeps a message of which nothing more will be heard on this channel.
    fn put_back(&mut self, sent: Sent<R>) {
        self.unconfirmed.push_front(Sent { confirm: Box::pin(std::future::pending()), ..sent });
    }

    /// Finds the message that was returned. Of equal ones any will do.
    fn note(&mut self, returned: &BasicReturnMessage) {
        let unproven = self.unproven.iter_mut().map(|(sent, _)| sent);
        let mut all = unproven.chain(&mut self.unconfirmed);
        if let Some(sent) = all.find(|sent| !sent.is_returned && sent.request.message().equals(&returned.delivery)) {
            sent.is_returned = true;
        }
    }
}

async fn publish(channel: Channel, message: Message) -> lapin::Result<Confirmation> {
    let Message { exchange, routing_key, properties, body } = message;
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    channel.basic_publish(exchange, routing_key, options, &body, properties).await?.await
}

impl<R: Outgoing> fmt::Debug for Flight<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight").field("len", &self.len()).finish_non_exhaustive()
    }
}
