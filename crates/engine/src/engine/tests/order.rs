//! The order of items and reports.

use alloc::vec::Vec;

use imageshare_core::Permission;

use super::kit::{Kit, LANE, account_id, job, refused};
use crate::{
    io::{Answer, Command, Input, Outcome},
    job::{Job, Mode},
    limits::{LaneLimits, LimitValues},
    policy::Policy,
    time::Instant,
};

#[test]
fn expiry_of_many_wishes_is_spread_over_calls() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues { work: 20, ..LimitValues::default() });
    for _ in 0..6 {
        kit.deliver(Job { deadline: Some(Instant(500)), ..job(Mode::Share, 0, 0..10) });
    }
    let (mut held, mut settled) = (kit.engine.operations(), Vec::new());
    assert_eq!(held, 60);
    while held > 0 {
        match kit.engine.poll(Instant(500)) {
            Command::Settle { delivery, .. } => settled.push(delivery.0),
            Command::WaitUntil(at) => assert_eq!(at, Instant(500), "the rest follows at once"),
            other => panic!("{other:?}"),
        }
        let left = kit.engine.operations();
        assert!(held - left <= 20, "{held} to {left} in one call");
        held = left;
    }
    // The last reports are still to be taken.
    while let Command::Settle { delivery, .. } = kit.engine.poll(Instant(500)) {
        settled.push(delivery.0);
    }
    assert_eq!(settled, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn much_expiry_without_reports_pauses_at_this_moment() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues { work: 20, ..LimitValues::default() });
    // No job is settled before this one, which has no deadline.
    kit.job(Mode::Share, 0, 0..10);
    for _ in 0..6 {
        kit.deliver(Job { deadline: Some(Instant(500)), ..job(Mode::Share, 0, 0..10) });
    }
    for _ in 0..3 {
        assert_eq!(kit.engine.poll(Instant(500)), Command::WaitUntil(Instant(500)));
    }
    assert_ne!(kit.engine.poll(Instant(500)), Command::WaitUntil(Instant(500)));
}

/// Answers the open call with this, and checks that no call of the engine then decides more than 20 of the jobs, each of
/// which names one account.
#[track_caller]
fn decide_in_parts(kit: &mut Kit, outcome: Outcome) {
    let undecided = |kit: &Kit| kit.engine.jobs() - kit.engine.finished();
    let (call, _) = kit.call();
    kit.open.remove(&call);
    let now = Instant(kit.now);
    let mut left = undecided(kit);
    kit.engine.handle(now, Input::Answer { call, outcome });
    loop {
        let (before, after) = (left, undecided(kit));
        assert!(before - after <= 20, "{before} to {after} in one call");
        left = after;
        match kit.engine.poll(now) {
            Command::Settle { delivery, report } => kit.settled.push((delivery.0, *report)),
            Command::Notice(..) => {}
            Command::WaitUntil(at) if at <= now => {}
            Command::WaitUntil(_) | Command::Idle => return,
            other => panic!("sent before all were decided: {other:?}"),
        }
    }
}

fn listed(accounts: impl IntoIterator<Item = u64>) -> Outcome {
    Outcome::Accepted(Answer::Shares(accounts.into_iter().map(account_id).collect()))
}

#[test]
fn listing_that_decides_many_is_spread_over_calls() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues { work: 20, ..LimitValues::default() });
    let jobs: Vec<u64> = (0..60).map(|account| kit.job(Mode::Cancel, 0, [account])).collect();
    decide_in_parts(&mut kit, listed([]));
    assert_eq!(kit.settled.iter().map(|(job, _)| *job).collect::<Vec<_>>(), jobs);
}

#[test]
fn refusal_of_image_concerns_no_later_job() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues { work: 20, ..LimitValues::default() });
    kit.job(Mode::Share, 0, [0]);
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [0]);
    for account in 1..60 {
        kit.job(Mode::Share, 0, [account]);
    }
    let (call, _) = kit.call();
    kit.open.remove(&call);
    let image = refused("InvalidImageId.NotFound");
    kit.engine.handle(Instant(kit.now), Input::Answer { call, outcome: image });
    assert_eq!(kit.engine.jobs() - kit.engine.finished(), 40);
    let later = kit.job(Mode::Share, 0, [59]);
    assert_eq!(kit.settled.len(), 60);
    assert_eq!(kit.write(Permission::Share), [59]);
    kit.accept();
    assert_eq!(kit.outcomes(later), ["changed"]);
}

#[test]
fn takeover_check_of_many_is_spread_over_calls() {
    let mut kit = Kit::new(Policy::WORKER, LimitValues { work: 20, ..LimitValues::default() });
    for account in 0..60 {
        kit.job(Mode::Cancel, 0, [account]);
    }
    kit.list([]);
    assert!(kit.settled.is_empty(), "a worker before may have shared it meanwhile");
    kit.call();
    decide_in_parts(&mut kit, listed([]));
    assert_eq!(kit.settled.len(), 60);
}

#[test]
fn quota_failures_are_spread_over_calls() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues { work: 20, cap: 3, ..LimitValues::default() });
    for account in 10..70 {
        kit.job(Mode::Share, 0, [account]);
    }
    decide_in_parts(&mut kit, listed(0..3));
    assert_eq!(kit.settled.len(), 60);
}

#[test]
fn lost_lane_forgets_jobs_over_several_calls() {
    let mut kit = Kit::new(Policy::WORKER, LimitValues { work: 20, ..LimitValues::default() });
    for account in 0..60 {
        kit.job(Mode::Cancel, 0, [account]);
    }
    let (call, _) = kit.call();
    kit.open.remove(&call);
    let now = Instant(kit.now);
    kit.engine.handle(now, Input::LaneLost(LANE));
    assert_eq!(kit.engine.operations(), 40);
    kit.engine.handle(now, Input::Answer { call, outcome: listed([]) });
    kit.engine.handle(now, Input::LaneUp(LANE, LaneLimits::default()));
    let later = kit.job(Mode::Cancel, 0, [59]);
    assert_eq!((kit.engine.operations(), kit.engine.jobs()), (1, 1));
    kit.list([59]);
    assert_eq!(kit.write(Permission::Cancel), [59]);
    kit.accept();
    assert_eq!(kit.settled.iter().map(|(job, _)| *job).collect::<Vec<_>>(), [later]);
}

#[test]
fn jobs_behind_sync_begin_in_order_over_calls() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues { work: 1, ..LimitValues::default() });
    let sync = kit.job(Mode::Sync, 0, [1]);
    let behind: Vec<u64> = (0..5).map(|_| kit.job(Mode::Share, 0, [1, 2])).collect();
    kit.list([1]);
    assert_eq!(kit.write(Permission::Share), [2]);
    kit.accept();
    let order: Vec<u64> = kit.settled.iter().map(|(delivery, _)| *delivery).collect();
    assert_eq!(order, [&[sync][..], &behind].concat());
}

#[test]
fn operations_of_an_image_travel_together() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    for account in 0..60 {
        kit.job(Mode::Share, 0, [account]);
    }
    kit.list([]);
    assert_eq!(kit.write(Permission::Share).len(), 50, "a full list");
    kit.accept();
    assert_eq!(kit.write(Permission::Share).len(), 10);
    kit.accept();
    assert_eq!(kit.settled.len(), 60);
}

#[test]
fn cancel_after_share_ends_cancelled_in_order() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let share = kit.job(Mode::Share, 0, [1]);
    let cancel = kit.job(Mode::Cancel, 0, [1]);
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [1]);
    kit.accept();
    assert_eq!(kit.write(Permission::Cancel), [1]);
    kit.accept();
    let order: Vec<_> = kit.settled.iter().map(|(delivery, _)| *delivery).collect();
    assert_eq!(order, [share, cancel]);
    assert_eq!(kit.outcomes(share), ["changed"]);
    assert_eq!(kit.outcomes(cancel), ["changed"]);
}

#[test]
fn same_requests_join_one_operation_in_flight() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let first = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [1]);
    let joined = kit.job(Mode::Share, 0, [1]);
    kit.accept();
    assert!(kit.is_settled(first) && kit.is_settled(joined));
    assert!(kit.open.is_empty());
}

#[test]
fn items_do_not_join_past_opposite() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.job(Mode::Cancel, 0, [1]);
    let last = kit.job(Mode::Share, 0, [1]);
    kit.accept();
    assert_eq!(kit.write(Permission::Cancel), [1]);
    kit.accept();
    assert!(!kit.is_settled(last));
    assert_eq!(kit.write(Permission::Share), [1]);
    kit.accept();
    assert_eq!(kit.outcomes(last), ["changed"]);
}

#[test]
fn job_waits_for_earlier_jobs_of_its_accounts() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let early = kit.job(Mode::Share, 0, [1, 2]);
    let late = kit.job(Mode::Share, 0, [2]);
    let other = kit.job(Mode::Share, 0, [3]);
    kit.list([2, 3]);
    assert!(kit.is_settled(other), "nothing holds it");
    assert!(!kit.is_settled(late), "its account is done, but the earlier delivery is not");
    kit.accept();
    assert!(kit.is_settled(early) && kit.is_settled(late));
}

#[test]
fn repeated_accounts_are_counted_and_sent_once() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, [1, 2, 1, 1]);
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [1, 2]);
    kit.accept();
    assert_eq!(kit.report(delivery).duplicates, 2);
    assert_eq!(kit.outcomes(delivery), ["changed", "changed"]);
}

#[test]
fn expired_job_does_not_begin_but_awaits_calls() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let mut late = job(Mode::Share, 0, [1]);
    late.deadline = Some(Instant(500));
    let first = kit.deliver(late.clone());
    kit.list([]);
    kit.write(Permission::Share);
    late.account_ids = job(Mode::Share, 0, [2]).account_ids;
    let second = kit.deliver(late);
    kit.pass(crate::time::Millis(1000));
    assert_eq!(kit.outcomes(second), ["Local.Expired"]);
    assert!(!kit.is_settled(first));
    kit.accept();
    assert_eq!(kit.outcomes(first), ["changed"]);
}

#[test]
fn same_inputs_give_same_commands() {
    let history = || {
        let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
        for account in 0..9 {
            kit.job(if account % 3 == 0 { Mode::Cancel } else { Mode::Share }, account % 2, [account]);
        }
        for _ in 0..40 {
            let Some(&call) = kit.open.keys().next() else { break };
            kit.open.remove(&call);
            let outcome = refused(if call.0 % 2 == 0 { "InternalError" } else { "RequestLimitExceeded" });
            kit.input(Input::Answer { call, outcome });
            kit.pass(crate::time::Millis(2000));
        }
        (kit.sent_at, kit.settled)
    };
    assert_eq!(history(), history());
}
