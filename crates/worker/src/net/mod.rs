//! TCP connections by name, for the API and the broker: lookups are shared, and the addresses of a name are tried side by
//! side.

mod resolver;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::LazyLock,
    time::Duration,
};

use tokio::{net::TcpStream, task::JoinSet, time::sleep};

use resolver::Resolver;

pub(crate) use resolver::LookupError;

/// How long an address is silent before the next one is tried beside it (RFC 8305, section 5).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 16;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetError {
    /// The name has no address, or no name server answered.
    #[error(transparent)]
    Lookup(LookupError),
    /// No address accepted the connection. Holds the error of the last one.
    #[error(transparent)]
    Connect(io::Error),
}

/// Connects by name. Clones share their lookups.
#[derive(Clone, Debug)]
pub(crate) struct Network(Resolver);

impl Network {
    /// Returns the network of this process.
    pub(crate) fn of_process() -> Self {
        static NETWORK: LazyLock<Network> = LazyLock::new(|| Network(Resolver::system()));
        NETWORK.clone()
    }

    /// Looks up the addresses of a host. A host that is an address is its own.
    ///
    /// # Errors
    /// [`NetError::Lookup`] if the name has none. Dropping the future ends no lookup: a late result serves the next call.
    pub(crate) async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, NetError> {
        let bare = host.trim_matches(['[', ']']);
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        self.0.lookup(bare).await.map_err(NetError::Lookup)
    }

    /// Connects to a host. Waits until an address answers; the caller limits that time.
    ///
    /// # Errors
    /// If the name has no address, or none of them accepts the connection.
    pub(crate) async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, NetError> {
        connect_any(in_turn(self.lookup(host).await?), port).await.map_err(NetError::Connect)
    }
}

/// Orders addresses so that the two families alternate, beginning with the resolver's first one (RFC 8305, section 4).
fn in_turn(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let starts_with_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|ip| ip.is_ipv6() == starts_with_v6);
    let mut ordered = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            ordered.truncate(ADDRESSES_MAX);
            return ordered;
        }
        ordered.extend(pair.into_iter().flatten());
    }
}

/// Returns the first connection that comes about. An address that is silent keeps its attempt while the next ones begin.
async fn connect_any(addresses: Vec<IpAddr>, port: u16) -> io::Result<TcpStream> {
    let mut error = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    let mut rest = addresses.into_iter().map(|ip| SocketAddr::new(ip, port));
    let mut attempts = JoinSet::new();
    loop {
        match rest.next() {
            Some(address) => drop(attempts.spawn(TcpStream::connect(address))),
            None if attempts.is_empty() => return Err(error),
            None => {}
        }
        let is_last = rest.len() == 0;
        tokio::select! {
            biased;
            Some(ended) = attempts.join_next() => match ended {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(refused)) => error = refused,
                Err(panicked) => error = io::Error::other(panicked),
            },
            () = sleep(NEXT_ADDRESS_AFTER), if !is_last => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        net::{TcpListener, TcpSocket},
        time::timeout,
    };

    use super::*;

    /// A listener whose queue is full, so that it takes no further connection and refuses none.
    async fn silent(address: &str) -> (TcpSocketGuard, u16) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(address.parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let at = listener.local_addr().unwrap();
        let mut taken = Vec::new();
        while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(at)).await {
            taken.push(stream.unwrap());
        }
        (TcpSocketGuard { _listener: listener, _taken: taken }, at.port())
    }

    struct TcpSocketGuard {
        _listener: TcpListener,
        _taken: Vec<TcpStream>,
    }

    #[tokio::test]
    async fn silent_address_is_passed_over() {
        let (_silent, port) = silent("127.0.0.2:0").await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let addresses = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::LOCALHOST].map(IpAddr::from).to_vec();
        let stream = timeout(Duration::from_secs(5), connect_any(addresses, port)).await.unwrap().unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
    }

    #[tokio::test]
    async fn address_that_refuses_is_passed_over_at_once() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let addresses = [Ipv4Addr::new(127, 0, 0, 3), Ipv4Addr::LOCALHOST].map(IpAddr::from).to_vec();
        assert!(connect_any(addresses, port).await.is_ok());
        let refused = connect_any(vec![Ipv4Addr::new(127, 0, 0, 3).into()], port).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(connect_any(Vec::new(), port).await.is_err());
    }

    #[test]
    fn address_families_alternate() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let resolved = ["::1", "::2", "::3", "10.0.0.1", "10.0.0.2"].map(ip).to_vec();
        assert_eq!(in_turn(resolved), ["::1", "10.0.0.1", "::2", "10.0.0.2", "::3"].map(ip));
        assert_eq!(in_turn((1..=20).map(|n| ip(&format!("10.0.0.{n}"))).collect()).len(), ADDRESSES_MAX);
    }

    #[tokio::test]
    async fn address_needs_no_lookup() {
        let network = Network(Resolver::by(|_| panic!("looked up")));
        assert_eq!(network.lookup("[::1]").await.unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
    }
}
