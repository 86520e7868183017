//! Properties of whole histories, with jobs and faults that shrink to the least that breaks them.

use std::collections::BTreeMap;

use imageshare_engine::{
    job::{AccountOutcome, Job, Mode},
    policy::Policy,
    time::{Instant, Millis},
};
use imageshare_sandbox::ledger::Image;
use proptest::prelude::*;

use crate::{
    fault::{InjectedFault, InjectedFaults},
    run::{Ended, run},
    scenario::{OWNER, Scenario, account, account_of, image, region},
};

/// A job: mode, accounts, and the milliseconds after the job before.
type TestJob = (Mode, Vec<u64>, u64);

fn jobs() -> impl Strategy<Value = Vec<TestJob>> {
    let modes = prop_oneof![3 => Just(Mode::Share), 3 => Just(Mode::Cancel), 1 => Just(Mode::Sync)];
    let accounts = proptest::sample::subsequence(vec![0, 1, 2], 1..=3);
    proptest::collection::vec((modes, accounts, prop_oneof![Just(0), 1_u64..500, 1_u64..60_000]), 1..10)
}

fn faults() -> impl Strategy<Value = Vec<(u64, InjectedFault)>> {
    let any: Vec<_> =
        InjectedFault::OF_CALLS.into_iter().chain(InjectedFault::OF_STEPS).filter(|&fault| is_ours(fault)).collect();
    proptest::collection::vec((1_u64..40, proptest::sample::select(any)), 0..4)
}

/// Whether a fault leaves the last word to the jobs, and lets all of them succeed in the end.
fn is_ours(fault: InjectedFault) -> bool {
    !matches!(fault, InjectedFault::Outside | InjectedFault::Deployment | InjectedFault::Busy)
}

fn history(jobs: &[TestJob], faults: &[(u64, InjectedFault)], seed: u64) -> Ended {
    let mut world = Scenario::quiet();
    world.images = 1;
    world.accounts = 3;
    world.workers = 2;
    world.policy = Policy::WORKER;
    world.limits.write_lag = Millis(2000);
    world.limits.read_lag = Millis(500);
    world.lag_max = 500;
    world.latency = (20, 900);
    world.faults = InjectedFaults::placed(faults);
    world.ledger.put_image(image(0), Image::normal(account_of(OWNER), region()));
    let mut at = 1000;
    for (mode, accounts, gap) in jobs {
        at += gap;
        let job = Job {
            region: region(),
            image_id: image(0),
            mode: *mode,
            account_ids: accounts.iter().map(|&nth| account(nth)).collect(),
            deadline: None,
            force: true,
            redelivered: false,
        };
        world.jobs.push((Instant(at), job));
    }
    run(world, seed, true)
}

/// Returns which accounts have the image once every request is applied in order.
fn apply_in_order(jobs: &[TestJob]) -> BTreeMap<u64, bool> {
    let mut shared: BTreeMap<u64, bool> = (0..3).map(|nth| (nth, false)).collect();
    for (mode, accounts, _) in jobs {
        for (nth, has) in &mut shared {
            match (mode, accounts.contains(nth)) {
                (Mode::Share | Mode::Sync, true) => *has = true,
                (Mode::Cancel, true) | (Mode::Sync, false) => *has = false,
                (Mode::Share | Mode::Cancel, false) => {}
            }
        }
    }
    shared
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn account_order_holds_under_any_interleaving(
        jobs in jobs(), faults in faults(), seed in proptest::num::u64::ANY,
    ) {
        let ended = history(&jobs, &faults, seed);
        prop_assert!(ended.violations.is_empty(), "{:#?}", ended.violations);
        let failed = |outcome: &AccountOutcome| matches!(outcome, AccountOutcome::Failed(_));
        let all_went = !ended.reports.values().any(|report| {
            report.outcomes.iter().chain(&report.cancelled).any(|(_, outcome)| failed(outcome))
        });
        if all_went {
            let expected = apply_in_order(&jobs);
            let shared: BTreeMap<_, _> = (0..3).map(|nth| (nth, ended.shared.contains(&account(nth)))).collect();
            prop_assert_eq!(shared, expected);
        }
    }

    #[test]
    fn same_inputs_give_the_same_commands(
        jobs in jobs(), faults in faults(), seed in proptest::num::u64::ANY,
    ) {
        let history = || history(&jobs, &faults, seed).log;
        prop_assert_eq!(history(), history());
    }
}
