//! Runs jobs: reads them, passes them to the driver, writes their reports, shows progress, prints the summary.

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
    NO_JOBS, Session,
    input_files::InputFiles,
    notices,
    reports::{Reports, Written},
    summary::{self, SummaryStyle},
};
use crate::{
    exit::{CommandResult, Exit, OrExit as _, Problem},
    files, output, runtime, site,
    terminal::{Bar, Terminal},
};

/// Jobs that are read and not received yet. Few, since the driver receives as many as it can use.
const JOBS_AHEAD: usize = 64;

/// Events of the driver that are not received yet. Few, since their receiver never waits.
const EVENTS_AHEAD: usize = 16;

/// How long the last reports may take to be written after an interrupt.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// After the command has given up every lane, an input without data for this long counts as ended.
const QUIET_MAX: Duration = Duration::from_secs(1);

/// The pause between two checks for that.
const BETWEEN_CHECKS: Duration = Duration::from_millis(100);

/// Where reports and metrics go.
pub(crate) struct Target<'a> {
    /// The file of `--report`; `-` is standard output.
    pub(crate) report: Option<&'a Path>,
    /// The address at which to serve status and metrics.
    pub(crate) metrics: Option<SocketAddr>,
    /// The files that the report must not replace.
    pub(crate) inputs: &'a InputFiles,
}

/// Runs the jobs of a source. A line that is not a job gets a report too.
pub(crate) async fn run_jobs<S>(session: Session, source: S, target: Target<'_>) -> CommandResult
where
    S: Iterator<Item = Result<JobLine, Rejection>> + Send + 'static,
{
    let started = Instant::now();
    let to_file = target.report.filter(|path| path.as_os_str() != "-");
    let reports_to_stdout = target.report.is_some() && to_file.is_none();
    let for_people = output::is_for_people(session.settings.output.json || reports_to_stdout);
    if for_people && reports_to_stdout {
        let message = "--output table: conflicts with --report - (expected one of them)";
        return Err(Problem::new(Exit::Usage, message));
    }
    let terminal = Terminal::new(session.settings.output.quiet);
    let reports = Reports::open(to_file, target.inputs, !for_people, terminal)?;
    let interrupts = runtime::interrupts(move || {
        terminal.note("interrupted: finishing requests in flight (interrupt again to stop now)");
    })?;

    let lanes: Arc<[OpenLane]> = session.lanes.clone().into();
    let mut driver = Driver::new(&lanes, Policy::COMMAND, session.limits.clone(), &session.client);
    let (progress, status) = (driver.progress(), driver.shared_status());
    let _admin = match target.metrics {
        Some(listen) => Some(admin(listen, &status, terminal)?),
        None => None,
    };
    let (jobs, jobs_taken) = mpsc::channel(JOBS_AHEAD);
    let (events, events_in) = mpsc::channel(EVENTS_AHEAD);
    let (aside, set_aside) = mpsc::channel(JOBS_AHEAD);
    let (backlog, lane) = (reports.backlog(), session.settings.lane.clone());
    let items = source.map(move |read| item(read, &lanes, lane.as_deref()));
    let input = InputThread::start(items, jobs, aside, move || backlog.until_room())
        .context("cannot start the thread that reads jobs")
        .or_exit(Exit::Failed)?;

    let _announcer = terminal.announce(session.client.waits());
    let display = terminal.follow(progress, Bar::beside_stdout(for_people));
    let endpoints = session.lanes.iter().map(|lane| lane.endpoint.clone()).collect();
    let lanes = session.lane_names();
    let writer = ReportWriter { reports, terminal, lanes, endpoints, status, worker: worker_name() };
    let writer = tokio::spawn(writer.write(events_in, set_aside));
    let interrupted = interrupts.any();
    // A separate task: below, this task may block on the input, which waits for the driver.
    let source = InputSource::new(InputChannels { jobs: jobs_taken, events, interrupts: interrupts.each });
    let gave_up_all = source.gave_up_all();
    let run = tokio::spawn(driver.run(source));
    let summary = tokio::select! {
        summary = run => summary.context("the driver panicked, which is a bug").or_exit(Exit::Failed)?,
        never = stop_when_quiet(&input, gave_up_all) => match never {},
    };
    let extent = block_in_place(|| input.stop());
    let reports = writer.await.context("the report writer panicked, which is a bug").or_exit(Exit::Failed)?;
    let is_interrupted = Cell::new(summary.is_interrupted);
    let deadline = async {
        interrupted.await;
        is_interrupted.set(true);
        Moment::now() + CLOSE_TIMEOUT
    };
    let written = reports.finish(deadline, terminal).await;
    drop(display);

    let is_interrupted = is_interrupted.get();
    if written.tally.jobs.is_empty() && extent.end == End::Whole && !is_interrupted {
        terminal.warn(NO_JOBS);
    }
    let style = SummaryStyle { rest: rest(to_file, for_people), width: SummaryStyle::width_of(for_people) };
    let text = summary::text(&summary, &written.tally, extent, is_interrupted, started.elapsed(), &style);
    if extent.end == End::BrokeDown {
        terminal.error("input: the reader panicked, which is a bug; later jobs were not read");
    }
    let exit = exit(&summary, &written, extent, is_interrupted);
    let exit = if for_people {
        exit.after(output::print_for_people(&text))
    } else {
        terminal.note(text.trim_end());
        exit
    };
    if let Some(sandbox) = session.sandbox {
        drop(sandbox.stop().await);
    }
    Ok(exit)
}

/// Returns where to find the failures that the summary omits.
fn rest(report: Option<&Path>, for_people: bool) -> String {
    match report {
        Some(path) => format!("in {}", files::name(path)),
        None if for_people => "use --report FILE to get all".to_owned(),
        None => "in the reports on standard output".to_owned(),
    }
}

/// Starts the server for status and metrics.
fn admin(listen: SocketAddr, status: &Arc<Status>, terminal: Terminal) -> Result<Admin, Problem> {
    let admin = Admin::start(listen, Readiness::default(), Arc::clone(status)).or_exit(Exit::Failed)?;
    terminal.note(&format!("status at http://{0}, metrics at http://{0}/metrics", admin.addr()));
    Ok(admin)
}

/// Ends an input that stays open after the command has given up every lane. Jobs that arrive before the input falls quiet
/// still get reports.
async fn stop_when_quiet(
    input: &InputThread<Identity, Rejection>,
    gave_up_all: impl Future<Output = ()>,
) -> Infallible {
    gave_up_all.await;
    let mut checks = interval(BETWEEN_CHECKS);
    while input.quiet_for() < QUIET_MAX {
        checks.tick().await;
    }
    block_in_place(|| input.stop());
    pending().await
}

/// Returns a line of the input as an item for the driver.
fn item(read: Result<JobLine, Rejection>, lanes: &[OpenLane], lane: Option<&str>) -> InputItem<Identity, Rejection> {
    let line = read.as_ref().ok().map(|line| line.place.line);
    InputItem { line, content: read.and_then(|line| delivery(line, lanes, lane)) }
}

/// Returns a job as a delivery to its lane.
pub(super) fn delivery(line: JobLine, lanes: &[OpenLane], lane: Option<&str>) -> Result<Delivery<Identity>, Rejection> {
    let JobLine { place, job } = line;
    // A time that SystemTime cannot represent is later than the end of any run.
    let expires_at = job.expires_at.and_then(|time| SystemTime::try_from(time).ok());
    let (identity, jobs) = job.into_parts(None, false);
    match route(lanes, identity.lane.as_deref().or(lane), identity.images.regions()) {
        Ok(lane) => Ok(Delivery { identity, lane, jobs, expires_at }),
        Err(error) => Err(Rejection::of_job(&identity, None, error.to_string()).at(place)),
    }
}

/// Turns the events of the driver into reports and notices.
struct ReportWriter {
    reports: Reports,
    terminal: Terminal,
    /// The names of the lanes, in their order.
    lanes: Vec<String>,
    /// The endpoints of the lanes, in the same order.
    endpoints: Vec<Endpoint>,
    status: Arc<Status>,
    worker: String,
}

impl ReportWriter {
    /// Runs until both channels are closed.
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
                let SettledJob { identity, lane, reports, received_at, finished_at, engine_epoch, .. } = *settled;
                let at = |time| Timestamp::try_from(time).unwrap_or(Timestamp::MAX);
                let circumstances = self.circumstances(at(received_at), at(finished_at));
                let report = Report::of_job(identity, self.lane(lane), &reports, at(engine_epoch), circumstances);
                self.reports.take(&report);
            }
            DriverEvent::Notice(lane, notice) => {
                self.terminal.note(&notices::text(self.lane(lane), &notice));
                let is_refused = matches!(notice, Notice::Closed { reason: CloseReason::Credential, .. });
                let class = is_refused.then_some(Class::Credential);
                if let Some(hint) = self.endpoints.get(lane.place()).and_then(|at| site::hint(class, at)) {
                    self.terminal.hint(&hint);
                }
            }
            DriverEvent::CredentialFailed(lane, reason) => {
                self.terminal.note(&format!("lane {}: {reason}", self.lane(lane)));
            }
            // Only a source that redelivers, such as a queue, has requeued jobs.
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
                Report::of_job(identity, self.lane(lane), &reports, now, circumstances)
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

/// Returns the report for an image of a job that was read after the command had given up or was interrupted.
fn not_attempted(job: &Job) -> EngineReport {
    let failure = Failure {
        code: local::NOT_ATTEMPTED.into(),
        message: "the command ended before it began the job".into(),
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

/// Returns the exit code of a run: that of the most severe cause.
fn exit(summary: &Summary, written: &Written, extent: Extent, is_interrupted: bool) -> Exit {
    let closed = |reasons: &[CloseReason]| {
        summary.closed.values().any(|closing| !closing.is_over && reasons.contains(&closing.reason))
    };
    if is_interrupted {
        Exit::Interrupted
    } else if closed(&[CloseReason::Account, CloseReason::Clock, CloseReason::Credential, CloseReason::Permission]) {
        Exit::Refused
    } else if closed(&[CloseReason::Endpoint]) {
        Exit::Unreachable
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
