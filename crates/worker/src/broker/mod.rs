//! The broker: RabbitMQ over AMQP 0-9-1, by the client library `lapin`.
//!
//! The library repairs nothing by itself here. Whoever holds a [`Connection`] drops it whole at the first error and
//! opens another one, and every call to it ends within a time-out of ours ([`bounded`]).

mod acks;
mod connection;
mod courtesies;
mod dead;
mod error;
pub(crate) mod events;
mod follower;
mod lane_connection;
mod mechanism;
mod orders;
mod publisher;
mod publishing;
mod refusals;
mod room;
mod routes;
mod settlement;
mod subscription;
mod supervisor;
mod transport;
mod url;

#[cfg(test)]
mod channel_tests;

pub mod delivery;
pub mod letters;
pub mod management;
pub mod topology;

pub use connection::{Connection, TimeOuts, bounded};
pub use dead::{DeadLetter, DeadLetters, Dropped};
pub use delivery::{Envelope, Lane, Reply};
pub use error::Error;
pub use follower::{Followed, Follower};
pub use imageshare_amqp::{BrokerVersion, Message};
pub use letters::headers;
pub use publisher::{Confirmation, Insistence, Lost, Publisher, State};
pub use publishing::Publishing;
pub use room::IN_FLIGHT_MAX;
pub use routes::{Route, Routes};
pub use supervisor::{Setup, Shared, Supervisor};
pub use url::{Url, UrlError};
