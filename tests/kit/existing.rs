//! A broker that runs already, such as one in a container: `IMAGESHARE_TEST_BROKER=amqp://user:password@localhost/vhost`.
//!
//! The kit can only speak AMQP with it. So its scenarios take turns in the one virtual host, which has to be without
//! imageshare's queues, and they see no delivery that a worker holds.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lapin::{
    options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
    uri::AMQPUri,
};

use crate::{
    Amqp,
    stage::{DEAD, LANES, REPORTS, queue_of},
};

/// Where it is.
pub struct Existing {
    pub port: u16,
    /// User and password, then the virtual host, as they stand in the address.
    pub user: String,
    pub vhost: String,
}

/// The turn of one scenario. Removes what the scenario made when it is over.
pub struct Turn {
    url: String,
    _lock: MutexGuard<'static, ()>,
}

impl Existing {
    /// The broker of the environment, if it names one. `tests/run` checks the address first.
    pub fn of_environment() -> Option<Self> {
        let url = std::env::var("IMAGESHARE_TEST_BROKER").ok().filter(|url| !url.is_empty())?;
        let parsed: AMQPUri = url.parse().expect("IMAGESHARE_TEST_BROKER is an address");
        let rest = url.strip_prefix("amqp://").expect("IMAGESHARE_TEST_BROKER has no TLS");
        let (user, place) = rest.split_once('@').unwrap_or(("guest:guest", rest));
        let vhost = place.split_once('/').map_or("%2f", |(_, vhost)| vhost);
        Some(Self { port: parsed.authority.port, user: user.to_owned(), vhost: vhost.to_owned() })
    }

    /// Waits until no other scenario uses the virtual host.
    pub fn turn(&self, url: String) -> Turn {
        static TURNS: Mutex<()> = Mutex::new(());
        let lock = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = Amqp::open(&url)
            .attempt(async |channel| channel.queue_declare(REPORTS.into(), options, FieldTable::default()).await);
        assert!(
            found.is_err(),
            "{REPORTS} exists in the virtual host; name an empty one, since the scenarios delete it"
        );
        Turn { url, _lock: lock }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let amqp = Amqp::open(&self.url);
        let lanes = LANES.into_iter().chain(["default"]).map(queue_of);
        for name in lanes.chain([REPORTS, DEAD, "imageshare"].map(str::to_owned)) {
            // What is not there needs no end.
            amqp.attempt(async |channel| {
                channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await?;
                channel.exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default()).await
            })
            .ok();
        }
    }
}
