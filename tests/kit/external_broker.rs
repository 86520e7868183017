//! A broker that is already running, such as one in a container:
//! `IMAGESHARE_TEST_BROKER=amqp://user:password@localhost/vhost`.
//!
//! It is accessible by AMQP only. So scenarios take turns in its virtual host, which must be without imageshare's queues, and
//! cannot observe unacknowledged deliveries.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lapin::{
    options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
    uri::AMQPUri,
};

use crate::{
    AmqpClient,
    setup::{DEAD, LANES, REPORTS, lane_queue},
};

/// The address of an external broker.
pub struct ExternalBroker {
    pub port: u16,
    /// User and password, percent-encoded.
    pub user: String,
    /// Percent-encoded.
    pub vhost: String,
}

/// Exclusive use of the virtual host. Deletes imageshare's queues and exchanges on drop.
pub struct VhostLock {
    url: String,
    _lock: MutexGuard<'static, ()>,
}

impl ExternalBroker {
    /// Returns the broker that the environment names, if any. `tests/run` has checked the address.
    pub fn from_env() -> Option<Self> {
        let url = std::env::var("IMAGESHARE_TEST_BROKER").ok().filter(|url| !url.is_empty())?;
        let parsed: AMQPUri = url.parse().expect("IMAGESHARE_TEST_BROKER is an address");
        let rest = url.strip_prefix("amqp://").expect("IMAGESHARE_TEST_BROKER has no TLS");
        let (user, place) = rest.split_once('@').unwrap_or(("guest:guest", rest));
        let vhost = place.split_once('/').map_or("%2f", |(_, vhost)| vhost);
        Some(Self { port: parsed.authority.port, user: user.to_owned(), vhost: vhost.to_owned() })
    }

    /// Waits until no other scenario uses the virtual host.
    pub fn lock(&self, url: String) -> VhostLock {
        static LOCK: Mutex<()> = Mutex::new(());
        let lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = AmqpClient::connect(&url)
            .attempt(async |channel| channel.queue_declare(REPORTS.into(), options, FieldTable::default()).await);
        assert!(
            declared.is_err(),
            "the virtual host has a queue {REPORTS} (expected an empty one, since the scenarios delete imageshare's queues)"
        );
        VhostLock { url, _lock: lock }
    }
}

impl Drop for VhostLock {
    fn drop(&mut self) {
        let amqp = AmqpClient::connect(&self.url);
        let lanes = LANES.into_iter().chain(["default"]).map(lane_queue);
        for name in lanes.chain([REPORTS, DEAD, "imageshare"].map(str::to_owned)) {
            // Fails for a queue or exchange that the scenario did not create.
            amqp.attempt(async |channel| {
                channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await?;
                channel.exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default()).await
            })
            .ok();
        }
    }
}
