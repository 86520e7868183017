//! A relay between clients and a server that can do what networks do: cut, freeze, delay, trickle, refuse.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{broker::listen_anywhere, until};

/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;

/// Chunks that a direction holds before it stops reading. A frozen relay goes on taking bytes, as a network does.
const CHUNKS_MAX: usize = 4096;

/// Between two bytes that trickle.
const DRIP: Duration = Duration::from_millis(100);

/// A relay. Its connections end with it.
pub struct Relay {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    target: u16,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    mode: Mode,
    delay: Duration,
    /// Whether what comes from the server is passed on byte by byte.
    trickles: bool,
    /// How long each chunk of what comes from the server takes.
    per_chunk: Duration,
    /// Bytes that may still go to the server before everything is cut.
    allowance: Option<usize>,
    /// Those that are over are gone.
    connections: Vec<Weak<Connection>>,
    /// Connections so far.
    accepted: usize,
    /// Bytes that came for the server so far.
    to_server: usize,
}

/// Both ends of a connection.
struct Connection {
    client: TcpStream,
    server: TcpStream,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    Freeze,
    /// Nobody listens.
    Refuse,
    Ended,
}

impl Relay {
    /// A relay to a port of this machine.
    pub fn to(target: u16) -> Self {
        let state = State {
            mode: Mode::Pass,
            delay: Duration::ZERO,
            trickles: false,
            per_chunk: Duration::ZERO,
            allowance: None,
            connections: Vec::new(),
            accepted: 0,
            to_server: 0,
        };
        let shared = Arc::new(Shared { target, state: Mutex::new(state), changed: Condvar::new() });
        let (listener, port) = listen_anywhere();
        let relay = Self { port, shared };
        relay.serve(listener);
        relay
    }

    /// Ends every connection. New ones are taken.
    pub fn cut(&self) {
        self.shared.state().cut();
    }

    /// Ends every connection as soon as so many more bytes went to the server, wherever in a frame that is.
    pub fn cut_after(&self, bytes: usize) {
        self.shared.state().allowance = Some(bytes);
    }

    /// Takes bytes and connections, and passes nothing, in either direction. Nobody is told.
    pub fn freeze(&self) {
        self.shared.set(Mode::Freeze);
    }

    /// Passes again, what was held first.
    pub fn thaw(&self) {
        self.shared.set(Mode::Pass);
    }

    /// What comes from now on arrives so much later, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.shared.state().delay = delay;
    }

    /// From now on what the server says arrives byte by byte, ten a second; or as it does otherwise.
    pub fn trickle(&self, trickles: bool) {
        self.shared.state().trickles = trickles;
    }

    /// From now on so many bytes a second of what the server says arrive on each connection.
    pub fn narrow(&self, bytes_a_second: u32) {
        let chunk = u32::try_from(CHUNK).unwrap();
        self.shared.state().per_chunk = Duration::from_secs(1) * chunk / bytes_a_second;
    }

    /// Ends every connection and refuses new ones.
    pub fn refuse(&self) {
        self.shared.set(Mode::Refuse);
        self.cut();
        // The one who listens notices by a connection.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        until("the relay refuses", || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).err());
    }

    /// Takes connections again.
    pub fn serve_again(&self) {
        self.shared.set(Mode::Pass);
        self.serve(TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).unwrap());
    }

    /// Connections that it took so far.
    pub fn accepted(&self) -> usize {
        self.shared.state().accepted
    }

    /// Bytes that clients sent so far, whether they were passed on or not.
    pub fn to_server(&self) -> usize {
        self.shared.state().to_server
    }

    fn serve(&self, listener: TcpListener) {
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || shared.accept(&listener));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.set(Mode::Ended);
        self.cut();
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Connection {
    const fn from(&self, direction: Direction) -> &TcpStream {
        match direction {
            Direction::ToServer => &self.client,
            Direction::ToClient => &self.server,
        }
    }

    const fn to(&self, direction: Direction) -> &TcpStream {
        match direction {
            Direction::ToServer => &self.server,
            Direction::ToClient => &self.client,
        }
    }
}

impl State {
    fn cut(&mut self) {
        for connection in self.connections.drain(..).filter_map(|connection| connection.upgrade()) {
            drop(connection.client.shutdown(Shutdown::Both));
            drop(connection.server.shutdown(Shutdown::Both));
        }
        self.allowance = None;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, mode: Mode) {
        self.state().mode = mode;
        self.changed.notify_all();
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            let Ok(client) = client else { continue };
            let mut state = self.state();
            if matches!(state.mode, Mode::Refuse | Mode::Ended) {
                return;
            }
            // A server that is not there is one that refuses: the client's connection ends at once.
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.target)) else { continue };
            drop((client.set_nodelay(true), server.set_nodelay(true)));
            let connection = Arc::new(Connection { client, server });
            state.accepted += 1;
            state.connections.retain(|connection| connection.strong_count() > 0);
            state.connections.push(Arc::downgrade(&connection));
            drop(state);
            self.carry(&connection, Direction::ToServer);
            self.carry(&connection, Direction::ToClient);
        }
    }

    /// Carries what one end sends to the other.
    fn carry(self: &Arc<Self>, connection: &Arc<Connection>, direction: Direction) {
        let (sender, receiver) = sync_channel(CHUNKS_MAX);
        let (shared, held) = (Arc::clone(self), Arc::clone(connection));
        thread::spawn(move || shared.read(held.from(direction), direction, &sender));
        let (shared, held) = (Arc::clone(self), Arc::clone(connection));
        thread::spawn(move || shared.write(held.to(direction), direction, &receiver));
    }

    fn read(&self, mut from: &TcpStream, direction: Direction, sender: &SyncSender<(Instant, Vec<u8>)>) {
        let mut chunk = vec![0; CHUNK];
        while let Ok(length @ 1..) = from.read(&mut chunk) {
            let mut state = self.state();
            if direction == Direction::ToServer {
                state.to_server += length;
            }
            let due = Instant::now() + state.delay;
            drop(state);
            if sender.send((due, chunk[..length].to_vec())).is_err() {
                return;
            }
        }
    }

    fn write(&self, to: &TcpStream, direction: Direction, receiver: &Receiver<(Instant, Vec<u8>)>) {
        while let Ok((due, mut chunk)) = receiver.recv() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let mut state = self.wait_while_frozen();
            let mut is_last = false;
            if direction == Direction::ToServer
                && let Some(allowance) = &mut state.allowance
            {
                is_last = *allowance <= chunk.len();
                chunk.truncate(*allowance);
                *allowance -= chunk.len();
            }
            let takes = state.per_chunk;
            drop(state);
            if direction == Direction::ToClient {
                thread::sleep(takes.mul_f64(chunk.len() as f64 / CHUNK as f64));
            }
            let written = self.write_chunk(to, direction, &chunk);
            if is_last {
                self.state().cut();
            }
            if is_last || written.is_err() {
                break;
            }
        }
        // The end of what one side sends is news as any other, and comes no sooner.
        drop(self.wait_while_frozen());
        drop(to.shutdown(Shutdown::Write));
    }

    fn write_chunk(&self, mut to: &TcpStream, direction: Direction, chunk: &[u8]) -> io::Result<()> {
        let mut rest = chunk;
        while direction == Direction::ToClient && !rest.is_empty() && self.state().trickles {
            to.write_all(&rest[..1])?;
            rest = &rest[1..];
            thread::sleep(DRIP);
        }
        to.write_all(rest)
    }

    fn wait_while_frozen(&self) -> MutexGuard<'_, State> {
        let state = self.state();
        let waited = self.changed.wait_while(state, |state| state.mode == Mode::Freeze);
        waited.unwrap_or_else(PoisonError::into_inner)
    }
}
