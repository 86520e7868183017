//! Images that are full.

use alloc::vec;

use imageshare_core::Permission;

use super::kit::{Kit, job};
use crate::{
    io::{Action, Notice},
    job::{Job, Mode},
    limits::LimitValues,
    policy::{Policy, TakeoverChecks},
    time::{Instant, Millis},
};

fn cap(cap: u32) -> LimitValues {
    LimitValues { cap, ..LimitValues::default() }
}

#[test]
fn shares_fill_quota_in_order_of_arrival() {
    let mut kit = Kit::new(Policy::COMMAND, cap(7));
    let first = kit.job(Mode::Share, 0, [1, 2]);
    let second = kit.job(Mode::Share, 0, [3, 4]);
    kit.list([11, 12, 13, 14]);
    assert_eq!(kit.write(Permission::Share), [1, 2, 3], "what fits");
    kit.accept();
    // Whether it is really full a reading decides that can show our own write.
    kit.list([1, 2, 3, 11, 12, 13, 14]);
    assert_eq!(kit.outcomes(first), ["changed", "changed"]);
    assert_eq!(kit.outcomes(second), ["changed", "Local.OverQuota"]);
    let crate::job::AccountOutcome::Failed(failure) = &kit.report(second).outcomes[1].1 else { panic!("not failed") };
    assert_eq!(&*failure.message, "the image is shared with 7 accounts and may be shared with 7");
}

#[test]
fn cancels_that_arrived_earlier_make_room_first() {
    let mut kit = Kit::new(Policy::COMMAND, cap(3));
    kit.job(Mode::Cancel, 0, [11]);
    let share = kit.job(Mode::Share, 0, [1]);
    kit.list([11, 12, 13]);
    assert_eq!(kit.write(Permission::Cancel), [11]);
    kit.accept();
    assert_eq!(kit.write(Permission::Share), [1]);
    kit.accept();
    assert_eq!(kit.outcomes(share), ["changed"]);
}

#[test]
fn later_cancel_does_not_save_share() {
    let mut kit = Kit::new(Policy::COMMAND, cap(3));
    let share = kit.job(Mode::Share, 0, [1]);
    let cancel = kit.job(Mode::Cancel, 0, [11]);
    kit.list([11, 12, 13]);
    assert_eq!(kit.outcomes(share), ["Local.OverQuota"]);
    assert_eq!(kit.write(Permission::Cancel), [11]);
    kit.accept();
    assert_eq!(kit.outcomes(cancel), ["changed"]);
}

#[test]
fn later_share_of_account_fails_too() {
    // Nothing can be settled before the first delivery, which a takeover keeps, so nothing else looks at the image again.
    let mut kit = Kit::new(Policy { takeover_checks: TakeoverChecks::On, ..Policy::COMMAND }, cap(1));
    let cancel = kit.deliver(Job { redelivered: true, ..job(Mode::Cancel, 0, [0, 1]) });
    let share = kit.job(Mode::Share, 0, [0, 1]);
    let between = kit.deliver(Job { deadline: Some(Instant(10_000)), ..job(Mode::Cancel, 0, [1]) });
    let last = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    // The first listing after a takeover may show the state from before it, so it decides nothing that is undone next.
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [0]);
    kit.accept();
    kit.call();
    kit.pass(Millis::from_secs(5));
    kit.list([0]);
    // A list of the greatest length may omit accounts, so the first item is sent again.
    assert_eq!(kit.write(Permission::Cancel), [1]);
    kit.accept();
    assert_eq!(kit.outcomes(cancel), ["unchanged", "changed"]);
    assert_eq!(kit.outcomes(share), ["changed", "Local.OverQuota"]);
    assert_eq!(kit.outcomes(between), ["Local.Expired"]);
    assert_eq!(kit.outcomes(last), ["Local.OverQuota"]);
}

#[test]
fn two_single_refusals_show_the_cap() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, 0..10);
    kit.list(20..23);
    let mut shared = alloc::collections::BTreeSet::from([20, 21, 22]);
    let mut writes = 0;
    while !kit.is_settled(delivery) {
        if matches!(kit.call().1, Action::ReadShares { .. }) {
            kit.list(shared.clone());
            continue;
        }
        let list = kit.write(Permission::Share);
        writes += 1;
        if shared.len() + list.len() > 5 {
            kit.refuse("OverQuota");
        } else {
            shared.extend(list);
            kit.accept();
        }
    }
    assert_eq!(shared.len(), 5);
    assert!(writes <= 9, "{writes}");
    assert!(kit.notices.iter().any(|notice| matches!(notice, Notice::CapReduced { cap: 5, .. })), "{:?}", kit.notices);
    let failed = kit.outcomes(delivery).into_iter().filter(|word| word.ends_with("OverQuota")).count();
    assert_eq!(failed, 8);
}

#[test]
fn without_listings_cancel_may_make_room() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    kit.job(Mode::Share, 0, [1, 2]);
    kit.refuse("UnauthorizedOperation");
    for _ in 0..3 {
        kit.write(Permission::Share);
        kit.refuse("OverQuota");
    }
    assert!(kit.notices.iter().any(|notice| matches!(notice, Notice::CapReduced { .. })));
    kit.job(Mode::Cancel, 0, [11, 12]);
    kit.write(Permission::Cancel);
    kit.accept();
    let share = kit.job(Mode::Share, 0, [3]);
    assert_eq!(kit.write(Permission::Share), [3]);
    kit.accept();
    assert_eq!(kit.outcomes(share), ["changed"]);
}

#[test]
fn cancel_refused_for_quota_is_retried() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Cancel, 0, [1, 2]);
    let mut writes = 0;
    while !kit.is_settled(delivery) {
        if matches!(kit.call().1, Action::ReadShares { .. }) {
            kit.list([1, 2]);
        } else {
            writes += 1;
            assert!(writes < 30, "no end");
            kit.refuse("OverQuota");
        }
    }
    assert_eq!(kit.outcomes(delivery), ["OverQuota", "OverQuota"]);
}

#[test]
fn count_since_old_listing_fails_no_share() {
    let mut kit = Kit::new(Policy::COMMAND, cap(3));
    kit.job(Mode::Share, 0, [1]);
    kit.list([11, 12]);
    assert_eq!(kit.write(Permission::Share), [1]);
    kit.accept();
    let second = kit.job(Mode::Share, 0, [2]);
    // By our count it does not fit; a reading would decide, and none can be had. So the API has to say.
    kit.refuse("UnauthorizedOperation");
    assert_eq!(kit.write(Permission::Share), [2]);
    kit.accept();
    assert_eq!(kit.outcomes(second), ["changed"]);
}

#[test]
fn observed_cap_is_tried_again_after_ten_minutes() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let refused = kit.job(Mode::Share, 0, [1, 2, 3]);
    kit.list([]);
    kit.refuse("OverQuota");
    while !kit.is_settled(refused) {
        match kit.call().1 {
            Action::ReadShares { .. } => kit.list([]),
            _ => kit.refuse("OverQuota"),
        }
    }
    assert!(kit.notices.iter().any(|notice| matches!(notice, Notice::CapReduced { cap: 0, .. })), "{:?}", kit.notices);
    let refused = kit.job(Mode::Share, 0, [4]);
    while !kit.is_settled(refused) {
        kit.list([]);
    }
    assert_eq!(kit.outcomes(refused), ["Local.OverQuota"]);
    kit.pass(Millis::from_secs(10 * 60));
    let again = kit.job(Mode::Share, 0, [5]);
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [5]);
    kit.accept();
    assert_eq!(kit.outcomes(again), ["changed"]);
}

/// An image that takes four accounts and has three; a fourth one got it by a write without an answer.
fn lost_write_that_fills_the_image() -> (Kit, u64) {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let lost = kit.job(Mode::Share, 0, [1]);
    kit.list(20..23);
    assert_eq!(kit.write(Permission::Share), [1]);
    kit.lose();
    (kit, lost)
}

#[test]
fn incomplete_count_shows_no_cap() {
    let (mut kit, _) = lost_write_that_fills_the_image();
    let mut shared = vec![1, 20, 21, 22];
    let refused = kit.job(Mode::Share, 0, [2, 3, 4]);
    while !kit.is_settled(refused) {
        match kit.call().1 {
            Action::ReadShares { .. } => kit.list(shared.clone()),
            _ if kit.write(Permission::Share) == [1] => kit.accept(),
            _ => kit.refuse("OverQuota"),
        }
    }
    assert!(!kit.notices.iter().any(|notice| matches!(notice, Notice::CapReduced { cap: 3, .. })), "{:?}", kit.notices);
    let cancel = kit.job(Mode::Cancel, 0, [20]);
    while !kit.is_settled(cancel) {
        match kit.call().1 {
            Action::ReadShares { .. } => kit.list(shared.clone()),
            _ => kit.accept(),
        }
    }
    shared.retain(|&account| account != 20);
    let fits = kit.job(Mode::Share, 0, [5]);
    while !kit.is_settled(fits) {
        match kit.call().1 {
            Action::ReadShares { .. } => kit.list(shared.clone()),
            _ => kit.accept(),
        }
    }
    assert_eq!(kit.outcomes(fits), ["changed"], "three of four have it");
}

#[test]
fn own_lost_write_is_not_over_quota() {
    let (mut kit, lost) = lost_write_that_fills_the_image();
    let refused = kit.job(Mode::Share, 0, [2, 3, 4]);
    while !kit.is_settled(lost) || !kit.is_settled(refused) {
        match kit.call().1 {
            Action::ReadShares { .. } => kit.list([1, 20, 21, 22]),
            _ => kit.refuse("OverQuota"),
        }
    }
    assert_eq!(kit.outcomes(lost), ["changed"]);
    let is_over_quota = |word: &&str| word.ends_with("OverQuota");
    assert!(kit.outcomes(refused).iter().all(is_over_quota), "{:?}", kit.outcomes(refused));
}
