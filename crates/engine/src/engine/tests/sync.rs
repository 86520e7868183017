//! SYNC.

use imageshare_core::Permission;

use super::kit::{Kit, job, word};
use crate::{
    io::Action,
    job::{Job, Mode},
    limits::LimitValues,
    policy::Policy,
    time::{Instant, Millis},
};

fn forced(accounts: impl IntoIterator<Item = u64>) -> Job {
    Job { force: true, ..job(Mode::Sync, 0, accounts) }
}

#[test]
fn sync_ends_with_listing_of_its_result() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Sync, 0, [1, 2, 3]);
    kit.list([2, 3, 9]);
    assert_eq!(kit.write(Permission::Cancel), [9]);
    kit.accept();
    assert_eq!(kit.write(Permission::Share), [1]);
    kit.accept();
    let written = kit.now;
    assert!(!kit.is_settled(delivery));
    kit.list([1, 2, 3]);
    assert!(kit.now >= written + 5000, "past the read delay");
    assert_eq!(kit.outcomes(delivery), ["changed", "unchanged", "unchanged"]);
    let gone: Vec<_> = kit.report(delivery).cancelled.iter().map(|(_, outcome)| word(outcome)).collect();
    assert_eq!(gone, ["changed"]);
}

#[test]
fn sync_that_expired_while_it_waited_lists_nothing() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let first = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    let sync = kit.deliver(Job { deadline: Some(Instant(kit.now + 1000)), ..job(Mode::Sync, 0, [1, 2]) });
    kit.pass(Millis(2000));
    kit.accept();
    assert_eq!(kit.outcomes(first), ["changed"]);
    assert_eq!(kit.outcomes(sync), ["Local.Expired", "Local.Expired"]);
    assert!(kit.open.is_empty(), "{:?}", kit.open);
}

#[test]
fn list_that_is_right_needs_no_write() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Sync, 0, [1, 2]);
    kit.list([1, 2]);
    assert_eq!(kit.outcomes(delivery), ["unchanged", "unchanged"]);
}

#[test]
fn sync_is_a_barrier_on_both_sides() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let before = kit.job(Mode::Share, 0, [1]);
    let sync = kit.deliver(forced([2]));
    let after = kit.job(Mode::Share, 0, [3]);
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [1]);
    kit.accept();
    assert!(kit.is_settled(before));
    kit.list([1]);
    assert_eq!(kit.write(Permission::Cancel), [1]);
    kit.accept();
    assert_eq!(kit.write(Permission::Share), [2]);
    kit.accept();
    kit.list([2]);
    assert!(kit.is_settled(sync) && !kit.is_settled(after));
    assert_eq!(kit.write(Permission::Share), [3]);
    kit.accept();
    assert!(kit.is_settled(after));
}

#[test]
fn cancel_limit_stops_sync() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Sync, 0, [1]);
    kit.list([1, 2, 3]);
    assert_eq!(kit.outcomes(delivery), ["Local.CancelLimit"]);
    assert!(kit.open.is_empty(), "nothing was sent");
    let half = kit.job(Mode::Sync, 0, [1, 2]);
    kit.list([1, 2, 3, 4]);
    assert_eq!(kit.write(Permission::Cancel), [3, 4]);
    assert!(!kit.is_settled(half));
}

#[test]
fn sync_of_too_many_accounts_fails_at_once() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues { cap: 3, ..LimitValues::default() });
    let many = kit.job(Mode::Sync, 0, [1, 2, 3, 4, 4]);
    assert_eq!(kit.outcomes(many), ["Local.OverQuota"; 4]);
    assert_eq!(kit.report(many).duplicates, 1);
    let unreadable = kit.job(Mode::Sync, 1, [1]);
    kit.refuse("InvalidImageId.NotFound");
    assert_eq!(kit.outcomes(unreadable), ["InvalidImageId.NotFound"]);
}

#[test]
fn sync_cancels_before_shares_that_do_not_fit() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues { cap: 3, ..LimitValues::default() });
    kit.deliver(forced([1, 2, 3]));
    kit.list([7, 8]);
    let mut writes = Vec::new();
    while let Action::Modify { permission, .. } = kit.call().1 {
        writes.push((permission, kit.write(permission)));
        kit.accept();
    }
    assert_eq!(writes[0], (Permission::Cancel, [7, 8].into()));
    assert_eq!(writes[1], (Permission::Share, [1, 2, 3].into()));
}

#[test]
fn sync_sends_again_what_is_not_listed() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Sync, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.accept();
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [1]);
    kit.accept();
    kit.list([1]);
    assert_eq!(kit.outcomes(delivery), ["changed"]);
}

#[test]
fn many_failing_syncs_need_no_deep_stack() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    kit.job(Mode::Sync, 0, [1]);
    for _ in 0..20_000 {
        kit.job(Mode::Sync, 0, [1, 2]);
    }
    kit.refuse("InvalidImageId.NotFound");
    assert_eq!(kit.settled.len(), 20_001);
}

#[test]
fn sync_after_takeover_waits_for_reliable_listing() {
    let mut kit = Kit::new(Policy::WORKER, LimitValues::default());
    let delivery = kit.job(Mode::Sync, 0, [1]);
    kit.pass(Millis(34_900));
    assert!(kit.open.is_empty(), "{:?}", kit.open);
    kit.list([1]);
    assert_eq!((kit.now, kit.outcomes(delivery)), (35_000, ["unchanged"].into()));
}

#[test]
fn refused_listing_of_another_job_fails_no_sync() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    kit.job(Mode::Share, 0, [1]);
    kit.refuse("UnauthorizedOperation");
    let refused = kit.now;
    kit.accept();
    let sync = kit.job(Mode::Sync, 0, [1]);
    kit.list([1]);
    assert!(kit.now >= refused + 30_000, "listings are refused: not at once");
    assert_eq!(kit.outcomes(sync), ["unchanged"]);
    let next = kit.job(Mode::Sync, 0, [1]);
    kit.list([1]);
    assert!(kit.is_settled(next));
}

#[test]
fn failed_listing_is_remembered_for_its_pause_only() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let share = kit.job(Mode::Share, 0, [1]);
    for _ in 0..5 {
        kit.refuse("InternalError");
    }
    let failed = kit.now;
    kit.accept();
    assert_eq!(kit.outcomes(share), ["changed"], "without a listing");
    let sync = kit.job(Mode::Sync, 0, [1]);
    kit.list([1]);
    assert!((failed + 8000..failed + 8200).contains(&kit.now), "{} after {failed}", kit.now);
    assert_eq!(kit.outcomes(sync), ["unchanged"]);
}

#[test]
fn refusal_fails_every_sync_that_waited_for_it() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let first = kit.job(Mode::Sync, 0, [1]);
    let second = kit.job(Mode::Sync, 0, [1]);
    kit.refuse("InvalidImageId.NotFound");
    assert!(kit.is_settled(first) && kit.is_settled(second));
    let later = kit.job(Mode::Sync, 0, [1]);
    assert!(!kit.is_settled(later));
    kit.list([1]);
    assert_eq!(kit.outcomes(later), ["unchanged"]);
}

#[test]
fn sync_plans_by_no_listing_from_before_it() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    kit.job(Mode::Share, 0, [1, 2]);
    kit.list([1, 2]);
    kit.pass(Millis(20_000));
    let sync = kit.job(Mode::Sync, 0, [1, 2]);
    kit.list([1]);
    assert_eq!(kit.write(Permission::Share), [2]);
    assert!(!kit.is_settled(sync));
}
