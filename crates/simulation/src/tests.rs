//! Histories that every build runs.

use std::ops::Range;

use imageshare_core::Permission;
use imageshare_engine::{
    Engine,
    io::Command,
    job::{Job, Mode},
    policy::{Policy, Unfinished},
    time::{Instant, Millis},
};
use imageshare_sandbox::ledger::Image;

use crate::{
    broker::BrokerDials,
    fault::{InjectedFault, InjectedFaults},
    run::run,
    scale::{Load, carry},
    scenario::{DIALS, OWNER, Scenario, account, account_of, image, region},
};

/// Every setting of the dials.
const HISTORIES: u64 = DIALS;

#[track_caller]
fn check(seed: u64) {
    let ended = run(Scenario::draw(seed), seed, false);
    assert!(ended.violations.is_empty(), "seed {seed}: {:#?}", ended.violations);
}

/// Runs these seeds; or, if `SEED` names one, only that, and prints all that happens. Then `DIALS` can turn dials of the
/// broker, such as `--proof off`.
#[track_caller]
fn check_all(seeds: Range<u64>) {
    let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) else {
        return seeds.for_each(check);
    };
    let dials = std::env::var("DIALS").unwrap_or_default();
    let ended = run(Scenario { broker: turned(&dials), ..Scenario::draw(seed) }, seed, true);
    for line in &ended.log {
        println!("{line}");
    }
    assert!(ended.violations.is_empty(), "seed {seed}: {:#?}", ended.violations);
}

// Two tests, so that two cores share the work.

#[test]
fn first_half_of_seeds_breaks_no_invariant() {
    check_all(0..HISTORIES / 2);
}

#[test]
fn second_half_of_seeds_breaks_no_invariant() {
    check_all(HISTORIES / 2..HISTORIES);
}

/// The documented dials of the broker, but for these.
#[track_caller]
fn turned(dials: &str) -> BrokerDials {
    let words: Vec<_> = dials.split_whitespace().collect();
    let mut broker = BrokerDials::default();
    for dial in words.chunks(2) {
        assert!(dial.len() == 2 && broker.turn(dial[0], dial[1]).is_some(), "invalid dial {dial:?}");
    }
    broker
}

/// The promises in `docs/broker.md` that a worker breaks when these dials are turned: one of the first seeds with a
/// takeover, or with priorities, shows it.
#[track_caller]
fn check_dial(dials: &str, broken: &str) {
    const SEEDS: u64 = 3000;
    let page = include_str!("../../../docs/broker.md");
    assert!(page.contains(&format!("`{dials}`")), "docs/broker.md has no `{dials}`");
    let broker = turned(dials);
    let is_concerned = |world: &Scenario| {
        world.has_takeover_checks() && (world.faults.may_hand_over() || !world.priorities.is_empty())
    };
    let mut worlds = (0..SEEDS).map(|seed| (seed, Scenario::draw(seed))).filter(|(_, world)| is_concerned(world));
    let is_broken = worlds.any(|(seed, world)| {
        let ended = run(Scenario { broker: broker.clone(), ..world }, seed, false);
        ended.violations.iter().any(|violation| violation.contains(broken))
    });
    assert!(is_broken, "{dials}: no violation with {broken:?} in {SEEDS} seeds");
}

#[test]
fn order_needs_redelivery_in_order() {
    check_dial("--redelivery newest-first", "at the end");
    check_dial("--redelivery shuffled", "at the end");
    check_dial("--redelivery behind-backlog", "at the end");
}

#[test]
fn order_needs_one_prefetch() {
    check_dial("--prefetch varying", "at the end");
}

#[test]
fn order_needs_single_active_consumer() {
    check_dial("--single-active-consumer off", "at the end");
}

#[test]
fn order_needs_acks_lost_from_end() {
    check_dial("--acks-lost any", "at the end");
}

#[test]
fn order_needs_rejected_priorities() {
    check_dial("--priority accepted", "at the end");
}

#[test]
fn no_loss_needs_redelivery() {
    check_dial("--redelivery never", "is lost without a report");
}

#[test]
fn report_needs_a_high_delivery_limit() {
    check_dial("--delivery-limit 3", "is dead-lettered by the broker without a report");
}

#[test]
fn no_loss_above_limit_needs_dead_letters() {
    check_dial("--delivery-limit 3 --dead-letters off", "is lost without a report");
}

#[test]
fn silent_old_worker_needs_its_proof() {
    check_dial("--proof off", "sends a write after it lost the lane");
}

#[test]
fn proof_needs_a_longer_disconnect_timeout() {
    check_dial("--disconnect-timeout 2000", "sends a write after it lost the lane");
}

#[test]
fn silent_worker_must_see_end_first() {
    check_dial("--end-seen-within 60", "sends a write after it lost the lane");
}

/// Runs a short history without faults, then again with one fault at each of its calls, or steps, in turn.
fn place_everywhere(seed: u64) {
    let mut world = Scenario::draw(seed);
    world.faults = InjectedFaults::default();
    world.jobs.truncate(4);
    let quiet = run(world.clone(), seed, false);
    assert!(quiet.violations.is_empty(), "seed {seed} without faults: {:#?}", quiet.violations);
    let one_shot = world.policy.unfinished == Unfinished::Report;
    let of_calls = InjectedFault::OF_CALLS.into_iter().map(|fault| (fault, quiet.seen.0));
    let of_steps = InjectedFault::OF_STEPS.into_iter().map(|fault| (fault, quiet.seen.1));
    for (fault, places) in of_calls.chain(of_steps) {
        // No worker takes over from a one-shot command.
        if one_shot && fault.is_hand_over() {
            continue;
        }
        for nth in 1..=places.min(60) {
            let mut world = world.clone();
            world.faults = InjectedFaults::placed([(nth, fault)]);
            let ended = run(world, seed, false);
            assert!(ended.violations.is_empty(), "seed {seed}, {} at {nth}: {:#?}", fault.as_str(), ended.violations);
        }
    }
}

#[test]
fn fault_at_any_step_breaks_no_invariant() {
    (0..200).for_each(place_everywhere);
}

/// Two jobs on two accounts of one image. The first account may have the image, and the second job is `gap` later.
fn two_jobs(jobs: [(Mode, &[u64]); 2], shared: [bool; 2], gap: u64) -> Scenario {
    let mut world = Scenario::quiet();
    world.images = 1;
    world.accounts = 2;
    world.workers = 2;
    world.policy = Policy::WORKER;
    // Short, so that histories are; what matters is that one is longer than the other.
    world.limits.write_lag = Millis(2000);
    world.limits.read_lag = Millis(500);
    world.lag_max = 500;
    world.moments = (1..9).map(|nth| nth * 300).collect();
    world.ledger.put_image(image(0), Image::normal(account_of(OWNER), region()));
    for nth in 0..2 {
        if shared[usize::from(nth == 1)] {
            world.ledger.impose(0, image(0), account(nth), Permission::Share);
        }
    }
    for (nth, (mode, accounts)) in jobs.into_iter().enumerate() {
        let job = Job {
            region: region(),
            image_id: image(0),
            mode,
            account_ids: accounts.iter().map(|&nth| account(nth)).collect(),
            deadline: None,
            force: true,
            redelivered: false,
        };
        world.jobs.push((Instant(1000 + gap * nth as u64), job));
    }
    world
}

/// Every history of such jobs with a kill at each step and a lost answer at each call, enumerated.
#[test]
fn two_jobs_survive_kill_and_lost_response() {
    const MODES: [Mode; 3] = [Mode::Cancel, Mode::Share, Mode::Sync];
    const LISTS: [&[u64]; 3] = [&[0], &[1], &[0, 1]];
    let jobs = || MODES.into_iter().flat_map(|mode| LISTS.into_iter().map(move |list| (mode, list)));
    let mut histories = 0;
    for first in jobs() {
        for second in jobs() {
            for shared in [[false, false], [true, false], [true, true]] {
                for gap in [0, 150, 1900] {
                    histories += kill_and_lose(&two_jobs([first, second], shared, gap));
                }
            }
        }
    }
    assert!(histories > 40_000, "{histories}");
}

/// Runs a world with a kill and a lost answer at each pair of places, and gives how many there were.
fn kill_and_lose(world: &Scenario) -> u64 {
    let quiet = run(world.clone(), 0, false);
    assert!(quiet.violations.is_empty(), "{world:?}: {:#?}", quiet.violations);
    let (calls, steps) = (quiet.seen.0, quiet.seen.1);
    // A call whose answer is lost is applied at once, or late, when the one that took over may have looked already.
    let lost = [InjectedFault::AnswerLost, InjectedFault::Late];
    for step in 1..=steps {
        for (call, lost) in (1..=calls + 2).flat_map(|call| lost.map(|lost| (call, lost))) {
            let mut world = world.clone();
            world.faults = InjectedFaults::placed([(step, InjectedFault::Kill), (call, lost)]);
            let jobs = world.jobs.clone();
            let ended = run(world, step * 31 + call, false);
            assert!(
                ended.violations.is_empty(),
                "killed at {step}, {call} {lost:?}, {jobs:?}: {:#?}",
                ended.violations
            );
        }
    }
    steps * (calls + 2) * lost.len() as u64
}

#[test]
fn same_seed_gives_the_same_history() {
    for seed in 0..300 {
        let history = || run(Scenario::draw(seed), seed, true).log;
        assert_eq!(history(), history(), "seed {seed}");
    }
}

#[test]
fn ten_thousand_jobs_cost_two_hundred_writes() {
    let load = Load { images: 20, lanes: 1, ..Load::of(10_000) };
    let carried = carry(load, |_| {});
    assert_eq!(carried.writes, 200);
    assert!(carried.makespan() < 1.07, "{carried:?}");
}

/// Enough requests for each lane that its first interval and its last answer count for little.
fn load() -> Load {
    Load { images: 100, lanes: 10, ..Load::of(100_000) }
}

#[test]
fn load_with_failures_takes_little_more_time() {
    let makespan = |load| carry(load, |_| {}).makespan();
    assert!(makespan(load()) < 1.06);
    assert!(makespan(Load { transient: 10, ..load() }) < 1.12);
    assert!(makespan(Load { bad: 1, ..load() }) < 5.5);
}

#[test]
fn idle_engine_allocates_nothing() {
    let mut allocations = 0;
    let look = |engine: &mut Engine| {
        let command = engine.poll(Instant(0));
        assert!(matches!(command, Command::WaitUntil(_)), "{command:?}");
        let polled = || (0..1000).for_each(|_| assert_eq!(engine.poll(Instant(0)), command));
        allocations = allocation_counter::measure(polled).count_total;
    };
    assert_eq!(carry(load(), look).writes, 2000);
    assert_eq!(allocations, 0);
}
