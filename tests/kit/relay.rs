//! A TCP relay that simulates network faults: cut, freeze, throttle, refuse.

use std::{
    net::{Ipv4Addr, TcpListener as StdListener, TcpStream as StdStream},
    sync::Mutex,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinHandle,
    time::sleep,
};

use crate::{amqp::runtime, broker::bind_free_port, wait_until};

/// Bytes per read.
const CHUNK: usize = 64 * 1024;

/// A relay. Its connections are closed on drop.
pub struct Relay {
    pub port: u16,
    target: u16,
    state: watch::Sender<RelayState>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

/// The faults and counters of a relay.
#[derive(Clone, Default)]
pub struct RelayState {
    /// Accepts bytes and connections, and forwards nothing. Neither side can notice.
    pub is_frozen: bool,
    /// Bytes per second that a connection forwards from the server, in ten parts.
    pub bytes_per_second: Option<usize>,
    /// Bytes that are forwarded to the server before all connections are cut, possibly within a frame.
    pub allowance: Option<usize>,
    /// Bytes to the server that are replaced once by others of the same length.
    pub replacement: Option<(&'static [u8], &'static [u8])>,
    cuts: usize,
    /// Connections accepted.
    pub accepted: usize,
    /// Bytes received from clients, whether forwarded or not.
    pub to_server: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Relay {
    /// Starts a relay to a port of this machine.
    pub fn to(target: u16) -> Self {
        let (listener, port) = bind_free_port();
        let relay = Self { port, target, state: watch::Sender::default(), accepting: Mutex::default() };
        relay.serve(listener);
        relay
    }

    pub fn state(&self) -> RelayState {
        self.state.borrow().clone()
    }

    pub fn set(&self, change: impl FnOnce(&mut RelayState)) {
        self.state.send_modify(change);
    }

    /// Closes all connections. New ones are accepted.
    pub fn cut(&self) {
        self.set(RelayState::cut);
    }

    pub fn freeze(&self) {
        self.set(|state| state.is_frozen = true);
    }

    /// Forwards the delayed bytes, and new ones.
    pub fn thaw(&self) {
        self.set(|state| state.is_frozen = false);
    }

    /// Closes all connections and refuses new ones.
    pub fn refuse(&self) {
        if let Some(accepting) = self.accepting.lock().unwrap().take() {
            accepting.abort();
        }
        wait_until("the relay refuses connections", || StdStream::connect((Ipv4Addr::LOCALHOST, self.port)).err());
        self.cut();
    }

    /// Accepts connections again.
    pub fn serve_again(&self) {
        self.serve(StdListener::bind((Ipv4Addr::LOCALHOST, self.port)).unwrap());
    }

    fn serve(&self, listener: StdListener) {
        let _context = runtime().enter();
        listener.set_nonblocking(true).unwrap();
        let accepting = accept(TcpListener::from_std(listener).unwrap(), self.target, self.state.clone());
        *self.accepting.lock().unwrap() = Some(tokio::spawn(accepting));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.get_mut().unwrap().take() {
            accepting.abort();
        }
        self.cut();
    }
}

impl RelayState {
    fn cut(&mut self) {
        self.cuts += 1;
        self.allowance = None;
    }
}

async fn accept(listener: TcpListener, target: u16, state: watch::Sender<RelayState>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        // Without a server, the client's connection is closed.
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else { continue };
        drop((client.set_nodelay(true), server.set_nodelay(true)));
        state.send_modify(|state| state.accepted += 1);
        let cuts = state.borrow().cuts;
        tokio::spawn(forward(client, server, state.clone(), cuts));
    }
}

/// Forwards bytes in both directions until both sides are closed, or until the next cut.
async fn forward(mut client: TcpStream, mut server: TcpStream, state: watch::Sender<RelayState>, cuts: usize) {
    let mut changes = state.subscribe();
    {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let both = async {
            tokio::join!(
                copy(from_client, to_server, &state, Direction::ToServer),
                copy(from_server, to_client, &state, Direction::ToClient)
            )
        };
        tokio::select! {
            _ = changes.wait_for(|state| state.cuts != cuts) => {}
            _ = both => {}
        }
    }
    drop((client.shutdown().await, server.shutdown().await));
}

/// Forwards bytes in one direction. Reads while frozen too, so that the sender does not notice.
async fn copy(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, state: &watch::Sender<RelayState>, direction: Direction) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<Vec<u8>>();
    let read = async move {
        let mut chunk = vec![0; CHUNK];
        while let Ok(len @ 1..) = from.read(&mut chunk).await {
            if direction == Direction::ToServer {
                state.send_modify(|state| state.to_server += len);
            }
            if sender.send(chunk[..len].to_vec()).is_err() {
                return;
            }
        }
    };
    let write = async {
        while let Some(chunk) = receiver.recv().await {
            wait_until_thawed(state).await;
            let written = match direction {
                Direction::ToServer => write_to_server(&mut to, chunk, state).await,
                Direction::ToClient => write_to_client(&mut to, chunk, state).await,
            };
            if written.is_err() {
                return;
            }
        }
        // The end of a stream must not overtake its bytes.
        wait_until_thawed(state).await;
        drop(to.shutdown().await);
    };
    tokio::join!(read, write);
}

async fn wait_until_thawed(state: &watch::Sender<RelayState>) {
    drop(state.subscribe().wait_for(|state| !state.is_frozen).await);
}

async fn write_to_server(
    to: &mut WriteHalf<'_>,
    mut chunk: Vec<u8>,
    state: &watch::Sender<RelayState>,
) -> std::io::Result<()> {
    let mut is_last = false;
    state.send_modify(|state| {
        if let Some((from, to)) = state.replacement
            && let Some(at) = chunk.windows(from.len()).position(|window| window == from)
        {
            chunk[at..at + to.len()].copy_from_slice(to);
            state.replacement = None;
        }
        if let Some(allowance) = &mut state.allowance {
            is_last = *allowance <= chunk.len();
            chunk.truncate(*allowance);
            *allowance -= chunk.len();
        }
    });
    to.write_all(&chunk).await?;
    if is_last {
        state.send_modify(RelayState::cut);
    }
    Ok(())
}

async fn write_to_client(
    to: &mut WriteHalf<'_>,
    chunk: Vec<u8>,
    state: &watch::Sender<RelayState>,
) -> std::io::Result<()> {
    let mut rest = &chunk[..];
    while !rest.is_empty() {
        let bytes_per_second = state.borrow().bytes_per_second;
        let Some(bytes_per_second) = bytes_per_second else { return to.write_all(rest).await };
        let (piece, remainder) = rest.split_at(rest.len().min((bytes_per_second / 10).max(1)));
        sleep(Duration::from_secs_f64(piece.len() as f64 / bytes_per_second as f64)).await;
        to.write_all(piece).await?;
        rest = remainder;
    }
    Ok(())
}
