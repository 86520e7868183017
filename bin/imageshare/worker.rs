//! `imageshare worker`: a daemon that carries out the jobs of a RabbitMQ.

use std::{net::SocketAddr, process, time::Duration};

use anyhow::Context as _;
use imageshare_worker::{
    admin::Admin,
    daemon::Daemon,
    http::{Client, TimeOuts},
    service_manager::ServiceManager,
    settings::{self, Environment, Flags, Settings},
};
use tokio::{sync::mpsc, time::sleep};
use tracing::{error, info, warn};

use crate::{
    cli::{Common, WorkerArguments},
    exit::{Ended, Exit, OrExit as _, Problem},
    log::Log,
    runtime, work,
};

pub(crate) fn run(common: &Common, arguments: &WorkerArguments) -> Ended {
    let flags = || Flags { admin: arguments.admin.clone(), ..work::flags(common, None, false) };
    let settings = Settings::load(&flags(), &Environment::of_process()).or_exit(Exit::Usage)?;
    let url = settings.broker.url().or_exit(Exit::Usage)?;
    let grace = grace(&arguments.grace)?;
    // A call that takes longer than the proof of its lane is good for would keep the lane from being given back.
    let TimeOuts { connect, call } = settings.http;
    let heartbeat = settings.broker.heartbeat;
    let time_outs = TimeOuts { connect: connect.min(heartbeat), call: call.min(heartbeat) };
    let client = Client::with(settings.outside.clone(), time_outs).or_exit(Exit::Usage)?;
    let log =
        Log::start(common, arguments.log).context("the thread that logs cannot be started").or_exit(Exit::Failed)?;
    runtime::run(async {
        let interrupts =
            runtime::interrupts(|| info!("ending: what is under way is finished; once more ends at once"))?;
        let hangups = runtime::hangups()?;
        info!(version = env!("CARGO_PKG_VERSION"), lanes = settings.lanes.len(), broker = %url, "starting");
        let lanes = work::open_lanes(&settings, &client).await?;
        let listen = settings.admin;
        let daemon = Daemon::start(settings, lanes, client, url, arguments.declare);
        let _admin = match listen {
            Some(listen) => Some(admin(listen, &daemon)?),
            None => None,
        };
        let manager = ServiceManager::of(&Environment::of_process()).unwrap_or_else(|error| {
            warn!("{error}");
            ServiceManager::default()
        });
        let status = daemon.status();
        manager.ready();
        tokio::select! {
            never = manager.keep_alive(&status) => match never {},
            ended = serve(daemon, interrupts.each, hangups, grace, flags, log, &manager) => ended,
        }
    })
}

/// Listens for whoever asks how the daemon is.
fn admin(listen: SocketAddr, daemon: &Daemon) -> Result<Admin, Problem> {
    let admin = Admin::start(listen, daemon.status()).or_exit(Exit::Failed)?;
    info!(address = %admin.addr(), "status and metrics");
    Ok(admin)
}

async fn serve(
    mut daemon: Daemon,
    mut interrupts: mpsc::Receiver<()>,
    mut hangups: mpsc::Receiver<()>,
    grace: Duration,
    flags: impl Fn() -> Flags,
    log: Log,
    manager: &ServiceManager,
) -> Ended {
    loop {
        tokio::select! {
            biased;
            ended = daemon.ended() => return end(ended.err().map(|error| error.to_string()), Exit::Failed, log),
            Some(()) = interrupts.recv() => break,
            Some(()) = hangups.recv() => {
                let settings = Settings::load(&flags(), &Environment::of_process());
                daemon.reload(settings).await;
            }
        }
    }
    manager.stopping();
    daemon.drain().await;
    tokio::select! {
        biased;
        ended = daemon.ended() => end(ended.err().map(|error| error.to_string()), Exit::Failed, log),
        Some(()) = interrupts.recv() => end(Some("ended at once".to_owned()), Exit::Interrupted, log),
        () = sleep(grace) => {
            let words = format!("not finished after {} s; what is under way is broken off", grace.as_secs_f64());
            end(Some(words), Exit::Failed, log)
        }
    }
}

/// The end. What is held goes back to the broker in its order only if the process ends whole: a subscription that is
/// taken apart would say goodbye in the wrong order.
fn end(problem: Option<String>, exit: Exit, log: Log) -> Ended {
    match problem {
        None => {
            info!("ended");
            Ok(Exit::Done)
        }
        Some(words) => {
            error!("{words}; the jobs in hand come again");
            drop(log);
            process::exit(exit.code().into());
        }
    }
}

fn grace(text: &str) -> Result<Duration, Problem> {
    let range = Duration::from_secs(1)..=Duration::from_hours(1);
    settings::duration(text, range).map_err(|problem| Problem::new(Exit::Usage, format!("--grace: {problem}")))
}
