//! Where the jobs of a lane are published.

use std::{collections::BTreeMap, time::UNIX_EPOCH};

use imageshare_amqp::Message;
use lapin::{BasicProperties, types::ShortString};

use super::{Connection, Error, TimeOuts, Url, topology};

/// Lanes whose route is cached.
const KNOWN_MAX: usize = 1_000;

/// An exchange and a routing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The exchange.
    pub exchange: ShortString,
    /// The routing key. A lane's own exchange ignores it.
    pub routing_key: ShortString,
}

/// Finds the routes of lanes: the lane's own exchange, or the shared one where the broker has no such exchange.
///
/// The broker is asked once for each lane, on a connection of its own. That needs no permission.
#[derive(Debug)]
pub struct Routes {
    url: Url,
    name: String,
    time_outs: TimeOuts,
    known: BTreeMap<String, Route>,
}

impl Route {
    /// Returns the route by the lane's own exchange, or `None` if the name is too long for an exchange.
    #[must_use]
    pub fn own(lane: &str) -> Option<Self> {
        let exchange = ShortString::try_new(topology::jobs_exchange(lane)).ok()?;
        Some(Self { exchange, routing_key: ShortString::try_new(lane).ok()? })
    }

    /// Returns the route by the exchange that all lanes share.
    #[must_use]
    pub fn shared(lane: &str) -> Self {
        Self { exchange: topology::EXCHANGE.into(), routing_key: ShortString::try_new(lane).unwrap_or_default() }
    }

    /// Returns the message of a job that is published now. The broker keeps it on disk.
    #[must_use]
    pub fn job(self, message_id: ShortString, body: Vec<u8>) -> Message {
        let Self { exchange, routing_key } = self;
        let message = Message::json("", routing_key, message_id, body);
        Message { exchange, properties: published_now(message.properties), ..message }
    }
}

/// Adds the time of publishing, from which a worker measures how long the job waits.
pub(super) fn published_now(properties: BasicProperties) -> BasicProperties {
    properties.with_timestamp(UNIX_EPOCH.elapsed().unwrap_or_default().as_secs())
}

impl Routes {
    /// Routes at this broker, which lists the connections under `name`.
    #[must_use]
    pub fn new(url: Url, name: &str, time_outs: TimeOuts) -> Self {
        Self { url, name: name.to_owned(), time_outs, known: BTreeMap::new() }
    }

    /// Returns the route of a lane. If the broker cannot be asked it is the lane's own exchange, and the publisher reports the
    /// problem.
    pub async fn find(&mut self, lane: &str) -> Route {
        if let Some(route) = self.known.get(lane) {
            return route.clone();
        }
        let route = match Route::own(lane) {
            Some(own) if self.is_missing(lane).await != Ok(true) => own,
            Some(_) | None => Route::shared(lane),
        };
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(lane.to_owned(), route.clone());
        route
    }

    async fn is_missing(&self, lane: &str) -> Result<bool, Error> {
        let connection = Connection::open(&self.url, &self.name, self.time_outs).await?;
        let is_missing = topology::lacks_exchange(&connection, lane).await;
        // The answer to the close changes nothing.
        drop(connection.close().await);
        is_missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_names_lane_twice() {
        let own = Route::own("eu").unwrap();
        assert_eq!((own.exchange.as_str(), own.routing_key.as_str()), ("imageshare.jobs.eu", "eu"));
        let shared = Route::shared("eu");
        assert_eq!((shared.exchange.as_str(), shared.routing_key.as_str()), ("imageshare", "eu"));
    }

    #[test]
    fn overlong_name_reaches_no_lane() {
        let long = "x".repeat(250);
        assert_eq!(Route::own(&long), None);
        assert_eq!(Route::shared(&"x".repeat(300)).routing_key.as_str(), "");
    }
}
