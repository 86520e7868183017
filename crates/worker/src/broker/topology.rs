//! Exchanges and queues: which are needed at the broker, how they are declared, and how existing ones differ.
//!
//! | what | kind | routing |
//! |---|---|---|
//! | `imageshare` | direct exchange | key `<lane>` to `imageshare.jobs.<lane>` |
//! | `imageshare.jobs.<lane>` | fanout exchange and quorum queue, one consumer at a time | any key |
//! | `imageshare.dead` | direct exchange and quorum queue | key `imageshare.dead` |
//! | `imageshare.reports` | topic exchange and quorum queue of bounded length | key `<lane>.<status>`, bound to `#` |
//! | `imageshare.proof` | quorum queue that stays empty | none: workers read it |
//! | `imageshare.history` | optional: fanout exchange and stream | what `imageshare.reports` receives, and any key |
//!
//! All are durable. Arguments cannot be changed later, so there are few. What operators may want besides belongs in
//! policies.
//!
//! Each lane has an exchange of its own because the broker's permissions are by exchange: a user who may write to that
//! one alone reaches that lane alone. It is a fanout exchange, which ignores the routing key and the headers
//! `CC` and `BCC`. The shared exchange is for publishers that may use every lane.
//!
//! What the broker drops from a lane's queue (expired, over a length limit, over a lower delivery limit of a policy) goes
//! to `imageshare.dead`, and stays in the lane's queue until it is there (strategy at-least-once, which needs the
//! overflow behavior reject-publish).

use std::{borrow::Cow, collections::BTreeMap};

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};

use super::{Connection, Error, Retention, bounded};

/// The exchange that all lanes share. The routing key is the lane's name.
pub const EXCHANGE: &str = "imageshare";

/// The exchange and queue of dead letters, and the key between them.
pub const DEAD: &str = "imageshare.dead";

/// The exchange and the queue for reports. The key is `<lane>.<status>`.
pub const REPORTS: &str = "imageshare.reports";

/// The queue that a worker reads to prove that its node of the broker can still commit. It holds no message.
pub(super) const PROOF: &str = "imageshare.proof";

/// The stream that keeps a copy of every report, and the exchange for the markers of its readers.
pub const HISTORY: &str = "imageshare.history";

/// Bytes of one segment of the stream, the unit in which the broker removes old reports. The broker's default of 500 MB
/// would keep a quiet history far beyond its age.
pub(super) const SEGMENT_LEN: u32 = 64 * 1024 * 1024;

/// Reports that the queue keeps. Then it drops the oldest, so that it accepts reports that nothing reads.
pub const REPORTS_MAX: u32 = 1_000_000;

/// Bytes of reports that the queue keeps.
pub const REPORTS_BYTES_MAX: u32 = 2 * 1024 * 1024 * 1024 - 1;

/// How often a message may be redelivered. Without an explicit limit old brokers requeue it behind all others, and new ones
/// drop it after 20 times.
pub(super) const DELIVERY_LIMIT: u32 = 1_000_000;

/// The prefix of the lanes' exchanges and queues.
const JOBS_PREFIX: &str = "imageshare.jobs.";

/// Reply codes of AMQP 0-9-1.
const REPLY_SUCCESS: u16 = 200;
const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;

/// Returns the queue of a lane's jobs.
#[must_use]
pub fn jobs_queue(lane: &str) -> String {
    format!("{JOBS_PREFIX}{lane}")
}

/// Returns the exchange of a lane's jobs. It has the name of the queue.
#[must_use]
pub fn jobs_exchange(lane: &str) -> String {
    jobs_queue(lane)
}

/// Returns the lane of a queue, or `None` if it is not a lane's queue.
#[must_use]
pub fn lane_of_queue(queue: &str) -> Option<&str> {
    queue.strip_prefix(JOBS_PREFIX).filter(|lane| !lane.is_empty())
}

/// Returns whether a queue is ours, so that no reply may be sent to it.
#[must_use]
pub fn is_ours(queue: &str) -> bool {
    queue == EXCHANGE || queue.starts_with("imageshare.")
}

/// An exchange or queue that is missing or different. The message explains how to correct that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// It exists with other properties.
    #[error(
        "{what} differs: {found}. What is there cannot be changed: when it is empty, delete it, then run \
         `imageshare topology --declare`"
    )]
    Different {
        /// Type and name.
        what: String,
        /// The text of the broker, printable.
        found: String,
    },
    /// It does not exist.
    #[error("{what} is missing: run `imageshare topology --declare`, or import what `imageshare topology` prints")]
    Missing {
        /// Type and name.
        what: String,
    },
}

/// An exchange or a queue.
enum TopologyItem {
    Exchange { name: String, kind: ExchangeType },
    Queue { name: String, bindings: Vec<Binding>, arguments: Arguments },
}

/// The arguments of a queue.
type Arguments = Vec<(&'static str, Argument)>;

/// The type of an exchange.
#[derive(Clone, Copy)]
enum ExchangeType {
    Direct,
    Fanout,
    Topic,
}

/// A binding of a queue.
struct Binding {
    exchange: String,
    key: String,
}

/// The value of an argument.
#[derive(Clone)]
enum Argument {
    Flag(bool),
    Number(u64),
    Text(Cow<'static, str>),
}

/// Returns the queue that gets what is published to this exchange by this routing key, if it is one of ours.
pub(super) fn queue_of(exchange: &str, routing_key: &str) -> Option<String> {
    match exchange {
        EXCHANGE => Some(jobs_queue(routing_key)),
        DEAD | REPORTS | HISTORY => Some(exchange.to_owned()),
        // A lane's exchange has the name of its queue.
        _ => lane_of_queue(exchange).map(jobs_queue),
    }
}

/// Returns everything that these lanes need, in the order in which it is declared.
fn items<'a>(lanes: impl IntoIterator<Item = &'a str>, history: Option<&Retention>) -> Vec<TopologyItem> {
    let quorum = [
        ("x-queue-type", Argument::Text("quorum".into())),
        ("x-delivery-limit", Argument::Number(DELIVERY_LIMIT.into())),
    ];
    let with = |more: &[(&'static str, Argument)]| [&quorum, more].concat();
    let exchange = |name: &str, kind| TopologyItem::Exchange { name: name.to_owned(), kind };
    let binding = |exchange: &str, key: &str| Binding { exchange: exchange.to_owned(), key: key.to_owned() };
    let mut items = vec![
        exchange(EXCHANGE, ExchangeType::Direct),
        exchange(DEAD, ExchangeType::Direct),
        exchange(REPORTS, ExchangeType::Topic),
        TopologyItem::Queue { name: DEAD.to_owned(), bindings: vec![binding(DEAD, DEAD)], arguments: with(&[]) },
        TopologyItem::Queue {
            name: REPORTS.to_owned(),
            bindings: vec![binding(REPORTS, "#")],
            arguments: with(&[
                ("x-max-length", Argument::Number(REPORTS_MAX.into())),
                ("x-max-length-bytes", Argument::Number(REPORTS_BYTES_MAX.into())),
                ("x-overflow", Argument::Text("drop-head".into())),
            ]),
        },
        TopologyItem::Queue {
            name: PROOF.to_owned(),
            bindings: Vec::new(),
            arguments: with(&[
                ("x-max-length", Argument::Number(0)),
                ("x-overflow", Argument::Text("drop-head".into())),
            ]),
        },
    ];
    if let Some(Retention { max_age, max_len }) = history {
        items.push(exchange(HISTORY, ExchangeType::Fanout));
        items.push(TopologyItem::Queue {
            name: HISTORY.to_owned(),
            bindings: vec![binding(REPORTS, "#"), binding(HISTORY, "")],
            arguments: vec![
                ("x-queue-type", Argument::Text("stream".into())),
                ("x-max-age", Argument::Text(max_age.clone().into())),
                ("x-max-length-bytes", Argument::Number(*max_len)),
                ("x-stream-max-segment-size-bytes", Argument::Number(SEGMENT_LEN.into())),
            ],
        });
    }
    for lane in lanes {
        let own = jobs_exchange(lane);
        let bindings = vec![binding(EXCHANGE, lane), binding(&own, "")];
        items.push(TopologyItem::Exchange { name: own, kind: ExchangeType::Fanout });
        items.push(TopologyItem::Queue {
            name: jobs_queue(lane),
            bindings,
            arguments: with(&[
                ("x-single-active-consumer", Argument::Flag(true)),
                ("x-dead-letter-exchange", Argument::Text(DEAD.into())),
                ("x-dead-letter-routing-key", Argument::Text(DEAD.into())),
                ("x-dead-letter-strategy", Argument::Text("at-least-once".into())),
                ("x-overflow", Argument::Text("reject-publish".into())),
            ]),
        });
    }
    items
}

/// The result of a declaration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// What was missing, such as `queue imageshare.dead`.
    pub made: Vec<String>,
    /// What existed as needed.
    pub existing: Vec<String>,
    /// What existed with other properties, and was not changed.
    pub different: Vec<Difference>,
}

/// Declares what is missing, and changes nothing that exists. The history is declared only with a retention.
///
/// # Errors
/// If a call fails, or the user lacks a permission.
pub async fn declare<'a>(
    connection: &Connection,
    lanes: impl IntoIterator<Item = &'a str>,
    history: Option<&Retention>,
) -> Result<Declared, Error> {
    let items = items(lanes, history);
    let mut channels = Channels::new(connection, &items);
    let mut declared = Declared::default();
    for item in items {
        let is_there = match channels.declare(&item, true).await {
            Ok(()) => true,
            Err(Error::Closed { code: NOT_FOUND, .. }) => false,
            Err(error) => return Err(error),
        };
        match channels.declare(&item, false).await {
            Ok(()) => {
                channels.bind(&item).await?;
                let list = if is_there { &mut declared.existing } else { &mut declared.made };
                list.push(item.what());
            }
            Err(Error::Closed { code: PRECONDITION_FAILED, text, .. }) => {
                declared.different.push(Difference::Different { what: item.what(), found: text });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(declared)
}

/// Compares what exists with what is needed, and changes nothing. What exists is declared once more, since only then the
/// broker names what differs. Bindings cannot be read: a missing one shows when something is published. The history is not
/// compared, since no worker needs it.
///
/// # Errors
/// If a call fails.
pub async fn check<'a>(
    connection: &Connection,
    lanes: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<Difference>, Error> {
    let items = items(lanes, None);
    let mut channels = Channels::new(connection, &items);
    let mut differences = Vec::new();
    for item in items {
        let looked = match channels.declare(&item, true).await {
            Ok(()) => channels.declare(&item, false).await,
            missing => missing,
        };
        match looked {
            // A user who may not declare cannot compare either.
            Ok(()) | Err(Error::Closed { code: ACCESS_REFUSED, .. }) => {}
            Err(Error::Closed { code: NOT_FOUND, .. }) => differences.push(Difference::Missing { what: item.what() }),
            Err(Error::Closed { code: PRECONDITION_FAILED, text, .. }) => {
                differences.push(Difference::Different { what: item.what(), found: text });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(differences)
}

/// Returns whether a lane has no exchange of its own.
///
/// # Errors
/// If a call fails.
pub(super) async fn lacks_exchange(connection: &Connection, lane: &str) -> Result<bool, Error> {
    let own = TopologyItem::Exchange { name: jobs_exchange(lane), kind: ExchangeType::Fanout };
    match Channels::new(connection, std::slice::from_ref(&own)).declare(&own, true).await {
        Ok(()) => Ok(false),
        Err(Error::Closed { code: NOT_FOUND, .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// The content of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Messages that are delivered to no consumer.
    pub ready: u32,
    /// Consumers, active or not.
    pub consumers: u32,
}

/// Returns the content of a lane's queue, or `None` if there is no such queue. AMQP does not show jobs that are delivered
/// and not acknowledged.
///
/// # Errors
/// If a call fails.
pub async fn depth(connection: &Connection, lane: &str) -> Result<Option<Depth>, Error> {
    let channel = connection.channel().await?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let look = channel.queue_declare(jobs_queue(lane).as_str().into(), options, FieldTable::default());
    let queue = match bounded(connection.time_outs().call, "queue.declare", look).await {
        Ok(queue) => queue,
        Err(Error::Closed { code: NOT_FOUND, .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    // Dropping it closes it too, but not before the next one is opened.
    bounded(connection.time_outs().call, "channel.close", channel.close(REPLY_SUCCESS, "OK".into())).await?;
    Ok(Some(Depth { ready: queue.message_count(), consumers: queue.consumer_count() }))
}

/// Returns the definitions for `rabbitmqctl import_definitions` or a starting node: virtual host, exchanges, queues and
/// bindings, without users and permissions.
#[must_use]
pub fn definitions<'a>(vhost: &str, lanes: impl IntoIterator<Item = &'a str>, history: Option<&Retention>) -> Value {
    let (mut exchanges, mut queues, mut bindings) = (Vec::new(), Vec::new(), Vec::new());
    for item in items(lanes, history) {
        match item {
            TopologyItem::Exchange { name, kind } => exchanges.push(json!({
                "name": name, "vhost": vhost, "type": kind.as_str(),
                "durable": true, "auto_delete": false, "internal": false, "arguments": {},
            })),
            TopologyItem::Queue { name, bindings: of_queue, arguments } => {
                bindings.extend(of_queue.into_iter().map(|Binding { exchange, key }| {
                    json!({
                        "source": exchange, "vhost": vhost, "destination": name, "destination_type": "queue",
                        "routing_key": key, "arguments": {},
                    })
                }));
                let arguments: BTreeMap<_, _> =
                    arguments.into_iter().map(|(name, value)| (name, value.to_json())).collect();
                queues.push(json!({
                    "name": name, "vhost": vhost, "durable": true, "auto_delete": false, "arguments": arguments,
                }));
            }
        }
    }
    json!({ "vhosts": [{ "name": vhost }], "exchanges": exchanges, "queues": queues, "bindings": bindings })
}

impl TopologyItem {
    fn what(&self) -> String {
        match self {
            Self::Exchange { name, .. } => format!("exchange {name}"),
            Self::Queue { name, .. } => format!("queue {name}"),
        }
    }
}

impl ExchangeType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
        }
    }

    fn to_amqp(self) -> ExchangeKind {
        match self {
            Self::Direct => ExchangeKind::Direct,
            Self::Fanout => ExchangeKind::Fanout,
            Self::Topic => ExchangeKind::Topic,
        }
    }
}

impl Argument {
    fn to_json(&self) -> Value {
        match self {
            Self::Flag(flag) => (*flag).into(),
            Self::Number(number) => (*number).into(),
            Self::Text(text) => text.as_ref().into(),
        }
    }

    fn to_amqp(&self) -> AMQPValue {
        match self {
            Self::Flag(flag) => AMQPValue::Boolean(*flag),
            Self::Number(number) => AMQPValue::LongLongInt(number.cast_signed()),
            Self::Text(text) => AMQPValue::LongString(text.as_ref().into()),
        }
    }
}

fn table(arguments: &Arguments) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert((*name).into(), value.to_amqp());
    }
    table
}

/// A channel that is replaced whenever an answer closes it.
///
/// No number is used twice: it would return the error of the channel that had it before
/// ([fault of lapin](imageshare_amqp)).
struct Channels<'a> {
    connection: &'a Connection,
    open: Option<Channel>,
    opened: u16,
    /// The greatest number of channels: one for each answer that closes one, and the last.
    needed: usize,
}

impl<'a> Channels<'a> {
    fn new(connection: &'a Connection, items: &[TopologyItem]) -> Self {
        Self { connection, open: None, opened: 0, needed: 2 * items.len() + 1 }
    }

    async fn declare(&mut self, item: &TopologyItem, passive: bool) -> Result<(), Error> {
        let limit = self.connection.time_outs().call;
        let channel = self.take().await?;
        match item {
            TopologyItem::Exchange { name, kind } => {
                let options = ExchangeDeclareOptions { passive, durable: true, ..ExchangeDeclareOptions::default() };
                let (name, kind) = (name.as_str().into(), kind.to_amqp());
                let declare = channel.exchange_declare(name, kind, options, FieldTable::default());
                bounded(limit, "exchange.declare", declare).await?;
            }
            TopologyItem::Queue { name, arguments, .. } => {
                let options = QueueDeclareOptions { passive, durable: true, ..QueueDeclareOptions::default() };
                let declare = channel.queue_declare(name.as_str().into(), options, table(arguments));
                bounded(limit, "queue.declare", declare).await?;
            }
        }
        self.open = Some(channel);
        Ok(())
    }

    async fn bind(&mut self, item: &TopologyItem) -> Result<(), Error> {
        let TopologyItem::Queue { name, bindings, .. } = item else { return Ok(()) };
        let limit = self.connection.time_outs().call;
        let channel = self.take().await?;
        for Binding { exchange, key } in bindings {
            let (queue, exchange, key) = (name.as_str().into(), exchange.as_str().into(), key.as_str().into());
            let bind = channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), FieldTable::default());
            bounded(limit, "queue.bind", bind).await?;
        }
        self.open = Some(channel);
        Ok(())
    }

    /// Takes the channel. The caller returns it after a call that succeeds.
    async fn take(&mut self) -> Result<Channel, Error> {
        match self.open.take() {
            Some(channel) => Ok(channel),
            None => {
                let allowed = self.connection.channel_max();
                if self.opened == allowed {
                    return Err(Error::ChannelMax { allowed, needed: self.needed });
                }
                self.opened += 1;
                self.connection.channel().await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_suffice_and_contain_no_password() {
        let definitions = definitions("/", ["default", "eu"], None);
        let names = |kind: &str| -> Vec<&str> {
            definitions[kind].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
        };
        assert_eq!(names("vhosts"), ["/"]);
        let exchanges =
            ["imageshare", "imageshare.dead", "imageshare.reports", "imageshare.jobs.default", "imageshare.jobs.eu"];
        assert_eq!(names("exchanges"), exchanges);
        let queues = [
            "imageshare.dead",
            "imageshare.reports",
            "imageshare.proof",
            "imageshare.jobs.default",
            "imageshare.jobs.eu",
        ];
        assert_eq!(names("queues"), queues);
        assert_eq!(
            definitions["queues"][4]["arguments"],
            json!({"x-queue-type": "quorum", "x-single-active-consumer": true, "x-delivery-limit": 1_000_000,
                "x-dead-letter-exchange": "imageshare.dead", "x-dead-letter-routing-key": "imageshare.dead",
                "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"})
        );
        let bindings = definitions["bindings"].as_array().unwrap();
        let of_lane: Vec<_> =
            bindings.iter().filter(|binding| binding["destination"] == "imageshare.jobs.eu").collect();
        assert_eq!(of_lane.len(), 2);
        assert_eq!((&of_lane[0]["source"], &of_lane[0]["routing_key"]), (&json!("imageshare"), &json!("eu")));
        assert_eq!((&of_lane[1]["source"], &of_lane[1]["routing_key"]), (&json!("imageshare.jobs.eu"), &json!("")));
        assert_eq!(definitions.as_object().unwrap().len(), 4);
    }

    #[test]
    fn history_is_a_stream_with_age_and_size() {
        let history = Retention::new("30d".parse().unwrap(), "20GiB".parse().unwrap());
        let definitions = definitions("/", [], Some(&history));
        let queue = &definitions["queues"].as_array().unwrap()[3];
        assert_eq!(
            (&queue["name"], &queue["arguments"]),
            (
                &json!(HISTORY),
                &json!({"x-queue-type": "stream", "x-max-age": "30D", "x-max-length-bytes": 20_u64 << 30,
                    "x-stream-max-segment-size-bytes": 64 << 20})
            )
        );
        let bindings = definitions["bindings"].as_array().unwrap();
        let sources: Vec<_> = bindings
            .iter()
            .filter(|binding| binding["destination"] == HISTORY)
            .map(|binding| (&binding["source"], &binding["routing_key"]))
            .collect();
        assert_eq!(sources, [(&json!(REPORTS), &json!("#")), (&json!(HISTORY), &json!(""))]);
    }

    #[test]
    fn our_exchanges_lead_to_our_queues() {
        let default = Some(jobs_queue("default"));
        assert_eq!(queue_of(EXCHANGE, "default"), default);
        assert_eq!(queue_of(&jobs_exchange("default"), "any"), default);
        assert_eq!(queue_of(DEAD, DEAD).as_deref(), Some(DEAD));
        assert_eq!(queue_of(REPORTS, "default.failed").as_deref(), Some(REPORTS));
        assert_eq!(queue_of("", "other"), None);
    }

    #[test]
    fn our_own_queues_are_told_from_others() {
        assert!(is_ours(&jobs_queue("eu")) && is_ours(DEAD) && is_ours(REPORTS));
        assert!(!is_ours("imageshares") && !is_ours("amq.gen-x") && !is_ours(""));
    }

    #[test]
    fn queue_names_lead_back_to_lanes() {
        assert_eq!(lane_of_queue(&jobs_queue("eu.west")), Some("eu.west"));
        for other in ["imageshare.jobs.", "imageshare.dead", "other", ""] {
            assert_eq!(lane_of_queue(other), None, "{other}");
        }
    }
}
