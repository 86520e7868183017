//! Messages that one user publishes on its channel, until each is confirmed or lost.
//!
//! A message that the broker refuses for its length is published in a shorter form. One that a queue refuses waits with
//! [growing pauses](super::refusals). Neither holds up the others. What is not confirmed when the channel ends is
//! published again on the next one, in order.

use std::{collections::VecDeque, fmt, future::pending, mem, pin::Pin, sync::Arc, time::Duration};

use imageshare_amqp::{InFlightMessages, Message, Outgoing, PublishOutcome, destination};
use tokio::time::{Instant, Sleep, sleep};

use super::events;
use super::{
    Error, State,
    outgoing_messages::shorten,
    publisher_connection::{OpenConnection, PUBLISH, PublisherConnection},
    refusals::{Numbered, RefusalReason, RefusedMessages},
    topology,
};
use crate::pauses::Pauses;

/// How long the broker may confirm nothing while something is in flight, unless it has blocked the connection.
pub(super) const CONFIRM_MAX: Duration = Duration::from_secs(30);

/// The reply code with which a broker refuses a message that is longer than its `max_message_size`
/// (PRECONDITION_FAILED). It closes the channel. Nothing else in our messages is a precondition.
const TOO_LONG: u16 = 406;

/// What happens to a message that no queue accepts. One that a queue refuses is published again and again in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishMode {
    /// It is lost if no queue accepts it for a time, and its confirmation is an error. Messages of one destination arrive in
    /// order.
    UntilAnswered {
        /// How long its queue may be missing. A node that starts again returns messages until its queues are there.
        missing_max: Duration,
    },
    /// It is published again and again until a queue accepts it.
    UntilConfirmed,
}

/// Why a message was not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The publisher ended before the broker had confirmed it. It may have arrived nevertheless.
    #[error("the publisher ended before the broker had confirmed it")]
    Ended,
    /// The broker accepts no message of this length.
    #[error("message too long: {len} bytes (expected at most {len_max}, the broker's max_message_size)")]
    TooLong {
        /// Bytes of its body.
        len: usize,
        /// Bytes that the broker accepts.
        len_max: usize,
    },
    /// No queue accepts it.
    #[error("no queue takes what is published to {to}")]
    Unroutable {
        /// Exchange and routing key, printable.
        to: String,
    },
}

/// The messages of one user, each with what the user needs once its fate is known.
pub(super) struct PublishQueue<T> {
    connection: PublisherConnection,
    user: u64,
    channel: Channel<T>,
    /// The number of the next message. Numbers show the order in which messages were handed over.
    next: u64,
    len: usize,
    /// To be sent on the next channel, in order.
    again: VecDeque<QueuedMessage<T>>,
    refusals: RefusedMessages<QueuedMessage<T>>,
    /// Longer than the broker accepts, in their shortest form. Sent again on the next channel.
    too_long: Vec<QueuedMessage<T>>,
    finished: Vec<FinishedMessage<T>>,
    pauses: Pauses,
    has_problem: bool,
    /// Wakes no later than it has to. Set again for each message it would cost as much as the rest.
    timer: Option<Pin<Box<Sleep>>>,
}

/// A message whose fate is known.
#[derive(Debug)]
pub(super) struct FinishedMessage<T> {
    /// What came with it.
    pub(super) of: T,
    /// The message, in the form that was sent last.
    pub(super) message: Message,
    /// Whether the broker has it.
    pub(super) result: Result<(), Lost>,
}

struct QueuedMessage<T> {
    number: u64,
    message: Message,
    mode: PublishMode,
    handed_over_at: Instant,
    of: T,
}

enum Channel<T> {
    Opening(Pin<Box<dyn Future<Output = Result<Opened<T>, Error>> + Send>>),
    Open { connection: Arc<OpenConnection>, in_flight: Box<InFlightMessages<QueuedMessage<T>>>, progress_at: Instant },
}

type Opened<T> = (Arc<OpenConnection>, Box<InFlightMessages<QueuedMessage<T>>>);

/// What happened on the channel.
enum ChannelEvent<T> {
    Opened(Opened<T>),
    Proven(Vec<(QueuedMessage<T>, PublishOutcome)>),
    Failed(Error),
    /// A message that was refused may be sent again, or a confirm is late.
    Time,
}

impl<T: Send + 'static> PublishQueue<T> {
    /// An empty queue.
    pub(super) fn new(connection: PublisherConnection) -> Self {
        Self {
            user: connection.new_user(),
            channel: open_after(Duration::ZERO, &connection),
            connection,
            next: 0,
            len: 0,
            again: VecDeque::new(),
            refusals: RefusedMessages::default(),
            too_long: Vec::new(),
            finished: Vec::new(),
            pauses: Pauses::between_connections(),
            has_problem: false,
            timer: None,
        }
    }

    /// Whether the fate of every message is known and returned.
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Publishes a message after those before it, without waiting for anything. The caller bounds how many there are.
    pub(super) fn publish(&mut self, message: Message, mode: PublishMode, of: T) {
        let number = self.next;
        self.next += 1;
        self.len += 1;
        self.dispatch(QueuedMessage { number, message, mode, handed_over_at: Instant::now(), of });
    }

    /// Waits until the fate of at least one message is known. Dropping the future loses nothing.
    pub(super) async fn finished(&mut self) -> Vec<FinishedMessage<T>> {
        while self.finished.is_empty() {
            match self.progress().await {
                ChannelEvent::Opened(opened) => self.opened(opened),
                ChannelEvent::Proven(proven) => self.proven(proven),
                ChannelEvent::Failed(error) => self.failed(error),
                ChannelEvent::Time => self.time(),
            }
            self.show_problem();
        }
        self.len -= self.finished.len();
        mem::take(&mut self.finished)
    }

    async fn progress(&mut self) -> ChannelEvent<T> {
        match &mut self.channel {
            // A lane that publishes nothing needs no channel.
            Channel::Opening(_) if self.len == 0 => pending().await,
            Channel::Opening(opening) => match opening.await {
                Ok(opened) => ChannelEvent::Opened(opened),
                Err(error) => ChannelEvent::Failed(error),
            },
            Channel::Open { in_flight, progress_at, .. } => {
                let late_at = (!in_flight.is_empty()).then(|| *progress_at + CONFIRM_MAX);
                let wakes_at = late_at.into_iter().chain(self.refusals.next_at()).min();
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(Duration::ZERO)));
                if let Some(wakes_at) = wakes_at
                    && (timer.is_elapsed() || timer.deadline() > wakes_at)
                {
                    timer.as_mut().reset(wakes_at);
                }
                tokio::select! {
                    biased;
                    proven = in_flight.proven() => match proven {
                        Ok(proven) => ChannelEvent::Proven(proven),
                        Err(error) => ChannelEvent::Failed(Error::from_call(PUBLISH, &error)),
                    },
                    () = timer, if wakes_at.is_some() => ChannelEvent::Time,
                }
            }
        }
    }

    fn opened(&mut self, (connection, in_flight): Opened<T>) {
        self.channel = Channel::Open { connection, in_flight, progress_at: Instant::now() };
        let mut again: Vec<_> = self.again.drain(..).chain(self.too_long.drain(..)).collect();
        again.sort_unstable_by_key(|request| request.number);
        again.into_iter().for_each(|request| self.dispatch(request));
    }

    fn proven(&mut self, proven: Vec<(QueuedMessage<T>, PublishOutcome)>) {
        let now = Instant::now();
        if let Channel::Open { connection, progress_at, .. } = &mut self.channel {
            *progress_at = now;
            if !proven.is_empty() {
                connection.has_confirmed();
                self.pauses.reset();
            }
        }
        proven.into_iter().for_each(|(request, outcome)| self.settle(now, request, outcome));
    }

    fn time(&mut self) {
        let now = Instant::now();
        if let Channel::Open { connection, in_flight, progress_at } = &mut self.channel
            && now >= *progress_at + CONFIRM_MAX
        {
            if in_flight.is_empty() || connection.is_blocked() {
                *progress_at = now;
            } else if now >= connection.changed_at() + CONFIRM_MAX {
                let error = Error::TimeOut { call: "confirm", after: CONFIRM_MAX };
                connection.fail(error.clone());
                return self.failed(error);
            } else {
                *progress_at = connection.changed_at();
            }
        }
        while let Some(request) = self.refusals.next(now) {
            self.send(request);
        }
    }

    /// The channel ended. What is not proven waits for the next one.
    fn failed(&mut self, error: Error) {
        // The end of the connection is shown by its keeper, which also pauses.
        let is_of_connection = match &self.channel {
            Channel::Open { connection, .. } => !connection.is_open(),
            Channel::Opening(_) => false,
        };
        let reopening = open_after(Duration::ZERO, &self.connection);
        let ended = mem::replace(&mut self.channel, reopening);
        let mut longest = 0;
        self.refusals.disconnected();
        if let Channel::Open { in_flight, .. } = ended {
            for request in in_flight.into_unproven() {
                longest = longest.max(request.message.body.len());
                self.wait(request);
            }
        }
        if self.is_for_its_length(&error, longest) {
            return;
        }
        if !is_of_connection {
            self.channel = open_after(self.pauses.after(&error), &self.connection);
            self.show(Some(State::Down(error)));
        }
    }

    /// Keeps a message for the next channel.
    fn wait(&mut self, request: QueuedMessage<T>) {
        if let Some(request) = self.refusals.wait(request) {
            self.again.push_back(request);
        }
    }

    /// Sends a message, unless it has to wait behind others of its destination.
    fn dispatch(&mut self, request: QueuedMessage<T>) {
        if let Some(request) = self.refusals.wait(request) {
            self.send(request);
        }
    }

    /// Sends a message in a form that the broker accepts, if there is one.
    fn send(&mut self, mut request: QueuedMessage<T>) {
        if let Some(len_max) = self.connection.len_max()
            && request.message.body.len() > len_max
        {
            let len = request.message.body.len();
            match shorten(&request.message, len_max) {
                Some(shorter) => {
                    events::Shortened { message: &request.message, len_max }.record();
                    request.message = shorter;
                    if request.message.body.len() > len_max {
                        self.refusals.give_up(&request);
                        return self.too_long.push(request);
                    }
                }
                None => {
                    self.refusals.give_up(&request);
                    return match request.mode {
                        PublishMode::UntilConfirmed => self.too_long.push(request),
                        PublishMode::UntilAnswered { .. } => self.finish(request, Err(Lost::TooLong { len, len_max })),
                    };
                }
            }
        }
        match &mut self.channel {
            Channel::Open { in_flight, progress_at, .. } => {
                if in_flight.is_empty() {
                    *progress_at = Instant::now();
                }
                in_flight.send(request);
            }
            Channel::Opening(_) => self.again.push_back(request),
        }
    }

    fn settle(&mut self, now: Instant, request: QueuedMessage<T>, outcome: PublishOutcome) {
        let reason = match (request.mode, outcome) {
            (mode, PublishOutcome::Confirmed) => {
                let is_ordered = matches!(mode, PublishMode::UntilAnswered { .. });
                let is_behind = is_ordered && self.refusals.is_overtaken(&request);
                self.refusals.accepted(now, &request);
                if is_behind {
                    // It arrived before an earlier one. Published again, it is the last one again.
                    return self.dispatch(request);
                }
                self.connection.confirmed(request.handed_over_at.elapsed());
                return self.finish(request, Ok(()));
            }
            (PublishMode::UntilAnswered { missing_max }, PublishOutcome::Unroutable)
                if self.refusals.refused_for(now, &request) >= missing_max =>
            {
                self.refusals.give_up(&request);
                let to = request.message.destination();
                return self.finish(request, Err(Lost::Unroutable { to }));
            }
            (_, PublishOutcome::Nacked) => RefusalReason::Refused,
            (_, PublishOutcome::Unroutable) => RefusalReason::Unroutable,
        };
        self.refusals.refuse(now, request, reason);
    }

    fn finish(&mut self, request: QueuedMessage<T>, result: Result<(), Lost>) {
        let QueuedMessage { of, message, .. } = request;
        self.finished.push(FinishedMessage { of, message, result });
    }

    /// Whether the channel was closed for a message that the broker refuses for its length. The limit is then known, and
    /// the message is published in a shorter form.
    fn is_for_its_length(&self, error: &Error, longest: usize) -> bool {
        let Error::Closed { code: TOO_LONG, text, .. } = error else { return false };
        if longest == 0 {
            return false;
        }
        // If the broker does not name its limit, it refused one of these, and none of them is sent again as it is.
        let len_max = len_max(text).filter(|len_max| *len_max < longest).unwrap_or(longest / 2);
        self.connection.limit_len(len_max);
        events::TooLong { len_max, detail: text }.record();
        true
    }

    /// Shows what keeps messages from being published.
    fn show_problem(&mut self) {
        if matches!(self.channel, Channel::Opening(_)) {
            return;
        }
        let too_long = self.too_long.first().map(|request| State::TooLong(request.message.destination()));
        let problem = too_long.or_else(|| {
            let (exchange, key, reason, since) = self.refusals.first()?;
            let to = destination(exchange, key);
            Some(match reason {
                RefusalReason::Refused => {
                    let to = match topology::queue_of(exchange.as_str(), key.as_str()) {
                        Some(queue) => format!("queue {} ({to})", imageshare_core::text::excerpt(&queue)),
                        None => to,
                    };
                    State::Refused { to, since }
                }
                RefusalReason::Unroutable => State::Unroutable(to),
            })
        });
        self.show(problem);
    }

    fn show(&mut self, problem: Option<State>) {
        if self.has_problem || problem.is_some() {
            self.has_problem = problem.is_some();
            self.connection.show_problem(self.user, problem);
        }
    }
}

fn open_after<T: Send + 'static>(pause: Duration, connection: &PublisherConnection) -> Channel<T> {
    let connection = connection.clone();
    Channel::Opening(Box::pin(async move {
        sleep(pause).await;
        connection.open_channel().await
    }))
}

/// Returns the limit that a broker names, the last number of its text: `message size 1570322 is larger than configured max
/// size 1048576`.
fn len_max(text: &str) -> Option<usize> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    numbers.next_back().and_then(|digits| digits.parse().ok())
}

impl<T> Outgoing for QueuedMessage<T> {
    fn message(&self) -> &Message {
        &self.message
    }
}

impl<T> Numbered for QueuedMessage<T> {
    fn number(&self) -> u64 {
        self.number
    }
}

impl<T> Drop for PublishQueue<T> {
    fn drop(&mut self) {
        self.connection.show_problem(self.user, None);
    }
}

impl<T> fmt::Debug for PublishQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishQueue").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_limit_is_the_last_number() {
        let text = "PRECONDITION_FAILED - message size 1570322 is larger than configured max size 1048576";
        assert_eq!(len_max(text), Some(1_048_576));
        assert_eq!(len_max("PRECONDITION_FAILED"), None);
    }
}
