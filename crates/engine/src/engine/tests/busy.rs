//! Images that are not ready.

use imageshare_core::Permission;

use super::kit::{Kit, LANE, job, refused};
use crate::{
    io::{Action, Answer, ImageReadiness, Input, Notice, Outcome},
    job::{AccountOutcome, Job, Mode},
    limits::{LaneLimits, LimitValues},
    policy::Policy,
    time::Millis,
};

const BUSY: &str = "InvalidParameterValue.InvalidImageState";

fn busy_kit() -> (Kit, u64) {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.refuse(BUSY);
    (kit, delivery)
}

/// A write was lost at the returned time, and the same write is in flight again.
fn kit_with_lost_write() -> (Kit, u64, u64) {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.lose();
    let sent = kit.now;
    kit.write(Permission::Share);
    (kit, delivery, sent)
}

#[test]
fn busy_image_is_written_once_it_is_normal() {
    let (mut kit, delivery) = busy_kit();
    for _ in 0..5 {
        kit.state(ImageReadiness::Pending("CREATING".into()));
    }
    let before = kit.now;
    kit.state(ImageReadiness::Normal);
    assert_eq!(kit.write(Permission::Share), [1]);
    assert!(kit.now <= before + 1200);
    kit.accept();
    assert_eq!(kit.outcomes(delivery), ["changed"]);
    let count = kit.notices.iter().filter(|notice| matches!(notice, Notice::ImageBusy { .. })).count();
    assert_eq!(count, 1);
}

#[test]
fn broken_image_fails_at_once() {
    let (mut kit, delivery) = busy_kit();
    kit.state(ImageReadiness::Broken("CREATEFAILED".into()));
    assert_eq!(kit.outcomes(delivery), [BUSY]);
}

#[test]
fn broken_image_lists_earlier_write_first() {
    for (listed, outcome) in [(true, "changed"), (false, BUSY)] {
        let (mut kit, delivery, sent) = kit_with_lost_write();
        kit.refuse(BUSY);
        kit.state(ImageReadiness::Broken("CREATEFAILED".into()));
        assert!(!kit.is_settled(delivery));
        kit.list(listed.then_some(1));
        assert!(kit.now >= sent + 35_000, "write lag and read lag");
        assert_eq!(kit.outcomes(delivery), [outcome]);
    }
}

#[test]
fn busy_image_fails_after_image_wait() {
    let (mut kit, delivery) = busy_kit();
    let mut questions = 0;
    while !kit.is_settled(delivery) {
        kit.pass(Millis(1000));
        if !kit.open.is_empty() {
            questions += 1;
            kit.state(ImageReadiness::Pending("CREATING".into()));
        }
    }
    assert!((7_199_000..7_203_000).contains(&kit.now), "{}", kit.now);
    assert_eq!(kit.outcomes(delivery), ["Local.ImageBusy"]);
    assert!(questions < 800, "{questions}");
}

/// An image is busy, its lane is lost for longer than a whole window waits, and the lane and the job come back.
fn kit_after_takeover() -> (Kit, u64) {
    let mut kit = Kit::new(Policy::WORKER, LimitValues { window: Some(1), ..LimitValues::default() });
    kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.refuse(BUSY);
    kit.state(ImageReadiness::Pending("CREATING".into()));
    kit.input(Input::LaneLost(LANE));
    kit.pass(Millis::from_secs(50 * 60));
    kit.input(Input::LaneUp(LANE, LaneLimits::default()));
    let delivery = kit.deliver(Job { redelivered: true, ..job(Mode::Share, 0, [1]) });
    assert!(!kit.is_settled(delivery), "nothing was asked since the takeover");
    (kit, delivery)
}

#[test]
fn busy_image_is_queried_after_takeover() {
    let (mut kit, delivery) = kit_after_takeover();
    kit.pass(Millis(200));
    let is_question = |action: &&Action| matches!(action, Action::ReadImage { .. });
    assert_eq!(kit.open.values().filter(is_question).count(), 1);
    let call = kit.open.iter().find(|(_, action)| is_question(action)).map(|(&call, _)| call).unwrap();
    kit.open.remove(&call);
    let outcome = Outcome::Accepted(Answer::Image(ImageReadiness::Normal));
    kit.input(Input::Answer { call, outcome });
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [1]);
    kit.accept();
    kit.list([1]);
    assert_eq!(kit.outcomes(delivery), ["changed"]);
}

#[test]
fn state_from_before_takeover_fails_no_job() {
    let mut kit = Kit::new(Policy::WORKER, LimitValues { window: Some(1), ..LimitValues::default() });
    kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.refuse(BUSY);
    kit.pass(Millis(200));
    assert!(kit.call_is_question());
    let (call, _) = kit.call();
    kit.input(Input::LaneLost(LANE));
    kit.pass(Millis::from_secs(50 * 60));
    kit.input(Input::LaneUp(LANE, LaneLimits::default()));
    let delivery = kit.deliver(Job { redelivered: true, ..job(Mode::Share, 0, [1]) });
    let outcome = Outcome::Accepted(Answer::Image(ImageReadiness::Pending("CREATING".into())));
    kit.input(Input::Answer { call, outcome });
    assert!(!kit.is_settled(delivery), "another worker may have found it ready since");
}

#[test]
fn image_still_busy_after_takeover_fails_its_jobs() {
    let (mut kit, delivery) = kit_after_takeover();
    kit.pass(Millis(200));
    let calls: Vec<_> = kit.open.iter().map(|(&call, action)| (call, action.clone())).collect();
    for (call, action) in calls {
        kit.open.remove(&call);
        let answer = match action {
            Action::ReadImage { .. } => Answer::Image(ImageReadiness::Pending("CREATING".into())),
            _ => Answer::Shares(Vec::new()),
        };
        kit.input(Input::Answer { call, outcome: Outcome::Accepted(answer) });
    }
    assert_eq!(kit.outcomes(delivery), ["Local.ImageBusy"]);
}

#[test]
fn blocked_window_waits_less() {
    check_waits_less(2, false);
}

#[test]
fn blocked_full_lane_waits_less() {
    check_waits_less(3, true);
}

/// Two jobs wait for a busy image, in a lane with this window.
#[track_caller]
fn check_waits_less(window: u32, is_full: bool) {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues { window: Some(window), ..LimitValues::default() });
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.refuse(BUSY);
    kit.job(Mode::Share, 0, [2]);
    if is_full {
        kit.input(Input::Full(LANE));
    }
    while !kit.is_settled(delivery) {
        kit.pass(Millis(1000));
        if !kit.open.is_empty() {
            kit.state(ImageReadiness::Pending("CREATING".into()));
        }
    }
    assert!((2_399_000..2_403_000).contains(&kit.now), "{}", kit.now);
}

#[test]
fn normal_image_that_refuses_is_tried_rarely() {
    let (mut kit, _) = busy_kit();
    let mut writes = 0;
    while kit.now < 120_000 {
        kit.state(ImageReadiness::Normal);
        kit.write(Permission::Share);
        writes += 1;
        kit.refuse(BUSY);
    }
    assert!(writes <= 9, "{writes} in two minutes");
}

#[test]
fn busy_image_without_jobs_is_forgotten() {
    let mut kit = Kit::new(Policy::WORKER, LimitValues::default());
    kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.refuse(BUSY);
    kit.state(ImageReadiness::Pending("CREATING".into()));
    kit.input(Input::LaneLost(LANE));
    kit.input(Input::LaneUp(LANE, LaneLimits::default()));
    kit.pass(Millis::from_secs(3 * 3600));
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.refuse(BUSY);
    kit.state(ImageReadiness::Pending("CREATING".into()));
    assert!(!kit.is_settled(delivery), "it has not waited");
}

#[test]
fn interrupted_write_in_doubt_has_no_answer() {
    let (mut kit, delivery, _) = kit_with_lost_write();
    kit.refuse(BUSY);
    kit.state(ImageReadiness::Broken("CREATEFAILED".into()));
    kit.input(Input::Drain);
    assert_eq!(kit.outcomes(delivery), ["Local.NoAnswer"]);
}

#[test]
fn later_refusals_do_not_put_off_last_listing() {
    let (mut kit, delivery, sent) = kit_with_lost_write();
    kit.refuse("FailedOperation.BYOLImageShareFailed");
    for later in 2..30 {
        kit.pass(Millis(2000));
        if kit.is_settled(delivery) {
            break;
        }
        kit.job(Mode::Share, 0, [later]);
        kit.pass(Millis(500));
        for (call, action) in std::mem::take(&mut kit.open) {
            let outcome = match action {
                Action::Modify { .. } => refused("FailedOperation.BYOLImageShareFailed"),
                _ => Outcome::Accepted(Answer::Shares(Vec::new())),
            };
            kit.input(Input::Answer { call, outcome });
        }
    }
    assert_eq!(kit.outcomes(delivery), ["FailedOperation.BYOLImageShareFailed"]);
    assert!(kit.now <= sent + 40_000, "{}", kit.now - sent);
}

#[test]
fn others_go_on_while_image_is_busy() {
    let (mut kit, _) = busy_kit();
    kit.state(ImageReadiness::Pending("CREATING".into()));
    let other = kit.job(Mode::Share, 1, [1]);
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [1]);
    kit.accept();
    assert_eq!(kit.outcomes(other), ["changed"]);
}

#[test]
fn busy_image_is_queried_every_ten_seconds() {
    let (mut kit, _) = busy_kit();
    let mut asked_at = kit.now;
    for _ in 0..200 {
        assert!(kit.call_is_question());
        assert!(kit.now <= asked_at + 10_500, "asked at {asked_at} and again at {}", kit.now);
        asked_at = kit.now;
        kit.state(ImageReadiness::Pending("CREATING".into()));
    }
}

#[test]
fn interrupted_job_of_busy_image_reports_refusal() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let carried = kit.job(Mode::Share, 0, [1, 2]);
    kit.list([]);
    kit.write(Permission::Share);
    let (call, _) = kit.call();
    kit.open.remove(&call);
    let Outcome::Refused { code, class, message, .. } = refused(BUSY) else { panic!() };
    let request_id = imageshare_core::ids::RequestId::new("1f4ea1e5-5d56-4f33-8d4d-5d2a8f1f9a3c");
    kit.input(Input::Answer { call, outcome: Outcome::Refused { code, class, message, request_id } });
    let later = kit.job(Mode::Share, 0, [3]);
    kit.input(Input::Drain);
    while let Some(&call) = kit.open.keys().next() {
        kit.open.remove(&call);
        kit.input(Input::Answer { call, outcome: Outcome::Unanswered { sent: true, reason: "reset".into() } });
    }
    for (job, has_request) in [(carried, true), (later, false)] {
        let (_, report) = kit.settled.iter().find(|(id, _)| *id == job).unwrap();
        for (_, outcome) in &report.outcomes {
            let AccountOutcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
            assert_eq!(&*failure.code, "Local.ImageBusy");
            assert!(failure.message.contains(BUSY), "{}", failure.message);
            assert_eq!(failure.request_id.is_some(), has_request);
        }
    }
}
