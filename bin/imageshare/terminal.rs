//! Standard error: notices, warnings, errors and progress, wrapped to the terminal and colored.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use anstream::{AutoStream, ColorChoice, adapter::strip_str};
use anstyle::{AnsiColor, Style};
use imageshare_worker::{
    driver::{Progress, Snapshot},
    http::Waits,
};
use indicatif::{HumanCount, HumanDuration, MultiProgress, ProgressBar, ProgressStyle};
use terminal_size::{Width, terminal_size_of};
use textwrap::{Options, WordSplitter};
use tokio::{task::AbortHandle, time::interval};

/// The width of a terminal that does not report its own, and of lists that do not go to a terminal.
pub(crate) const WIDTH: usize = 80;

/// How often the progress is drawn on a terminal.
const BETWEEN_DRAWINGS: Duration = Duration::from_millis(100);

/// How often a run without a terminal prints its progress.
const BETWEEN_LINES: Duration = Duration::from_secs(30);

/// How long a run must take before its rate permits an estimate.
const ESTIMATE_AFTER: Duration = Duration::from_secs(2);

/// The width of the bar, and of the narrowest terminal that has one.
const BAR: usize = 24;
const BAR_WIDTH_MIN: usize = 60;

/// The style of a failure.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// The style of an account that would be added.
pub(crate) const ADDED: Style = AnsiColor::Green.on_default();
/// The style of an account that would be removed.
pub(crate) const REMOVED: Style = AnsiColor::Red.on_default();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// The progress bars of the process. Lines are written above them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Writes notices and progress for the user. Write errors are ignored, since the reports have all results.
#[derive(Clone, Copy)]
pub(crate) struct Terminal {
    is_quiet: bool,
}

/// Whether a progress bar may be drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bar {
    Drawn,
    Hidden,
}

/// Prints which hosts the command waits for, until it is dropped.
pub(crate) struct WaitAnnouncer(AbortHandle);

/// Shows progress until it is dropped, and then removes the bar.
pub(crate) struct ProgressDisplay {
    bar: ProgressBar,
    task: Option<AbortHandle>,
}

/// Returns the number of columns of standard output; `None` if it is not a terminal.
pub(crate) fn stdout_width() -> Option<usize> {
    io::stdout().is_terminal().then(|| columns(terminal_size_of(io::stdout())))
}

/// Returns the number of columns of standard error; `None` if it is not a terminal.
pub(crate) fn stderr_width() -> Option<usize> {
    io::stderr().is_terminal().then(|| columns(terminal_size_of(io::stderr())))
}

fn columns(size: Option<(Width, terminal_size::Height)>) -> usize {
    size.map(|(Width(columns), _)| usize::from(columns)).filter(|columns| *columns > 0).unwrap_or(WIDTH)
}

/// Breaks each line at spaces to fit the width. Continuation lines are indented by two more spaces. A longer word stays
/// whole, so that it can be copied.
pub(crate) fn wrap(text: &str, width: Option<usize>) -> String {
    let Some(width) = width else { return text.to_owned() };
    let mut wrapped = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        let margin = line.len() - line.trim_start_matches(' ').len();
        let hanging = " ".repeat(margin + 2);
        let options = Options::new(width)
            .subsequent_indent(&hanging)
            .break_words(false)
            .word_splitter(WordSplitter::NoHyphenation);
        wrapped.push_str(&textwrap::fill(line, options));
        wrapped.push_str(end);
    }
    wrapped
}

/// Removes colors if the stream must not have any. The choice follows `NO_COLOR`, `CLICOLOR_FORCE` and `TERM`.
pub(crate) fn colored(text: String, choice: ColorChoice) -> String {
    if choice == ColorChoice::Never { strip_str(&text).to_string() } else { text }
}

/// Writes a text and a line end to standard error, above the progress bar.
pub(crate) fn write_error_stream(text: &str) {
    let text = colored(wrap(text, stderr_width()), AutoStream::choice(&io::stderr()));
    BARS.suspend(|| drop(writeln!(io::stderr(), "{text}")));
}

/// Writes a warning to standard error.
pub(crate) fn warn(problem: &str) {
    write_error_stream(&format!("{WARNING}warning:{WARNING:#} {problem}"));
}

/// Writes problems to standard error, one per line: `error: SUBJECT: PROBLEM (expected WHAT)`. A line that begins with
/// `hint: ` stays a hint.
pub(crate) fn error(problems: &str) {
    let label = |line: &str| match line.strip_prefix("hint: ") {
        Some(hint) => format!("{HINT}hint:{HINT:#} {hint}"),
        None => format!("{BAD}error:{BAD:#} {line}"),
    };
    write_error_stream(&problems.lines().map(label).collect::<Vec<_>>().join("\n"));
}

impl Bar {
    /// Hides the bar if JSON lines go to the same terminal.
    pub(crate) fn beside_stdout(for_people: bool) -> Self {
        if for_people || !io::stdout().is_terminal() { Self::Drawn } else { Self::Hidden }
    }
}

impl Terminal {
    /// Returns standard error; a quiet one omits notices.
    pub(crate) const fn new(is_quiet: bool) -> Self {
        Self { is_quiet }
    }

    /// Writes a notice, unless it is quiet.
    pub(crate) fn note(self, line: &str) {
        if !self.is_quiet {
            write_error_stream(line);
        }
    }

    /// Writes a hint for the notice before it, unless it is quiet.
    pub(crate) fn hint(self, hint: &str) {
        self.note(&format!("{HINT}hint:{HINT:#} {hint}"));
    }

    /// Writes a warning.
    pub(crate) fn warn(self, problem: &str) {
        warn(problem);
    }

    /// Writes problems, as [`error`].
    pub(crate) fn error(self, problems: &str) {
        error(problems);
    }

    /// Prints each host that the command has waited for longer than 2 s, until the result is dropped. Must be called on
    /// the runtime.
    pub(crate) fn announce(self, waits: &Waits) -> WaitAnnouncer {
        let waits = waits.clone();
        WaitAnnouncer(tokio::spawn(async move { waits.announce(|line| self.note(line)).await }).abort_handle())
    }

    /// Returns a progress display that the caller updates. The bar is drawn only on a terminal.
    pub(crate) fn progress(self, bar: Bar) -> ProgressDisplay {
        let is_drawn = bar == Bar::Drawn && !self.is_quiet && stderr_width().is_some();
        let bar = if is_drawn { BARS.add(ProgressBar::new(0)) } else { ProgressBar::hidden() };
        ProgressDisplay { bar, task: None }
    }

    /// Shows the progress of a run until the result is dropped: a bar on a terminal, else a line every 30 s.
    pub(crate) fn follow(self, progress: Arc<Progress>, bar: Bar) -> ProgressDisplay {
        let mut display = self.progress(bar);
        let bar = display.bar.clone();
        let is_drawn = !bar.is_hidden();
        let begun = Instant::now();
        let task = tokio::spawn(async move {
            let mut ticks = interval(if is_drawn { BETWEEN_DRAWINGS } else { BETWEEN_LINES });
            // The first tick completes immediately.
            ticks.tick().await;
            loop {
                ticks.tick().await;
                let parts = parts(&progress.snapshot(), begun.elapsed());
                if is_drawn {
                    draw(&bar, &parts);
                } else {
                    self.note(&parts.texts.join(", "));
                }
            }
        });
        display.task = Some(task.abort_handle());
        display
    }
}

impl ProgressDisplay {
    /// Draws the bar for `done` of `total`, followed by the texts that fit.
    pub(crate) fn show(&self, done: u64, total: u64, texts: Vec<String>) {
        draw(&self.bar, &Parts { done, total, texts });
    }
}

impl Drop for WaitAnnouncer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for ProgressDisplay {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        self.bar.finish_and_clear();
    }
}

/// The progress, with the most important text first.
struct Parts {
    done: u64,
    total: u64,
    texts: Vec<String>,
}

fn parts(now: &Snapshot, took: Duration) -> Parts {
    let Snapshot { accounts_settled: done, accounts_received: total, .. } = *now;
    let mut texts = vec![format!("{} of {} accounts", HumanCount(done), HumanCount(total))];
    texts.extend(now.closed.iter().map(|(_, reason)| format!("waiting: {}", reason.as_str())));
    if done > 0 && took >= ESTIMATE_AFTER {
        let seconds_each = took.as_secs_f64() / done as f64;
        let left = Duration::from_secs_f64(seconds_each * total.saturating_sub(done) as f64);
        texts.push(format!("{} left", HumanDuration(left)));
        texts.push(format!("{:.0}/s", 1.0 / seconds_each));
    }
    texts.push(format!("{} {}", HumanCount(now.calls_sent), if now.calls_sent == 1 { "request" } else { "requests" }));
    if now.calls_throttled > 0 {
        texts.push(format!("{} throttled", HumanCount(now.calls_throttled)));
    }
    Parts { done, total, texts }
}

/// Joins the first texts that fit the width.
fn fitting(texts: &[String], width: usize) -> String {
    let mut line = String::new();
    for text in texts {
        let separator = if line.is_empty() { "" } else { ", " };
        if line.len() + separator.len() + text.len() > width {
            break;
        }
        write!(line, "{separator}{text}").expect("writing to a String never fails");
    }
    line
}

fn draw(bar: &ProgressBar, parts: &Parts) {
    // The last column stays free: some terminals wrap when it is written.
    let width = stderr_width().unwrap_or(WIDTH) - 1;
    let (template, room) = if width >= BAR_WIDTH_MIN { ("{bar:24} {msg}", width - BAR - 1) } else { ("{msg}", width) };
    let style = ProgressStyle::with_template(template).expect("the templates above are valid").progress_chars("=> ");
    bar.set_style(style);
    // A bar of length 0 would be full.
    bar.set_length(parts.total.max(1));
    bar.set_position(parts.done);
    bar.set_message(fitting(&parts.texts, room));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(accounts_settled: u64) -> Snapshot {
        Snapshot {
            accounts_received: 60_000,
            accounts_settled,
            calls_sent: 243,
            calls_throttled: 3,
            ..Snapshot::default()
        }
    }

    #[track_caller]
    fn check(now: &Snapshot, seconds: u64, width: usize, expected: &str) {
        assert_eq!(fitting(&parts(now, Duration::from_secs(seconds)).texts, width), expected);
    }

    #[test]
    fn progress_shortens_to_the_width() {
        let now = snapshot(12_345);
        let all = "12,345 of 60,000 accounts, 39 seconds left, 1234/s, 243 requests, 3 throttled";
        check(&now, 10, 80, all);
        check(&now, 10, 50, "12,345 of 60,000 accounts, 39 seconds left, 1234/s");
        check(&now, 10, 30, "12,345 of 60,000 accounts");
        check(&now, 10, 10, "");
    }

    #[test]
    fn nothing_done_gives_no_estimate() {
        check(&snapshot(0), 10, 80, "0 of 60,000 accounts, 243 requests, 3 throttled");
        check(&Snapshot { calls_sent: 1, ..Snapshot::default() }, 1, 80, "0 of 0 accounts, 1 request");
        check(&snapshot(12_345), 1, 80, "12,345 of 60,000 accounts, 243 requests, 3 throttled");
    }

    #[test]
    fn bar_is_empty_before_the_first_account() {
        let bar = ProgressBar::hidden();
        draw(&bar, &parts(&Snapshot::default(), Duration::ZERO));
        assert_eq!((bar.position(), bar.length()), (0, Some(1)), "a bar of length 0 is full");
    }

    #[test]
    fn long_lines_break_at_spaces_only() {
        let text = "error: img-6pb6lrmy: cannot list its shares\n    100000000001 100000000002 100000000003\n";
        let wrapped = "error: img-6pb6lrmy:\n  cannot list its\n  shares\n    100000000001\n      100000000002\n      100000000003\n";
        assert_eq!(wrap(text, Some(22)), wrapped);
        assert_eq!(wrap("100000000001", Some(5)), "100000000001");
        assert_eq!(wrap(text, None), text);
    }

    #[test]
    fn colors_have_no_width_and_are_removable() {
        let text = format!("{BAD}error:{BAD:#} a b");
        assert_eq!(colored(wrap(&text, Some(10)), ColorChoice::Never), "error: a b");
        assert!(colored(text, ColorChoice::Always).contains('\u{1b}'));
    }
}
