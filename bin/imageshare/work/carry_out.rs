//! Carrying jobs out: from where they come to their reports, with progress and a summary.

use std::{
    cell::Cell,
    collections::BTreeSet,
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use imageshare_core::Class;
use imageshare_engine::{
    io::{CloseReason, LaneId, Notice},
    job::{AccountOutcome, Failure, Job, Report as EngineReport, local},
    policy::Policy,
};
use imageshare_worker::{
    admin::{Admin, Readiness},
    driver::{Aside, Driver, DriverEvent, End, Extent, InputChannels, InputItem, InputSource, InputThread, Summary},
    endpoint::Endpoint,
    lane_messages::{Delivery, SettledJob},
    lanes::{OpenLane, route},
    status::Status,
    wire::{
        Identity, JobLine, Rejection, Report,
        report::{Circumstances, worker_name},
    },
};
use jiff::Timestamp;
use tokio::{
    sync::mpsc,
    task::block_in_place,
    time::{Instant as Moment, interval},
};

use super::{
    NO_JOBS, Work,
    inputs::Inputs,
    notices,
    reports::{Reports, Written},
    summary::{self, Screen},
};
use crate::{
    exit::{Ended, Exit, OrExit as _, Problem},
    files, output, runtime, site,
    terminal::{Bar, Terminal},
};

/// Jobs that are read and not taken yet. Few, since the driver holds as many as it can use.
const JOBS_AHEAD: usize = 64;

/// Events of the driver that are not received yet. Few, since their receiver never waits.
const EVENTS_AHEAD: usize = 16;

/// How long the last reports may take to be written after an interrupt.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a source may be quiet when every lane was given up, before it counts as ended.
const QUIET_MAX: Duration = Duration::from_secs(1);

/// How often it is looked whether it is.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Where reports are wanted beside standard output.
pub(crate) struct Target<'a> {
    /// A file; `-` is standard output.
    pub(crate) report: Option<&'a Path>,
    /// Where to listen for status and metrics, if anywhere.
    pub(crate) metrics: Option<SocketAddr>,
    /// What must not be written to.
    pub(crate) inputs: &'a Inputs,
}

/// Carries out the jobs of a source. What is no job gets a report of its own.
pub(crate) async fn carry_out<S>(work: Work, source: S, target: Target<'_>) -> Ended
where
    S: Iterator<Item = Result<JobLine, Rejection>> + Send + 'static,
{
    let started = Instant::now();
    let to_file = target.report.filter(|path| path.as_os_str() != "-");
    let json = work.settings.output.json || (target.report.is_some() && to_file.is_none());
    let for_people = output::is_for_people(json);
    let terminal = Terminal::new(work.settings.output.quiet);
    let reports = Reports::open(to_file, target.inputs, !for_people, terminal)?;
    let interrupts = runtime::interrupts(move || {
        terminal.note("interrupted: finishing requests in flight (interrupt again to stop now)");
    })?;

    let lanes: Arc<[OpenLane]> = work.lanes.clone().into();
    let mut driver = Driver::new(&lanes, Policy::COMMAND, work.limits.clone(), &work.client);
    let (progress, status) = (driver.progress(), driver.shared_status());
    let _admin = match target.metrics {
        Some(listen) => Some(admin(listen, &status, terminal)?),
        None => None,
    };
    let (jobs, jobs_taken) = mpsc::channel(JOBS_AHEAD);
    let (events, events_in) = mpsc::channel(EVENTS_AHEAD);
    let (aside, set_aside) = mpsc::channel(JOBS_AHEAD);
    let (backlog, lane) = (reports.backlog(), work.settings.lane.clone());
    let items = source.map(move |read| item(read, &lanes, lane.as_deref()));
    let input = InputThread::start(items, jobs, aside, move || backlog.until_room())
        .context("the thread that reads cannot be started")
        .or_exit(Exit::Failed)?;

    let _announcing = terminal.announce(work.client.waits());
    let moving = terminal.follow(progress, Bar::beside_stdout(for_people));
    let endpoints = work.lanes.iter().map(|lane| lane.endpoint.clone()).collect();
    let lanes = work.lane_names();
    let writer = ReportWriter { reports, terminal, lanes, endpoints, status, worker: worker_name() };
    let writer = tokio::spawn(writer.write(events_in, set_aside));
    let interrupted = interrupts.any();
    // In a task of its own: here the source may be waited for, which waits for the driver.
    let source = InputSource::new(InputChannels { jobs: jobs_taken, events, interrupts: interrupts.each });
    let gave_up_all = source.gave_up_all();
    let run = tokio::spawn(driver.run(source));
    let summary = tokio::select! {
        summary = run => summary.context("the work broke down").or_exit(Exit::Failed)?,
        never = stop_when_quiet(&input, gave_up_all) => match never {},
    };
    let extent = block_in_place(|| input.stop());
    let reports = writer.await.context("the reports could not be written").or_exit(Exit::Failed)?;
    let is_interrupted = Cell::new(summary.is_interrupted);
    let impatience = async {
        interrupted.await;
        is_interrupted.set(true);
        Moment::now() + PATIENCE
    };
    let written = reports.finish(impatience, terminal).await;
    drop(moving);

    let is_interrupted = is_interrupted.get();
    if written.tally.jobs.is_empty() && extent.end == End::Whole && !is_interrupted {
        terminal.warn(NO_JOBS);
    }
    let screen = Screen { rest: rest(to_file, for_people), width: Screen::width_of(for_people) };
    let words = summary::words(&summary, &written.tally, extent, is_interrupted, started.elapsed(), &screen);
    if extent.end == End::BrokeDown {
        terminal.error("input: the reader panicked, which is a bug; later jobs were not read");
    }
    let exit = exit(&summary, &written, extent, is_interrupted);
    let exit = if for_people {
        exit.after(output::print_for_people(&words))
    } else {
        terminal.note(words.trim_end());
        exit
    };
    if let Some(sandbox) = work.sandbox {
        drop(sandbox.stop().await);
    }
    Ok(exit)
}

/// Where the failures are that the summary does not list.
fn rest(report: Option<&Path>, for_people: bool) -> String {
    match report {
        Some(path) => format!("in {}", files::name(path)),
        None if for_people => "run it again with --report FILE to list all".to_owned(),
        None => "in the reports on standard output".to_owned(),
    }
}

/// Starts the server for status and metrics.
fn admin(listen: SocketAddr, status: &Arc<Status>, terminal: Terminal) -> Result<Admin, Problem> {
    let admin = Admin::start(listen, Readiness::default(), Arc::clone(status)).or_exit(Exit::Failed)?;
    terminal.note(&format!("status at http://{0}, metrics at http://{0}/metrics", admin.addr()));
    Ok(admin)
}

/// When every lane was given up, an input that stays open and brings nothing would be waited for in vain: what comes
/// quickly still gets its reports, and then it counts as ended.
async fn stop_when_quiet(
    input: &InputThread<Identity, Rejection>,
    gave_up_all: impl Future<Output = ()>,
) -> Infallible {
    gave_up_all.await;
    let mut looks = interval(BETWEEN_LOOKS);
    while input.quiet_for() < QUIET_MAX {
        looks.tick().await;
    }
    block_in_place(|| input.stop());
    pending().await
}

/// Returns an item of the input in the form of the driver.
fn item(read: Result<JobLine, Rejection>, lanes: &[OpenLane], lane: Option<&str>) -> InputItem<Identity, Rejection> {
    let line = read.as_ref().ok().map(|line| line.place.line);
    InputItem { line, content: read.and_then(|line| delivery(line, lanes, lane)) }
}

/// Returns a job on its way to its lane.
pub(super) fn delivery(line: JobLine, lanes: &[OpenLane], lane: Option<&str>) -> Result<Delivery<Identity>, Rejection> {
    let JobLine { place, job } = line;
    // A time that this system cannot hold lies beyond the end of any run.
    let expires_at = job.expires_at.and_then(|time| SystemTime::try_from(time).ok());
    let (identity, jobs) = job.into_parts(None, false);
    match route(lanes, identity.lane.as_deref().or(lane), identity.images.regions()) {
        Ok(lane) => Ok(Delivery { identity, lane, jobs, expires_at }),
        Err(error) => Err(Rejection::of_job(&identity, None, error.to_string()).at(place)),
    }
}

/// Writes down what is said.
struct ReportWriter {
    reports: Reports,
    terminal: Terminal,
    /// The lanes' names in their order.
    lanes: Vec<String>,
    /// Their endpoints in the same order.
    endpoints: Vec<Endpoint>,
    status: Arc<Status>,
    worker: String,
}

impl ReportWriter {
    /// Writes until the driver has said all, and the source has set aside all that it will.
    async fn write(
        mut self,
        mut events: mpsc::Receiver<DriverEvent<Identity>>,
        mut aside: mpsc::Receiver<Aside<Identity, Rejection>>,
    ) -> Reports {
        loop {
            tokio::select! {
                Some(aside) = aside.recv() => self.take_aside(aside),
                Some(event) = events.recv() => self.take(event),
                else => return self.reports,
            }
        }
    }

    fn take(&mut self, event: DriverEvent<Identity>) {
        match event {
            DriverEvent::Settled(settled) => {
                let SettledJob { identity, lane, reports, received_at, finished_at, .. } = *settled;
                let at = |time| Timestamp::try_from(time).unwrap_or(Timestamp::MAX);
                let circumstances = self.circumstances(at(received_at), at(finished_at));
                let report = Report::of_job(identity, self.lane(lane), &reports, circumstances);
                self.reports.take(&report);
            }
            DriverEvent::Notice(lane, notice) => {
                self.terminal.note(&notices::words(self.lane(lane), &notice));
                let is_refused = matches!(notice, Notice::Closed { reason: CloseReason::Credential, .. });
                let class = is_refused.then_some(Class::Credential);
                if let Some(hint) = self.endpoints.get(lane.place()).and_then(|at| site::hint(class, at)) {
                    self.terminal.hint(&hint);
                }
            }
            DriverEvent::CredentialFailed(lane, reason) => {
                self.terminal.note(&format!("lane {}: {reason}", self.lane(lane)));
            }
            // The engine settles all jobs of a command that runs once; this is for sources that deliver again.
            DriverEvent::Requeued { .. } => {}
        }
    }

    fn take_aside(&mut self, aside: Aside<Identity, Rejection>) {
        let now = Timestamp::now();
        let circumstances = self.circumstances(now, now);
        let report = match aside {
            Aside::Rejected(rejection) => {
                self.status.rejected(rejection.known.lane.as_deref());
                Report::of_rejection(&rejection, circumstances)
            }
            Aside::NotReceived(Delivery { identity, lane, jobs, .. }) => {
                let reports: Vec<_> = jobs.iter().map(not_attempted).collect();
                Report::of_job(identity, self.lane(lane), &reports, circumstances)
            }
        };
        self.reports.take(&report);
    }

    fn lane(&self, lane: LaneId) -> &str {
        self.lanes.get(lane.place()).map_or("", String::as_str)
    }

    fn circumstances(&self, received_at: Timestamp, finished_at: Timestamp) -> Circumstances {
        Circumstances { redelivered: false, received_at, finished_at, worker: self.worker.clone() }
    }
}

/// The report of an image of a job that came when the command was about to end.
fn not_attempted(job: &Job) -> EngineReport {
    let failure = Failure {
        code: local::NOT_ATTEMPTED.into(),
        message: "the command was ended before the job was begun".into(),
        request_id: None,
    };
    let failed = AccountOutcome::Failed(Arc::new(failure));
    let mut seen = BTreeSet::new();
    let accounts = job.account_ids.iter().filter(|account| seen.insert(**account));
    let outcomes: Vec<_> = accounts.map(|account| (*account, failed.clone())).collect();
    EngineReport {
        duplicates: u32::try_from(job.account_ids.len() - outcomes.len()).expect("a job has at most 10,000 accounts"),
        outcomes,
        cancelled: Vec::new(),
        requests: 0,
    }
}

/// The exit code of a run, by what weighs most.
fn exit(summary: &Summary, written: &Written, extent: Extent, is_interrupted: bool) -> Exit {
    let closed = |reasons: &[CloseReason]| {
        summary.closed.values().any(|closing| !closing.is_over && reasons.contains(&closing.reason))
    };
    if is_interrupted {
        Exit::Interrupted
    } else if closed(&[CloseReason::Account, CloseReason::Clock, CloseReason::Credential, CloseReason::Permission]) {
        Exit::Refused
    } else if closed(&[CloseReason::Endpoint]) {
        Exit::OutOfReach
    } else if !written.tally.is_all_done()
        || written.is_incomplete
        || summary.reports_lost > 0
        || extent.end != End::Whole
    {
        Exit::Failed
    } else {
        Exit::Done
    }
}
