//! `--dry-run`: lists the shares of the images and prints what the jobs would change. Sends no write.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt::Write as _,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use imageshare_core::{
    Class,
    ids::{AccountId, ImageId, Region},
};
use imageshare_engine::io::LaneId;
use imageshare_worker::{
    credentials::Owner,
    drift::ComparedImage,
    endpoint::Endpoint,
    lane_messages::Delivery,
    lanes::OpenLane,
    listing::{ImageReader, ReadFailure},
    plan::{Plan, PlannedChange, PlannedFailure, PlannedImage},
    wire::{Identity, JobLine, Rejection},
};
use serde::Serialize;
use tokio::{sync::mpsc, task::spawn_blocking, time::timeout};

use super::{NO_JOBS, Session, drift::Drift, run_jobs};
use crate::{
    exit::{CommandResult, Exit, OrExit as _, Problem},
    output, runtime, site,
    terminal::{ADDED, BAD, REMOVED, Terminal},
};

/// Jobs that are read and not planned yet.
const JOBS_AHEAD: usize = 64;

/// The plan for one image.
#[derive(Serialize)]
struct Line<'a> {
    image_id: ImageId,
    region: Region,
    lane: &'a str,
    would_share: Vec<AccountId>,
    would_cancel: Vec<AccountId>,
    unchanged: Vec<AccountId>,
    would_fail: Vec<PlannedFailure>,
    requests: usize,
    /// Why the image cannot be listed, or why a SYNC would be refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Prints the plan for the jobs.
pub(crate) async fn show<S>(session: Session, jobs: S, drift: Drift<'_>) -> CommandResult
where
    S: Iterator<Item = Result<JobLine, Rejection>> + Send + 'static,
{
    let interrupts = runtime::interrupts(|| {})?;
    let ended = tokio::select! {
        ended = plan(&session, jobs, drift) => ended,
        () = interrupts.any() => Ok(Exit::Interrupted),
    };
    if let Some(sandbox) = session.sandbox {
        drop(sandbox.stop().await);
    }
    ended
}

async fn plan<S>(session: &Session, jobs: S, drift: Drift<'_>) -> CommandResult
where
    S: Iterator<Item = Result<JobLine, Rejection>> + Send + 'static,
{
    let terminal = Terminal::new(session.settings.output.quiet);
    let _announcer = terminal.announce(session.client.waits());
    let (items, mut items_in) = mpsc::channel(JOBS_AHEAD);
    let (lanes, lane) = (session.lanes.clone(), session.settings.lane.clone());
    let reading = spawn_blocking(move || {
        for read in jobs {
            let item = read.and_then(|line| run_jobs::delivery(line, &lanes, lane.as_deref()));
            if items.blocking_send(item).is_err() {
                return;
            }
        }
    });
    let mut is_empty = true;
    let mut planner = Planner::new(session, terminal);
    while let Some(item) = items_in.recv().await {
        is_empty = false;
        match item {
            Ok(delivery) => planner.add(delivery).await,
            Err(rejection) => planner.reject(&rejection),
        }
    }
    reading.await.context("the jobs could not be read").or_exit(Exit::Failed)?;
    if is_empty {
        terminal.warn(NO_JOBS);
    }
    planner.finish(&drift)
}

/// Lists each image when its first job arrives, and plans the jobs.
struct Planner<'a> {
    session: &'a Session,
    terminal: Terminal,
    plan: Plan,
    lanes: BTreeMap<LaneId, PlannedLane>,
    /// Images that cannot be listed, each with the reason. Their jobs are not planned.
    unreadable: BTreeMap<PlannedImage, String>,
    /// The duration of the fastest listing. Others may include a wait for the rate limit.
    latency: Duration,
    exit: Exit,
}

struct PlannedLane {
    reader: ImageReader,
    /// Whether the plan has the lane.
    is_planned: bool,
}

impl<'a> Planner<'a> {
    fn new(session: &'a Session, terminal: Terminal) -> Self {
        Self {
            session,
            terminal,
            plan: Plan::new(&session.limits),
            lanes: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            latency: Duration::MAX,
            exit: Exit::Done,
        }
    }

    fn reject(&mut self, rejection: &Rejection) {
        self.exit = self.exit.worse(Exit::Failed);
        self.terminal.error(&format!("would be rejected: {rejection}"));
    }

    async fn add(&mut self, delivery: Delivery<Identity>) {
        let Delivery { lane, jobs, expires_at, .. } = delivery;
        for job in jobs {
            let image = (lane, job.region, job.image_id);
            if !self.plan.has_image(&image) && !self.unreadable.contains_key(&image) {
                self.list(image).await;
            }
            if self.plan.has_image(&image) {
                let expires_in = expires_at.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
                self.plan.add_job(lane, job, expires_in);
            }
        }
    }

    async fn list(&mut self, image: PlannedImage) {
        let (id, region, image_id) = image;
        let lane = self.session.lane(id);
        let planned = match self.lanes.entry(id) {
            Entry::Occupied(planned) => planned.into_mut(),
            Entry::Vacant(vacant) => {
                vacant.insert(PlannedLane { reader: ImageReader::new(&self.session.client, lane), is_planned: false })
            }
        };
        let started = Instant::now();
        match planned.reader.shares(region, image_id, self.session.settings.give_up_after).await {
            Ok(shares) => {
                self.latency = self.latency.min(started.elapsed());
                self.plan.set_latency(self.latency);
                if !planned.is_planned {
                    planned.is_planned = true;
                    let owner = owner(lane, self.session.client.time_outs().call).await;
                    self.plan.add_lane(id, lane.limits, &owner, lane.account);
                }
                self.plan.add_image(image, shares.iter().map(|share| share.account_id));
            }
            Err(error) => {
                self.exit = self.exit.worse(exit_of(&error));
                self.terminal.error(&unreadable_message(image_id, &error, &lane.endpoint));
                self.unreadable.insert(image, error.to_string());
            }
        }
    }

    fn finish(self, drift: &Drift<'_>) -> CommandResult {
        let Self { session, terminal, plan, unreadable, mut exit, .. } = self;
        let (changes, took) = plan.finish();
        let mut lines = BTreeMap::new();
        for (image, change) in changes {
            drift.add(&compared(session, image), Some(&change));
            exit = exit.worse(drift.exit(&change));
            let problem = refused_sync(&change, session.limits.cancel_limit_percent);
            if let Some(problem) = &problem {
                terminal.error(&format!("{}: {problem}", image.2));
            }
            if problem.is_some() || !change.failed.is_empty() {
                exit = exit.worse(drift.exit_of_failure());
            }
            lines.insert(image, Line::new(session, image, change, problem));
        }
        for (image, problem) in unreadable {
            drift.add(&compared(session, image), None);
            lines.insert(image, Line::new(session, image, PlannedChange::default(), Some(problem)));
        }
        let lines: Vec<_> = lines.into_values().collect();
        let exit = exit.after(print(&lines, session.settings.output.json)).after(drift.write());
        let sum = |count: fn(&Line<'_>) -> usize| lines.iter().map(count).sum::<usize>();
        terminal.note(&format!(
            "nothing was changed: would {}; {} in about {:.1} s",
            parts([
                (sum(|line| line.would_share.len()), "share", ""),
                (sum(|line| line.would_cancel.len()), "cancel", ""),
                (sum(|line| line.unchanged.len()), "leave", " unchanged"),
                (sum(|line| line.failed()), "fail", ""),
            ]),
            output::counted(sum(|line| line.requests), "request"),
            took.as_secs_f64()
        ));
        Ok(exit)
    }
}

impl<'a> Line<'a> {
    fn new(session: &'a Session, image: PlannedImage, change: PlannedChange, problem: Option<String>) -> Self {
        let (lane, region, image_id) = image;
        let PlannedChange { share, cancel, unchanged, failed, requests, missing: _, refused_sync: _ } = change;
        Self {
            image_id,
            region,
            lane: &session.lane(lane).name,
            would_share: share,
            would_cancel: cancel,
            unchanged,
            would_fail: failed,
            requests,
            problem,
        }
    }

    fn failed(&self) -> usize {
        self.would_fail.iter().map(|failed| failed.account_ids.len()).sum()
    }

    /// Writes a line with the counts of the image, and one for each account that would change or fail.
    fn write(&self, text: &mut String) -> std::fmt::Result {
        write!(text, "{} in {}: ", self.image_id, self.region)?;
        match &self.problem {
            Some(problem) if self.requests == 0 => writeln!(text, "{problem}")?,
            _ => writeln!(
                text,
                "{}; {}",
                parts([
                    (self.would_share.len(), "share", ""),
                    (self.would_cancel.len(), "cancel", ""),
                    (self.unchanged.len(), "leave", " unchanged"),
                    (self.failed(), "fail", ""),
                ]),
                output::counted(self.requests, "request")
            )?,
        }
        for account in &self.would_share {
            writeln!(text, "{ADDED}+ {account}{ADDED:#}")?;
        }
        for account in &self.would_cancel {
            writeln!(text, "{REMOVED}- {account}{REMOVED:#}")?;
        }
        for PlannedFailure { code, message, account_ids } in &self.would_fail {
            writeln!(text, "{BAD}{code}{BAD:#}: {message}")?;
            for account in account_ids {
                writeln!(text, "! {account}")?;
            }
        }
        Ok(())
    }
}

fn compared(session: &Session, (lane, region, image_id): PlannedImage) -> ComparedImage<'_> {
    ComparedImage { image_id, region, lane: &session.lane(lane).name }
}

/// Returns the parts that are not zero: `share 3, leave 1 unchanged`.
fn parts(parts: [(usize, &str, &str); 4]) -> String {
    let shown: Vec<_> = parts
        .iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, before, after)| format!("{before} {count}{after}"))
        .collect();
    if shown.is_empty() { "change nothing".to_owned() } else { shown.join(", ") }
}

/// Returns the account of a lane's credential. Waits for the first response of STS, up to the time limit.
async fn owner(lane: &OpenLane, time_limit: Duration) -> Owner {
    let mut identity = lane.credentials.identity();
    let known = timeout(time_limit, identity.wait_for(|identity| identity.owner != Owner::Asked)).await;
    match known {
        Ok(Ok(identity)) => identity.owner.clone(),
        Ok(Err(_)) | Err(_) => Owner::Asked,
    }
}

fn print(lines: &[Line<'_>], json: bool) -> Result<(), Problem> {
    if !output::is_for_people(json) {
        return output::print(&lines.iter().map(output::json_line).collect::<String>());
    }
    let mut text = String::new();
    for line in lines {
        line.write(&mut text).expect("writing to a String never fails");
    }
    output::print_for_people(&text)
}

/// Returns the error if the cancel limit would refuse a SYNC.
fn refused_sync(change: &PlannedChange, limit: u32) -> Option<String> {
    change.refused_sync.map(|sync| {
        format!(
            "this SYNC would fail: it cancels {} of {} accounts (expected at most {limit} %, \"force\": true in the job, \
             or --force of imageshare sync)",
            sync.cancel, sync.shared
        )
    })
}

/// Returns a failed listing as the problem that ends the command.
pub(crate) fn unreadable(image_id: ImageId, error: &ReadFailure, endpoint: &Endpoint) -> Problem {
    Problem::new(exit_of(error), unreadable_message(image_id, error, endpoint))
}

fn unreadable_message(image_id: ImageId, error: &ReadFailure, endpoint: &Endpoint) -> String {
    let hint = site::hint(error.class(), endpoint).map_or_else(String::new, |hint| format!("\nhint: {hint}"));
    format!("{image_id}: cannot list its shares: {error}{hint}")
}

/// Returns the exit code for a failed listing.
pub(crate) fn exit_of(error: &ReadFailure) -> Exit {
    match error.class() {
        None => Exit::Unreachable,
        Some(Class::Clock | Class::Credential | Class::Deployment | Class::Permission) => Exit::Refused,
        Some(_) => Exit::Failed,
    }
}
