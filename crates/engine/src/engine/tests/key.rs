//! Keys that replace others.

use imageshare_core::Permission;

use super::kit::{Kit, LANE, NO_CHECKS, account_id, refused};
use crate::{
    LaneStatus,
    io::{Action, CloseReason, Input, Notice},
    job::Mode,
    limits::{LaneLimits, LimitValues},
    policy::Policy,
    time::Millis,
};

const OURS: u64 = 900;
const OTHER: u64 = 901;

fn own(account: u64) -> Input {
    Input::OwnAccount(LANE, account_id(account))
}

/// A worker's lane that is used with our key.
fn worker() -> Kit {
    let mut kit = Kit::new(NO_CHECKS, LimitValues::default());
    kit.input(own(OURS));
    kit
}

fn is_closed(kit: &Kit) -> bool {
    matches!(kit.lane_status(), LaneStatus::Closed(_, CloseReason::Account))
}

/// Lets `secs` seconds pass and checks that the engine makes no call.
#[track_caller]
fn check_no_call(kit: &mut Kit, secs: u64) {
    kit.pass(Millis::from_secs(secs));
    assert!(kit.open.is_empty(), "{:?}", kit.open);
}

#[test]
fn key_of_another_account_makes_no_call() {
    let mut kit = worker();
    kit.job(Mode::Share, 0, [1]);
    kit.input(Input::CredentialRefreshed(LANE));
    check_no_call(&mut kit, 5);
    kit.input(own(OTHER));
    assert!(is_closed(&kit));
    check_no_call(&mut kit, 50);
    assert!(kit.settled.is_empty());
}

#[test]
fn key_of_same_account_goes_on() {
    let mut kit = worker();
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.input(Input::CredentialRefreshed(LANE));
    check_no_call(&mut kit, 5);
    kit.input(own(OURS));
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [1]);
    kit.accept();
    assert_eq!(kit.outcomes(delivery), ["changed"]);
    assert_eq!(kit.notices, []);
}

#[test]
fn former_account_opens_the_lane_again() {
    let mut kit = worker();
    kit.input(Input::CredentialRefreshed(LANE));
    kit.input(own(OTHER));
    check_no_call(&mut kit, 120);
    assert_eq!(kit.given_back, 1, "its jobs wait elsewhere");
    kit.input(Input::CredentialRefreshed(LANE));
    assert!(is_closed(&kit), "until its account is known");
    kit.input(own(OURS));
    assert_eq!(kit.lane_status(), LaneStatus::Open);
    assert_eq!(kit.notices.last(), Some(&Notice::Opened));
}

#[test]
fn operator_confirms_another_account() {
    let mut kit = worker();
    kit.input(Input::CredentialRefreshed(LANE));
    kit.input(own(OTHER));
    kit.input(Input::ExpectAccount(LANE, Some(account_id(OTHER))));
    assert_eq!(kit.lane_status(), LaneStatus::Open);
    // It is the account of before from now on.
    kit.input(Input::ExpectAccount(LANE, None));
    assert_eq!(kit.lane_status(), LaneStatus::Open);
    kit.input(Input::CredentialRefreshed(LANE));
    kit.input(own(OURS));
    assert!(is_closed(&kit));
}

#[test]
fn expected_account_counts_from_first_key() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    kit.input(Input::ExpectAccount(LANE, Some(account_id(OURS))));
    let delivery = kit.job(Mode::Share, 0, [1]);
    check_no_call(&mut kit, 5);
    kit.input(own(OTHER));
    assert!(is_closed(&kit));
    check_no_call(&mut kit, 61);
    assert_eq!(kit.lane_status(), LaneStatus::GivenUp(CloseReason::Account));
    assert_eq!(kit.outcomes(delivery), ["Local.NotAttempted"]);
}

#[test]
fn account_mismatch_outlives_a_lost_lane() {
    let mut kit = worker();
    kit.input(Input::LaneLost(LANE));
    kit.input(Input::CredentialRefreshed(LANE));
    kit.input(own(OTHER));
    kit.input(Input::LaneUp(LANE, LaneLimits::default()));
    assert!(is_closed(&kit));
    kit.job(Mode::Share, 0, [1]);
    check_no_call(&mut kit, 10);
}

#[test]
fn unknown_account_is_waited_for_only_seconds() {
    let mut kit = worker();
    kit.job(Mode::Share, 0, [1]);
    kit.input(Input::CredentialRefreshed(LANE));
    let replaced = kit.now;
    kit.list([]);
    assert!((replaced + 10_000..replaced + 10_500).contains(&kit.now), "{}", kit.now);
    // A refusal that there is no answer to ends the wait.
    let mut kit = worker();
    kit.job(Mode::Share, 0, [1]);
    kit.input(Input::CredentialRefreshed(LANE));
    kit.input(Input::OwnerUnknown(LANE));
    kit.list([]);
    assert!(kit.now < 1000);
}

#[test]
fn unproven_key_fails_no_job_for_its_image() {
    for code in ["UnauthorizedOperation.ImageNotBelongToAccount", "InvalidImageId.NotFound"] {
        for mode in [Mode::Share, Mode::Cancel, Mode::Sync] {
            let mut kit = worker();
            kit.input(Input::CredentialRefreshed(LANE));
            kit.input(Input::OwnerUnknown(LANE));
            let delivery = kit.job(mode, 0, [1]);
            if mode == Mode::Sync {
                kit.refuse(code);
            } else {
                kit.list([]);
                kit.refuse(code);
            }
            assert!(!kit.is_settled(delivery), "{code} {mode:?}");
            assert!(matches!(kit.lane_status(), LaneStatus::Closed(_, CloseReason::Permission)), "{code} {mode:?}");
        }
    }
}

#[test]
fn permitted_write_shows_that_key_is_good() {
    let mut kit = worker();
    kit.input(Input::CredentialRefreshed(LANE));
    kit.input(Input::OwnerUnknown(LANE));
    kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.accept();
    let delivery = kit.job(Mode::Share, 1, [1]);
    kit.list([]);
    kit.refuse("InvalidImageId.NotFound");
    assert_eq!(kit.outcomes(delivery), ["InvalidImageId.NotFound"]);
}

#[test]
fn refusal_of_former_key_has_no_effect() {
    let mut kit = worker();
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [1]);
    let (write, _) = kit.call();
    kit.open.clear();
    kit.pass(Millis(10));
    kit.input(Input::CredentialRefreshed(LANE));
    kit.input(own(OURS));
    kit.input(Input::Answer { call: write, outcome: refused("UnauthorizedOperation") });
    assert_eq!(kit.lane_status(), LaneStatus::Open);
    assert!(matches!(kit.call().1, Action::Modify { .. }));
    kit.accept();
    assert_eq!(kit.outcomes(delivery), ["changed"]);
}

#[test]
fn listing_that_proves_key_retries_refused_images() {
    let mut kit = worker();
    kit.input(Input::CredentialRefreshed(LANE));
    kit.input(Input::OwnerUnknown(LANE));
    let missing = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.refuse("InvalidImageId.NotFound");
    assert!(matches!(kit.lane_status(), LaneStatus::Closed(_, CloseReason::Permission)));
    // A key of another account would see no shares.
    kit.job(Mode::Cancel, 1, [1]);
    kit.list([2]);
    assert_eq!(kit.lane_status(), LaneStatus::Open);
    while !kit.is_settled(missing) {
        kit.refuse("InvalidImageId.NotFound");
    }
    assert!(kit.now < 10_000, "it was retried at once, not at {}", kit.now);
    assert_eq!(kit.outcomes(missing), ["InvalidImageId.NotFound"]);
}
