//! `imageshare dead`: lists dead letters, sends them to their lanes again, or removes them.

use std::{
    collections::{BTreeSet, VecDeque},
    io::{self, IsTerminal as _, Write as _},
    iter,
    num::NonZeroU64,
    time::Duration,
};

use imageshare_core::ids::{AccountId, ImageId, Region};
use imageshare_worker::{
    broker::{
        Confirmation, DeadLetter, DeadLetters, Error, Lost, PublishMode, Publisher, Route, Routes, TimeOuts, Url,
    },
    settings::Flags,
    wire::{Images, JobImage, Known, Permission},
};
use jiff::Timestamp;
use serde::Serialize;
use tokio::task::block_in_place;

use crate::{
    broker::{self, StallDetector},
    cli::{Common, DeadArguments, DeadCommand, DeadFilter, DeadReason},
    exit::{CommandResult, Exit, OrExit as _, Problem},
    output::{self, counted},
    runtime,
    terminal::Terminal,
    work,
};

/// The most dead letters that are sent and not confirmed.
const WINDOW: usize = 500;

/// The most bytes of their bodies.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;

/// Does not wait for a missing queue: the message stays a dead letter, so nothing is lost.
const MODE: PublishMode = PublishMode::UntilAnswered { missing_max: Duration::ZERO };

/// The name under which the broker lists the connections.
const NAME: &str = "imageshare dead";

/// What the command does with the selected dead letters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DeadAction {
    Drop,
    List,
    Replay,
    WouldDrop,
    WouldReplay,
}

/// The state of a dead letter after the command.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Dead,
    Dropped,
    Replayed,
    WouldDrop,
    WouldReplay,
}

/// A dead letter in the output.
#[derive(Serialize)]
struct Line {
    state: State,
    /// When it became a dead letter; `null` if that is not known.
    time: Option<Timestamp>,
    /// Seconds since then.
    age: Option<u64>,
    job_id: Option<String>,
    lane: Option<String>,
    reason: Option<String>,
    code: Option<String>,
    detail: Option<String>,
    image_id: Option<ImageId>,
    region: Option<Region>,
    /// The images of a job with several.
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<Vec<LineImage>>,
    permission: Option<Permission>,
    /// The accounts of all images, without repetitions.
    account_ids: Vec<AccountId>,
    worker: Option<String>,
}

/// One of several images of a dead letter.
#[derive(Serialize)]
struct LineImage {
    region: Region,
    image_id: ImageId,
    account_ids: Vec<AccountId>,
}

pub(crate) fn run(common: &Common, command: &DeadCommand) -> CommandResult {
    let (action, filter, changes) = match command {
        DeadCommand::List(filter) => (DeadAction::List, filter, None),
        DeadCommand::Drop(arguments) if arguments.dry_run => (DeadAction::WouldDrop, &arguments.filter, None),
        DeadCommand::Drop(arguments) => (DeadAction::Drop, &arguments.filter, Some(arguments)),
        DeadCommand::Replay(arguments) if arguments.dry_run => (DeadAction::WouldReplay, &arguments.filter, None),
        DeadCommand::Replay(arguments) => (DeadAction::Replay, &arguments.filter, Some(arguments)),
    };
    let give_up_after = filter.give_up_after.clone();
    // A dead letter may belong to a lane that was removed, so --lane is not checked against the settings.
    let settings = work::load(&Flags { give_up_after, lane: None, ..work::flags(common) })?;
    let selection = Selection { filter, lane: common.lane.as_deref().or(settings.lane.as_deref()) };
    if let Some(arguments) = changes
        && !arguments.all
        && common.lane.is_none()
        && selection.is_all()
    {
        let message = "dead letters: none selected (expected --code, --reason, --image, --lane, --limit or --all)";
        return Err(Problem::new(Exit::Usage, message));
    }
    let url = broker::url(&settings)?;
    runtime::run(async {
        let time_outs = broker::time_outs(&settings);
        let terminal = Terminal::new(settings.output.quiet);
        if changes.is_some_and(asks) {
            let count = count(&url, time_outs, &selection).await?;
            if count > 0 && !block_in_place(|| confirms(action, count)).or_exit(Exit::Failed)? {
                terminal.note("nothing was changed");
                return Ok(Exit::Failed);
            }
        }
        let interrupted = runtime::interrupts(|| {})?.any();
        let letters = open(&url, time_outs).await?;
        let (publisher, publishing) = Publisher::new(url.clone(), NAME, time_outs);
        let stall = StallDetector::new(url.clone(), publisher.state(), settings.give_up_after);
        // Only a replay publishes, and needs a second connection.
        let publishing = (action == DeadAction::Replay).then(|| tokio::spawn(publishing.run()));
        let routes = Routes::new(url.clone(), NAME, time_outs);
        let for_people = output::is_for_people(settings.output.json);
        let mut pass = Pass { url, letters, publisher, routes, stall, terminal, for_people, counts: Counts::default() };
        let result = tokio::select! {
            biased;
            () = interrupted => Ok(Exit::Interrupted),
            result = pass.run(&selection, action) => result.map(|()| Exit::Done),
        };
        let ended = pass.end(action).await;
        if let Some(publishing) = publishing {
            publishing.abort();
        }
        result.and_then(|exit| Ok(exit.worse(ended?)))
    })
}

async fn open(url: &Url, time_outs: TimeOuts) -> Result<DeadLetters, Problem> {
    DeadLetters::open(url, NAME, time_outs).await.map_err(|error| broker::problem(url, &error))
}

/// Whether to ask before a change. Without a terminal there is no user to answer.
fn asks(arguments: &DeadArguments) -> bool {
    !arguments.yes && io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn confirms(action: DeadAction, count: u64) -> io::Result<bool> {
    let question = match action {
        DeadAction::Replay => format!("send {} to their lanes again?", dead_letters(count)),
        DeadAction::Drop | DeadAction::List | DeadAction::WouldDrop | DeadAction::WouldReplay => {
            format!("remove {}?", dead_letters(count))
        }
    };
    let mut stderr = io::stderr();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Returns the number of selected dead letters.
async fn count(url: &Url, time_outs: TimeOuts, selection: &Selection<'_>) -> Result<u64, Problem> {
    let mut letters = open(url, time_outs).await?;
    let mut count = 0;
    // All are held until the connection closes, so that they return to the queue in order.
    while count < selection.limit() {
        let letter = letters.next().await.map_err(|error| broker::problem(url, &error))?;
        let Some(letter) = letter else { break };
        count += u64::from(selection.matches(&letter));
    }
    letters.close().await.map_err(|error| broker::problem(url, &error))?;
    Ok(count)
}

/// Which dead letters are selected.
struct Selection<'a> {
    filter: &'a DeadFilter,
    lane: Option<&'a str>,
}

impl Selection<'_> {
    /// Whether no filter restricts the selection, apart from the lane.
    const fn is_all(&self) -> bool {
        let DeadFilter { code, reason, image, limit, give_up_after: _ } = self.filter;
        code.is_none() && reason.is_none() && image.is_none() && limit.is_none()
    }

    fn limit(&self) -> u64 {
        self.filter.limit.map_or(u64::MAX, NonZeroU64::get)
    }

    fn matches(&self, letter: &DeadLetter) -> bool {
        let DeadFilter { code, reason, image, .. } = self.filter;
        let is_of_image = |image: &ImageId| is_of_image(letter, *image);
        let reason = reason.map(DeadReason::as_str);
        self.lane.is_none_or(|lane| letter.lane.as_deref() == Some(lane))
            && code.as_ref().is_none_or(|code| letter.code.as_ref() == Some(code))
            && reason.is_none_or(|reason| letter.reason.as_deref() == Some(reason))
            && image.as_ref().is_none_or(is_of_image)
    }
}

/// How many dead letters were selected, and how many were changed.
#[derive(Default)]
struct Counts {
    selected: u64,
    done: u64,
    /// Left, since they are truncated or no queue accepts them.
    left: u64,
}

/// Dead letters that were sent and are not confirmed yet.
#[derive(Default)]
struct Sent {
    letters: VecDeque<(DeadLetter, usize, Confirmation)>,
    /// Bytes of the bodies.
    bytes: usize,
}

impl Sent {
    /// Whether a dead letter of this length fits into the window. A single one always does.
    fn has_room(&self, len: usize) -> bool {
        self.letters.is_empty() || self.letters.len() < WINDOW && self.bytes.saturating_add(len) <= WINDOW_BYTES
    }

    fn push(&mut self, letter: DeadLetter, len: usize, confirmation: Confirmation) {
        self.bytes = self.bytes.saturating_add(len);
        self.letters.push_back((letter, len, confirmation));
    }

    fn pop(&mut self) -> Option<(DeadLetter, Confirmation)> {
        let (letter, len, confirmation) = self.letters.pop_front()?;
        self.bytes = self.bytes.saturating_sub(len);
        Some((letter, confirmation))
    }
}

/// One pass over the dead letters.
struct Pass {
    url: Url,
    letters: DeadLetters,
    publisher: Publisher,
    routes: Routes,
    stall: StallDetector,
    terminal: Terminal,
    for_people: bool,
    counts: Counts,
}

impl Pass {
    async fn run(&mut self, selection: &Selection<'_>, action: DeadAction) -> Result<(), Problem> {
        let mut sent = Sent::default();
        while self.counts.selected < selection.limit() {
            let next = self.letters.next().await;
            let Some(mut letter) = self.checked(next)? else { break };
            if !selection.matches(&letter) {
                continue;
            }
            self.counts.selected += 1;
            match action {
                DeadAction::List => self.show(&line(&letter, State::Dead))?,
                DeadAction::WouldDrop => self.show(&line(&letter, State::WouldDrop))?,
                DeadAction::Drop => self.settle(letter, State::Dropped).await?,
                DeadAction::Replay | DeadAction::WouldReplay if letter.truncated.is_some() => {
                    if self.counts.left == 0 {
                        self.terminal.error("dead letter: truncated, cannot be replayed; it stays a dead letter");
                    }
                    self.counts.left += 1;
                    self.show(&line(&letter, State::Dead))?;
                }
                DeadAction::WouldReplay => {
                    self.counts.done += 1;
                    self.show(&line(&letter, State::WouldReplay))?;
                }
                DeadAction::Replay => {
                    let len = letter.body_len();
                    while !sent.has_room(len) {
                        self.confirm(&mut sent).await?;
                    }
                    // A dead letter without a lane has no queue, and therefore no route.
                    let route = match letter.lane.as_deref() {
                        Some(lane) => self.routes.find(lane).await,
                        None => Route::shared(""),
                    };
                    let publish = self.publisher.publish(letter.take_message(route), MODE);
                    let confirmation = tokio::select! {
                        confirmation = publish => confirmation.or_exit(Exit::Unreachable)?,
                        problem = self.stall.give_up(self.terminal) => return Err(problem),
                    };
                    sent.push(letter, len, confirmation);
                }
            }
        }
        while !sent.letters.is_empty() {
            self.confirm(&mut sent).await?;
        }
        Ok(())
    }

    /// Waits until the broker has confirmed the oldest sent message, and only then removes its dead letter.
    async fn confirm(&mut self, sent: &mut Sent) -> Result<(), Problem> {
        let Some((letter, confirmation)) = sent.pop() else { return Ok(()) };
        let confirmed = tokio::select! {
            confirmed = confirmation => confirmed,
            problem = self.stall.give_up(self.terminal) => return Err(problem),
        };
        match confirmed {
            Ok(()) => self.settle(letter, State::Replayed).await,
            Err(lost @ Lost::Ended) => Err(lost).or_exit(Exit::Unreachable),
            Err(lost @ (Lost::TooLong { .. } | Lost::Unroutable { .. })) => {
                if self.counts.left == 0 {
                    self.terminal.error(&format!("{lost}; it stays a dead letter"));
                }
                self.counts.left += 1;
                self.show(&line(&letter, State::Dead))
            }
        }
    }

    async fn settle(&mut self, letter: DeadLetter, state: State) -> Result<(), Problem> {
        let line = line(&letter, state);
        let settled = self.letters.settle(letter).await;
        self.checked(settled)?;
        self.counts.done += 1;
        self.show(&line)
    }

    fn checked<T>(&self, result: Result<T, Error>) -> Result<T, Problem> {
        result.map_err(|error| broker::problem(&self.url, &error))
    }

    fn show(&self, line: &Line) -> Result<(), Problem> {
        if self.for_people {
            output::print_for_people(&line.to_text())
        } else {
            output::print(&output::json_line(line))
        }
    }

    /// Returns the remaining dead letters to their queue, and prints the counts.
    async fn end(self, action: DeadAction) -> CommandResult {
        let Self { url, letters, terminal, counts: Counts { selected, done, left }, .. } = self;
        let closed = letters.close().await.map_err(|error| broker::problem(&url, &error));
        let and_left = if left > 0 { format!(", {left} left") } else { String::new() };
        terminal.note(&match action {
            DeadAction::List => dead_letters(selected),
            DeadAction::Drop => format!("{} removed", dead_letters(done)),
            DeadAction::Replay => format!("{} sent to their lanes{and_left}", dead_letters(done)),
            DeadAction::WouldDrop => format!("nothing was changed: {} would be removed", dead_letters(selected)),
            DeadAction::WouldReplay => {
                format!("nothing was changed: {} would be sent to their lanes{and_left}", dead_letters(done))
            }
        });
        let exit = if left > 0 { Exit::Failed } else { Exit::Done };
        Ok(exit.after(closed))
    }
}

fn dead_letters(count: u64) -> String {
    counted(count, "dead letter")
}

impl State {
    /// Returns the prefix of the line of a dead letter.
    const fn verb(self) -> &'static str {
        match self {
            Self::Dead => "",
            Self::Dropped => "removed: ",
            Self::Replayed => "replayed: ",
            Self::WouldDrop => "would be removed: ",
            Self::WouldReplay => "would be replayed: ",
        }
    }
}

impl Line {
    /// Returns two lines for a terminal: time and reason, then the job.
    fn to_text(&self) -> String {
        let time = self.time.map_or_else(|| "unknown time".to_owned(), |time| format!("{time:.0}"));
        let age = self.age.map_or_else(String::new, |age| format!(" ({} ago)", age_in_words(age)));
        let reason = self.reason.as_deref().unwrap_or("unknown reason");
        let why = self.detail.as_deref().or(self.code.as_deref());
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        let unknown = || "?".to_owned();
        let permission = self.permission.map_or_else(unknown, |permission| permission.to_string());
        let image = self.image_id.map_or_else(unknown, |image| image.to_string());
        let region = self.region.map_or_else(unknown, |region| region.to_string());
        let images = match &self.images {
            Some(images) => counted(images.len(), "image"),
            None => format!("{image} in {region}"),
        };
        format!(
            "{}{time}{age} {reason}{why}\n  {permission} {images} for {}; job {}, lane {}\n",
            self.state.verb(),
            counted(self.account_ids.len(), "account"),
            self.job_id.as_deref().unwrap_or("?"),
            self.lane.as_deref().unwrap_or("?"),
        )
    }
}

/// Returns a number of seconds in its largest unit.
fn age_in_words(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => counted(seconds / 86_400, "day"),
    }
}

fn is_of_image(letter: &DeadLetter, image_id: ImageId) -> bool {
    let names = |images: &Images| images.iter().any(|image| image.image_id == image_id);
    match &letter.job {
        Ok(job) => names(&job.identity.images),
        Err(rejection) => {
            rejection.known.image_id == Some(image_id) || rejection.known.images.as_ref().is_some_and(names)
        }
    }
}

fn line(letter: &DeadLetter, state: State) -> Line {
    let (known, account_ids) = match &letter.job {
        Ok(job) => (Known::from(&job.identity), &*job.account_ids),
        Err(rejection) => ((*rejection.known).clone(), Default::default()),
    };
    // The clocks of two machines may differ.
    let age = letter.time.map(|time| u64::try_from(Timestamp::now().as_second() - time.as_second()).unwrap_or(0));
    let images = known.images.as_ref().map(|images| {
        let lists = account_ids.iter().map(Some).chain(iter::repeat(None));
        let image = |(image, list): (&JobImage, Option<&Box<[AccountId]>>)| LineImage {
            region: image.region,
            image_id: image.image_id,
            account_ids: list.map_or_else(Vec::new, |list| list.to_vec()),
        };
        images.iter().zip(lists).map(image).collect()
    });
    let mut named = BTreeSet::new();
    let account_ids = account_ids.iter().flatten().copied().filter(|account| named.insert(*account)).collect();
    Line {
        state,
        time: letter.time,
        age,
        job_id: known.job_id,
        lane: letter.lane.clone(),
        reason: letter.reason.clone(),
        code: letter.code.clone(),
        detail: letter.detail.clone(),
        image_id: known.image_id,
        region: known.region,
        images,
        permission: known.permission,
        account_ids,
        worker: letter.worker.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letter_row_has_time_age_and_reason() {
        let line = Line {
            state: State::Dead,
            time: "2026-12-01T10:05:22.123Z".parse().ok(),
            age: Some(3 * 3_600 + 5),
            job_id: Some("rel-1".to_owned()),
            lane: Some("default".to_owned()),
            reason: Some("failed".to_owned()),
            code: Some("InternalError".to_owned()),
            detail: None,
            images: None,
            image_id: "img-6pb6lrmy".parse().ok(),
            region: "ap-singapore".parse().ok(),
            permission: Some(Permission::Share),
            account_ids: vec!["1038493875".parse().unwrap()],
            worker: None,
        };
        let text = "2026-12-01T10:05:22Z (3 h ago) failed: InternalError\n  \
                    SHARE img-6pb6lrmy in ap-singapore for 1 account; job rel-1, lane default\n";
        assert_eq!(line.to_text(), text);
    }

    #[test]
    fn age_has_its_largest_unit() {
        let ages =
            [(59, "59 s"), (60, "1 min"), (3_599, "59 min"), (86_399, "23 h"), (86_400, "1 day"), (200_000, "2 days")];
        for (seconds, message) in ages {
            assert_eq!(age_in_words(seconds), message);
        }
    }
}
