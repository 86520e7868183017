//! The task that owns the publishing connection.
//!
//! A message that the broker refuses for its length is published in a shorter form; one that a queue refuses waits with
//! [growing pauses](super::refusals). Neither holds up the others. Whatever has no confirm when the connection is lost is
//! published again on the next one, in its order.

use std::{collections::VecDeque, pin::pin, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use imageshare_amqp::{InFlight, Message, Outgoing, PublishOutcome, destination};
use lapin::Event;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::events;
use super::{
    Connection, Error, Insistence, Lost, State, TimeOuts, Url, bounded,
    courtesies::{Courtesies, CourtesySender},
    letters::shorten,
    publisher::Request,
    refusals::{Refusals, Why},
    topology,
};
use crate::{metrics::OfProcess, pauses::Reconnects};

/// The longest frame, in bytes. Longer bodies go in several; headers have to find room in one, and
/// [`letters`](super::letters) sees to it that they do. The usual 128 KiB would take 8 MiB of memory.
pub(super) const FRAME_MAX: u32 = 48 * 1024;

/// How long the broker may confirm nothing while something is in in_flight, unless it has said that it is blocked.
pub(super) const CONFIRM_MAX: Duration = Duration::from_secs(30);

/// The call that an error names, whether a confirm or an event of the connection brings it.
pub(super) const PUBLISH: &str = "basic.publish";

/// The reply code with which a broker refuses a message that is longer than its `max_message_size`
/// (PRECONDITION_FAILED). It closes the channel. Nothing else in our messages is a precondition.
const TOO_LONG: u16 = 406;

/// How long a limit of the broker's for the length of a message is kept. An operator may have raised it since.
const LEN_MAX_KEPT: Duration = Duration::from_mins(10);

/// How long courtesies that were handed over may take at the end.
const COURTESIES_PATIENCE: Duration = Duration::from_secs(2);

/// The task that owns the connection.
#[derive(Debug)]
pub struct Publishing {
    url: Url,
    name: String,
    time_outs: TimeOuts,
    requests: mpsc::Receiver<Request>,
    state: watch::Sender<State>,
    courtesies: Courtesies,
    courtesy_sender: Option<CourtesySender>,
    metrics: Option<Arc<OfProcess>>,
    /// The number of the next message. They show the order in which messages were handed over.
    next: u64,
    /// To be sent on the next connection, oldest first.
    again: VecDeque<Numbered>,
    refusals: Refusals<Request>,
    /// Longer than the broker accepts, in their shortest form. Tried again with the next connection.
    too_long: Vec<Numbered>,
    /// Bytes of the longest message that the broker accepts, if it refused one, and when.
    len_max: Option<(usize, Instant)>,
    /// Bytes of the longest message that was in flight when the connection ended.
    longest: usize,
}

type Numbered = (u64, Request);

/// A request on its way, with its number.
struct Sent(Numbered);

impl Outgoing for Sent {
    fn message(&self) -> &Message {
        &self.0.1.message
    }
}

impl Publishing {
    pub(super) fn new(
        url: Url,
        name: &str,
        time_outs: TimeOuts,
        requests: mpsc::Receiver<Request>,
        state: watch::Sender<State>,
        (courtesies, courtesy_sender): (Courtesies, CourtesySender),
    ) -> Self {
        Self {
            url,
            name: name.to_owned(),
            time_outs,
            requests,
            state,
            courtesies,
            courtesy_sender: Some(courtesy_sender),
            metrics: None,
            next: 0,
            again: VecDeque::new(),
            refusals: Refusals::default(),
            too_long: Vec::new(),
            len_max: None,
            longest: 0,
        }
    }

    /// It is counted what becomes of it.
    pub(crate) fn watched(self, metrics: Arc<OfProcess>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Publishes until the last handle is gone and all is confirmed. Whoever wants it to end before drops it; what is
    /// not confirmed then is [`Lost::Ended`].
    pub async fn run(mut self) {
        let sender = self.courtesy_sender.take().map(|sender| tokio::spawn(sender.run()));
        let mut reconnects = Reconnects::default();
        while let Err(error) = self.publish(&mut reconnects).await {
            if self.is_for_its_length(&error) {
                continue;
            }
            let pause = reconnects.after(&error);
            self.show(State::Down(error));
            sleep(pause).await;
            if self.requests.is_closed() && self.requests.is_empty() && self.is_done() {
                break;
            }
        }
        drop(self);
        if let Some(sender) = sender {
            drop(timeout(COURTESIES_PATIENCE, sender).await);
        }
    }

    /// Whether nothing waits.
    fn is_done(&self) -> bool {
        self.again.is_empty() && self.refusals.is_empty() && self.too_long.is_empty()
    }

    /// One connection, from its beginning to its end.
    async fn publish(&mut self, reconnects: &mut Reconnects) -> Result<(), Error> {
        let connection = Connection::open_with(&self.url, &self.name, self.time_outs, FRAME_MAX).await?;
        let opening = InFlight::open(connection.channel().await?);
        let mut in_flight = bounded(self.time_outs.call, "confirm.select", opening).await?;
        let mut again: Vec<_> = self.again.drain(..).chain(self.too_long.drain(..)).collect();
        again.sort_unstable_by_key(|(number, _)| *number);
        for (number, request) in again {
            self.dispatch(&mut in_flight, number, request);
        }
        self.show_connected(&connection);
        let ended = self.pump(&connection, &mut in_flight, reconnects).await;
        self.refusals.disconnected();
        let unproven: Vec<_> = in_flight.into_unproven().map(|Sent(numbered)| numbered).collect();
        self.longest = unproven.iter().map(|(_, request)| request.message.body.len()).max().unwrap_or_default();
        for (number, request) in unproven {
            if self.refusals.holds(&request.message) {
                let message = request.message.clone();
                self.refusals.wait(&message, number, request);
            } else {
                self.again.push_back((number, request));
            }
        }
        ended?;
        // All is confirmed: that the broker does not say goodbye changes nothing.
        drop(connection.close().await);
        Ok(())
    }

    async fn pump(
        &mut self,
        connection: &Connection,
        in_flight: &mut InFlight<Sent>,
        reconnects: &mut Reconnects,
    ) -> Result<(), Error> {
        let mut events = pin!(connection.events());
        let mut is_open = true;
        let mut progress = Instant::now();
        while is_open || !in_flight.is_empty() || !self.is_done() {
            let is_waiting = !in_flight.is_empty() && !connection.is_blocked();
            let next_at = self.refusals.next_at();
            tokio::select! {
                biased;
                event = events.next() => {
                    hear(event)?;
                    progress = Instant::now();
                }
                proven = in_flight.proven() => {
                    let proven = proven.map_err(|error| Error::of_call(PUBLISH, &error))?;
                    progress = Instant::now();
                    if !proven.is_empty() {
                        reconnects.reset();
                    }
                    for (Sent((number, request)), outcome) in proven {
                        self.settle(progress, number, request, outcome);
                    }
                }
                () = sleep_until(progress + CONFIRM_MAX), if is_waiting => {
                    return Err(Error::TimeOut { call: "confirm", after: CONFIRM_MAX });
                }
                () = sleep_until(next_at.unwrap_or(progress)), if next_at.is_some() => {
                    if in_flight.is_empty() {
                        progress = Instant::now();
                    }
                    while let Some((number, request)) = self.refusals.next(Instant::now()) {
                        self.send(in_flight, number, request);
                    }
                }
                request = self.requests.recv(), if is_open => match request {
                    Some(request) => {
                        if in_flight.is_empty() {
                            progress = Instant::now();
                        }
                        let number = self.next;
                        self.next += 1;
                        self.dispatch(in_flight, number, request);
                    }
                    None => is_open = false,
                },
            }
            self.show_connected(connection);
        }
        Ok(())
    }

    /// Sends a message, unless it has to wait behind others of its destination.
    fn dispatch(&mut self, in_flight: &mut InFlight<Sent>, number: u64, request: Request) {
        if self.refusals.holds(&request.message) {
            let message = request.message.clone();
            self.refusals.wait(&message, number, request);
        } else {
            self.send(in_flight, number, request);
        }
    }

    /// Sends a message, in a form that the broker accepts if it accepts any.
    fn send(&mut self, in_flight: &mut InFlight<Sent>, number: u64, mut request: Request) {
        if let Some((len_max, since)) = self.len_max
            && since.elapsed() < LEN_MAX_KEPT
            && request.message.body.len() > len_max
        {
            let len = request.message.body.len();
            match shorten(&request.message, len_max) {
                Some(shorter) => {
                    let fits = shorter.body.len() <= len_max;
                    events::Shortened { message: &request.message, len_max }.record();
                    request.message = shorter;
                    if !fits {
                        self.refusals.give_up(&request.message, number);
                        return self.too_long.push((number, request));
                    }
                }
                None => {
                    self.refusals.give_up(&request.message, number);
                    if request.insistence == Insistence::UntilConfirmed {
                        return self.too_long.push((number, request));
                    }
                    // Nobody may wait for it any more.
                    return drop(request.done.send(Err(Lost::TooLong { len, len_max })));
                }
            }
        }
        in_flight.send(Sent((number, request)));
    }

    /// Tells whoever wants to know, or keeps the message to be sent again.
    fn settle(&mut self, now: Instant, number: u64, request: Request, outcome: PublishOutcome) {
        let message = request.message.clone();
        let why = match (request.insistence, outcome) {
            (insistence, PublishOutcome::Confirmed) => {
                let is_behind = insistence == Insistence::UntilAnswered && self.refusals.is_overtaken(&message, number);
                self.refusals.taken(now, &message, number);
                if is_behind {
                    // It arrived before an earlier one. Once more, it is the last word again.
                    return self.refusals.wait(&message, number, request);
                }
                if let Some(metrics) = &self.metrics {
                    events::Confirmed { metrics, took: request.published_at.elapsed() }.record();
                }
                if let Some(reply) = &request.reply {
                    self.courtesies.send(&message, reply);
                }
                // Nobody may wait for it any more.
                return drop(request.done.send(Ok(())));
            }
            (Insistence::UntilAnswered, PublishOutcome::Unroutable) => {
                self.refusals.give_up(&message, number);
                return drop(request.done.send(Err(Lost::Unroutable { to: message.destination() })));
            }
            (_, PublishOutcome::Nacked) => Why::Refused,
            (Insistence::UntilConfirmed, PublishOutcome::Unroutable) => Why::Unroutable,
        };
        self.refusals.refuse(now, &message, number, request, why);
    }

    /// Whether the connection was lost for a message that the broker refuses for its length. Then that is known from now
    /// on, and the message is published in a shorter form.
    fn is_for_its_length(&mut self, error: &Error) -> bool {
        let Error::Closed { code: TOO_LONG, text, .. } = error else { return false };
        let longest = std::mem::take(&mut self.longest);
        if longest == 0 {
            return false;
        }
        // A broker that does not say its limit refused one of these, and none of them is sent again as it is.
        let len_max = len_max(text).filter(|len_max| *len_max < longest).unwrap_or(longest / 2);
        self.len_max = Some((len_max, Instant::now()));
        events::TooLong { len_max, detail: text }.record();
        true
    }

    /// Shows how it is with a connection that is there.
    fn show_connected(&self, connection: &Connection) {
        let now = if connection.is_blocked() {
            State::Blocked
        } else if let Some((_, request)) = self.too_long.first() {
            State::TooLong(request.message.destination())
        } else {
            match self.refusals.first() {
                Some((exchange, key, Why::Refused, since)) => {
                    let to = destination(exchange, key);
                    let to = match topology::queue_of(exchange.as_str(), key.as_str()) {
                        Some(queue) => format!("queue {} ({to})", imageshare_core::text::excerpt(&queue)),
                        None => to,
                    };
                    State::Refused { to, since }
                }
                Some((exchange, key, Why::Unroutable, _)) => State::Unroutable(destination(exchange, key)),
                None => State::Connected,
            }
        };
        if *self.state.borrow() != now {
            self.show(now);
        }
    }

    /// Shows how it is.
    fn show(&self, now: State) {
        if let Some(metrics) = &self.metrics {
            events::PublisherChanged { metrics, before: &self.state.borrow(), now: &now }.record();
        }
        self.state.send_replace(now);
    }
}

fn hear(event: Option<Event>) -> Result<(), Error> {
    match event {
        Some(Event::Error(error)) => Err(Error::of_call(PUBLISH, &error)),
        Some(_) => Ok(()),
        None => Err(Error::Lost { call: PUBLISH, detail: "it has ended".to_owned() }),
    }
}

/// The limit that a broker names, the last number of its words: `message size 1570322 is larger than configured max size
/// 1048576`.
fn len_max(text: &str) -> Option<usize> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    numbers.next_back().and_then(|digits| digits.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_last_number_that_the_broker_names() {
        let text = "PRECONDITION_FAILED - message size 1570322 is larger than configured max size 1048576";
        assert_eq!(len_max(text), Some(1_048_576));
        assert_eq!(len_max("PRECONDITION_FAILED"), None);
    }
}
