//! What differs between a worker and a one-shot command.

/// Decided once, when an engine is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What happens to unfinished jobs: at drain, at the end of the lease, or when a lane stays closed.
    pub unfinished: Unfinished,
    /// Whether another worker may have sent calls just before a lane came up.
    pub takeover_checks: TakeoverChecks,
}

/// What happens to jobs that cannot be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// All jobs of the lane are requeued; their source delivers them again.
    Requeue,
    /// Each job is settled. Accounts that were not tried fail with `Local.NotAttempted`.
    Report,
}

/// Whether outcomes are re-read after a takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeoverChecks {
    /// Early outcomes are listed again once calls of an earlier worker can no longer take effect.
    On,
    /// No other worker uses the lane.
    Off,
}

impl Policy {
    /// A worker: its queue redelivers jobs, to it or to another worker.
    pub const WORKER: Self = Self { unfinished: Unfinished::Requeue, takeover_checks: TakeoverChecks::On };
    /// A one-shot command: it has its jobs alone, and reports all of them.
    pub const COMMAND: Self = Self { unfinished: Unfinished::Report, takeover_checks: TakeoverChecks::Off };
}
