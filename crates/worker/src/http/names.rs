//! Looking up names, which blocks a thread for as long as the name servers are silent: a few at a time.

use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs as _},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::{sync::Semaphore, task::spawn_blocking};
use tower_service::Service;

/// Look-ups at once. Those that nobody waits for any more count until they end: their threads are blocked all the same.
const LOOKUPS_MAX: usize = 4;

type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Looks up names by way of the system. Whoever finds all look-ups taken waits, within the time for a connection.
#[derive(Clone)]
pub(super) struct Names {
    lookup: Arc<Lookup>,
    room: Arc<Semaphore>,
}

impl Names {
    /// By this function, which may block.
    fn by(lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self { lookup: Arc::new(lookup), room: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }
}

impl Default for Names {
    fn default() -> Self {
        // The connector puts the port in.
        Self::by(|name| Ok((name, 0).to_socket_addrs()?.collect()))
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

impl Service<Name> for Names {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { lookup, room } = self.clone();
        Box::pin(async move {
            let place = room.acquire_owned().await.map_err(io::Error::other)?;
            let looked = spawn_blocking(move || {
                let found = lookup(name.as_str());
                drop(place);
                found
            });
            Ok(looked.await.map_err(io::Error::other)??.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Condvar, Mutex,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn name_servers_that_are_silent_block_a_few_threads_and_no_more() {
        let (under_way, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new((Mutex::new(false), Condvar::new())));
        let (count, silent) = (Arc::clone(&under_way), Arc::clone(&gate));
        let names = Names::by(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            let is_open = silent.0.lock().unwrap();
            drop(silent.1.wait_while(is_open, |is_open| !*is_open).unwrap());
            Ok(vec![SocketAddr::from(([127, 0, 0, 1], 1))])
        });
        let ask = async || {
            let name = "api.example".parse().unwrap();
            timeout(Duration::from_millis(50), names.clone().call(name)).await
        };
        for _ in 0..20 {
            assert!(ask().await.is_err(), "nobody waits longer than it may");
        }
        assert_eq!(under_way.load(Ordering::SeqCst), LOOKUPS_MAX);
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        // The servers answer again, and so do the look-ups.
        let name = "api.example".parse().unwrap();
        let found: Vec<_> = names.clone().call(name).await.unwrap().collect();
        assert_eq!(found, [SocketAddr::from(([127, 0, 0, 1], 1))]);
    }
}
