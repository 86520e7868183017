//! The memory of the process, in which there are keys.

use crate::exit::Problem;

/// Closes it to whoever runs as the same user: no core dump is made of it, wherever the system writes or sends those, no
/// debugger is let in, and its environment, in which a key may stand, is read by root alone.
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
