//! Lists that are tried in parts.

use alloc::{collections::BTreeSet, vec::Vec};

use imageshare_core::{Permission, ids::AccountId};
use proptest::prelude::*;

use super::kit::{Kit, NO_CHECKS, account_id, job, refused};
use crate::{
    io::{Action, Answer, ImageReadiness, Input, Notice, Outcome},
    job::Mode,
    limits::{LaneLimitValues, LimitValues},
    policy::Policy,
    time::Millis,
};

/// A cloud that refuses every list with a bad account, and applies nothing of it.
struct Cloud {
    bad: BTreeSet<u64>,
    code: &'static str,
    shared: BTreeSet<u64>,
    writes: u32,
}

impl Cloud {
    fn new(bad: impl IntoIterator<Item = u64>, code: &'static str) -> Self {
        Self { bad: bad.into_iter().collect(), code, shared: BTreeSet::new(), writes: 0 }
    }

    /// Answers calls until `jobs` jobs are settled.
    #[track_caller]
    fn serve(&mut self, kit: &mut Kit, jobs: usize) {
        while kit.settled.len() < jobs {
            let Some((call, action)) = kit.open.pop_first() else {
                kit.pass(Millis(100));
                assert!(kit.now < 10_000_000, "no end");
                continue;
            };
            let outcome = self.answer(&action);
            kit.input(Input::Answer { call, outcome });
        }
    }

    fn answer(&mut self, action: &Action) -> Outcome {
        let answer = match action {
            Action::Modify { account_ids, .. } => {
                self.writes += 1;
                let list = account_ids.iter().map(|account| account.get() - account_id(0).get());
                if list.clone().any(|account| self.bad.contains(&account)) {
                    return refused(self.code);
                }
                self.shared.extend(list);
                Answer::Modified(None)
            }
            Action::ReadShares { .. } => Answer::Shares(self.shared.iter().copied().map(account_id).collect()),
            Action::ReadImage { .. } => Answer::Image(ImageReadiness::Normal),
        };
        Outcome::Accepted(answer)
    }
}

#[test]
fn one_bad_account_costs_at_most_nine_writes() {
    for bad in 0..50 {
        let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
        let delivery = kit.job(Mode::Share, 0, 0..50);
        let mut cloud = Cloud::new([bad], "InvalidAccountId.NotFound");
        cloud.serve(&mut kit, 1);
        assert_eq!(cloud.shared.len(), 49);
        assert!(cloud.writes <= 9, "{} writes for account {bad}", cloud.writes);
        let failed: Vec<_> = kit
            .outcomes(delivery)
            .iter()
            .enumerate()
            .filter(|(_, word)| **word != "changed")
            .map(|(nth, word)| (nth as u64, *word))
            .collect();
        assert_eq!(failed, [(bad, "InvalidAccountId.NotFound")]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn bad_accounts_fail_and_others_are_shared(
        bad in proptest::collection::btree_set(0_u64..60, 0..20),
        batch in 1_u32..=60,
        code in prop_oneof![
            Just("InvalidAccountId.NotFound"),
            Just("FailedOperation.NotMasterAccount"),
            Just("InvalidParameterValue"),
            Just("InternalError"),
            Just("NeverHeardOf.This"),
        ],
    ) {
        let limits = LaneLimitValues { batch, ..LaneLimitValues::default() };
        let mut kit = Kit::with_lane(Policy::COMMAND, LimitValues::default(), limits);
        let delivery = kit.job(Mode::Share, 0, 0..60);
        let mut cloud = Cloud::new(bad.iter().copied(), code);
        cloud.serve(&mut kit, 1);
        for (nth, word) in kit.outcomes(delivery).iter().enumerate() {
            let expected = if bad.contains(&(nth as u64)) { code } else { "changed" };
            prop_assert_eq!(*word, expected, "account {}", nth);
        }
    }
}

#[test]
fn partly_applied_list_is_listed_not_resent() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, [1, 2, 3, 4]);
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [1, 2, 3, 4]);
    kit.refuse("InvalidAccountId.NotFound");
    kit.list([1, 2, 3]);
    assert_eq!(kit.write(Permission::Share), [4]);
    kit.refuse("InvalidAccountId.NotFound");
    assert_eq!(kit.outcomes(delivery), ["changed", "changed", "changed", "InvalidAccountId.NotFound"]);
}

#[test]
fn refused_sample_fails_the_whole_list() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, 0..50);
    let mut cloud = Cloud::new(0..50, "InvalidParameterValue");
    cloud.serve(&mut kit, 1);
    assert_eq!(cloud.writes, 9, "the list, and eight alone");
    assert!(kit.outcomes(delivery).iter().all(|word| *word == "InvalidParameterValue"));
}

/// The list was applied to all accounts except those of the sample.
#[test]
fn rest_of_refused_sample_is_listed_first() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, 0..17);
    kit.list([]);
    let whole = kit.write(Permission::Share);
    kit.refuse("InvalidParameterValue");
    let mut alone = Vec::new();
    kit.list([]);
    for _ in 0..8 {
        alone.extend(kit.write(Permission::Share));
        kit.refuse("InvalidParameterValue");
    }
    let applied: Vec<_> = whole.into_iter().filter(|account| !alone.contains(account)).collect();
    assert!(!kit.is_settled(delivery));
    kit.list(applied);
    let words = kit.outcomes(delivery);
    assert_eq!(words.iter().filter(|word| **word == "changed").count(), 9, "{words:?}");
    assert_eq!(words.iter().filter(|word| **word == "InvalidParameterValue").count(), 8, "{words:?}");
}

#[test]
fn list_that_fails_once_is_sent_again_whole() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    kit.job(Mode::Share, 0, [1, 2, 3]);
    kit.list([]);
    assert_eq!(kit.write(Permission::Share), [1, 2, 3]);
    kit.refuse("FailedOperation.QImageShareFailed");
    assert_eq!(kit.write(Permission::Share), [1, 2, 3]);
    kit.refuse("FailedOperation.QImageShareFailed");
    assert_eq!(kit.write(Permission::Share), [1], "the second failure in a row splits");
}

#[test]
fn lone_operation_is_tried_attempts_times() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues { attempts: 3, ..LimitValues::default() });
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    for _ in 0..3 {
        assert_eq!(kit.write(Permission::Share), [1]);
        kit.refuse("InternalError");
    }
    kit.list([]);
    assert_eq!(kit.outcomes(delivery), ["InternalError"]);
}

#[test]
fn refused_cancel_is_done_if_not_listed() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Cancel, 0, [1]);
    kit.list([1]);
    assert_eq!(kit.write(Permission::Cancel), [1]);
    kit.refuse("InvalidAccountId.NotFound");
    kit.list([]);
    assert_eq!(kit.outcomes(delivery), ["changed"]);
}

#[test]
fn already_shared_account_is_done() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, [1]);
    kit.refuse("UnauthorizedOperation");
    assert_eq!(kit.write(Permission::Share), [1]);
    kit.refuse("FailedOperation.AccountAlreadyExists");
    assert_eq!(kit.outcomes(delivery), ["unchanged"]);
}

#[test]
fn refusal_is_kept_for_redelivered_jobs_only() {
    let mut kit = Kit::new(NO_CHECKS, LimitValues::default());
    kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.refuse("InvalidAccountId.NotFound");
    let mut again = job(Mode::Share, 0, [1]);
    again.redelivered = true;
    let again = kit.deliver(again);
    assert_eq!(kit.outcomes(again), ["InvalidAccountId.NotFound"]);
    kit.job(Mode::Share, 0, [1]);
    assert_eq!(kit.write(Permission::Share), [1], "a person may have mended it");
}

#[test]
fn longest_list_api_takes_is_searched() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, 0..200);
    kit.list([]);
    let mut lists = Vec::new();
    while !kit.is_settled(delivery) {
        let len = kit.write(Permission::Share).len();
        lists.push(len);
        if len > 10 { kit.refuse("InvalidParameterValue.LimitExceeded") } else { kit.accept() }
    }
    assert!(lists.len() <= 20 + 6, "{lists:?}");
    assert_eq!(lists[lists.len() - 2], 10);
    assert!(kit.notices.contains(&Notice::BatchReduced(25)), "{:?}", kit.notices);
    assert!(kit.outcomes(delivery).iter().all(|word| *word == "changed"));
}

#[test]
fn refusal_is_forgotten_after_acceptance() {
    let mut kit = Kit::new(NO_CHECKS, LimitValues::default());
    kit.job(Mode::Share, 0, [1]);
    kit.list([]);
    kit.refuse("InvalidAccountId.NotFound");
    kit.job(Mode::Share, 0, [1]);
    kit.write(Permission::Share);
    kit.accept();
    let mut again = job(Mode::Share, 0, [1]);
    again.redelivered = true;
    let again = kit.deliver(again);
    assert_eq!(kit.outcomes(again), ["unchanged"]);
}

#[test]
fn sample_with_other_codes_fails_no_list() {
    let code = "InvalidParameterValue";
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let delivery = kit.job(Mode::Share, 0, 0..20);
    kit.list([]);
    assert_eq!(kit.write(Permission::Share).len(), 20);
    kit.refuse(code);
    let mut alone = 0;
    while !kit.is_settled(delivery) {
        match kit.call().1 {
            Action::ReadShares { .. } => kit.list([]),
            Action::Modify { account_ids, .. } if account_ids.len() == 1 && alone < 8 => {
                alone += 1;
                kit.refuse(if alone == 1 { code } else { "InvalidAccountId.NotFound" });
            }
            _ => kit.accept(),
        }
    }
    let outcomes = kit.outcomes(delivery);
    let count = |word| outcomes.iter().filter(|&&outcome| outcome == word).count();
    assert_eq!((count(code), count("InvalidAccountId.NotFound"), count("changed")), (1, 7, 12), "{outcomes:?}");
}

#[test]
fn shares_go_alone_where_nothing_can_be_listed() {
    let mut kit = Kit::new(Policy::COMMAND, LimitValues::default());
    let job = kit.job(Mode::Share, 0, 0..400);
    let (mut writes, code) = (0, "FailedOperation.AccountAlreadyExists");
    while !kit.is_settled(job) {
        match kit.call().1 {
            Action::ReadShares { .. } => kit.refuse("UnauthorizedOperation.CamNoAuth"),
            // Every second account has the image.
            Action::Modify { account_ids, .. } => {
                writes += 1;
                let has = |account: &AccountId| account.to_string().ends_with(['0', '2', '4', '6', '8']);
                if account_ids.iter().any(has) { kit.refuse(code) } else { kit.accept() }
            }
            Action::ReadImage { .. } => panic!("the image is not busy"),
        }
    }
    assert!(kit.outcomes(job).iter().all(|outcome| matches!(*outcome, "changed" | "unchanged")));
    assert!(writes <= 403, "{writes} writes");
}
