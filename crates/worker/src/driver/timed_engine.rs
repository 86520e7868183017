//! The engine with a clock: it passes the time to each input, and records when the engine must be polled again.

use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, SystemTime},
};

use imageshare_engine::{
    Engine,
    io::{Command, Input},
    limits::Limits,
    policy::Policy,
    time::{Instant, Millis},
};
use tokio::time::Instant as TokioInstant;

/// The longest sleep. Waking early does no harm, and no timer can be set to the end of time.
const SLEEP_MAX: Duration = Duration::from_secs(60 * 60);

/// The engine, and the clock that it lacks.
#[derive(Debug)]
pub(super) struct TimedEngine {
    engine: Engine,
    /// The engine counts milliseconds from here.
    started: TokioInstant,
    /// When the engine has something to do; `None` until something happens.
    poll_at: Option<Instant>,
}

impl TimedEngine {
    pub(super) fn new(policy: Policy, limits: Limits) -> Self {
        Self { engine: Engine::new(policy, limits, seed()), started: TokioInstant::now(), poll_at: None }
    }

    /// Returns the engine, to read its state.
    pub(super) const fn state(&self) -> &Engine {
        &self.engine
    }

    /// Passes an input on, with the time.
    pub(super) fn handle(&mut self, input: Input) {
        let now = self.now();
        self.engine.handle(now, input);
        self.poll_at = Some(now);
    }

    /// Returns the next command; `None` if there is nothing to do until the [alarm](Self::alarm).
    pub(super) fn poll(&mut self) -> Option<Command> {
        match self.engine.poll(self.now()) {
            Command::WaitUntil(at) => self.poll_at = Some(at),
            Command::Idle => self.poll_at = None,
            command => return Some(command),
        }
        None
    }

    /// Returns when to poll, whatever happens until then.
    pub(super) fn alarm(&self) -> TokioInstant {
        let latest = TokioInstant::now() + SLEEP_MAX;
        let at = self.poll_at.and_then(|at| self.started.checked_add(Duration::from_millis(at.0)));
        at.map_or(latest, |at| at.min(latest))
    }

    /// Returns whether the engine has something to do at this moment.
    pub(super) fn is_due(&self) -> bool {
        self.poll_at.is_some_and(|at| at <= self.now())
    }

    /// Returns the moment after this time.
    pub(super) fn after(&self, time: Duration) -> Instant {
        self.now() + Millis(crate::millis(time))
    }

    /// Returns the time at the engine's moment 0, given the present time.
    pub(super) fn epoch(&self, now: SystemTime) -> SystemTime {
        now.checked_sub(self.started.elapsed()).unwrap_or(now)
    }

    fn now(&self) -> Instant {
        Instant(crate::millis(self.started.elapsed()))
    }
}

/// Returns the seed of the engine's random choices. It is different in every process: it comes from the system's random
/// source by way of the keys of the standard library's hasher.
fn seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
