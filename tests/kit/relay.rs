//! A relay between clients and a server that can do what networks do: cut, freeze, trickle, refuse.

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

use crate::{amqp::runtime, broker::listen_anywhere, until};

/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;

/// A relay. Its connections end with it.
pub struct Relay {
    pub port: u16,
    target: u16,
    state: watch::Sender<State>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

/// What a relay does, and has done so far.
#[derive(Clone, Default)]
pub struct State {
    /// Accepts bytes and connections, and passes nothing on. Neither side can notice.
    pub is_frozen: bool,
    /// How many bytes from the server a connection passes on per second, ten times a second.
    pub bytes_a_second: Option<usize>,
    /// Bytes that may still go to the server before all connections are cut, also in the middle of a frame.
    pub allowance: Option<usize>,
    /// Bytes to the server that are replaced once, and as many others.
    pub replacement: Option<(&'static [u8], &'static [u8])>,
    cuts: usize,
    /// Connections.
    pub accepted: usize,
    /// Bytes that clients sent, passed on or not.
    pub to_server: usize,
}

impl Relay {
    /// A relay to a port of this machine.
    pub fn to(target: u16) -> Self {
        let (listener, port) = listen_anywhere();
        let relay = Self { port, target, state: watch::Sender::default(), accepting: Mutex::default() };
        relay.serve(listener);
        relay
    }

    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub fn set(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(change);
    }

    /// Ends all connections, and accepts new ones.
    pub fn cut(&self) {
        self.set(State::cut);
    }

    pub fn freeze(&self) {
        self.set(|state| state.is_frozen = true);
    }

    /// Passes bytes on again, those that were held first.
    pub fn thaw(&self) {
        self.set(|state| state.is_frozen = false);
    }

    /// Ends all connections and refuses new ones.
    pub fn refuse(&self) {
        if let Some(accepting) = self.accepting.lock().unwrap().take() {
            accepting.abort();
        }
        until("the relay refuses", || StdStream::connect((Ipv4Addr::LOCALHOST, self.port)).err());
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

impl State {
    fn cut(&mut self) {
        self.cuts += 1;
        self.allowance = None;
    }
}

async fn accept(listener: TcpListener, target: u16, state: watch::Sender<State>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        // Without a server, the connection of the client ends at once.
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else { continue };
        drop((client.set_nodelay(true), server.set_nodelay(true)));
        state.send_modify(|state| state.accepted += 1);
        let cuts = state.borrow().cuts;
        tokio::spawn(carry(client, server, state.clone(), cuts));
    }
}

/// Carries bytes in both directions until both sides have ended, or until the next cut.
async fn carry(mut client: TcpStream, mut server: TcpStream, state: watch::Sender<State>, cuts: usize) {
    let mut changes = state.subscribe();
    {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let both = async {
            tokio::join!(pass_on(from_client, to_server, &state, true), pass_on(from_server, to_client, &state, false))
        };
        tokio::select! {
            _ = changes.wait_for(|state| state.cuts != cuts) => {}
            _ = both => {}
        }
    }
    drop((client.shutdown().await, server.shutdown().await));
}

/// Carries bytes in one direction. They are also read while nothing is passed on, as by a network that loses them.
async fn pass_on(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, state: &watch::Sender<State>, is_to_server: bool) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<Vec<u8>>();
    let read = async move {
        let mut chunk = vec![0; CHUNK];
        while let Ok(len @ 1..) = from.read(&mut chunk).await {
            if is_to_server {
                state.send_modify(|state| state.to_server += len);
            }
            if sender.send(chunk[..len].to_vec()).is_err() {
                return;
            }
        }
    };
    let write = async {
        while let Some(chunk) = receiver.recv().await {
            until_thawed(state).await;
            let is_written = if is_to_server {
                write_to_server(&mut to, chunk, state).await
            } else {
                write_to_client(&mut to, chunk, state).await
            };
            if is_written.is_err() {
                return;
            }
        }
        // The end of one side arrives no sooner than its bytes.
        until_thawed(state).await;
        drop(to.shutdown().await);
    };
    tokio::join!(read, write);
}

async fn until_thawed(state: &watch::Sender<State>) {
    drop(state.subscribe().wait_for(|state| !state.is_frozen).await);
}

async fn write_to_server(
    to: &mut WriteHalf<'_>,
    mut chunk: Vec<u8>,
    state: &watch::Sender<State>,
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
        state.send_modify(State::cut);
    }
    Ok(())
}

async fn write_to_client(to: &mut WriteHalf<'_>, chunk: Vec<u8>, state: &watch::Sender<State>) -> std::io::Result<()> {
    let mut rest = &chunk[..];
    while !rest.is_empty() {
        let bytes_a_second = state.borrow().bytes_a_second;
        let Some(bytes_a_second) = bytes_a_second else { return to.write_all(rest).await };
        let (piece, others) = rest.split_at(rest.len().min((bytes_a_second / 10).max(1)));
        sleep(Duration::from_secs_f64(piece.len() as f64 / bytes_a_second as f64)).await;
        to.write_all(piece).await?;
        rest = others;
    }
    Ok(())
}
