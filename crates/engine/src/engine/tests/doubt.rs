//! Writes whose effect is not known.

use alloc::vec;

use imageshare_core::{Permission, ids::RequestId};

use super::kit::{Kit, LANE, account_id, job, refused};
use crate::{
    io::{Answer, CallId, Input, Outcome},
    job::{AccountOutcome, Job, Mode},
    limits::{LaneLimits, LimitValues},
    policy::Policy,
    time::Millis,
};

#[test]
fn opposite_waits_while_write_is_in_doubt() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let share = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    let sent = kit.now;
    kit.lose();
    assert_eq!(kit.write(Permission::Share), [1], "the same may be sent again");
    kit.accept();
    assert_eq!(kit.outcomes(share), ["changed"]);
    let cancel = kit.job(Mode::Cancel, 0, [1]);
    assert_eq!(kit.write(Permission::Cancel), [1]);
    assert!(kit.now >= sent + 30_000, "the doubt outlives the delivery: {} after {sent}", kit.now);
    kit.accept();
    assert_eq!(kit.outcomes(cancel), ["changed"]);
}

#[test]
fn no_reading_settles_account_in_doubt() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.lose();
    kit.pass(Millis(10));
    kit.job(Mode::Share, 0, [2]);
    assert!(!kit.is_settled(delivery));
    while !kit.is_settled(delivery) {
        kit.write(Permission::Share);
        kit.accept();
    }
    assert_eq!(kit.outcomes(delivery), ["changed"]);
}

#[test]
fn changed_account_names_its_accepted_write() {
    let writes = |kit: &Kit, delivery| {
        let written = |(_, outcome): &(_, AccountOutcome)| match outcome {
            AccountOutcome::Changed(write) => write.as_ref().map(|write| (write.request_id, write.at.0)),
            other => panic!("{other:?}"),
        };
        kit.report(delivery).outcomes.iter().map(written).collect::<Vec<_>>()
    };
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let first = kit.job(Mode::Share, 0, [1, 2]);
    kit.list([2]);
    kit.write(Permission::Share);
    let in_flight = kit.job(Mode::Share, 0, [1]);
    let request_id = RequestId::new("71e69b56");
    kit.answer(Outcome::Accepted(Answer::Modified(request_id)));
    let write = Some((request_id, kit.now));
    assert_eq!(kit.outcomes(first), ["changed", "unchanged"]);
    assert_eq!(writes(&kit, in_flight), [write]);
}

#[test]
fn last_listing_decides_after_all_tries() {
    for (listed, outcome) in [(true, "changed"), (false, "Local.NoAnswer")] {
        let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
        let delivery = kit.job(Mode::Share, 0, [1]);
        kit.list([]);
        let mut sent = 0;
        for _ in 0..5 {
            kit.write(Permission::Share);
            sent = kit.now;
            kit.lose();
            if kit.call_is_question() {
                kit.state(crate::io::ImageReadiness::Normal);
            }
        }
        kit.list(listed.then_some(1));
        assert!(kit.now >= sent + 35_000, "write lag and read lag");
        assert_eq!(kit.outcomes(delivery), [outcome]);
        let is_named = |(_, outcome): &(_, _)| matches!(outcome, AccountOutcome::Changed(Some(_)));
        assert!(!kit.report(delivery).outcomes.iter().any(is_named), "no response names the write");
    }
}

#[test]
fn one_write_per_image_is_in_flight() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    for account in 0..200 {
        kit.job(Mode::Share, 0, [account]);
    }
    kit.list([]);
    kit.write(Permission::Share);
    kit.pass(Millis(5000));
    assert_eq!(kit.open.len(), 1);
}

#[test]
fn takeover_rereads_redelivered_jobs() {
    let mut kit = Kit::new(Policy::WORKER, LimitValues::default());
    let mut again = job(Mode::Share, 0, [1, 2]);
    again.redelivered = true;
    let delivery = kit.deliver(again);
    kit.list([2]);
    assert_eq!(kit.write(Permission::Share), [1], "writes begin at once");
    kit.accept();
    assert!(!kit.is_settled(delivery));
    // A CANCEL of the worker before landed on account 2.
    kit.list([1]);
    assert!(kit.now >= 35_000);
    assert_eq!(kit.write(Permission::Share), [2], "what does not agree is sent again");
    kit.accept();
    assert_eq!(kit.outcomes(delivery), ["changed", "changed"]);
}

#[test]
fn new_jobs_after_takeover_need_our_own_response() {
    let mut kit = Kit::new(Policy::WORKER, LimitValues::default());
    let changed = kit.job(Mode::Share, 0, [1]);
    let unchanged = kit.job(Mode::Share, 0, [2]);
    kit.list([2]);
    kit.accept();
    assert!(kit.is_settled(changed));
    assert!(!kit.is_settled(unchanged));
    kit.list([1, 2]);
    assert_eq!(kit.outcomes(unchanged), ["unchanged"]);
}

#[test]
fn commands_do_not_wait_for_earlier_worker() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let mut again = job(Mode::Share, 0, [1]);
    again.redelivered = true;
    let delivery = kit.deliver(again);
    kit.list([1]);
    assert!(kit.is_settled(delivery));
}

#[test]
fn request_that_never_left_is_not_counted() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues { attempts: 2, ..LimitValues::default() });
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    for _ in 0..2 {
        assert_eq!(kit.write(Permission::Share), [1]);
        kit.answer(Outcome::Unanswered { sent: false, reason: "connection refused".into() });
    }
    // Another program made the change.
    kit.list([1]);
    assert_eq!(kit.outcomes(delivery), ["unchanged"]);
    assert_eq!(kit.report(delivery).requests, 0);
}

#[test]
fn refuted_write_still_counts_as_sent() {
    let mut kit = Kit::new(Policy::WORKER, LimitValues::default());
    let delivery = kit.deliver(Job { redelivered: true, ..job(Mode::Share, 0, [1]) });
    kit.refuse("UnauthorizedOperation");
    assert_eq!(kit.write(Permission::Share), [1]);
    kit.accept();
    // Nothing can be read, so it is sent again when calls of a worker before can no longer land.
    assert_eq!(kit.write(Permission::Share), [1]);
    kit.refuse("FailedOperation.AccountAlreadyExists");
    assert_eq!(kit.outcomes(delivery), ["changed"]);
}

#[test]
fn early_write_after_takeover_is_listed_again() {
    let mut kit = Kit::new(Policy::WORKER, LimitValues::default());
    let delivery = kit.deliver(Job { redelivered: true, ..job(Mode::Share, 0, [1]) });
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [1]);
    // Its answer comes when they have landed. One of them may have come between its effect and its answer.
    kit.pass(Millis(32_000));
    kit.accept();
    assert!(!kit.is_settled(delivery));
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [1]);
    kit.accept();
    assert_eq!(kit.outcomes(delivery), ["changed"]);
}

#[test]
fn listing_beside_early_write_does_not_refute_it() {
    let mut kit = Kit::new(Policy::WORKER, LimitValues::default());
    let delivery = kit.deliver(Job { redelivered: true, ..job(Mode::Share, 0, [1, 2]) });
    kit.list([2]);
    assert_eq!(kit.write(Permission::Share), [1]);
    let (write, _) = kit.call();
    kit.open.remove(&write);
    // The check of account 2 overtakes the write on the way to the API.
    let (listing, _) = kit.call();
    kit.open.remove(&listing);
    kit.input(Input::Answer { call: write, outcome: Outcome::Accepted(Answer::Modified(None)) });
    kit.input(Input::Answer { call: listing, outcome: Outcome::Accepted(Answer::Shares(vec![account_id(2)])) });
    kit.list([1, 2]);
    assert_eq!(kit.outcomes(delivery), ["changed", "unchanged"]);
}

#[test]
fn earlier_operation_counts_if_later_fails() {
    let mut kit = Kit::new(Policy::WORKER, LimitValues::default());
    let first = kit.deliver(Job { redelivered: true, ..job(Mode::Share, 0, [1]) });
    kit.list([]);
    kit.accept();
    kit.pass(Millis(34_000));
    let second = kit.job(Mode::Share, 0, [1]);
    // A call of the worker before has undone it.
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [1]);
    let (write, _) = kit.call();
    kit.open.remove(&write);
    kit.pass(Millis(1500));
    kit.list([]);
    assert!(!kit.is_settled(first), "the second may still fail");
    kit.input(Input::Answer { call: write, outcome: refused("InvalidAccountId.NotFound") });
    assert_eq!(kit.outcomes(first), ["InvalidAccountId.NotFound"]);
    assert_eq!(kit.outcomes(second), ["InvalidAccountId.NotFound"]);
}

/// Another worker has the lane for a second.
fn take_over(kit: &mut Kit) {
    kit.input(Input::LaneLost(LANE));
    kit.pass(Millis(1000));
    kit.input(Input::LaneUp(LANE, LaneLimits::default()));
}

/// An operation and its opposite behind it, which arrives before or after the first listing of the lane.
fn opposite_behind(at_once: bool) -> (Kit, u64, u64) {
    let mut kit = Kit::new(Policy::WORKER, LimitValues::default());
    let share = kit.job(Mode::Share, 0, [1]);
    let before = at_once.then(|| kit.job(Mode::Cancel, 0, [1]));
    kit.list([1]);
    kit.pass(Millis(100));
    let cancel = before.unwrap_or_else(|| kit.job(Mode::Cancel, 0, [1]));
    (kit, share, cancel)
}

#[test]
fn takeover_rereads_before_the_opposite_operation() {
    for at_once in [false, true] {
        let (mut kit, share, cancel) = opposite_behind(at_once);
        // The worker before had just cancelled it.
        kit.list([]);
        assert!(kit.now >= 5000, "no listing from before the lane came up decides: {}", kit.now);
        assert_eq!(kit.write(Permission::Share), [1]);
        kit.accept();
        assert_eq!(kit.write(Permission::Cancel), [1]);
        kit.accept();
        assert_eq!((kit.outcomes(share), kit.outcomes(cancel)), (vec!["changed"], vec!["changed"]));
    }
}

#[test]
fn takeover_sends_opposite_after_later_listing() {
    for at_once in [false, true] {
        let (mut kit, share, cancel) = opposite_behind(at_once);
        kit.list([1]);
        assert_eq!(kit.write(Permission::Cancel), [1]);
        kit.accept();
        kit.pass(Millis(40_000));
        while !kit.is_settled(share) || !kit.is_settled(cancel) {
            kit.list([]);
        }
        assert_eq!((kit.outcomes(share), kit.outcomes(cancel)), (vec!["unchanged"], vec!["changed"]));
    }
}

#[test]
fn takeover_drops_the_listing_from_before() {
    let mut kit = Kit::new(Policy::WORKER, LimitValues::default());
    kit.job(Mode::Share, 0, [1]);
    kit.list([1]);
    take_over(&mut kit);
    let share = kit.job(Mode::Share, 0, [1]);
    let cancel = kit.job(Mode::Cancel, 0, [1]);
    // The worker in between has cancelled it. The second job leaves no time to look at the first one's outcome again.
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [1]);
    kit.accept();
    assert_eq!(kit.write(Permission::Cancel), [1]);
    kit.accept();
    assert_eq!((kit.outcomes(share), kit.outcomes(cancel)), (vec!["changed"], vec!["changed"]));
}

#[test]
fn takeover_drops_what_our_own_write_showed() {
    let mut kit = Kit::new(Policy::WORKER, LimitValues::default());
    kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.accept();
    take_over(&mut kit);
    let share = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [1], "a listing may not show it, so it is sent");
    kit.accept();
    assert_eq!(kit.outcomes(share), ["changed"]);
}

/// A lane with one call in flight that began before another worker had it for a second.
fn in_flight_over_takeover(begin: impl FnOnce(&mut Kit)) -> (Kit, CallId) {
    let mut kit = Kit::new(Policy::WORKER, LimitValues::default());
    kit.job(Mode::Share, 0, [1]);
    begin(&mut kit);
    let (call, _) = kit.call();
    kit.open.clear();
    take_over(&mut kit);
    (kit, call)
}

#[test]
fn takeover_ignores_listing_that_began_before() {
    for outcome in [
        Outcome::Accepted(Answer::Shares(vec![account_id(1)])),
        refused("UnauthorizedOperation"),
        refused("InvalidImageId.NotFound"),
    ] {
        let (mut kit, listing) = in_flight_over_takeover(|_| {});
        let share = kit.job(Mode::Share, 0, [1]);
        kit.input(Input::Answer { call: listing, outcome });
        kit.list([]);
        assert_eq!(kit.write(Permission::Share), [1]);
        kit.accept();
        assert_eq!(kit.outcomes(share), ["changed"]);
    }
}

#[test]
fn takeover_ignores_write_that_began_before() {
    for outcome in [
        Outcome::Accepted(Answer::Modified(None)),
        refused("FailedOperation.AccountAlreadyExists"),
        refused("InvalidAccountId.NotFound"),
    ] {
        let (mut kit, write) = in_flight_over_takeover(|kit| kit.list([]));
        let share = kit.job(Mode::Share, 0, [1]);
        kit.input(Input::Answer { call: write, outcome });
        assert!(!kit.is_settled(share), "the worker in between may have cancelled it since");
        kit.list([]);
        assert_eq!(kit.write(Permission::Share), [1]);
        kit.accept();
        assert_eq!(kit.outcomes(share), ["changed"]);
    }
}
