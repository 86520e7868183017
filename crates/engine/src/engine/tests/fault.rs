//! Rule 7.

use imageshare_core::Permission;

use super::kit::{Kit, LANE, account_id, one_shot};
use crate::{
    LaneStatus,
    io::{Action, Answer, CloseReason, Input, Outcome},
    job::Mode,
    limits::LaneLimits,
    time::Millis,
};

#[test]
fn an_image_that_can_never_be_shared_fails_at_once_for_all_in_hand() {
    let mut kit = Kit::new(one_shot());
    for account in 0..120 {
        kit.job(Mode::Share, 0, [account]);
    }
    kit.list([]);
    kit.write(Permission::Share);
    kit.refuse("FailedOperation.BYOLImageShareFailed");
    assert_eq!(kit.settled.len(), 120);
    assert_eq!(kit.outcomes(119), ["FailedOperation.BYOLImageShareFailed"]);
    assert!(kit.open.is_empty(), "one request was enough");
}

#[test]
fn a_refused_credential_is_refreshed_once_and_costs_no_try() {
    let mut kit = Kit::new(one_shot());
    let ticket = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    for _ in 0..7 {
        kit.write(Permission::Share);
        kit.refuse("AuthFailure.TokenFailure");
        kit.input(Input::CredentialFresh(LANE));
        kit.write(Permission::Share);
        kit.refuse("RequestLimitExceeded");
    }
    assert_eq!(kit.refreshes, 7);
    kit.accept();
    assert_eq!(kit.outcomes(ticket), ["changed"]);
}

#[test]
fn a_credential_that_is_refused_after_a_refresh_closes_the_lane() {
    let mut kit = Kit::new(one_shot());
    kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.refuse("AuthFailure.SecretIdNotFound");
    kit.input(Input::CredentialFresh(LANE));
    kit.write(Permission::Share);
    kit.refuse("AuthFailure.SecretIdNotFound");
    assert!(matches!(kit.lane_status(), LaneStatus::Closed(_, CloseReason::Credential)));
}

#[test]
fn an_image_without_permission_waits_while_others_go_on_and_fails_after_ten_minutes() {
    let mut kit = Kit::new(one_shot());
    let denied = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    let allowed = kit.job(Mode::Share, 1, [1]);
    // Both images are served in turn, whichever call comes first.
    let mut tries = 0;
    while !kit.is_settled(denied) {
        let (call, action) = kit.open.pop_first().unwrap_or_else(|| {
            kit.pass(Millis(1000));
            let Some(found) = kit.open.pop_first() else { return (crate::io::CallId(u64::MAX), read(1)) };
            found
        });
        let outcome = match action {
            Action::Modify { image_id, .. } if image_id == super::kit::image_id(0) => {
                tries += 1;
                super::kit::refused("UnauthorizedOperation")
            }
            Action::Modify { .. } => Outcome::Accepted(Answer::Modified),
            _ => Outcome::Accepted(Answer::Shares(Vec::new())),
        };
        kit.input(Input::Answer { call, outcome });
        assert!(kit.now < 700_000, "no end");
    }
    assert_eq!(kit.outcomes(allowed), ["changed"]);
    assert_eq!(kit.outcomes(denied), ["UnauthorizedOperation"]);
    assert!((600_000..601_000).contains(&kit.now), "{}", kit.now);
    assert!(tries <= 7, "{tries} tries: 30 s doubling");
}

fn read(image: u64) -> Action {
    let job = super::kit::job(Mode::Share, image, [1]);
    Action::ReadShares { region: job.region, image_id: job.image_id }
}

#[test]
fn where_no_write_was_ever_permitted_the_lane_closes() {
    let mut kit = Kit::new(one_shot());
    kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.refuse("UnauthorizedOperation");
    assert!(matches!(kit.lane_status(), LaneStatus::Closed(_, CloseReason::Permission)));
    assert_eq!(kit.write(Permission::Share), [1], "only a write can show that it is permitted");
    kit.accept();
    assert_eq!(kit.lane_status(), LaneStatus::Open);
    assert_eq!(kit.outcomes(0), ["changed"]);
}

#[test]
fn a_clock_is_corrected_once() {
    let mut kit = Kit::new(one_shot());
    kit.job(Mode::Share, 0, [1]);
    kit.answer(Outcome::Skewed);
    kit.list([]);
    kit.answer(Outcome::Skewed);
    kit.write(Permission::Share);
    kit.answer(Outcome::Skewed);
    assert!(matches!(kit.lane_status(), LaneStatus::Closed(_, CloseReason::Clock)));
}

#[test]
fn a_throttled_write_does_not_say_that_the_key_may_write() {
    let mut kit = Kit::new(one_shot());
    kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.refuse("RequestLimitExceeded");
    kit.write(Permission::Share);
    kit.refuse("UnauthorizedOperation");
    assert!(matches!(kit.lane_status(), LaneStatus::Closed(_, CloseReason::Permission)));
}

#[test]
fn a_credential_that_only_writes_are_refused_is_probed_by_writes_and_given_up_in_time() {
    let mut kit = Kit::new(one_shot());
    let ticket = kit.job(Mode::Share, 0, [1]);
    while !kit.is_settled(ticket) {
        if kit.open.is_empty() {
            kit.pass(Millis(100));
            assert!(kit.now < 65_000, "no end");
            continue;
        }
        match kit.call().1 {
            Action::Modify { .. } => kit.refuse("AuthFailure.MFAFailure"),
            Action::ReadShares { .. } => kit.list([]),
            Action::ReadImage { .. } => kit.state(crate::io::ImageState::Normal),
        }
        if kit.refreshes == 1 && kit.lane_status() == LaneStatus::Open {
            kit.input(Input::CredentialFresh(LANE));
        }
    }
    assert_eq!(kit.lane_status(), LaneStatus::GivenUp(CloseReason::Credential));
    assert_eq!(kit.outcomes(ticket), ["Local.NotAttempted"]);
}

#[test]
fn a_lane_closed_for_what_was_not_permitted_tries_an_image_that_comes_later() {
    let mut kit = Kit::new(one_shot());
    kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.refuse("UnauthorizedOperation");
    let later = kit.job(Mode::Share, 1, [1]);
    kit.list([]);
    kit.accept();
    assert_eq!(kit.outcomes(later), ["changed"]);
}

#[test]
fn calls_signed_before_a_refresh_or_a_correction_do_not_close_the_lane() {
    for outcome in [super::kit::refused("AuthFailure.TokenFailure"), Outcome::Skewed] {
        let mut kit = Kit::new(one_shot());
        for image in 0..3 {
            kit.job(Mode::Share, image, [1]);
        }
        kit.pass(Millis(500));
        assert_eq!(kit.open.len(), 3);
        kit.pass(Millis(500));
        for (call, _) in core::mem::take(&mut kit.open) {
            kit.input(Input::Answer { call, outcome: outcome.clone() });
            kit.input(Input::CredentialFresh(LANE));
        }
        assert_eq!(kit.lane_status(), LaneStatus::Open, "{outcome:?}");
    }
}

#[test]
fn a_refusal_of_a_list_says_nothing_of_the_one_account_of_it_that_is_still_wished() {
    let mut kit = Kit::new(crate::limits::Limits { guard: false, ..crate::limits::Limits::default() });
    kit.job(Mode::Share, 0, [1, 2]);
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [1, 2]);
    kit.input(Input::LaneLost(LANE));
    kit.input(Input::LaneUp(LANE, LaneLimits::default()));
    let ticket = kit.job(Mode::Share, 0, [1]);
    kit.refuse("InvalidAccountId.NotFound");
    assert_eq!(kit.write(Permission::Share), [1]);
    kit.accept();
    assert_eq!(kit.outcomes(ticket), ["changed"]);
}

#[test]
fn the_account_of_the_key_fails_by_itself_and_is_in_no_list() {
    let own = |account| Input::OwnAccount(LANE, account_id(account));
    for permission in [Permission::Share, Permission::Cancel] {
        let mut kit = Kit::new(one_shot());
        kit.input(own(2));
        let mode = if permission == Permission::Share { Mode::Share } else { Mode::Cancel };
        let ticket = kit.job(mode, 0, [1, 2, 3]);
        let alone = kit.job(mode, 0, [2]);
        kit.list(if permission == Permission::Share { alloc::vec![] } else { alloc::vec![1, 3] });
        assert_eq!(kit.write(permission), [1, 3]);
        kit.accept();
        assert_eq!(kit.outcomes(ticket), ["changed", "Local.OwnAccount", "changed"]);
        assert_eq!(kit.outcomes(alone), ["Local.OwnAccount"], "after what came before it");
    }
}

#[test]
fn the_account_of_the_key_is_left_out_of_a_sync() {
    let mut kit = Kit::new(one_shot());
    kit.input(Input::OwnAccount(LANE, account_id(2)));
    let ticket = kit.job(Mode::Sync, 0, [1, 2]);
    kit.list([1]);
    assert_eq!(kit.outcomes(ticket), ["unchanged", "Local.OwnAccount"]);
}

#[test]
fn whose_key_it_is_may_be_known_late_and_outlives_the_lane() {
    let mut kit = Kit::new(one_shot());
    kit.input(Input::LaneLost(LANE));
    kit.input(Input::OwnAccount(LANE, account_id(2)));
    kit.input(Input::LaneUp(LANE, LaneLimits::default()));
    let ticket = kit.job(Mode::Share, 0, [2]);
    assert_eq!(kit.outcomes(ticket), ["Local.OwnAccount"]);
    // Another key, of another account.
    kit.input(Input::OwnAccount(LANE, account_id(3)));
    kit.job(Mode::Share, 0, [2]);
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [2]);
}
