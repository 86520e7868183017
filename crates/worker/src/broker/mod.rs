//! The broker: RabbitMQ over AMQP 0-9-1, by the client library `lapin`.
//!
//! Nothing is repaired. The owner of a [`Connection`] drops it at the first error and opens another one. Every call to the
//! library ends within a time-out of ours ([`bounded`]).

mod connection;
mod dead;
mod depths;
mod error;
pub(crate) mod events;
mod follower;
mod history;
mod lane_connection;
mod mechanism;
mod orders;
mod passed_properties;
mod publish_queue;
mod publisher;
mod publisher_connection;
mod publishers;
mod receive;
mod refusals;
mod reply_copies;
mod room;
mod routes;
mod settle;
mod settlement;
mod subscription;
mod supervisor;
mod transport;
mod url;

#[cfg(test)]
mod channel_tests;

pub mod delivery;
pub mod management;
pub mod outgoing_messages;
pub mod topology;

pub use connection::{Connection, TimeOuts, bounded};
pub use dead::{DeadLetter, DeadLetters, Dropped};
pub use delivery::{BrokerLane, JobEnvelope, ReplyAddress};
pub(crate) use depths::watch_depths;
pub use error::Error;
pub use follower::{Followed, Follower};
pub use history::{Age, HistoryReader, Retention, RetentionError, Size};
pub use imageshare_amqp::{BrokerVersion, Message};
pub use outgoing_messages::headers;
pub use publish_queue::{Lost, PublishMode};
pub use publisher::{Confirmation, Publisher, PublisherTask};
pub use publisher_connection::State;
pub use publishers::{PublisherConnections, Publishers};
pub use room::IN_FLIGHT_MAX;
pub use routes::{Route, Routes};
pub use supervisor::{Setup, SharedByLanes, Supervisor};
pub use url::Url;
