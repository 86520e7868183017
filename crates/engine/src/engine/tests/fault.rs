//! What each error class sets off.

use alloc::{collections::BTreeSet, string::String, vec::Vec};

use imageshare_core::{Class, Permission, code::table, ids::AccountId};

use super::kit::{Kit, LANE, NO_CHECKS, account_id};
use crate::{
    LaneStatus,
    io::{Action, Answer, CloseReason, ImageReadiness, Input, Outcome},
    job::{Job, Mode},
    limits::{LaneLimitValues, LaneLimits, LimitValues, Limits},
    policy::Policy,
    time::Millis,
};

#[test]
fn image_that_cannot_be_shared_fails_all_jobs() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    for account in 0..120 {
        kit.job(Mode::Share, 0, [account]);
    }
    kit.list([]);
    kit.write(Permission::Share);
    kit.refuse("FailedOperation.BYOLImageShareFailed");
    assert_eq!(kit.settled.len(), 70, "those that were not sent");
    // The list may have been applied in part.
    kit.list([3]);
    assert_eq!(kit.settled.len(), 120);
    assert_eq!(kit.outcomes(3), ["changed"]);
    for failed in [0, 119] {
        assert_eq!(kit.outcomes(failed), ["FailedOperation.BYOLImageShareFailed"]);
    }
    assert!(kit.open.is_empty(), "one write was enough");
}

#[test]
fn refused_credential_costs_no_try() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    for _ in 0..7 {
        kit.write(Permission::Share);
        kit.refuse("AuthFailure.TokenFailure");
        kit.input(Input::CredentialRefreshed(LANE));
        kit.write(Permission::Share);
        kit.refuse("RequestLimitExceeded");
    }
    assert_eq!(kit.refreshes, 7);
    kit.accept();
    assert_eq!(kit.outcomes(delivery), ["changed"]);
}

#[test]
fn credential_refused_after_refresh_closes_lane() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.refuse("AuthFailure.SecretIdNotFound");
    kit.input(Input::CredentialRefreshed(LANE));
    kit.write(Permission::Share);
    kit.refuse("AuthFailure.SecretIdNotFound");
    assert!(matches!(kit.lane_status(), LaneStatus::Closed(_, CloseReason::Credential)));
}

/// Who has which image, 0 or 1.
type Shared = BTreeSet<(u64, AccountId)>;

/// Answers every call for so long: image 0 is refused by `refused`, other images work. New jobs for image 1 come.
fn refuse_image_0(
    kit: &mut Kit,
    shared: &mut Shared,
    secs: u64,
    refused_for: impl Fn(u64, &Action) -> Option<&'static str>,
) {
    let end = kit.now + secs * 1000;
    let mut next_job = kit.now;
    let mut account = 1000;
    while kit.now < end {
        if next_job <= kit.now {
            account += 1;
            kit.job(Mode::Share, 1, [account]);
            next_job += 60_000;
        }
        while let Some((call, action)) = kit.open.pop_first() {
            let image = match &action {
                Action::Modify { image_id, .. }
                | Action::ReadShares { image_id, .. }
                | Action::ReadImage { image_id, .. } => u64::from(*image_id != super::kit::image_id(0)),
            };
            let outcome = match (refused_for(image, &action), action) {
                (Some(code), _) => super::kit::refused(code),
                (None, Action::Modify { account_ids, permission, .. }) => {
                    for account in account_ids {
                        match permission {
                            Permission::Share => shared.insert((image, account)),
                            Permission::Cancel => shared.remove(&(image, account)),
                        };
                    }
                    Outcome::Accepted(Answer::Modified(None))
                }
                (None, Action::ReadShares { .. }) => {
                    let listed = shared.iter().filter(|(of, _)| *of == image).map(|&(_, account)| account);
                    Outcome::Accepted(Answer::Shares(listed.collect()))
                }
                (None, Action::ReadImage { .. }) => Outcome::Accepted(Answer::Image(ImageReadiness::Normal)),
            };
            kit.input(Input::Answer { call, outcome });
        }
        kit.pass(Millis(100));
    }
}

const fn is_write(action: &Action) -> bool {
    matches!(action, Action::Modify { .. })
}

#[test]
fn denied_image_fails_after_ten_minutes() {
    let mut shared = Shared::new();
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let denied = kit.job(Mode::Share, 0, [1]);
    refuse_image_0(&mut kit, &mut shared, 598, |image, action| {
        (image == 0 && is_write(action)).then_some("UnauthorizedOperation")
    });
    assert!(!kit.is_settled(denied));
    refuse_image_0(&mut kit, &mut shared, 5, |image, action| {
        (image == 0 && is_write(action)).then_some("UnauthorizedOperation")
    });
    assert_eq!(kit.outcomes(denied), ["UnauthorizedOperation"]);
    assert_eq!(kit.lane_status(), LaneStatus::Open);
}

#[test]
fn denied_listing_fails_sync_while_others_work() {
    let mut shared = Shared::new();
    let mut kit =
        Kit::new(Policy::COMMAND, LimitValues { closed_for: Millis::from_secs(7200), ..LimitValues::default() });
    let sync = kit.job(Mode::Sync, 0, [1]);
    let all = |_: u64, _: &Action| Some("UnauthorizedOperation.CamNoAuth");
    refuse_image_0(&mut kit, &mut shared, 3600, all);
    assert!(!kit.is_settled(sync), "nothing is permitted");
    assert!(matches!(kit.lane_status(), LaneStatus::Closed(_, CloseReason::Permission)));
    refuse_image_0(&mut kit, &mut shared, 1500, |image, _| (image == 0).then_some("UnauthorizedOperation.CamNoAuth"));
    assert_eq!(kit.outcomes(sync), ["UnauthorizedOperation.CamNoAuth"]);
}

#[test]
fn key_that_loses_its_permission_fails_no_job() {
    for code in ["UnauthorizedOperation", "IpNotInWhitelist", "ActionOffline", "AuthFailure.UnauthorizedOperation"] {
        for mode in [Mode::Share, Mode::Cancel, Mode::Sync] {
            let mut shared = Shared::from([(0, account_id(7))]);
            let mut kit = Kit::new(
                Policy::COMMAND,
                LimitValues { closed_for: Millis::from_secs(72_000), ..LimitValues::default() },
            );
            refuse_image_0(&mut kit, &mut shared, 60, |_, _| None);
            let before = kit.settled.len();
            let job = kit.deliver(Job { force: true, ..super::kit::job(mode, 0, [1]) });
            refuse_image_0(&mut kit, &mut shared, 1, |_, _| Some(code));
            assert!(matches!(kit.lane_status(), LaneStatus::Closed(_, CloseReason::Permission)), "{code} {mode:?}");
            refuse_image_0(&mut kit, &mut shared, 3600, |_, _| Some(code));
            assert_eq!(kit.settled.len(), before, "{code} {mode:?}");
            // Everything is permitted again.
            refuse_image_0(&mut kit, &mut shared, 120, |_, _| None);
            assert_eq!(kit.lane_status(), LaneStatus::Open, "{code} {mode:?}");
            assert!(kit.is_settled(job), "{code} {mode:?}");
            let failed = |report: &crate::job::Report| {
                report.outcomes.iter().any(|(_, outcome)| matches!(outcome, crate::job::AccountOutcome::Failed(_)))
            };
            assert!(!kit.settled.iter().any(|(_, report)| failed(report)), "{code} {mode:?}");
        }
    }
}

#[test]
fn permitted_write_counts_for_minutes_only() {
    let mut shared = Shared::new();
    let mut kit =
        Kit::new(Policy::COMMAND, LimitValues { closed_for: Millis::from_secs(72_000), ..LimitValues::default() });
    let denied = kit.job(Mode::Share, 0, [1]);
    refuse_image_0(&mut kit, &mut shared, 300, |image, action| {
        (image == 0 && is_write(action)).then_some("UnauthorizedOperation")
    });
    refuse_image_0(&mut kit, &mut shared, 7200, |_, action| is_write(action).then_some("UnauthorizedOperation"));
    assert!(!kit.is_settled(denied));
    assert!(matches!(kit.lane_status(), LaneStatus::Closed(_, CloseReason::Permission)));
}

#[test]
fn new_key_is_tried_on_denied_images() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.refuse("UnauthorizedOperation");
    kit.write(Permission::Share);
    kit.refuse("UnauthorizedOperation");
    let refused = kit.now;
    kit.input(Input::CredentialRefreshed(LANE));
    assert_eq!(kit.write(Permission::Share), [1]);
    assert!(kit.now < refused + 500);
    kit.accept();
    assert_eq!(kit.outcomes(delivery), ["changed"]);
    assert_eq!(kit.lane_status(), LaneStatus::Open);
}

#[test]
fn report_names_no_request_of_another_job() {
    let request_id = imageshare_core::ids::RequestId::new("71e69b56-32be-4412-ab45-49eded6a87be");
    for code in ["FailedOperation.BYOLImageShareFailed", "InvalidImageId.NotFound"] {
        let mut kit = Kit::with_lane(
            Policy::COMMAND,
            LimitValues::default(),
            LaneLimitValues { batch: 1, ..LaneLimitValues::default() },
        );
        let (first, second) = (kit.job(Mode::Share, 0, [1, 3]), kit.job(Mode::Share, 0, [2]));
        kit.list([]);
        kit.write(Permission::Share);
        let class = Class::of(code);
        kit.answer(Outcome::Refused { code: code.into(), class, message: "no".into(), request_id });
        let ids = |delivery| {
            let ids = kit.report(delivery).outcomes.iter().map(|(_, outcome)| match outcome {
                crate::job::AccountOutcome::Failed(failure) => failure.request_id,
                other => panic!("{other:?}"),
            });
            ids.collect::<Vec<_>>()
        };
        assert_eq!((ids(first), ids(second)), (alloc::vec![request_id; 2], alloc::vec![None]), "{code}");
    }
}

#[test]
fn lane_closes_if_no_write_was_permitted() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
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
fn clock_is_corrected_once() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    kit.job(Mode::Share, 0, [1]);
    kit.answer(Outcome::Skewed);
    kit.list([]);
    kit.answer(Outcome::Skewed);
    kit.write(Permission::Share);
    kit.answer(Outcome::Skewed);
    assert!(matches!(kit.lane_status(), LaneStatus::Closed(_, CloseReason::Clock)));
}

#[test]
fn throttled_write_shows_no_permission() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.write(Permission::Share);
    kit.refuse("RequestLimitExceeded");
    kit.write(Permission::Share);
    kit.refuse("UnauthorizedOperation");
    assert!(matches!(kit.lane_status(), LaneStatus::Closed(_, CloseReason::Permission)));
}

#[test]
fn credential_refused_for_writes_is_probed_by_writes() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, [1]);
    while !kit.is_settled(delivery) {
        if kit.open.is_empty() {
            kit.pass(Millis(100));
            assert!(kit.now < 65_000, "no end");
            continue;
        }
        match kit.call().1 {
            Action::Modify { .. } => kit.refuse("AuthFailure.MFAFailure"),
            Action::ReadShares { .. } => kit.list([]),
            Action::ReadImage { .. } => kit.state(ImageReadiness::Normal),
        }
        if kit.refreshes == 1 && kit.lane_status() == LaneStatus::Open {
            kit.input(Input::CredentialRefreshed(LANE));
        }
    }
    assert_eq!(kit.lane_status(), LaneStatus::GivenUp(CloseReason::Credential));
    assert_eq!(kit.outcomes(delivery), ["Local.NotAttempted"]);
}

#[test]
fn lane_without_permissions_tries_new_image() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
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
fn calls_signed_before_refresh_close_no_lane() {
    for outcome in [super::kit::refused("AuthFailure.TokenFailure"), Outcome::Skewed] {
        let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
        for image in 0..3 {
            kit.job(Mode::Share, image, [1]);
        }
        kit.pass(Millis(500));
        assert_eq!(kit.open.len(), 3);
        kit.pass(Millis(500));
        for (call, _) in core::mem::take(&mut kit.open) {
            kit.input(Input::Answer { call, outcome: outcome.clone() });
            kit.input(Input::CredentialRefreshed(LANE));
        }
        assert_eq!(kit.lane_status(), LaneStatus::Open, "{outcome:?}");
    }
}

#[test]
fn list_refusal_shows_nothing_about_one_account() {
    let mut kit = Kit::new(NO_CHECKS, LimitValues::default());
    kit.job(Mode::Share, 0, [1, 2]);
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [1, 2]);
    kit.input(Input::LaneLost(LANE));
    kit.input(Input::LaneUp(LANE, LaneLimits::default()));
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.refuse("InvalidAccountId.NotFound");
    assert_eq!(kit.write(Permission::Share), [1]);
    kit.accept();
    assert_eq!(kit.outcomes(delivery), ["changed"]);
}

#[test]
fn own_account_fails_and_is_in_no_list() {
    let own = |account| Input::OwnAccount(LANE, account_id(account));
    for permission in [Permission::Share, Permission::Cancel] {
        let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
        kit.input(own(2));
        let mode = if permission == Permission::Share { Mode::Share } else { Mode::Cancel };
        let delivery = kit.job(mode, 0, [1, 2, 3]);
        let alone = kit.job(mode, 0, [2]);
        kit.list(if permission == Permission::Share { alloc::vec![] } else { alloc::vec![1, 3] });
        assert_eq!(kit.write(permission), [1, 3]);
        kit.accept();
        assert_eq!(kit.outcomes(delivery), ["changed", "Local.OwnAccount", "changed"]);
        assert_eq!(kit.outcomes(alone), ["Local.OwnAccount"], "after what came before it");
    }
}

#[test]
fn own_account_is_left_out_of_sync() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    kit.input(Input::OwnAccount(LANE, account_id(2)));
    let delivery = kit.job(Mode::Sync, 0, [1, 2]);
    kit.list([1]);
    assert_eq!(kit.outcomes(delivery), ["unchanged", "Local.OwnAccount"]);
}

#[test]
fn own_account_may_be_known_late() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    kit.input(Input::LaneLost(LANE));
    kit.input(Input::OwnAccount(LANE, account_id(2)));
    kit.input(Input::LaneUp(LANE, LaneLimits::default()));
    let delivery = kit.job(Mode::Share, 0, [2]);
    assert_eq!(kit.outcomes(delivery), ["Local.OwnAccount"]);
    // Another key, of another account, which is confirmed.
    kit.input(Input::OwnAccount(LANE, account_id(3)));
    kit.input(Input::ExpectAccount(LANE, Some(account_id(3))));
    kit.job(Mode::Share, 0, [2]);
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [2]);
}

/// Refuses every write of a job with one account. Returns the number of writes, at most 30, and the outcome.
fn refuse_all(code: &str) -> (usize, Option<String>) {
    // The lane is not requeued before the writes are counted.
    let mut kit =
        Kit::new(NO_CHECKS, LimitValues { closed_for: Millis::from_secs(1_000_000), ..LimitValues::default() });
    let delivery = kit.job(Mode::Share, 0, [1]);
    let (mut writes, mut refreshes) = (0, 0);
    while writes < 30 && !kit.is_settled(delivery) {
        match kit.call().1 {
            Action::ReadShares { .. } => kit.list([]),
            Action::ReadImage { .. } => kit.state(ImageReadiness::Normal),
            Action::Modify { .. } => {
                writes += 1;
                kit.refuse(code);
            }
        }
        if kit.refreshes > refreshes {
            refreshes = kit.refreshes;
            kit.input(Input::CredentialRefreshed(LANE));
        }
    }
    (writes, kit.is_settled(delivery).then(|| kit.outcomes(delivery).concat()))
}

#[test]
fn every_code_follows_its_class() {
    let attempts = Limits::default().attempts as usize;
    for &(code, class) in table() {
        let (writes, outcome) = refuse_all(code);
        let outcome = outcome.as_deref();
        match class {
            Class::Account | Class::AccountOrOther | Class::BatchTooLarge | Class::Image | Class::Quota => {
                assert_eq!((writes, outcome), (1, Some(code)));
            }
            Class::AlreadyDone => assert_eq!((writes, outcome), (1, Some("unchanged")), "{code}"),
            Class::Transient | Class::Unknown => assert_eq!((writes, outcome), (attempts, Some(code))),
            // These hold up the lane or the image, and fail no account.
            Class::Busy
            | Class::Clock
            | Class::Credential
            | Class::Deployment
            | Class::Permission
            | Class::Throttle
            | Class::ThrottleAll => {
                assert_eq!((writes, outcome), (30, None), "{code}");
            }
        }
    }
}
