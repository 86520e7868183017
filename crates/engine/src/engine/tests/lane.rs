//! Lanes that close, open and leave.

use alloc::vec::Vec;

use imageshare_core::Permission;

use super::kit::{Kit, LANE, NO_CHECKS, image_id, job};
use crate::{
    LaneStatus,
    io::{Action, Answer, CloseReason, ImageReadiness, Input, Outcome},
    job::{Job, Mode},
    limits::{LaneLimits, LimitValues},
    policy::Policy,
    time::{Instant, Millis},
};

fn unanswered() -> Outcome {
    Outcome::Unanswered { sent: false, reason: "connection refused".into() }
}

/// Answers every call so until the time has come.
fn fail_until(kit: &mut Kit, end: u64) {
    while kit.now < end {
        while let Some((call, _)) = kit.open.pop_first() {
            kit.input(Input::Answer { call, outcome: unanswered() });
        }
        kit.pass(Millis(100));
    }
}

/// Answers the selected calls: nothing is shared, images are ready, writes are accepted.
fn answer_well(kit: &mut Kit, is_selected: impl Fn(&Action) -> bool) {
    let calls: Vec<_> = kit.open.extract_if(.., |_, action| is_selected(action)).collect();
    for (call, action) in calls {
        let answer = match action {
            Action::Modify { .. } => Answer::Modified(None),
            Action::ReadShares { .. } => Answer::Shares(Vec::new()),
            Action::ReadImage { .. } => Answer::Image(ImageReadiness::Normal),
        };
        kit.input(Input::Answer { call, outcome: Outcome::Accepted(answer) });
    }
}

#[test]
fn five_lost_calls_on_three_images_close() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    for image in 0..5 {
        kit.job(Mode::Share, image, [1]);
    }
    fail_until(&mut kit, 1000);
    assert!(matches!(kit.lane_status(), LaneStatus::Closed(_, CloseReason::Endpoint)));
    let calls = kit.sent_at.len();
    fail_until(&mut kit, 30_000);
    assert!(kit.sent_at.len() - calls <= 5, "one probe at a time, 1 s doubling");
}

#[test]
fn one_image_needs_query_to_close() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, [1]);
    for _ in 0..5 {
        kit.answer(unanswered());
    }
    assert!(kit.call_is_question());
    assert_eq!(kit.lane_status(), LaneStatus::Open);
    kit.state(ImageReadiness::Normal);
    kit.answer(unanswered());
    assert_eq!(kit.write(Permission::Share), [1], "the endpoint works: on without reading");
    kit.accept();
    assert_eq!(kit.outcomes(delivery), ["changed"]);
}

#[test]
fn reopened_lane_forgives_tries() {
    let mut kit = Kit::new(
        Policy::COMMAND,
        LimitValues { attempts: 2, closed_for: Millis::from_secs(600), ..LimitValues::default() },
    );
    for image in 0..4 {
        kit.job(Mode::Share, image, [1]);
    }
    fail_until(&mut kit, 20_000);
    while kit.settled.len() < 4 {
        answer_well(&mut kit, |_| true);
        kit.pass(Millis(100));
    }
    for delivery in 0..4 {
        assert_eq!(kit.outcomes(delivery), ["changed"]);
    }
}

#[test]
fn outage_uses_no_tries_of_writes() {
    const IMAGES: u64 = 5;
    let mut kit = Kit::new(
        Policy::COMMAND,
        LimitValues { attempts: 2, closed_for: Millis::from_secs(600), ..LimitValues::default() },
    );
    let deliveries: Vec<_> = (0..IMAGES).map(|image| kit.job(Mode::Share, image, [1])).collect();
    // Every image has a write in flight when the outage begins.
    while !kit.open.values().all(|action| matches!(action, Action::Modify { .. })) || kit.open.len() < 5 {
        answer_well(&mut kit, |action| matches!(action, Action::ReadShares { .. }));
        kit.pass(Millis(10));
    }
    fail_until(&mut kit, 20_000);
    // One write fails again after the outage.
    let is_of_last =
        |action: &Action| matches!(action, Action::Modify { image_id: id, .. } if *id == image_id(IMAGES - 1));
    let mut has_failed = false;
    while kit.settled.len() < deliveries.len() {
        let last = kit.open.iter().find(|(_, action)| is_of_last(action)).map(|(&call, _)| call);
        if let Some(call) = last.filter(|_| !has_failed && kit.lane_status() == LaneStatus::Open) {
            kit.open.remove(&call);
            kit.input(Input::Answer { call, outcome: unanswered() });
            has_failed = true;
        }
        answer_well(&mut kit, |_| true);
        kit.pass(Millis(100));
    }
    assert!(has_failed);
    for delivery in deliveries {
        assert_eq!(kit.outcomes(delivery), ["changed"]);
    }
}

#[test]
fn outage_fails_neither_last_try_nor_listing() {
    for mode in [Mode::Share, Mode::Sync] {
        let limits = LimitValues { closed_for: Millis::from_secs(600), ..LimitValues::default() };
        let mut kit = Kit::new(Policy::COMMAND, limits);
        // The fifth failure in a row is both the last try and what makes the lane suspect.
        let delivery = kit.job(mode, 0, [1]);
        if mode == Mode::Share {
            kit.list([]);
        }
        fail_until(&mut kit, 40_000);
        assert!(matches!(kit.lane_status(), LaneStatus::Closed(_, CloseReason::Endpoint)), "{mode:?}");
        kit.state(ImageReadiness::Normal);
        kit.list([]);
        assert_eq!(kit.write(Permission::Share), [1]);
        kit.accept();
        if mode == Mode::Sync {
            kit.list([1]);
        }
        assert_eq!(kit.outcomes(delivery), ["changed"], "{mode:?}");
    }
}

/// The write is the last try. It is in flight when the outage is recognized, or its image cannot be listed.
#[test]
fn last_try_is_forgiven_when_lane_opens() {
    for is_listed in [true, false] {
        let limits = LimitValues { attempts: 1, closed_for: Millis::from_secs(600), ..LimitValues::default() };
        let mut kit = Kit::new(Policy::COMMAND, limits);
        let delivery = kit.job(Mode::Share, 0, [1]);
        if is_listed {
            kit.list([]);
        } else {
            kit.refuse("UnauthorizedOperation");
        }
        kit.write(Permission::Share);
        let (write, _) = kit.open.pop_first().unwrap();
        for image in 1..=6 {
            kit.job(Mode::Share, image, [1]);
        }
        fail_until(&mut kit, 20_000);
        assert!(matches!(kit.lane_status(), LaneStatus::Closed(_, CloseReason::Endpoint)));
        kit.input(Input::Answer { call: write, outcome: unanswered() });
        assert!(!kit.is_settled(delivery));
        while !kit.is_settled(delivery) {
            answer_well(&mut kit, |_| true);
            kit.pass(Millis(100));
        }
        assert_eq!(kit.outcomes(delivery), ["changed"], "{is_listed}");
    }
}

#[test]
fn image_of_expired_jobs_is_forgotten() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    kit.job(Mode::Share, 0, [1]);
    for image in 1..9 {
        kit.deliver(Job { deadline: Some(Instant(kit.now + 50)), ..job(Mode::Share, image, [1]) });
    }
    kit.pass(Millis::from_secs(2));
    assert_eq!(kit.engine.lanes[&LANE].images().len(), 1);
}

#[test]
fn write_without_jobs_leaves_no_account() {
    let mut kit = Kit::new(NO_CHECKS, LimitValues::default());
    kit.job(Mode::Share, 0, 0..50);
    kit.list([]);
    kit.write(Permission::Share);
    kit.input(Input::LaneLost(LANE));
    kit.answer(unanswered());
    kit.input(Input::LaneUp(LANE, LaneLimits::default()));
    let other = kit.job(Mode::Share, 1, [1]);
    kit.list([1]);
    assert_eq!(kit.outcomes(other), ["unchanged"]);
    assert_eq!(kit.engine.lanes[&LANE].images().len(), 1);
}

#[test]
fn command_reports_jobs_of_closed_lane() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    for image in 0..5 {
        kit.job(Mode::Share, image, [1]);
    }
    fail_until(&mut kit, 62_000);
    assert_eq!(kit.lane_status(), LaneStatus::GivenUp(CloseReason::Endpoint));
    assert_eq!(kit.settled.len(), 5);
    assert_eq!(kit.outcomes(0), ["Local.NotAttempted"]);
    let late = kit.job(Mode::Share, 9, [1, 1]);
    assert_eq!(kit.outcomes(late), ["Local.NotAttempted"]);
    assert_eq!(kit.report(late).duplicates, 1);
}

#[test]
fn worker_requeues_closed_lane_and_probes() {
    let mut kit = Kit::new(NO_CHECKS, LimitValues::default());
    for image in 0..5 {
        kit.job(Mode::Share, image, [1]);
    }
    fail_until(&mut kit, 62_000);
    assert_eq!(kit.given_back, 1);
    assert_eq!(kit.engine.jobs(), 0);
    assert!(matches!(kit.lane_status(), LaneStatus::Closed(..)));
    kit.open.clear();
    kit.call();
    kit.state(ImageReadiness::Normal);
    assert_eq!(kit.lane_status(), LaneStatus::Open);
    kit.input(Input::LaneUp(LANE, LaneLimits::default()));
    let again = kit.job(Mode::Share, 0, [1]);
    kit.list([1]);
    assert_eq!(kit.outcomes(again), ["unchanged"]);
}

#[test]
fn lease_requeues_the_lane_between_calls() {
    let mut kit = Kit::new(NO_CHECKS, LimitValues { lease: Some(Millis::from_secs(60)), ..LimitValues::default() });
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.pass(Millis::from_secs(70));
    assert_eq!(kit.given_back, 0, "a call is in flight");
    kit.accept();
    assert!(kit.is_settled(delivery), "what is finished is settled first");
    assert_eq!(kit.given_back, 1);
}

#[test]
fn leaving_lane_is_requeued_between_calls() {
    let mut kit = Kit::new(NO_CHECKS, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.input(Input::Leave(LANE));
    assert_eq!((kit.given_back, kit.engine.lane_status(LANE)), (0, LaneStatus::Leaving));
    kit.accept();
    assert!(kit.is_settled(delivery), "what is finished is settled first");
    assert_eq!((kit.given_back, kit.engine.lane_status(LANE)), (1, LaneStatus::Down));
    kit.input(Input::Leave(LANE));
    kit.input(Input::Leave(crate::io::LaneId(7)));
    assert_eq!(kit.given_back, 1, "a lane that is down has nothing to give back");
    kit.input(Input::LaneUp(LANE, LaneLimits::default()));
    assert_eq!(kit.engine.lane_status(LANE), LaneStatus::Open);
}

#[test]
fn left_lane_is_silent_for_ten_minutes() {
    let mut kit = Kit::new(NO_CHECKS, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.job(Mode::Share, 1, [1]);
    kit.job(Mode::Share, 0, [2]);
    kit.pass(Millis::from_secs(1));
    kit.input(Input::Leave(LANE));
    while let Some((call, _)) = kit.open.pop_first() {
        kit.input(Input::Answer { call, outcome: Outcome::Accepted(Answer::Shares(Vec::new())) });
    }
    assert_eq!((kit.given_back, kit.engine.jobs()), (1, 0));
    let sent = kit.sent_at.len();
    for _ in 0..60 {
        // A credential that is renewed, and jobs that were on their way.
        kit.input(Input::CredentialRefreshed(LANE));
        kit.job(Mode::Share, 0, [1]);
        kit.pass(Millis::from_secs(10));
    }
    assert_eq!((kit.sent_at.len(), kit.engine.jobs()), (sent, 0));
    assert!(!kit.is_settled(delivery), "it is redelivered");
    kit.input(Input::LaneUp(LANE, LaneLimits::default()));
    let again = kit.job(Mode::Share, 0, [1]);
    kit.list([1]);
    assert_eq!(kit.outcomes(again), ["unchanged"]);
}

#[test]
fn drain_finishes_calls_and_begins_none() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let first = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    let second = kit.job(Mode::Share, 1, [1]);
    let calls = kit.sent_at.len();
    kit.open.retain(|_, action| matches!(action, Action::Modify { .. }));
    let reading = kit.sent_at.last().map(|&(_, call)| call).filter(|call| !kit.open.contains_key(call));
    kit.input(Input::Drain);
    assert!(!kit.is_settled(first));
    if let Some(call) = reading {
        kit.input(Input::Answer { call, outcome: unanswered() });
    }
    kit.accept();
    assert_eq!(kit.outcomes(first), ["changed"]);
    assert_eq!(kit.outcomes(second), ["Local.NotAttempted"]);
    assert_eq!(kit.sent_at.len(), calls);
    assert_eq!(kit.engine.jobs(), 0);
}

#[test]
fn lost_lane_forgets_jobs_and_keeps_state() {
    let mut kit = Kit::new(NO_CHECKS, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.input(Input::LaneLost(LANE));
    assert_eq!(kit.engine.jobs(), 0);
    kit.accept();
    assert!(!kit.is_settled(delivery), "it is redelivered");
    kit.input(Input::LaneUp(LANE, LaneLimits::default()));
    let mut again = job(Mode::Share, 0, [1]);
    again.redelivered = true;
    let again = kit.deliver(again);
    assert_eq!(kit.outcomes(again), ["unchanged"], "by the write that was in flight when the lane was lost");
}

#[test]
fn lane_that_is_not_up_takes_no_job() {
    let mut kit = Kit::new(Policy::WORKER, LimitValues::default());
    kit.input(Input::LaneLost(LANE));
    kit.job(Mode::Share, 0, [1]);
    assert_eq!(kit.engine.jobs(), 0);
    assert!(kit.settled.is_empty());
}

#[test]
fn command_gives_up_a_silent_endpoint() {
    let mut kit =
        Kit::new(Policy::COMMAND, LimitValues { closed_for: Millis::from_secs(12), ..LimitValues::default() });
    let delivery = kit.job(Mode::Share, 0, [1]);
    for _ in 0..2 {
        kit.call();
        kit.pass(Millis::from_secs(10));
        if !kit.is_settled(delivery) {
            kit.lose();
        }
    }
    assert!(kit.now < 21_000, "{}", kit.now);
    assert_eq!(kit.outcomes(delivery), ["Local.NotAttempted"], "only a reading was sent");
    assert!(kit.notices.iter().any(|notice| matches!(notice, crate::io::Notice::Closed { .. })), "people hear of it");
    assert_eq!(kit.lane_status(), LaneStatus::GivenUp(CloseReason::Endpoint));
}

#[test]
fn refused_calls_are_reported_as_not_attempted() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.refuse("AuthFailure.SecretIdNotFound");
    kit.input(Input::RefreshFailed(LANE));
    while !kit.is_settled(delivery) {
        if kit.open.is_empty() {
            kit.pass(Millis(1000));
        } else {
            kit.refuse("AuthFailure.SecretIdNotFound");
        }
    }
    assert_eq!(kit.outcomes(delivery), ["Local.NotAttempted"]);
    let crate::job::AccountOutcome::Failed(failure) = &kit.report(delivery).outcomes[0].1 else { panic!("not failed") };
    assert!(failure.message.contains("AuthFailure.SecretIdNotFound"), "{}", failure.message);
}

/// Lets image 0's write hang while no other call of the lane is answered, until the lane is given up.
fn given_up_with_a_write_in_flight() -> (Kit, crate::io::CallId) {
    let mut kit =
        Kit::new(Policy::COMMAND, LimitValues { closed_for: Millis::from_secs(20), ..LimitValues::default() });
    kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    let (hanging, _) = kit.call();
    for image in 1..5 {
        kit.job(Mode::Share, image, [1]);
    }
    while !matches!(kit.lane_status(), LaneStatus::GivenUp(_)) {
        let others: Vec<_> = kit.open.keys().copied().filter(|&call| call != hanging).collect();
        for call in others {
            kit.open.remove(&call);
            kit.input(Input::Answer { call, outcome: unanswered() });
        }
        kit.pass(Millis(500));
        assert!(kit.now < 100_000, "no end");
    }
    (kit, hanging)
}

#[test]
fn response_after_give_up_is_ignored() {
    let (mut kit, hanging) = given_up_with_a_write_in_flight();
    assert_eq!(kit.outcomes(0), ["Local.NoAnswer"], "its write may still be applied");
    assert_eq!(kit.outcomes(1), ["Local.NotAttempted"]);
    // Another lane's jobs use what is free now.
    let other = crate::io::LaneId(1);
    kit.input(Input::LaneUp(other, LaneLimits::default()));
    let delivery = crate::io::DeliveryId(99);
    kit.input(Input::Job { delivery, lane: other, job: job(Mode::Share, 7, [1, 2, 3]) });
    kit.input(Input::Answer { call: hanging, outcome: Outcome::Accepted(Answer::Modified(None)) });
    assert!(!kit.is_settled(99), "nothing was sent for it");
}

#[test]
fn interrupted_sync_before_last_listing_is_settled() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let sync = kit.job(Mode::Sync, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.accept();
    let behind = kit.job(Mode::Share, 0, [2]);
    kit.input(Input::Drain);
    assert_eq!(kit.outcomes(sync), ["changed"]);
    assert_eq!(kit.outcomes(behind), ["Local.NotAttempted"]);
}

#[test]
fn interrupted_sync_reports_write_in_doubt() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let sync = kit.job(Mode::Sync, 0, [1, 2]);
    kit.list([2]);
    kit.write(Permission::Share);
    kit.input(Input::Drain);
    kit.lose();
    assert_eq!(kit.outcomes(sync), ["Local.NoAnswer", "unchanged"]);
    assert_eq!(kit.engine.jobs(), 0);
}

#[test]
fn old_write_in_doubt_is_not_called_unattempted() {
    let mut kit =
        Kit::new(Policy::COMMAND, LimitValues { closed_for: Millis::from_secs(600), ..LimitValues::default() });
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.lose();
    kit.write(Permission::Share);
    kit.refuse("UnauthorizedOperation");
    // Longer than the write lag and the age of a listing.
    let lost = kit.now;
    while kit.now < lost + 300_000 {
        if kit.open.is_empty() {
            kit.pass(Millis(1000));
        } else {
            kit.refuse("UnauthorizedOperation");
        }
    }
    kit.input(Input::Drain);
    assert_eq!(kit.outcomes(delivery), ["Local.NoAnswer"]);
}

#[test]
fn job_after_drain_is_settled() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    kit.input(Input::Drain);
    let late = kit.job(Mode::Share, 0, [1]);
    assert_eq!(kit.outcomes(late), ["Local.NotAttempted"]);
}

#[test]
fn short_jobs_do_not_reach_lease() {
    let mut kit = Kit::new(NO_CHECKS, LimitValues { lease: Some(Millis::from_secs(60)), ..LimitValues::default() });
    while kit.now < 300_000 {
        // Always one job in hand, none of them for long.
        let delivery = kit.job(Mode::Share, 0, [kit.now % 400]);
        while !kit.is_settled(delivery) {
            match kit.call().1 {
                Action::ReadShares { .. } => kit.list([]),
                _ => kit.accept(),
            }
        }
        kit.pass(Millis(500));
    }
    assert_eq!(kit.given_back, 0);
}

#[test]
fn closed_lane_that_is_up_again_can_leave() {
    let mut kit = Kit::new(NO_CHECKS, LimitValues::default());
    for image in 0..5 {
        kit.job(Mode::Share, image, [1]);
    }
    fail_until(&mut kit, 62_000);
    assert_eq!(kit.given_back, 1);
    kit.input(Input::LaneUp(LANE, LaneLimits::default()));
    kit.job(Mode::Share, 0, [1]);
    fail_until(&mut kit, 200_000);
    assert_eq!(kit.given_back, 2);
}

#[test]
fn suspected_lane_is_given_up_as_closed() {
    let mut kit =
        Kit::new(Policy::COMMAND, LimitValues { closed_for: Millis::from_secs(12), ..LimitValues::default() });
    let delivery = kit.job(Mode::Share, 0, [1]);
    for _ in 0..5 {
        kit.answer(unanswered());
    }
    assert!(kit.call_is_question());
    kit.pass(Millis::from_secs(15));
    assert!(kit.is_settled(delivery));
    assert!(kit.notices.iter().any(|notice| matches!(notice, crate::io::Notice::Closed { .. })), "{:?}", kit.notices);
}

#[test]
fn job_for_empty_closed_lane_is_probed() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    kit.deliver(Job { deadline: Some(Instant(5000)), ..job(Mode::Share, 0, [1]) });
    kit.list([]);
    kit.write(Permission::Share);
    kit.refuse("AuthFailure.TokenFailure");
    kit.input(Input::CredentialRefreshed(LANE));
    kit.write(Permission::Share);
    kit.refuse("AuthFailure.TokenFailure");
    while kit.now < 10_000 {
        if !kit.open.is_empty() {
            kit.refuse("AuthFailure.TokenFailure");
        }
        kit.pass(Millis(500));
    }
    assert!(kit.open.is_empty() && kit.is_settled(0), "there is nothing to probe by");
    kit.job(Mode::Share, 0, [2]);
    kit.pass(Millis(200));
    assert_eq!(kit.open.len(), 1, "the next probe would come after a minute");
}
