//! Workarounds for faults of the AMQP client library `lapin`, one per module.
//!
//! All faults are in lapin 4.12.3 with amq-protocol 10.6.3. When a fault is fixed, its test in `lapin_faults.rs` fails and the
//! workaround can be deleted.
//!
//! | fault of the library | effect | workaround |
//! |---|---|---|
//! | It refuses a message with a header name or text property that is not UTF-8. | The connection ends each time such a message is delivered. | [`Scrubber`] |
//! | It parses nested tables of any depth on the stack. | A header with tables 10,000 deep ends the process. | [`Scrubber`] |
//! | It refuses a header frame that is longer than `frame_max`, which RabbitMQ sends when it adds its count of deliveries. | The connection ends each time such a message is redelivered. | [`Scrubber`] |
//! | It refuses `basic.deliver` with a routing key that is not UTF-8. | The connection ends each time such a message is delivered. | [`Decoder`] |
//! | It reads as fast as the broker sends, and buffers bodies of any length and number. | Memory grows to the length of the queue. | [`Decoder`] for lanes, [`ReadLimit`] elsewhere |
//! | It attaches a returned message to the next confirm that it processes, even that of another message. | A returned message counts as confirmed, and a confirmed one as returned. | [`InFlightMessages`] |
//! | A channel that reuses the number of a closed channel returns the error of the closed one again. | A queue that exists seems to be missing. | The worker's check of the topology uses each number once. |
//! | With `enable_auto_recover`, a consumer whose channel the broker closed yields one error and does not end. | It waits forever on a connection that looks healthy. | The worker never turns recovery on. It drops the connection at the first error. |
//!
//! Lanes do not use the library, which also saves a thread and half a mebibyte of buffers for each lane.

mod broker_version;
mod decoder;
mod in_flight;
mod message;
mod read_limit;
mod scrubber;

#[cfg(any(test, feature = "fake-broker"))]
pub mod fake_broker;
#[cfg(test)]
mod lapin_faults;

pub use broker_version::BrokerVersion;
pub use decoder::{
    Decoder, FRAME_MAX, Frame, HEAD_LEN, IncomingMessage, MalformedFrame, PROTOCOL_HEADER, encode_heartbeat,
    encode_method,
};
pub use in_flight::{InFlightMessages, Outgoing, PublishOutcome};
pub use message::{Message, PERSISTENT, destination};
pub use read_limit::{BODIES_LEN_MAX, ReadLimit};
pub use scrubber::{FRAME_MAX_MIN, Scrubber};
