//! Exchanges and queues: what there has to be at the broker, how it is made, and what differs.
//!
//! | what | kind | routing |
//! |---|---|---|
//! | `imageshare` | direct exchange | key `<lane>` to `imageshare.jobs.<lane>` |
//! | `imageshare.jobs.<lane>` | quorum queue, one consumer at a time | |
//! | `imageshare.dead` | direct exchange and quorum queue | key `imageshare.dead` |
//! | `imageshare.reports` | topic exchange and quorum queue of bounded length | key `<lane>.<status>`, bound to `#` |
//!
//! All of it is durable. Arguments cannot be changed later, so there are few; what operators may want beside them is
//! for policies.

use std::collections::BTreeMap;

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};

use super::{Connection, Error, bounded};

/// The exchange for jobs. The routing key is the lane's name.
pub const EXCHANGE: &str = "imageshare";

/// The exchange, the queue, and the key between them for what could not be done.
pub const DEAD: &str = "imageshare.dead";

/// The exchange and the queue for reports. The key is `<lane>.<status>`.
pub const REPORTS: &str = "imageshare.reports";

/// Reports that the queue keeps at most; then the oldest goes, so that a report always has a place, whether anybody
/// reads them or not.
pub const REPORTS_MAX: u32 = 1_000_000;

/// Bytes of reports that the queue keeps at most.
pub const REPORTS_BYTES_MAX: u32 = 2 * 1024 * 1024 * 1024 - 1;

/// How often a message may come back. Without an explicit limit it would come back behind all others on old brokers,
/// and would be dropped after twenty times on new ones.
const DELIVERY_LIMIT: u32 = 1_000_000;

/// Codes of AMQP 0-9-1 that are about the thing that was asked for.
const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;

/// The queue of a lane's jobs.
#[must_use]
pub fn jobs_queue(lane: &str) -> String {
    format!("imageshare.jobs.{lane}")
}

/// Whether a queue's name is one of ours, to which no answer may be sent.
#[must_use]
pub fn is_ours(queue: &str) -> bool {
    queue == EXCHANGE || queue.starts_with("imageshare.")
}

/// What is not as it has to be. Its words say how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// It is there in another way.
    #[error(
        "{what} differs: {found}. What is there cannot be changed: when it is empty, delete it, then run \
         `imageshare topology --declare`"
    )]
    Different {
        /// What it is and its name.
        what: String,
        /// The broker's words, printable.
        found: String,
    },
    /// It is not there.
    #[error("{what} is missing: run `imageshare topology --declare`, or import what `imageshare topology` prints")]
    Missing {
        /// What it is and its name.
        what: String,
    },
}

/// An exchange or a queue.
enum Item {
    Exchange {
        name: &'static str,
        is_topic: bool,
    },
    /// With the exchange that it is bound to, and the key of that.
    Queue {
        name: String,
        exchange: &'static str,
        key: String,
        arguments: Vec<(&'static str, Argument)>,
    },
}

/// The value of an argument.
#[derive(Clone, Copy)]
enum Argument {
    Flag(bool),
    Number(u32),
    Text(&'static str),
}

/// The queue that takes what is published to this exchange by this routing key, if it is one of ours.
pub(super) fn queue_of(exchange: &str, routing_key: &str) -> Option<String> {
    match exchange {
        EXCHANGE => Some(jobs_queue(routing_key)),
        DEAD | REPORTS => Some(exchange.to_owned()),
        _ => None,
    }
}

/// All there has to be for these lanes, in the order in which it is made.
fn items<'a>(lanes: impl IntoIterator<Item = &'a str>) -> Vec<Item> {
    let quorum = [("x-queue-type", Argument::Text("quorum")), ("x-delivery-limit", Argument::Number(DELIVERY_LIMIT))];
    let with = |more: &[(&'static str, Argument)]| [&quorum, more].concat();
    let mut items = vec![
        Item::Exchange { name: EXCHANGE, is_topic: false },
        Item::Exchange { name: DEAD, is_topic: false },
        Item::Exchange { name: REPORTS, is_topic: true },
        Item::Queue { name: DEAD.to_owned(), exchange: DEAD, key: DEAD.to_owned(), arguments: with(&[]) },
        Item::Queue {
            name: REPORTS.to_owned(),
            exchange: REPORTS,
            key: "#".to_owned(),
            arguments: with(&[
                ("x-max-length", Argument::Number(REPORTS_MAX)),
                ("x-max-length-bytes", Argument::Number(REPORTS_BYTES_MAX)),
                ("x-overflow", Argument::Text("drop-head")),
            ]),
        },
    ];
    items.extend(lanes.into_iter().map(|lane| Item::Queue {
        name: jobs_queue(lane),
        exchange: EXCHANGE,
        key: lane.to_owned(),
        arguments: with(&[("x-single-active-consumer", Argument::Flag(true))]),
    }));
    items
}

/// What became of a declaration: what was made, what was there, what differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// What was not there, such as `queue imageshare.dead`.
    pub made: Vec<String>,
    /// What was there as it has to be.
    pub found: Vec<String>,
    /// What was there in another way. It was left so.
    pub different: Vec<Difference>,
}

/// Makes what is missing. What is there already stays as it is; where that differs, the rest is made nevertheless.
///
/// # Errors
/// If the connection does not carry it out, or the user may not.
pub async fn declare<'a>(connection: &Connection, lanes: impl IntoIterator<Item = &'a str>) -> Result<Declared, Error> {
    let mut channels = Channels::new(connection);
    let mut declared = Declared::default();
    for item in items(lanes) {
        let is_there = match channels.declare(&item, true).await {
            Ok(()) => true,
            Err(Error::Closed { code: NOT_FOUND, .. }) => false,
            Err(error) => return Err(error),
        };
        match channels.declare(&item, false).await {
            Ok(()) => {
                channels.bind(&item).await?;
                let list = if is_there { &mut declared.found } else { &mut declared.made };
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

/// Looks at what there is and changes nothing. What is there is declared once more, on a channel of its own, since
/// only that makes the broker say what differs. Bindings cannot be looked at: a missing one shows when something is
/// published.
///
/// # Errors
/// If the connection does not carry it out.
pub async fn check<'a>(
    connection: &Connection,
    lanes: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<Difference>, Error> {
    let mut channels = Channels::new(connection);
    let mut differences = Vec::new();
    for item in items(lanes) {
        let looked = match channels.declare(&item, true).await {
            Ok(()) => channels.declare(&item, false).await,
            missing => missing,
        };
        match looked {
            // Who may not declare cannot compare either.
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

/// What `rabbitmqctl import_definitions` and a node that starts take in: the virtual host, the exchanges, the queues,
/// the bindings. No users and no permissions.
#[must_use]
pub fn definitions<'a>(vhost: &str, lanes: impl IntoIterator<Item = &'a str>) -> Value {
    let (mut exchanges, mut queues, mut bindings) = (Vec::new(), Vec::new(), Vec::new());
    for item in items(lanes) {
        match item {
            Item::Exchange { name, is_topic } => exchanges.push(json!({
                "name": name, "vhost": vhost, "type": if is_topic { "topic" } else { "direct" },
                "durable": true, "auto_delete": false, "internal": false, "arguments": {},
            })),
            Item::Queue { name, exchange, key, arguments } => {
                bindings.push(json!({
                    "source": exchange, "vhost": vhost, "destination": name, "destination_type": "queue",
                    "routing_key": key, "arguments": {},
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

impl Item {
    fn what(&self) -> String {
        match self {
            Self::Exchange { name, .. } => format!("exchange {name}"),
            Self::Queue { name, .. } => format!("queue {name}"),
        }
    }
}

impl Argument {
    fn to_json(self) -> Value {
        match self {
            Self::Flag(flag) => flag.into(),
            Self::Number(number) => number.into(),
            Self::Text(text) => text.into(),
        }
    }

    fn to_amqp(self) -> AMQPValue {
        match self {
            Self::Flag(flag) => AMQPValue::Boolean(flag),
            Self::Number(number) => AMQPValue::LongLongInt(number.into()),
            Self::Text(text) => AMQPValue::LongString(text.into()),
        }
    }
}

fn table(arguments: &[(&'static str, Argument)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert((*name).into(), value.to_amqp());
    }
    table
}

/// A channel that is replaced whenever an answer has cost it.
struct Channels<'a> {
    connection: &'a Connection,
    open: Option<Channel>,
}

impl<'a> Channels<'a> {
    const fn new(connection: &'a Connection) -> Self {
        Self { connection, open: None }
    }

    async fn declare(&mut self, item: &Item, passive: bool) -> Result<(), Error> {
        let limit = self.connection.time_outs().call;
        let channel = self.take().await?;
        match item {
            Item::Exchange { name, is_topic } => {
                let kind = if *is_topic { ExchangeKind::Topic } else { ExchangeKind::Direct };
                let options = ExchangeDeclareOptions { passive, durable: true, ..ExchangeDeclareOptions::default() };
                let declare = channel.exchange_declare((*name).into(), kind, options, FieldTable::default());
                bounded(limit, "exchange.declare", declare).await?;
            }
            Item::Queue { name, arguments, .. } => {
                let options = QueueDeclareOptions { passive, durable: true, ..QueueDeclareOptions::default() };
                let declare = channel.queue_declare(name.as_str().into(), options, table(arguments));
                bounded(limit, "queue.declare", declare).await?;
            }
        }
        self.open = Some(channel);
        Ok(())
    }

    async fn bind(&mut self, item: &Item) -> Result<(), Error> {
        let Item::Queue { name, exchange, key, .. } = item else { return Ok(()) };
        let limit = self.connection.time_outs().call;
        let channel = self.take().await?;
        let (queue, exchange, key) = (name.as_str().into(), (*exchange).into(), key.as_str().into());
        let bind = channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), FieldTable::default());
        bounded(limit, "queue.bind", bind).await?;
        self.open = Some(channel);
        Ok(())
    }

    /// The channel, which comes back only after a call that went well.
    async fn take(&mut self) -> Result<Channel, Error> {
        match self.open.take() {
            Some(channel) => Ok(channel),
            None => self.connection.channel().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_hold_what_a_blank_node_needs_and_nobody_s_password() {
        let definitions = definitions("/", ["default", "eu"]);
        let names = |kind: &str| -> Vec<&str> {
            definitions[kind].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
        };
        assert_eq!(names("vhosts"), ["/"]);
        assert_eq!(names("exchanges"), ["imageshare", "imageshare.dead", "imageshare.reports"]);
        let queues = ["imageshare.dead", "imageshare.reports", "imageshare.jobs.default", "imageshare.jobs.eu"];
        assert_eq!(names("queues"), queues);
        assert_eq!(
            definitions["queues"][3]["arguments"],
            json!({"x-queue-type": "quorum", "x-single-active-consumer": true, "x-delivery-limit": 1_000_000})
        );
        assert_eq!(definitions["bindings"][3]["source"], "imageshare");
        assert_eq!(definitions["bindings"][3]["routing_key"], "eu");
        assert_eq!(definitions.as_object().unwrap().len(), 4);
    }

    #[test]
    fn our_own_queues_are_told_from_others() {
        assert!(is_ours(&jobs_queue("eu")) && is_ours(DEAD) && is_ours(REPORTS));
        assert!(!is_ours("imageshares") && !is_ours("amq.gen-x") && !is_ours(""));
    }
}
