//! The pace of calls.

use alloc::vec::Vec;

use super::kit::Kit;
use crate::{
    io::{Action, Answer, Input, Outcome},
    job::Mode,
    limits::{LaneLimits, LimitValues, Limits},
    policy::Policy,
    time::{Instant, Millis},
};

/// Runs many images with calls that take this long, and gives when writes were sent.
fn write_times(latency: u64, images: u64) -> Vec<u64> {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    for image in 0..images {
        kit.job(Mode::Share, image, [image]);
    }
    let mut writes = Vec::new();
    let mut seen = 0;
    while kit.settled.len() < usize::try_from(images).unwrap() {
        kit.pass(Millis(1));
        for &(at, call) in &kit.sent_at[seen..] {
            if matches!(kit.open.get(&call), Some(Action::Modify { .. })) {
                writes.push(at);
            }
        }
        seen = kit.sent_at.len();
        let due: Vec<_> = kit
            .sent_at
            .iter()
            .filter(|&&(at, call)| at + latency <= kit.now && kit.open.contains_key(&call))
            .copied()
            .collect();
        for (_, call) in due {
            let answer = match kit.open.remove(&call) {
                Some(Action::Modify { .. }) => Answer::Modified(None),
                _ => Answer::Shares(Vec::new()),
            };
            kit.input(Input::Answer { call, outcome: Outcome::Accepted(answer) });
        }
    }
    writes
}

#[test]
fn calls_are_evenly_spaced_from_lane_up() {
    let writes = write_times(80, 60);
    assert!(writes[0] >= 105);
    for second in writes.windows(11) {
        assert!(second[10] - second[0] >= 1000, "{second:?}");
    }
    let rate = 59_000.0 / f64::from(u32::try_from(writes[59] - writes[0]).unwrap());
    assert!(rate >= 9.5, "{rate} a second");
}

#[test]
fn throttled_write_costs_no_try() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    for _ in 0..20 {
        kit.write(imageshare_core::Permission::Share);
        let at = kit.now;
        kit.refuse("RequestLimitExceeded");
        kit.call();
        assert!(kit.now >= at + 1000);
    }
    kit.accept();
    assert_eq!(kit.outcomes(delivery), ["changed"]);
}

#[test]
fn next_call_waits_until_one_is_written() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let mut engine = crate::Engine::new(Policy::COMMAND, Limits::default(), 1);
    engine.handle(Instant(0), Input::LaneUp(super::kit::LANE, LaneLimits::default()));
    for image in 0..3 {
        let job = super::kit::job(Mode::Share, image, [1]);
        engine.handle(Instant(0), Input::Job { delivery: crate::io::DeliveryId(image), lane: super::kit::LANE, job });
    }
    let mut calls = |engine: &mut crate::Engine, now| {
        let mut calls = Vec::new();
        while let crate::io::Command::Call { call, .. } = engine.poll(Instant(now)) {
            calls.push(call);
        }
        kit.now = now;
        calls
    };
    let first = calls(&mut engine, 200);
    assert_eq!(first.len(), 1);
    assert_eq!(calls(&mut engine, 5000), [], "no connection yet: a second call would be a burst once there is one");
    engine.handle(Instant(5000), Input::Sent(first[0]));
    assert_eq!(calls(&mut engine, 5050), []);
    assert_eq!(calls(&mut engine, 5105).len(), 1);
}
