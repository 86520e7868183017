//! Progress bar, notes, warnings and errors on standard error while a command runs.

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

/// Standard error as the user sees it. What cannot be written there is dropped: the reports have all results.
#[derive(Clone)]
pub(crate) struct Terminal {
    bar: ProgressBar,
    is_quiet: bool,
}

/// Notes which hosts the command waits for, until it is dropped.
pub(crate) struct Announcing(AbortHandle);

/// Updates the progress bar until it is dropped, and removes the bar then.
pub(crate) struct Moving {
    bar: ProgressBar,
    task: AbortHandle,
}

impl Terminal {
    /// Returns standard error without notes if it is quiet. `bar` is whether there may be a progress bar.
    pub(crate) fn new(is_quiet: bool, bar: bool) -> Self {
        let is_drawn = bar && !is_quiet && io::stderr().is_terminal();
        let target = if is_drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template(TEMPLATE)
            .expect("the template above is one")
            .with_key("rate", rate)
            .progress_chars("=> ");
        Self { bar: ProgressBar::with_draw_target(Some(0), target).with_style(style), is_quiet }
    }

    /// Writes a line, unless the user wants quiet.
    pub(crate) fn note(&self, line: &str) {
        if !self.is_quiet {
            self.write(line);
        }
    }

    /// Writes a warning.
    pub(crate) fn warn(&self, problem: &str) {
        self.write(&format!("warning: {problem}"));
    }

    /// Writes an error.
    pub(crate) fn error(&self, problem: &str) {
        self.write(&labeled(problem));
    }

    fn write(&self, text: &str) {
        self.bar.suspend(|| drop(writeln!(io::stderr(), "{text}")));
    }

    /// Notes which hosts these wait for, once that takes long, until the result is dropped. Must be called on the runtime.
    pub(crate) fn announce(&self, waits: &Waits) -> Announcing {
        let (terminal, waits) = (self.clone(), waits.clone());
        Announcing(tokio::spawn(async move { waits.announce(|line| terminal.note(line)).await }).abort_handle())
    }

    /// Draws the bar: accounts that are done, of those known, and more words.
    pub(crate) fn show(&self, done: u64, of: u64, words: String) {
        self.bar.set_length(of);
        self.bar.set_position(done);
        self.bar.set_message(words);
    }

    /// Removes the bar.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Draws the progress of a run until the result is dropped.
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

/// Returns problems as they are shown, one a line: `error: SUBJECT: PROBLEM (expected WHAT)`, with lines `hint: WHAT` between
/// them.
pub(crate) fn labeled(problems: &str) -> String {
    let label = |line: &str| if line.starts_with("hint: ") { line.to_owned() } else { format!("error: {line}") };
    problems.lines().map(label).collect::<Vec<_>>().join("\n")
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

/// Accounts per second.
fn rate(state: &ProgressState, out: &mut dyn fmt::Write) {
    // The bar draws what was written.
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
