//! The async runtime of a command, and the signals that end it.

use std::future::pending;

use anyhow::Context as _;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, watch},
};

use crate::exit::{Exit, OrExit as _, Problem};

/// Buffered interrupts. The first lets requests in flight finish, the second aborts them, further ones have no effect.
const INTERRUPTS_MAX: usize = 2;

/// Runs a command. A task that is still running afterwards, such as a read of standard input, does not delay the exit.
pub(crate) fn run<T>(command: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let runtime: Runtime = Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")
        .or_exit(Exit::Failed)?;
    let ended = runtime.block_on(command);
    runtime.shutdown_background();
    ended
}

/// The interrupts that a command receives.
pub(crate) struct Interrupts {
    /// A message for each Ctrl-C and each SIGTERM.
    pub(crate) each: mpsc::Receiver<()>,
    /// Whether there was an interrupt.
    any: watch::Receiver<bool>,
}

impl Interrupts {
    /// Completes at the first interrupt, even if another receiver takes the messages. Otherwise it never completes.
    pub(crate) fn any(&self) -> impl Future<Output = ()> + use<> {
        let mut any = self.any.clone();
        async move {
            if any.wait_for(|any| *any).await.is_err() {
                pending::<()>().await;
            }
        }
    }
}

/// The effect of SIGHUP.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnHangup {
    /// Like an interrupt, since the terminal was closed.
    End,
    /// The default effect, or that of another listener.
    Other,
}

/// Returns the interrupts from now on, and calls `announce` at the first. Must be called on the runtime.
pub(crate) fn interrupts(announce: impl FnOnce() + Send + 'static) -> Result<Interrupts, Problem> {
    interrupts_and(OnHangup::Other, announce)
}

/// Like [`interrupts`]; `on_hangup` decides whether SIGHUP is one.
pub(crate) fn interrupts_and(
    on_hangup: OnHangup,
    announce: impl FnOnce() + Send + 'static,
) -> Result<Interrupts, Problem> {
    let (sender, each) = mpsc::channel(INTERRUPTS_MAX);
    let (is_any, any) = watch::channel(false);
    let mut next = Signals::listen(on_hangup).context("cannot listen for signals").or_exit(Exit::Failed)?;
    let mut announce = Some(announce);
    tokio::spawn(async move {
        while next.recv().await {
            if let Some(announce) = announce.take() {
                announce();
                is_any.send_replace(true);
            }
            // If the channel is full or closed, a further interrupt has no effect.
            sender.try_send(()).ok();
        }
    });
    Ok(Interrupts { each, any })
}

/// Returns a message for each SIGHUP from now on; several before a receive count as one. There are none if SIGHUP is an
/// interrupt. Must be called on the runtime.
#[cfg(unix)]
pub(crate) fn hangups(on_hangup: OnHangup) -> Result<mpsc::Receiver<()>, Problem> {
    use tokio::signal::unix::{SignalKind, signal};

    let (sender, each) = mpsc::channel(1);
    if on_hangup == OnHangup::End {
        return Ok(each);
    }
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for signals").or_exit(Exit::Failed)?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            sender.try_send(()).ok();
        }
    });
    Ok(each)
}

/// Other systems have no SIGHUP.
#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps, reason = "it can fail on Unix")]
pub(crate) fn hangups(_: OnHangup) -> Result<mpsc::Receiver<()>, Problem> {
    Ok(mpsc::channel(1).1)
}

/// The signals that end a command.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn listen(on_hangup: OnHangup) -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        let hangup = (on_hangup == OnHangup::End).then(|| signal(SignalKind::hangup())).transpose()?;
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())?, hangup })
    }

    async fn recv(&mut self) -> bool {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => pending().await,
            }
        };
        tokio::select! {
            signal = hangup => signal.is_some(),
            signal = self.interrupt.recv() => signal.is_some(),
            signal = self.terminate.recv() => signal.is_some(),
        }
    }
}

/// The signals that end a command.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[allow(clippy::unnecessary_wraps, reason = "it can fail on Unix")]
    const fn listen(_: OnHangup) -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn recv(&mut self) -> bool {
        tokio::signal::ctrl_c().await.is_ok()
    }
}
