//! `--dry-run`: lists the images' shares and shows what the jobs would change. Sends no write.

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

use super::{NO_JOBS, Work, carry_out, drift::Drift};
use crate::{
    exit::{Ended, Exit, OrExit as _, Problem},
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

/// Shows the plan of these jobs.
pub(crate) async fn show<S>(work: Work, jobs: S, drift: Drift<'_>) -> Ended
where
    S: Iterator<Item = Result<JobLine, Rejection>> + Send + 'static,
{
    let interrupts = runtime::interrupts(|| {})?;
    let ended = tokio::select! {
        ended = planned(&work, jobs, drift) => ended,
        () = interrupts.any() => Ok(Exit::Interrupted),
    };
    if let Some(sandbox) = work.sandbox {
        drop(sandbox.stop().await);
    }
    ended
}

async fn planned<S>(work: &Work, jobs: S, drift: Drift<'_>) -> Ended
where
    S: Iterator<Item = Result<JobLine, Rejection>> + Send + 'static,
{
    let terminal = Terminal::new(work.settings.output.quiet);
    let _announcing = terminal.announce(work.client.waits());
    let (items, mut items_in) = mpsc::channel(JOBS_AHEAD);
    let (lanes, lane) = (work.lanes.clone(), work.settings.lane.clone());
    let reading = spawn_blocking(move || {
        for read in jobs {
            let item = read.and_then(|line| carry_out::delivery(line, &lanes, lane.as_deref()));
            if items.blocking_send(item).is_err() {
                return;
            }
        }
    });
    let mut is_empty = true;
    let mut planner = Planner::new(work, terminal);
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
    work: &'a Work,
    terminal: Terminal,
    plan: Plan,
    lanes: BTreeMap<LaneId, PlannedLane>,
    /// Images that cannot be listed, and why. Their jobs are not planned.
    unreadable: BTreeMap<PlannedImage, String>,
    /// The shortest time that a listing took: the others may have waited for the pace.
    latency: Duration,
    exit: Exit,
}

struct PlannedLane {
    reader: ImageReader,
    /// How long its next listing may take.
    patience: Duration,
    /// Whether the plan has the lane.
    is_planned: bool,
}

impl<'a> Planner<'a> {
    fn new(work: &'a Work, terminal: Terminal) -> Self {
        Self {
            work,
            terminal,
            plan: Plan::new(&work.limits),
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
        let lane = self.work.lane(id);
        let planned = match self.lanes.entry(id) {
            Entry::Occupied(planned) => planned.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(PlannedLane {
                reader: ImageReader::new(&self.work.client, lane),
                patience: self.work.settings.give_up_after,
                is_planned: false,
            }),
        };
        let begun = Instant::now();
        match planned.reader.shares(region, image_id, planned.patience).await {
            Ok(shares) => {
                planned.patience = self.work.settings.give_up_after;
                self.latency = self.latency.min(begun.elapsed());
                self.plan.set_latency(self.latency);
                if !planned.is_planned {
                    planned.is_planned = true;
                    let owner = owner(lane, self.work.client.time_outs().call).await;
                    self.plan.add_lane(id, lane.limits, &owner, lane.account);
                }
                self.plan.add_image(image, shares.iter().map(|share| share.account_id));
            }
            Err(error) => {
                // An endpoint that did not respond in all that time gets one call for each further image.
                planned.patience = self.work.client.time_outs().call;
                self.exit = self.exit.worse(exit_of(&error));
                self.terminal.error(&unread(image_id, &error, &lane.endpoint));
                self.unreadable.insert(image, error.to_string());
            }
        }
    }

    fn finish(self, drift: &Drift<'_>) -> Ended {
        let Self { work, terminal, plan, unreadable, mut exit, .. } = self;
        let (changes, took) = plan.finish();
        let mut lines = BTreeMap::new();
        for (image, change) in changes {
            drift.add(&compared(work, image), Some(&change));
            exit = exit.worse(drift.exit(&change));
            let problem = refused_sync(&change, work.limits.cancel_limit_percent);
            if let Some(problem) = &problem {
                terminal.error(&format!("{}: {problem}", image.2));
            }
            if problem.is_some() || !change.failed.is_empty() {
                exit = exit.worse(drift.exit_of_trouble());
            }
            lines.insert(image, Line::new(work, image, change, problem));
        }
        for (image, problem) in unreadable {
            drift.add(&compared(work, image), None);
            lines.insert(image, Line::new(work, image, PlannedChange::default(), Some(problem)));
        }
        let lines: Vec<_> = lines.into_values().collect();
        let exit = exit.after(print(&lines, work.settings.output.json)).after(drift.write());
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
    fn new(work: &'a Work, image: PlannedImage, change: PlannedChange, problem: Option<String>) -> Self {
        let (lane, region, image_id) = image;
        let PlannedChange { share, cancel, unchanged, failed, requests, refused_sync: _ } = change;
        Self {
            image_id,
            region,
            lane: &work.lane(lane).name,
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

    /// Writes the image with its counts, and each account that would change or fail in a line of its own.
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

fn compared(work: &Work, (lane, region, image_id): PlannedImage) -> ComparedImage<'_> {
    ComparedImage { image_id, region, lane: &work.lane(lane).name }
}

/// Returns the parts that are not zero: `share 3, leave 1 unchanged`.
fn parts(parts: [(usize, &str, &str); 4]) -> String {
    let shown: Vec<_> = parts
        .iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, before, after)| format!("{before} {count}{after}"))
        .collect();
    if shown.is_empty() { "do nothing".to_owned() } else { shown.join(", ") }
}

/// Returns the account of a lane's credential. Waits for the first answer of STS.
async fn owner(lane: &OpenLane, patience: Duration) -> Owner {
    let mut identity = lane.credentials.identity();
    let known = timeout(patience, identity.wait_for(|identity| identity.owner != Owner::Asked)).await;
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

/// Why the cancel limit refuses a SYNC, if it does.
fn refused_sync(change: &PlannedChange, limit: u32) -> Option<String> {
    change.refused_sync.map(|sync| {
        format!(
            "this SYNC would fail: it cancels {} of {} accounts (expected at most {limit} %, or \"force\": true in the \
             job, or --force of imageshare sync)",
            sync.cancel, sync.shared
        )
    })
}

/// Returns a failed listing as the end of a command.
pub(crate) fn unreadable(image_id: ImageId, error: &ReadFailure, endpoint: &Endpoint) -> Problem {
    Problem::new(exit_of(error), unread(image_id, error, endpoint))
}

fn unread(image_id: ImageId, error: &ReadFailure, endpoint: &Endpoint) -> String {
    let hint = site::hint(error.class(), endpoint).map_or_else(String::new, |hint| format!("\nhint: {hint}"));
    format!("{image_id}: cannot list its shares: {error}{hint}")
}

/// Returns the exit code of a command that could not read.
pub(crate) fn exit_of(error: &ReadFailure) -> Exit {
    match error.class() {
        None => Exit::OutOfReach,
        Some(Class::Clock | Class::Credential | Class::Deployment | Class::Permission) => Exit::Refused,
        Some(_) => Exit::Failed,
    }
}
