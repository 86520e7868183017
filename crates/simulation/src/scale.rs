//! One engine under load: how many operations a second of processor time, and how far from the least time.

use std::collections::{BTreeMap, BinaryHeap};

use imageshare_engine::{
    Engine,
    io::{Action, Answer, CallId, Command, Input, LaneId, Outcome, TicketId},
    job::{Job, Mode},
    limits::{LaneLimits, Limits},
    time::Instant,
};

use crate::world;

/// A load: one-account SHARE jobs, all there at the beginning.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Jobs, and so operations.
    pub operations: u64,
    /// Images they are spread over.
    pub images: u64,
    /// Lanes the images are spread over.
    pub lanes: u32,
    /// How long each call takes, in milliseconds.
    pub latency: u64,
}

/// What became of it.
#[derive(Clone, Copy, Debug)]
pub struct Carried {
    /// Write requests.
    pub writes: u64,
    /// When the last job was settled, in milliseconds of virtual time.
    pub settled_at: u64,
    /// The least time that the limit allows for so many full requests, in milliseconds.
    pub least: u64,
}

/// Carries a load out in virtual time. `held` is called when everything is delivered and nothing is sent.
///
/// # Panics
/// If a job is not settled: that is a bug of the engine.
#[must_use]
pub fn carry(load: Load, held: impl FnOnce()) -> Carried {
    let lane_limits = LaneLimits::default();
    // A cap that is never reached: what is measured is the pace.
    let cap = u32::try_from(load.operations).unwrap_or(u32::MAX);
    let mut engine = Engine::new(Limits { guard: false, cap, ..Limits::default() }, 1);
    for lane in 0..load.lanes {
        engine.handle(Instant(0), Input::LaneUp(LaneId(lane), lane_limits));
    }
    for operation in 0..load.operations {
        engine.handle(Instant(0), deliver(&load, operation));
    }
    held();
    let (mut now, mut settled, mut writes, mut settled_at) = (0, 0, 0, 0);
    let mut answers: BinaryHeap<(std::cmp::Reverse<u64>, CallId)> = BinaryHeap::new();
    let mut kinds: BTreeMap<CallId, Answer> = BTreeMap::new();
    while settled < load.operations {
        let wakes = loop {
            match engine.poll(Instant(now)) {
                Command::Call { call, action, .. } => {
                    let is_write = matches!(action, Action::Modify { .. });
                    writes += u64::from(is_write);
                    kinds.insert(call, if is_write { Answer::Modified } else { Answer::Shares(Vec::new()) });
                    answers.push((std::cmp::Reverse(now + load.latency), call));
                    engine.handle(Instant(now), Input::Sent(call));
                }
                Command::Settle { .. } => {
                    settled += 1;
                    settled_at = now;
                }
                Command::WaitUntil(at) => break Some(at.0),
                Command::Idle => break None,
                _ => {}
            }
        };
        let answered = answers.peek().map(|(at, _)| at.0);
        now = [wakes, answered].into_iter().flatten().min().unwrap_or_else(|| {
            assert_eq!(settled, load.operations, "nothing is left to happen");
            now
        });
        while let Some((_, call)) = answers.peek().filter(|(at, _)| at.0 <= now).copied() {
            answers.pop();
            let outcome = Outcome::Accepted(kinds.remove(&call).unwrap_or(Answer::Modified));
            engine.handle(Instant(now), Input::Answer { call, outcome });
        }
    }
    let requests = load.operations.div_ceil(u64::from(lane_limits.batch)).div_ceil(u64::from(load.lanes));
    Carried { writes, settled_at, least: requests * 100 }
}

fn deliver(load: &Load, operation: u64) -> Input {
    let image = operation % load.images;
    let lane = LaneId(u32::try_from(image % u64::from(load.lanes)).unwrap_or_default());
    let job = Job {
        region: world::region(),
        image_id: world::image(image),
        mode: Mode::Share,
        account_ids: [world::account(operation / load.images)].into(),
        deadline: None,
        force: false,
        redelivered: false,
    };
    Input::Job { ticket: TicketId(operation), lane, job }
}
