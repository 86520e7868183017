//! Notifies the service manager by the protocol of `sd_notify(3)`: the process is ready, its main loop is alive, it is
//! shutting down. Without a service manager it sends nothing.

use std::{convert::Infallible, ffi::OsStr, future::pending, io, process, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use crate::{environment::Environment, status::Status};

/// The address of its socket. A name that begins with `@` is in the abstract namespace and not a file.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Microseconds within which it expects a notification that the process is alive.
const WATCHDOG_MICROS: &str = "WATCHDOG_USEC";

/// The process that has to send it; any, if it is not set.
const WATCHDOG_PROCESS: &str = "WATCHDOG_PID";

/// The service manager, if the process has one. The default is no service manager.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<socket::Socket>,
    /// How long it may be without a notification.
    watchdog: Option<Duration>,
}

/// Its socket cannot be connected to.
#[derive(Debug, thiserror::Error)]
#[error("the service manager that {SOCKET} names cannot be reached: {0}")]
pub struct OutOfReach(io::Error);

impl ServiceManager {
    /// Returns the service manager that started this process.
    ///
    /// # Errors
    /// If its socket cannot be connected to.
    pub fn of(environment: &Environment) -> Result<Self, OutOfReach> {
        let Some(path) = environment.path(SOCKET).filter(|path| !path.as_os_str().is_empty()) else {
            return Ok(Self::default());
        };
        let socket = socket::connect(path.as_os_str()).map_err(OutOfReach)?;
        Ok(Self { socket: Some(socket), watchdog: watchdog(environment) })
    }

    /// Notifies it that the process is ready to work.
    pub fn ready(&self) {
        self.notify("READY=1");
    }

    /// Notifies it that the shutdown has begun.
    pub fn stopping(&self) {
        self.notify("STOPPING=1");
    }

    /// Notifies it regularly that the process is alive, while it is. A process that drains counts as alive, whatever its loop
    /// does: the shutdown has its own time limit.
    pub async fn keep_alive(&self, status: &Status) -> Infallible {
        let Some(within) = self.watchdog else { return pending().await };
        let mut ticks = interval(within / 3);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if status.is_alive() || status.is_draining() {
                self.notify("WATCHDOG=1");
            }
        }
    }

    /// Sends a notification. A failure is ignored: the manager acts on notifications that are missing.
    fn notify(&self, what: &str) {
        if let Some(socket) = &self.socket {
            socket::send(socket, what.as_bytes());
        }
    }
}

/// Returns how long the manager may be without a notification, if that is limited.
fn watchdog(environment: &Environment) -> Option<Duration> {
    let number = |name| environment.text(name).ok().flatten().and_then(|text| text.parse::<u64>().ok());
    let is_ours = number(WATCHDOG_PROCESS).is_none_or(|process| process == u64::from(process::id()));
    let micros = number(WATCHDOG_MICROS).filter(|micros| *micros > 0 && is_ours);
    // The interval must not be zero, and more frequent notifications have no use.
    micros.map(|micros| Duration::from_micros(micros).max(Duration::from_millis(3)))
}

#[cfg(unix)]
mod socket {
    use std::os::unix::{ffi::OsStrExt as _, net::UnixDatagram};

    use super::{OsStr, io};

    pub(super) type Socket = UnixDatagram;

    /// A socket that never waits.
    pub(super) fn connect(path: &OsStr) -> io::Result<Socket> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        match path.as_bytes().strip_prefix(b"@") {
            Some(name) => connect_to_name(&socket, name)?,
            None => socket.connect(path)?,
        }
        Ok(socket)
    }

    #[cfg(target_os = "linux")]
    fn connect_to_name(socket: &Socket, name: &[u8]) -> io::Result<()> {
        use std::os::{linux::net::SocketAddrExt as _, unix::net::SocketAddr};

        socket.connect_addr(&SocketAddr::from_abstract_name(name)?)
    }

    #[cfg(not(target_os = "linux"))]
    fn connect_to_name(_: &Socket, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn send(socket: &Socket, what: &[u8]) {
        drop(socket.send(what));
    }
}

/// Only Unix has service managers with this protocol.
#[cfg(not(unix))]
mod socket {
    use super::{OsStr, io};

    #[derive(Debug)]
    pub(super) enum Socket {}

    pub(super) fn connect(_: &OsStr) -> io::Result<Socket> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) const fn send(socket: &Socket, _: &[u8]) {
        match *socket {}
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    };

    use super::*;

    fn heard(listening: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let len = listening.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn service_manager_receives_each_state() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listening = UnixDatagram::bind(&path).unwrap();
        let of = Environment::of([(SOCKET, path.to_str().unwrap()), (WATCHDOG_MICROS, "30000")]);
        let manager = ServiceManager::of(&of).unwrap();
        manager.ready();
        assert_eq!(heard(&listening), "READY=1");
        let status = Status::new(["default"]);
        listening.set_nonblocking(true).unwrap();
        tokio::select! {
            never = manager.keep_alive(&status) => match never {},
            () = async { while listening.recv(&mut [0; 64]).is_err() { tokio::task::yield_now().await } } => {}
        }
        manager.stopping();
        listening.set_nonblocking(false).unwrap();
        assert!(["WATCHDOG=1", "STOPPING=1"].contains(&heard(&listening).as_str()));
    }

    #[test]
    fn abstract_socket_is_found_and_closed_refused() {
        let name = format!("imageshare-test-{}", process::id());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let listening = UnixDatagram::bind_addr(&address).unwrap();
        let manager = ServiceManager::of(&Environment::of([(SOCKET, format!("@{name}").as_str())])).unwrap();
        manager.ready();
        assert_eq!(heard(&listening), "READY=1");
        let nowhere = ServiceManager::of(&Environment::of([(SOCKET, "/nowhere/at/all")])).unwrap_err();
        assert!(nowhere.to_string().starts_with("the service manager that NOTIFY_SOCKET names"), "{nowhere}");
        assert!(ServiceManager::of(&Environment::of([])).unwrap().socket.is_none());
    }

    #[test]
    fn watchdog_of_another_process_is_ignored() {
        let within =
            |pid: &str, micros: &str| watchdog(&Environment::of([(WATCHDOG_PROCESS, pid), (WATCHDOG_MICROS, micros)]));
        assert_eq!(within(&process::id().to_string(), "30000000"), Some(Duration::from_secs(30)));
        assert_eq!(within("1", "30000000"), None);
        for odd in ["", "0", "-5", "soon"] {
            assert_eq!(watchdog(&Environment::of([(WATCHDOG_MICROS, odd)])), None, "{odd}");
        }
    }
}
