//! `imageshare dead`: looks at what could not be done, sends it to its lanes once more, or removes it.

use std::{collections::VecDeque, time::Duration};

use imageshare_core::ids::{AccountId, ImageId, Region};
use imageshare_worker::{
    broker::{Confirmation, DeadLetter, DeadLetters, Error, Lost, PublishMode, Publisher, Route, Routes, Url},
    settings::Flags,
    wire::{Known, Permission},
};
use serde::Serialize;

use crate::{
    broker::{self, Watch},
    cli::{Common, DeadArguments, DeadCommand, Reason},
    exit::{Ended, Exit, OrExit as _, Problem},
    output::{self, Table},
    runtime,
    terminal::Terminal,
    work,
};

/// Dead letters that are sent before the first of them has to be confirmed.
const WINDOW: usize = 500;

/// Bytes of the bodies of these.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;

/// Rows of a table at most; a terminal shows no more anyway.
const ROWS_MAX: u64 = 1_000;

/// A letter whose queue is missing stays a dead letter, so it need not wait for the queue.
const MODE: PublishMode = PublishMode::UntilAnswered { missing_max: Duration::ZERO };

/// What the broker lists the connections under.
const NAME: &str = "imageshare dead";

/// What is done with those that are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Drop,
    List,
    Replay,
}

/// A dead letter as it is shown.
#[derive(Serialize)]
struct Line {
    state: &'static str,
    job_id: Option<String>,
    lane: Option<String>,
    reason: Option<String>,
    code: Option<String>,
    detail: Option<String>,
    image_id: Option<ImageId>,
    region: Option<Region>,
    permission: Option<Permission>,
    account_ids: Vec<AccountId>,
    worker: Option<String>,
}

pub(crate) fn run(common: &Common, command: &DeadCommand) -> Ended {
    let (deed, arguments) = match command {
        DeadCommand::Drop(arguments) => (Deed::Drop, arguments),
        DeadCommand::List(arguments) => (Deed::List, arguments),
        DeadCommand::Replay(arguments) => (Deed::Replay, arguments),
    };
    // A dead letter may belong to a lane that was removed, so --lane is not checked against the settings.
    let give_up_after = arguments.give_up_after.clone();
    let settings = work::load(&Flags { give_up_after, lane: None, ..work::flags(common) })?;
    let url = broker::url(&settings)?;
    runtime::run(async {
        let time_outs = broker::time_outs(&settings);
        let interrupted = runtime::interrupts(|| {})?.any();
        let filter = Filter { arguments, lane: common.lane.as_deref() };
        let letters = DeadLetters::open(&url, NAME, time_outs).await;
        let letters = letters.map_err(|error| broker::problem(&url, &error))?;
        let (publisher, publishing) = Publisher::new(url.clone(), NAME, time_outs);
        let watch = Watch::new(url.clone(), publisher.state(), settings.give_up_after);
        let deed = if arguments.dry_run { Deed::List } else { deed };
        // Who only looks, or removes, publishes nothing and needs no second connection.
        let publishing = (deed == Deed::Replay).then(|| tokio::spawn(publishing.run()));
        let table = output::is_for_people(settings.output.json).then(|| Table::new(HEAD));
        let (terminal, sums) = (Terminal::new(settings.output.quiet, false), Sums::default());
        let routes = Routes::new(url.clone(), NAME, time_outs);
        let mut walk = Walk { url, letters, publisher, routes, watch, terminal, table, sums };
        let went = tokio::select! {
            biased;
            () = interrupted => Ok(Exit::Interrupted),
            went = walk.through(&filter, deed) => went.map(|()| Exit::Done),
        };
        let ended = walk.end(deed).await;
        if let Some(publishing) = publishing {
            publishing.abort();
        }
        went.and_then(|exit| Ok(exit.worse(ended?)))
    })
}

/// Which dead letters are meant.
struct Filter<'a> {
    arguments: &'a DeadArguments,
    lane: Option<&'a str>,
}

impl Filter<'_> {
    fn matches(&self, letter: &DeadLetter) -> bool {
        let DeadArguments { code, reason, image, .. } = self.arguments;
        let is_of_image = |image: &ImageId| image_of(letter) == Some(*image);
        let reason = reason.map(Reason::as_str);
        self.lane.is_none_or(|lane| letter.lane.as_deref() == Some(lane))
            && code.as_ref().is_none_or(|code| letter.code.as_ref() == Some(code))
            && reason.is_none_or(|reason| letter.reason.as_deref() == Some(reason))
            && image.as_ref().is_none_or(is_of_image)
    }
}

/// What was done.
#[derive(Default)]
struct Sums {
    meant: u64,
    done: u64,
    /// No queue takes them.
    unroutable: u64,
}

/// Dead letters that were sent and are not confirmed.
#[derive(Default)]
struct Sent {
    letters: VecDeque<(DeadLetter, usize, Confirmation)>,
    /// Of the bodies.
    bytes: usize,
}

impl Sent {
    /// Whether one more of this length may be sent. One alone always may.
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

/// The way through the dead letters.
struct Walk {
    url: Url,
    letters: DeadLetters,
    publisher: Publisher,
    routes: Routes,
    watch: Watch,
    terminal: Terminal,
    /// `None` if the lines are for programs.
    table: Option<Table<8>>,
    sums: Sums,
}

impl Walk {
    async fn through(&mut self, filter: &Filter<'_>, deed: Deed) -> Result<(), Problem> {
        let limit = filter.arguments.limit.unwrap_or(u64::MAX);
        let mut sent = Sent::default();
        while self.sums.meant < limit {
            let next = self.letters.next().await;
            let Some(mut letter) = self.known(next)? else { break };
            if !filter.matches(&letter) {
                continue;
            }
            self.sums.meant += 1;
            match deed {
                Deed::List => self.show(&line(&letter, "dead"))?,
                Deed::Drop => self.settle(letter, "dropped").await?,
                Deed::Replay if letter.truncated.is_some() => {
                    if self.sums.unroutable == 0 {
                        self.terminal.error("dead letter: truncated, its job is lost; it stays a dead letter");
                    }
                    self.sums.unroutable += 1;
                    self.show(&line(&letter, "dead"))?;
                }
                Deed::Replay => {
                    let len = letter.body_len();
                    while !sent.has_room(len) {
                        self.confirm(&mut sent).await?;
                    }
                    // A letter without a lane has no queue, and therefore no route.
                    let route = match letter.lane.as_deref() {
                        Some(lane) => self.routes.find(lane).await,
                        None => Route::shared(""),
                    };
                    let publish = self.publisher.publish(letter.take_message(route), MODE);
                    let confirmation = tokio::select! {
                        confirmation = publish => confirmation.or_exit(Exit::OutOfReach)?,
                        problem = self.watch.gives_up(&self.terminal) => return Err(problem),
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

    /// Waits until the first that was sent is confirmed, and only then removes it.
    async fn confirm(&mut self, sent: &mut Sent) -> Result<(), Problem> {
        let Some((letter, confirmation)) = sent.pop() else { return Ok(()) };
        let confirmed = tokio::select! {
            confirmed = confirmation => confirmed,
            problem = self.watch.gives_up(&self.terminal) => return Err(problem),
        };
        match confirmed {
            Ok(()) => self.settle(letter, "replayed").await,
            Err(lost @ Lost::Ended) => Err(lost).or_exit(Exit::OutOfReach),
            Err(lost @ (Lost::TooLong { .. } | Lost::Unroutable { .. })) => {
                if self.sums.unroutable == 0 {
                    self.terminal.error(&format!("{lost}; it stays a dead letter"));
                }
                self.sums.unroutable += 1;
                self.show(&line(&letter, "dead"))
            }
        }
    }

    async fn settle(&mut self, letter: DeadLetter, state: &'static str) -> Result<(), Problem> {
        let line = line(&letter, state);
        let settled = self.letters.settle(letter).await;
        self.known(settled)?;
        self.sums.done += 1;
        self.show(&line)
    }

    fn known<T>(&self, ended: Result<T, Error>) -> Result<T, Problem> {
        ended.map_err(|error| broker::problem(&self.url, &error))
    }

    fn show(&mut self, line: &Line) -> Result<(), Problem> {
        match &mut self.table {
            None => output::print(&output::json_line(line)),
            Some(table) => {
                if self.sums.meant <= ROWS_MAX {
                    table.row(line.cells());
                }
                Ok(())
            }
        }
    }

    /// Lets go of all that stay, and says what was done.
    async fn end(self, deed: Deed) -> Ended {
        let Self { url, letters, terminal, table, sums: Sums { meant, done, unroutable }, .. } = self;
        let closed = letters.close().await.map_err(|error| broker::problem(&url, &error));
        if let Some(table) = table {
            output::print(&table.to_text(""))?;
        }
        let words = match deed {
            Deed::List if meant > ROWS_MAX => format!("{}; a table shows the first {ROWS_MAX}", dead_letters(meant)),
            Deed::List => dead_letters(meant),
            Deed::Drop => format!("{} removed", dead_letters(done)),
            Deed::Replay => {
                format!("{} sent to their lanes, {unroutable} left since no queue takes them", dead_letters(done))
            }
        };
        terminal.note(&words);
        let exit = if unroutable > 0 { Exit::Failed } else { Exit::Done };
        Ok(exit.after(closed))
    }
}

fn dead_letters(count: u64) -> String {
    format!("{count} dead letter{}", if count == 1 { "" } else { "s" })
}

const HEAD: [&str; 8] = ["STATE", "LANE", "JOB", "IMAGE", "PERMISSION", "ACCOUNTS", "CODE", "WHY"];

impl Line {
    fn cells(&self) -> [String; 8] {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        [
            self.state.to_owned(),
            text(&self.lane),
            text(&self.job_id),
            self.image_id.map_or_else(String::new, |id| id.to_string()),
            self.permission.map_or_else(String::new, |permission| permission.to_string()),
            self.account_ids.len().to_string(),
            self.code.clone().or_else(|| self.reason.clone()).unwrap_or_default(),
            text(&self.detail),
        ]
    }
}

fn image_of(letter: &DeadLetter) -> Option<ImageId> {
    match &letter.job {
        Ok(job) => Some(job.identity.image_id),
        Err(rejection) => rejection.known.image_id,
    }
}

fn line(letter: &DeadLetter, state: &'static str) -> Line {
    let (known, account_ids) = match &letter.job {
        Ok(job) => (Known::from(&job.identity), job.account_ids.to_vec()),
        Err(rejection) => ((*rejection.known).clone(), Vec::new()),
    };
    Line {
        state,
        job_id: known.job_id,
        lane: letter.lane.clone(),
        reason: letter.reason.clone(),
        code: letter.code.clone(),
        detail: letter.detail.clone(),
        image_id: known.image_id,
        region: known.region,
        permission: known.permission,
        account_ids,
        worker: letter.worker.clone(),
    }
}
