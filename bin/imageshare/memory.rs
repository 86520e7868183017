//! The memory of the process, in which there are keys.

use crate::exit::Problem;

/// Closes the memory to other processes of the same user: the system makes no core dump, no debugger can attach, and
/// only root can read the environment, which may contain a key.
///
/// The limit of core files would not do, since the system does not look at it where it hands cores to a program.
#[cfg(target_os = "linux")]
pub(crate) fn close() -> Result<(), Problem> {
    use anyhow::Context as _;
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};

    use crate::exit::{Exit, OrExit as _};

    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("the memory of the process cannot be closed to others")
        .or_exit(Exit::Failed)
}

/// Other systems have no such call, or one of their own.
#[cfg(not(target_os = "linux"))]
#[allow(clippy::unnecessary_wraps, reason = "it can fail where there is a call")]
pub(crate) const fn close() -> Result<(), Problem> {
    Ok(())
}
