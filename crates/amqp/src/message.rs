//! A message to publish.

use bytes::Bytes;
use lapin::{
    BasicProperties,
    message::Delivery,
    types::{FieldTable, ShortString},
};

/// AMQP's delivery mode 2: the broker keeps the message on disk.
pub const PERSISTENT: u8 = 2;

/// A message to publish. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The exchange; empty for the queue that the routing key names.
    pub exchange: ShortString,
    /// The routing key.
    pub routing_key: ShortString,
    /// The properties, headers included.
    pub properties: BasicProperties,
    /// The body.
    pub body: Bytes,
}

impl Message {
    /// Returns a persistent message with a JSON body.
    #[must_use]
    pub fn json(exchange: &str, routing_key: ShortString, message_id: ShortString, body: Vec<u8>) -> Self {
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(PERSISTENT)
            .with_message_id(message_id);
        // Without the capacity that it was written with.
        let body = body.into_boxed_slice().into();
        Self { exchange: exchange.into(), routing_key, properties, body }
    }

    /// Replaces the headers.
    #[must_use]
    pub fn with_headers(self, headers: FieldTable) -> Self {
        Self { properties: self.properties.with_headers(headers), ..self }
    }

    /// Returns exchange and routing key in printable form.
    #[must_use]
    pub fn destination(&self) -> String {
        destination(&self.exchange, &self.routing_key)
    }

    /// Returns whether a delivered or returned message is this one. The broker changes none of the compared parts.
    #[must_use]
    pub fn equals(&self, delivery: &Delivery) -> bool {
        self.routing_key == delivery.routing_key
            && self.exchange == delivery.exchange
            && self.properties.message_id() == delivery.properties.message_id()
            && self.body == delivery.data
    }
}

/// Returns exchange and routing key in printable form.
#[must_use]
pub fn destination(exchange: &ShortString, routing_key: &ShortString) -> String {
    let shown = |text: &ShortString| imageshare_core::text::excerpt(text.as_str());
    format!("exchange {} with routing key {}", shown(exchange), shown(routing_key))
}
