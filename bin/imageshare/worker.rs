//! `imageshare worker`: a daemon that runs jobs from RabbitMQ.

use std::{
    convert::Infallible,
    future::pending,
    io::{self, IsTerminal as _},
    net::SocketAddr,
    process,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use imageshare_worker::{
    admin::{Admin, Readiness},
    broker::{
        Url,
        management::{self, ManagementUrl},
    },
    credentials::IfMissing,
    daemon::Daemon,
    environment::Environment,
    http::{Client, NetworkSettings, TimeOuts},
    service_manager::ServiceManager,
    settings::{Flags, Settings, SettingsError},
    status::Status,
    tls::TlsError,
};
use tokio::{sync::mpsc, task::JoinHandle, time::sleep};
use tracing::{error, info, warn};

use crate::{
    cli::{Common, WorkerArguments},
    exit::{CommandResult, Exit, OrExit as _, Problem},
    log::Log,
    runtime::{self, OnHangup},
    settings_reader::SettingsReader,
    work,
};

/// What the worker reads before it starts.
struct Start {
    settings: Settings,
    url: Url,
    client: Client,
    /// The address of the broker's management interface, and the client for it.
    management: Option<(ManagementUrl, Client)>,
}

pub(crate) fn run(common: &Common, arguments: &WorkerArguments) -> CommandResult {
    let flags = Flags {
        admin: arguments.admin.clone(),
        grace: arguments.grace.clone(),
        log: arguments.log.clone().or_else(|| common.verbose.then(|| "trace".to_owned())),
        ..work::flags(common)
    };
    // Start the log before reading files, which may block.
    let output = Settings::output(&flags, &Environment::of_process()).or_exit(Exit::Usage)?;
    let log = Log::start(output).context("cannot start the thread that writes the log").or_exit(Exit::Failed)?;
    runtime::run(async {
        // Listen for signals before reading files: a file that blocks must not delay the exit, and process 1 of a
        // container ignores signals without a handler.
        // On a terminal SIGHUP ends the worker, so that closing the terminal does not leave it running.
        let on_hangup = if io::stderr().is_terminal() { OnHangup::End } else { OnHangup::Other };
        let mut interrupts = runtime::interrupts_and(on_hangup, || {
            info!("shutting down: finishing requests in flight (signal again to stop now)");
        })?;
        let hangups = runtime::hangups(on_hangup)?;
        let reader = SettingsReader::new();
        let started = tokio::select! {
            biased;
            Some(()) = interrupts.each.recv() => None,
            started = start(&reader, &flags) => Some(started?),
        };
        let Some(Start { settings, url, client, management }) = started else {
            info!("ended");
            return Ok(Exit::Done);
        };
        let grace = settings.grace;
        let status = Arc::new(Status::new(settings.lanes.iter().map(|lane| lane.name.as_str())));
        let _admin = match settings.admin {
            Some(listen) => Some(admin(listen, settings.readiness, &status)?),
            None => None,
        };
        let manager = ServiceManager::of(&Environment::of_process()).unwrap_or_else(|error| {
            warn!("{error}");
            ServiceManager::default()
        });
        manager.ready();
        let lanes = tokio::select! {
            biased;
            Some(()) = interrupts.each.recv() => {
                info!("ended");
                return Ok(Exit::Done);
            }
            never = manager.keep_alive(&status) => match never {},
            lanes = work::open_lanes(&settings, &client, IfMissing::Wait) => lanes?,
        };
        let limits = watch_limits(management.clone(), &url, &settings);
        let daemon = Daemon::start(settings, lanes, &client, url.clone(), arguments.declare, &status);
        let reload = Reload { reader, flags, client, url, management, task: None };
        tokio::select! {
            never = manager.keep_alive(&status) => match never {},
            never = limits => match never {},
            ended = serve(daemon, interrupts.each, hangups, grace, reload, log, &manager) => ended,
        }
    })
}

/// Reads the settings.
async fn start(reader: &SettingsReader, flags: &Flags) -> Result<Start, Problem> {
    let flags = flags.clone();
    let start = reader.read(move || read(&flags)).await.or_exit(Exit::Unreachable)??;
    let Start { settings, url, .. } = &start;
    info!(version = env!("CARGO_PKG_VERSION"), lanes = settings.lanes.len(), broker = %url, "starting");
    Ok(start)
}

/// Reads the settings and the files that they name. Blocks.
fn read(flags: &Flags) -> Result<Start, Problem> {
    let settings = Settings::load(flags, &Environment::of_process()).or_exit(Exit::Usage)?;
    let url = settings.broker.url().or_exit(Exit::Usage)?;
    // A call that outlasts the ownership proof of its lane would delay the requeue.
    let TimeOuts { connect, call } = settings.http;
    let heartbeat = settings.broker.heartbeat;
    let time_outs = TimeOuts { connect: connect.min(heartbeat), call: call.min(heartbeat) };
    let client = Client::with(settings.outside.clone(), time_outs).or_exit(Exit::Usage)?;
    let management = settings.broker.management_url().or_exit(Exit::Usage)?;
    let management = management.map(|of_broker| Ok((of_broker, management_client(&settings)?))).transpose()?;
    Ok(Start { settings, url, client, management })
}

/// The client for the broker's management interface, with the same trusted authorities as the broker's connections.
pub(crate) fn management_client(settings: &Settings) -> Result<Client, Problem> {
    let outside = NetworkSettings { trust: settings.broker.trust.clone(), proxy: None };
    Client::with(outside, settings.http).or_exit(Exit::Usage)
}

/// Watches the queue limits that broker policies set. Never completes.
fn watch_limits(
    management: Option<(ManagementUrl, Client)>,
    url: &Url,
    settings: &Settings,
) -> impl Future<Output = Infallible> + use<> {
    let (vhost, lanes) = (url.vhost().to_owned(), settings.lanes.iter().map(|lane| lane.name.clone()).collect());
    async move {
        let Some((url, client)) = management else {
            info!("broker policies are not inspected; set broker.management_url to inspect them");
            return pending().await;
        };
        management::watch(client, url, vhost, lanes).await
    }
}

/// Reloads the settings at SIGHUP.
struct Reload {
    reader: SettingsReader,
    flags: Flags,
    client: Client,
    /// The broker's address in use.
    url: Url,
    /// The management interface in use.
    management: Option<(ManagementUrl, Client)>,
    /// The read in progress.
    task: Option<JoinHandle<Reread>>,
}

/// What was read again.
struct Reread {
    settings: Result<Settings, SettingsError>,
    /// The result of reading the root certificates.
    trust: Result<(), TlsError>,
    /// Whether an address of the broker differs, which may be in a file of its own.
    has_other_url: bool,
}

impl Reload {
    /// Starts a read. Aborts an earlier one, which may return older settings.
    fn begin(&mut self) {
        let (reader, flags, client) = (self.reader.clone(), self.flags.clone(), self.client.clone());
        let (url, management) = (self.url.clone(), self.management.clone());
        let read = move || {
            let settings = Settings::load(&flags, &Environment::of_process());
            let (of_management, client_of_management) = management.unzip();
            // Each, although another one may fail.
            let clients = client_of_management.iter().chain([&client]).filter(|_| settings.is_ok());
            let trust: Vec<_> = clients.map(Client::reread_trust).collect();
            let trust = trust.into_iter().collect();
            let has_other_url = settings.as_ref().is_ok_and(|settings| {
                let broker = &settings.broker;
                let other = broker.url().map(|read| read != url);
                let other_management = broker.management_url().map(|read| read != of_management);
                for error in [other.as_ref().err(), other_management.as_ref().err()].into_iter().flatten() {
                    error!("{error}; keeping the old address");
                }
                other.unwrap_or(false) || other_management.unwrap_or(false)
            });
            Reread { settings, trust, has_other_url }
        };
        let task = tokio::spawn(async move {
            let refused = |error: anyhow::Error| Reread {
                settings: Err(SettingsError::unreadable(error.to_string())),
                trust: Ok(()),
                has_other_url: false,
            };
            reader.read(read).await.unwrap_or_else(refused)
        });
        if let Some(earlier) = self.task.replace(task) {
            earlier.abort();
        }
    }

    /// Returns the result of the read in progress; without one, never completes. Cancel safe.
    async fn read(&mut self) -> Reread {
        loop {
            let Some(task) = &mut self.task else { return pending().await };
            let read = task.await;
            self.task = None;
            // An aborted read has been replaced by a later one.
            if let Ok(read) = read {
                return read;
            }
        }
    }
}

/// Starts the server for status and metrics.
fn admin(listen: SocketAddr, readiness: Readiness, status: &Arc<Status>) -> Result<Admin, Problem> {
    let admin = Admin::start(listen, readiness, Arc::clone(status)).or_exit(Exit::Failed)?;
    info!(address = %admin.addr(), "status and metrics");
    Ok(admin)
}

async fn serve(
    mut daemon: Daemon,
    mut interrupts: mpsc::Receiver<()>,
    mut hangups: mpsc::Receiver<()>,
    grace: Duration,
    mut reload: Reload,
    log: Log,
    manager: &ServiceManager,
) -> CommandResult {
    loop {
        tokio::select! {
            biased;
            ended = daemon.ended() => return end(ended.err().map(|error| error.to_string()), Exit::Failed, log),
            Some(()) = interrupts.recv() => break,
            Some(()) = hangups.recv() => reload.begin(),
            Reread { settings, trust, has_other_url } = reload.read() => {
                daemon.reload(settings, trust, has_other_url).await;
            }
        }
    }
    manager.stopping();
    daemon.drain().await;
    tokio::select! {
        biased;
        ended = daemon.ended() => end(ended.err().map(|error| error.to_string()), Exit::Failed, log),
        Some(()) = interrupts.recv() => end(Some("stopped by a second signal".to_owned()), Exit::Interrupted, log),
        () = sleep(grace) => {
            let message = format!("not finished after {} s; abandoning requests in flight", grace.as_secs_f64());
            end(Some(message), Exit::Failed, log)
        }
    }
}

/// Ends the worker. After a problem it exits the process at once: then the broker requeues all deliveries in order, while
/// dropping the subscriptions one by one could return them in another order.
fn end(problem: Option<String>, exit: Exit, log: Log) -> CommandResult {
    match problem {
        None => {
            info!("ended");
            Ok(Exit::Done)
        }
        Some(message) => {
            error!("{message}; unacknowledged jobs will be redelivered");
            drop(log);
            process::exit(exit.code().into());
        }
    }
}
