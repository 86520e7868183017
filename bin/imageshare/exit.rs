//! Exit codes, and problems with their exit code.

use std::{io, process::ExitCode};

use crate::terminal;

/// The exit codes of every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Every account is in the requested state.
    Done,
    /// An account failed, a job was rejected, or output could not be written.
    Failed,
    /// An invalid flag or setting, or an input that cannot be opened.
    Usage,
    /// A credential is missing or refused, a permission is missing, this machine's clock is wrong, or the broker refuses the
    /// user or lacks an exchange or queue.
    Refused,
    /// The endpoint or the broker is unreachable.
    Unreachable,
    /// With `sync --exit-code`: the shares differ from the list.
    Differs,
    /// A signal ended the command.
    Interrupted,
}

/// The meanings of all exit codes.
pub(crate) const MEANINGS: [(Exit, &str); 7] = [
    (Exit::Done, "success: every account is in the requested state"),
    (Exit::Failed, "an account failed, a job was rejected, or output could not be written"),
    (Exit::Usage, "invalid flags or settings, or an input that cannot be opened"),
    (Exit::Refused, "a credential is missing or refused, or the broker refuses the user or lacks an exchange or queue"),
    (Exit::Unreachable, "the endpoint or the broker is unreachable"),
    (Exit::Differs, "with sync --exit-code, the shares differ"),
    (Exit::Interrupted, "interrupted"),
];

/// The error if the reader of standard output, such as `head`, ends first.
pub(crate) const CLOSED: &str = "standard output: closed by its reader; the rest of the output is lost";

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) struct Problem {
    exit: Exit,
    error: anyhow::Error,
}

/// The result of a command.
pub(crate) type CommandResult = Result<Exit, Problem>;

/// Turns an error into a problem with its exit code.
pub(crate) trait OrExit<T> {
    /// Returns the error as a problem with this exit code.
    fn or_exit(self, exit: Exit) -> Result<T, Problem>;
}

impl Exit {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Unreachable => 4,
            Self::Differs => 5,
            Self::Interrupted => 130,
        }
    }

    /// Returns the more severe of two.
    pub(crate) const fn worse(self, other: Self) -> Self {
        if other.weight() > self.weight() { other } else { self }
    }

    const fn weight(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Differs => 1,
            Self::Failed => 2,
            Self::Unreachable => 3,
            Self::Refused => 4,
            Self::Interrupted => 5,
            Self::Usage => 6,
        }
    }

    /// Returns the exit code after the last output was written. A failure to write it is printed, and changes the code only
    /// if nothing else failed.
    pub(crate) fn after(self, output: Result<(), Problem>) -> Self {
        output.map_or_else(|problem| self.worse(problem.show()), |()| self)
    }
}

impl Problem {
    /// Returns a problem with this message.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, error: anyhow::Error::msg(message.into()) }
    }

    /// Returns a failure to write output.
    pub(crate) fn output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Failed, CLOSED);
        }
        Self { exit: Exit::Failed, error: anyhow::Error::new(error).context("standard output: cannot write") }
    }

    /// Shows the problem with all its causes and returns the exit code.
    pub(crate) fn show(self) -> Exit {
        terminal::error(&format!("{:#}", self.error));
        self.exit
    }
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> Result<T, Problem> {
        self.map_err(|error| Problem { exit, error: error.into() })
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
