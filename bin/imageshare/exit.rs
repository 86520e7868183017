//! How a command ends: the exit codes, and problems with the code that they lead to.

use std::{io, process::ExitCode};

use crate::terminal::labeled;

/// The exit codes of every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All is as wished.
    Done,
    /// An account failed, a job was rejected, or output could not be written.
    Failed,
    /// A wrong flag or setting, or an input that cannot be opened.
    Usage,
    /// A credential is missing or refused, or a permission or the clock closed a lane, or the broker refuses the user or lacks
    /// an exchange or queue.
    Refused,
    /// The endpoint is out of reach.
    OutOfReach,
    /// Somebody ended it.
    Interrupted,
}

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) struct Problem {
    exit: Exit,
    /// `None` where nothing is left to be said, as when nobody reads the output any more.
    error: Option<anyhow::Error>,
}

/// What every command gives back.
pub(crate) type Ended = Result<Exit, Problem>;

/// Turns an error into a problem with its exit code.
pub(crate) trait OrExit<T> {
    /// An error that ends the command with this code.
    fn or_exit(self, exit: Exit) -> Result<T, Problem>;
}

impl Exit {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::OutOfReach => 4,
            Self::Interrupted => 130,
        }
    }

    /// The one of two that weighs more.
    pub(crate) const fn worse(self, other: Self) -> Self {
        if other.weight() > self.weight() { other } else { self }
    }

    const fn weight(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::OutOfReach => 2,
            Self::Refused => 3,
            Self::Interrupted => 4,
            Self::Usage => 5,
        }
    }

    /// The code of a command that came to this end and then wrote its last output: what went wrong with that is said,
    /// and counts only if nothing else did.
    pub(crate) fn after(self, output: Result<(), Problem>) -> Self {
        output.map_or_else(|problem| self.worse(problem.show(&mut io::stderr())), |()| self)
    }
}

impl Problem {
    /// A problem that is said in these words.
    pub(crate) fn new(exit: Exit, words: impl Into<String>) -> Self {
        Self { exit, error: Some(anyhow::Error::msg(words.into())) }
    }

    /// Output that could not be written. A reader that went away, as `head` does, has seen what it wanted.
    pub(crate) fn output(error: io::Error) -> Self {
        let error = (error.kind() != io::ErrorKind::BrokenPipe)
            .then(|| anyhow::Error::new(error).context("standard output cannot be written"));
        Self { exit: Exit::Failed, error }
    }

    /// Shows the problem with all its causes and gives the exit code.
    pub(crate) fn show(self, to: &mut dyn io::Write) -> Exit {
        if let Some(error) = self.error {
            // If this cannot be written either, the exit code is all that is left.
            drop(writeln!(to, "{}", labeled(&format!("{error:#}"))));
        }
        self.exit
    }
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> Result<T, Problem> {
        self.map_err(|error| Problem { exit, error: Some(error.into()) })
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
