//! What people are told while a command works: a progress bar and lines, on standard error.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
    sync::Arc,
    time::Duration,
};

use imageshare_worker::{
    driver::{Progress, Snapshot},
    http::Waits,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use tokio::{task::AbortHandle, time::interval};

/// How often the bar is drawn anew.
const BETWEEN_DRAWINGS: Duration = Duration::from_millis(100);

const TEMPLATE: &str = "{bar:32} {human_pos} of {human_len} accounts, {rate}, {eta} left{msg}";

/// Speaks to people on standard error. Where nobody can be told, nothing is lost: the reports have it all.
#[derive(Clone)]
pub(crate) struct Voice {
    bar: ProgressBar,
    is_quiet: bool,
}

/// Says what is waited for. Dropped, it says no more.
pub(crate) struct Announcing(AbortHandle);

/// Keeps a bar moving. Dropped, it stops and takes the bar away.
pub(crate) struct Moving {
    bar: ProgressBar,
    task: AbortHandle,
}

impl Voice {
    /// A voice that says nothing if it is to be quiet. `bar` is whether there may be a progress bar.
    pub(crate) fn new(is_quiet: bool, bar: bool) -> Self {
        let is_drawn = bar && !is_quiet && io::stderr().is_terminal();
        let target = if is_drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template(TEMPLATE)
            .expect("the template above is one")
            .with_key("rate", rate)
            .progress_chars("=> ");
        Self { bar: ProgressBar::with_draw_target(Some(0), target).with_style(style), is_quiet }
    }

    /// Says something that is good to know.
    pub(crate) fn say(&self, line: &str) {
        if !self.is_quiet {
            self.insist(line);
        }
    }

    /// Says something that has to be known, even by who wants quiet.
    pub(crate) fn insist(&self, text: &str) {
        self.bar.suspend(|| drop(writeln!(io::stderr(), "{text}")));
    }

    /// Says what these wait for, once that takes long, until the result is dropped. Must be called on the runtime.
    pub(crate) fn announce(&self, waits: &Waits) -> Announcing {
        let (voice, waits) = (self.clone(), waits.clone());
        Announcing(tokio::spawn(async move { waits.announce(|line| voice.say(line)).await }).abort_handle())
    }

    /// Shows how many accounts are done, of how many that are known, and more words.
    pub(crate) fn show(&self, done: u64, of: u64, words: String) {
        self.bar.set_length(of);
        self.bar.set_position(done);
        self.bar.set_message(words);
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Shows how far it has come until the result is dropped.
    pub(crate) fn follow(&self, progress: Arc<Progress>) -> Moving {
        let bar = self.bar.clone();
        let task = tokio::spawn(async move {
            let mut ticks = interval(BETWEEN_DRAWINGS);
            loop {
                ticks.tick().await;
                draw(&bar, &progress.snapshot());
            }
        });
        Moving { bar: self.bar.clone(), task: task.abort_handle() }
    }
}

impl Drop for Announcing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}

/// Whole accounts a second: more digits say nothing.
fn rate(state: &ProgressState, out: &mut dyn fmt::Write) {
    // The bar draws what was written; there is nobody to be told that it could not be.
    write!(out, "{:.0}/s", state.per_sec()).ok();
}

fn draw(bar: &ProgressBar, now: &Snapshot) {
    bar.set_length(now.accounts_received);
    bar.set_position(now.accounts_settled);
    let mut words = format!(", {} requests", now.calls_sent);
    if now.calls_throttled > 0 {
        words.push_str(&format!(", {} throttled", now.calls_throttled));
    }
    for (_, reason) in &now.closed {
        words.push_str(&format!(", waiting: {}", reason.as_str()));
    }
    bar.set_message(words);
}
