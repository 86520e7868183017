//! Tests of the numbers for status and metrics.

use imageshare_core::Permission;

use super::kit::{Kit, LANE};
use crate::{
    Engine, LaneNumbers,
    io::{Action, Answer, Input, Outcome},
    job::Mode,
    limits::{LimitValues, Limits},
    policy::Policy,
    time::Millis,
};

#[track_caller]
fn numbers(kit: &Kit) -> LaneNumbers {
    kit.engine.lane_numbers(LANE).unwrap()
}

#[test]
fn accounts_are_pending_until_their_outcome() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    kit.job(Mode::Share, 0, [1, 2]);
    kit.job(Mode::Share, 0, [2, 3]);
    kit.job(Mode::Cancel, 1, [1]);
    assert_eq!(numbers(&kit).operations, 4);
    while kit.settled.len() < 3 {
        kit.pass(Millis(100));
        for call in kit.open.keys().copied().collect::<Vec<_>>() {
            let answer = match kit.open.remove(&call) {
                Some(Action::Modify { .. }) => Answer::Modified(None),
                _ => Answer::Shares(Vec::new()),
            };
            kit.input(Input::Answer { call, outcome: Outcome::Accepted(answer) });
        }
    }
    assert_eq!(numbers(&kit).operations, 0);
}

#[test]
fn lost_lane_has_no_pending_operations() {
    let mut kit = Kit::new(Policy::WORKER, LimitValues::default());
    kit.job(Mode::Share, 0, 0..50);
    assert_eq!(numbers(&kit).operations, 50);
    kit.list([]);
    assert_eq!(kit.write(Permission::Share).len(), 50);
    kit.input(Input::LaneLost(LANE));
    assert_eq!(numbers(&kit).operations, 0);
    kit.accept();
    assert_eq!(numbers(&kit).operations, 0);
}

#[test]
fn each_split_of_list_is_counted() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    kit.job(Mode::Share, 0, [1, 2]);
    kit.list([]);
    kit.refuse("InvalidAccountId.NotFound");
    assert_eq!(numbers(&kit).splits, 1);
    kit.list([]);
    assert_eq!(kit.write(Permission::Share).len(), 1);
    kit.refuse("InvalidAccountId.NotFound");
    assert_eq!(numbers(&kit).splits, 1, "who is alone is not split");
}

#[test]
fn throttle_lowers_rate_and_long_list_lowers_batch() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    assert_eq!(Engine::new(Policy::COMMAND, Limits::default(), 1).lane_numbers(LANE), None);
    kit.job(Mode::Share, 0, 0..50);
    kit.list([]);
    kit.write(Permission::Share);
    kit.refuse("RequestLimitExceeded");
    let LaneNumbers { write_rate, read_rate, image_rate, batch, .. } = numbers(&kit);
    assert!(write_rate < 9.9 && read_rate > 9.9 && image_rate > 39.9, "{write_rate} {read_rate} {image_rate}");
    assert_eq!(batch, 50);
    kit.write(Permission::Share);
    kit.refuse("InvalidParameterValue.LimitExceeded");
    assert_eq!(numbers(&kit).batch, 25);
}
