//! `--dry-run`: reads who has the images and says what would be done. Sends no write.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use imageshare_core::{
    Class,
    ids::{ImageId, Region},
};
use imageshare_engine::io::LaneId;
use imageshare_worker::{
    drift::ComparedImage,
    lanes::route,
    listing::{ImageReader, ReadFailure, interval},
    plan::{Plan, PlannedChange},
    wire::{JobLine, Rejection},
};
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::{Work, drift::Drift};
use crate::{
    exit::{Ended, Exit, OrExit as _, Problem},
    output::{self, Table},
    runtime,
    terminal::Terminal,
};

/// The plan for one image.
#[derive(Serialize)]
struct Line<'a> {
    image_id: ImageId,
    region: Region,
    lane: &'a str,
    would_share: usize,
    would_cancel: usize,
    unchanged: usize,
    requests: usize,
    /// Why it would not all be done.
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
        sandbox.stop().await;
    }
    ended
}

async fn planned<S>(work: &Work, jobs: S, drift: Drift<'_>) -> Ended
where
    S: Iterator<Item = Result<JobLine, Rejection>> + Send + 'static,
{
    let terminal = Terminal::new(work.settings.output.quiet, false);
    let _announcing = terminal.announce(work.client.waits());
    let (plan, rejections) = sum_up(work, jobs).await?;
    let mut exit = if rejections == 0 { Exit::Done } else { Exit::Failed };
    // Each with how long the next reading may take.
    let mut readers: BTreeMap<LaneId, (ImageReader, Duration)> = BTreeMap::new();
    let mut requests: BTreeMap<LaneId, usize> = BTreeMap::new();
    let mut sum = PlannedChange::default();
    let mut lines = Vec::new();
    for (&(lane, region, image_id), requested) in &plan.images {
        let of_lane = work.lane(lane);
        let image = ComparedImage { image_id, region, lane: &of_lane.name };
        let (reader, patience) = readers
            .entry(lane)
            .or_insert_with(|| (ImageReader::new(&work.client, of_lane), work.settings.give_up_after));
        let (change, problem) = match reader.shares(region, image_id, *patience).await {
            Ok(shares) => {
                *patience = work.settings.give_up_after;
                let shares: Vec<_> = shares.iter().map(|share| share.account_id).collect();
                let change = requested.against(&shares, &of_lane.limits, &work.limits);
                let trouble = trouble(&change);
                drift.add(&image, Some(&change));
                if let Some(trouble) = &trouble {
                    exit = exit.worse(drift.exit_of_trouble());
                    terminal.error(&format!("{image_id}: {trouble}"));
                }
                (change, trouble)
            }
            Err(error) => {
                // What was waited for in vain once is not waited for again with each image: one call each shows
                // whether it has come back.
                *patience = work.client.time_outs().call;
                drift.add(&image, None);
                exit = exit.worse(exit_of(&error));
                terminal.error(&unread(image_id, &error));
                (PlannedChange::default(), Some(error.to_string()))
            }
        };
        *requests.entry(lane).or_default() += change.requests;
        sum.share += change.share;
        sum.cancel += change.cancel;
        sum.unchanged += change.unchanged;
        sum.requests += change.requests;
        sum.over_cap += change.over_cap;
        lines.push(Line {
            image_id,
            region,
            lane: &of_lane.name,
            would_share: change.share,
            would_cancel: change.cancel,
            unchanged: change.unchanged,
            requests: change.requests,
            problem,
        });
    }
    let exit = exit.worse(drift.exit(&sum));
    let exit = exit.after(print(&lines, work.settings.output.json)).after(drift.write());
    // Lanes work beside each other; the slowest one decides.
    let took =
        requests.iter().map(|(&lane, &requests)| pace(work, lane) * u32::try_from(requests).unwrap_or(u32::MAX)).max();
    terminal.note(&format!(
        "nothing was changed: would share with {} accounts, cancel {}, leave {} unchanged; {} request(s), at least {:.1} s",
        sum.share,
        sum.cancel,
        sum.unchanged,
        sum.requests,
        took.unwrap_or_default().as_secs_f64()
    ));
    Ok(exit)
}

/// Reads all jobs. What is rejected is said at once and counted.
async fn sum_up<S>(work: &Work, jobs: S) -> Result<(Plan, u64), Problem>
where
    S: Iterator<Item = Result<JobLine, Rejection>> + Send + 'static,
{
    let (lanes, default) = (work.lanes.clone(), work.settings.lane.clone());
    let terminal = Terminal::new(false, false);
    let read = spawn_blocking(move || {
        let (mut plan, mut rejections) = (Plan::default(), 0);
        for line in jobs {
            let job = line.and_then(|JobLine { place, job }| {
                let (identity, job) = job.into_parts(None, false);
                let lane = route(&lanes, identity.lane.as_deref().or(default.as_deref()), &identity.region);
                lane.map(|lane| (lane, job))
                    .map_err(|error| Rejection::of_job(&identity, None, error.to_string()).at(place))
            });
            match job {
                Ok((lane, job)) => plan.add(lane, &job),
                Err(rejection) => {
                    rejections += 1;
                    terminal.error(&format!("would be rejected: {rejection}"));
                }
            }
        }
        (plan, rejections)
    });
    read.await.context("the jobs could not be read").or_exit(Exit::Failed)
}

fn print(lines: &[Line<'_>], json: bool) -> Result<(), Problem> {
    if !output::is_for_people(json) {
        return output::print(&lines.iter().map(output::json_line).collect::<String>());
    }
    let mut table = Table::new(["IMAGE", "REGION", "SHARE", "CANCEL", "UNCHANGED", "REQUESTS", ""]);
    for line in lines {
        table.row([
            line.image_id.to_string(),
            line.region.to_string(),
            line.would_share.to_string(),
            line.would_cancel.to_string(),
            line.unchanged.to_string(),
            line.requests.to_string(),
            line.problem.clone().unwrap_or_default(),
        ]);
    }
    output::print(&table.to_text(""))
}

/// What would go wrong, as far as a reading can tell.
fn trouble(change: &PlannedChange) -> Option<String> {
    if change.exceeds_cancel_limit {
        return Some("this SYNC would cancel more than half of the list and fail (expected \"force\": true in the job, or --force of \
             imageshare sync)"
                .to_owned());
    }
    (change.over_cap > 0).then(|| format!("{} accounts would not fit under the image's cap", change.over_cap))
}

fn pace(work: &Work, lane: LaneId) -> Duration {
    interval(work.lane(lane).limits.rate)
}

/// A reading that there is not, as the end of a command.
pub(crate) fn unreadable(image_id: ImageId, error: &ReadFailure) -> Problem {
    Problem::new(exit_of(error), unread(image_id, error))
}

fn unread(image_id: ImageId, error: &ReadFailure) -> String {
    format!("{image_id}: cannot list its shares: {error}")
}

fn exit_of(error: &ReadFailure) -> Exit {
    match error.class() {
        None => Exit::OutOfReach,
        Some(Class::Clock | Class::Credential | Class::Deployment | Class::Permission) => Exit::Refused,
        Some(_) => Exit::Failed,
    }
}
