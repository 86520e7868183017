//! Protects the memory of the process, which contains keys.

use crate::exit::Problem;

/// Hides the memory from other processes of the same user: the system writes no core dump, no debugger can attach, and
/// only root can read the environment, which may contain a key.
///
/// A core size limit of 0 is not enough: Linux ignores it if `core_pattern` is a pipe to a program.
#[cfg(target_os = "linux")]
pub(crate) fn protect() -> Result<(), Problem> {
    use anyhow::Context as _;
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};

    use crate::exit::{Exit, OrExit as _};

    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("cannot protect the memory of the process")
        .or_exit(Exit::Failed)
}

/// Other systems have no equivalent call.
#[cfg(not(target_os = "linux"))]
#[allow(clippy::unnecessary_wraps, reason = "it can fail on Linux")]
pub(crate) const fn protect() -> Result<(), Problem> {
    Ok(())
}
