//! A worker dies or ends at any moment: nothing is lost, and nothing is done twice beyond what was under way.

use std::{
    collections::BTreeMap,
    fs::File,
    io::pipe,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use kit::{
    Node, Relay, Sandbox, Sizes, figures,
    history::{History, Random, account, image},
    stage::{REPORTS, Repeated, Stage},
    until,
};

const IMAGES: u64 = 8;

/// Accounts that a request names at most.
const BATCH: usize = 50;

/// Kills after which some images are busy anew.
const KILLS_A_BUSY_TIME: usize = 10;

/// A moment of the time in which a round is worked off.
fn moment(random: &mut Random) {
    // Not waiting for anything: the moment is to be any.
    thread::sleep(Duration::from_millis(random.below(700)));
}

#[test]
fn jobs_are_carried_out_and_reported_and_acknowledged() {
    let stage = Stage::new(Node::any(), Sandbox::start(&["--rps", "0"]), 500);
    let mut history = History::default();
    history.add_random(&mut Random::of(1), 200, IMAGES);
    stage.publish(&history.jobs);
    let worker = stage.worker();
    worker.until_serving();
    stage.check_done(&history);
    worker.drain();
}

#[test]
fn a_worker_that_is_killed_at_any_moment_loses_nothing() {
    let Sizes { kills, jobs_a_round, .. } = Sizes::of_run();
    let stage = Stage::new(Node::any(), Sandbox::start(&["--rps", "0", "--latency", "30ms"]), 100);
    let mut random = Random::of(2);
    let mut history = History::default();
    // How many requests the sandbox had had at each kill.
    let mut killed_at = Vec::new();
    for kill in 0..kills {
        if kill % KILLS_A_BUSY_TIME == 0 {
            stage.sandbox.faults(&serde_json::json!({"busy_images": {image(0): 3.0, image(1): 6.0}}));
        }
        let first = history.jobs.len();
        history.add_random(&mut random, jobs_a_round, IMAGES);
        stage.publish(&history.jobs[first..]);
        let worker = stage.worker();
        worker.until_subscribed();
        moment(&mut random);
        worker.kill();
        killed_at.push(stage.sandbox.stats()["requests"].as_u64().unwrap());
    }
    let worker = stage.worker();
    stage.check_done(&history);
    check_repeated(&stage, &history, &killed_at);
    worker.drain();
}

/// What was written although it was so already is for each kill and image no more than what was in flight there.
#[track_caller]
fn check_repeated(stage: &Stage<'_>, history: &History, killed_at: &[u64]) {
    let repeated = stage.repeated();
    let mut of_kill: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for Repeated { request, image, .. } in &repeated {
        let kill = killed_at.partition_point(|at| at <= request);
        *of_kill.entry((kill, image)).or_default() += 1;
    }
    figures(&[("kills", killed_at.len() as u64), ("repeated-accounts", repeated.len() as u64)]);
    for ((kill, image), count) in of_kill {
        let account = repeated.iter().find(|repeated| repeated.image == image).unwrap().account;
        assert!(
            kill > 0 && count <= BATCH,
            "after kill {kill}: {count} accounts of {image} were repeated. The story of {account}:\n{}",
            stage.story(history, image, account)
        );
    }
}

#[test]
fn a_worker_that_is_asked_to_end_at_any_moment_ends_well_and_repeats_nothing() {
    let stage = Stage::new(Node::any(), Sandbox::start(&["--rps", "0", "--latency", "30ms"]), 100);
    let Sizes { drains, jobs_a_round, .. } = Sizes::of_run();
    let mut random = Random::of(3);
    let mut history = History::default();
    for _ in 0..drains {
        let first = history.jobs.len();
        history.add_random(&mut random, jobs_a_round, IMAGES);
        stage.publish(&history.jobs[first..]);
        let worker = stage.worker();
        moment(&mut random);
        let begun = Instant::now();
        worker.drain();
        assert!(begun.elapsed() < Duration::from_secs(25));
    }
    let worker = stage.worker();
    stage.until_worked_off();
    if let Some(Repeated { image, account, .. }) = stage.repeated().first() {
        panic!(
            "{} were repeated. The story of {account}:\n{}",
            stage.repeated().len(),
            stage.story(&history, image, *account)
        );
    }
    stage.check_done(&history);
    figures(&[("drains", drains as u64)]);
    worker.drain();
}

#[test]
fn a_worker_that_has_nothing_to_do_ends_well() {
    let stage = Stage::new(Node::any(), Sandbox::start(&["--rps", "0"]), 500);
    for _ in 0..Sizes::of_run().drains {
        let worker = stage.worker();
        worker.until_subscribed();
        worker.drain();
    }
}

#[test]
fn connections_to_the_api_that_end_at_any_moment_fail_no_job() {
    let stage = Stage::new(Node::any(), Sandbox::start(&["--rps", "0", "--latency", "10ms"]), 100);
    let endpoint = Relay::to(stage.sandbox.port());
    let (mut history, mut random) = (History::default(), Random::of(4));
    let worker = stage.worker_between(stage.vhost.node.port, endpoint.port);
    worker.until_subscribed();
    for _ in 0..Sizes::of_run().cuts {
        let first = history.jobs.len();
        history.add_random(&mut random, 20, IMAGES);
        stage.publish(&history.jobs[first..]);
        // Not waiting for anything: the moment is to be any, also one at which a connection is about to be used again.
        thread::sleep(Duration::from_millis(random.below(200)));
        endpoint.cut();
    }
    stage.check_done(&history);
    assert!(endpoint.accepted() > Sizes::of_run().cuts, "connections were made anew");
    worker.drain();
}

#[test]
fn jobs_that_come_twice_are_done_once() {
    let stage = Stage::new(Node::any(), Sandbox::start(&["--rps", "0"]), 500);
    let mut history = History::default();
    for number in 0..100 {
        history.add(&image(number % IMAGES), true, [account(2 * number), account(2 * number + 1)]);
    }
    let worker = stage.worker();
    stage.publish(&history.jobs);
    stage.until_worked_off();
    let (writes, requests) = (stage.sandbox.writes(), stage.sandbox.requests().len());
    stage.publish(&history.jobs);
    stage.until_worked_off();
    assert_eq!(stage.sandbox.writes(), writes, "nothing is written for what is done");
    let more = stage.sandbox.requests().len() - requests;
    assert!(more <= history.jobs.len(), "{more} readings for {} jobs", history.jobs.len());
    stage.check_state(&history);
    let reports = stage.client().take_all(REPORTS);
    assert_eq!(reports.len(), 2 * history.jobs.len(), "each has a report each time");
    for report in &reports[history.jobs.len()..] {
        let report: serde_json::Value = serde_json::from_slice(&report.body).unwrap();
        assert_eq!(report["unchanged"].as_array().map(Vec::len), Some(2), "{report}");
    }
    worker.drain();
}

/// A worker whose log goes nowhere works and ends as any other.
#[track_caller]
fn check_log_to(log: impl Into<Stdio>) {
    let stage = Stage::new(Node::any(), Sandbox::start(&["--rps", "0"]), 500);
    let mut history = History::default();
    history.add_random(&mut Random::of(5), 500, IMAGES);
    let worker = stage.program("worker").args(["--log", "trace"]).start_with_log_to(log);
    stage.publish(&history.jobs);
    stage.check_done(&history);
    worker.signal("TERM");
    assert_eq!(worker.end().0, Some(0));
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    check_log_to(File::options().write(true).open("/dev/full").unwrap());
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let (_unread, log) = pipe().unwrap();
    check_log_to(log);
}

/// Rounds of faults after which a worker has what it has for good.
const FIRST_ROUNDS: usize = 5;

/// KiB that it may have more after many rounds than after the first.
const GROWTH_MAX_KIB: u64 = 16 * 1024;

#[test]
fn a_worker_has_no_more_files_threads_and_memory_after_many_faults_than_after_a_few() {
    let stage = Stage::new(Node::any(), Sandbox::start(&["--rps", "0"]), 500);
    let (broker, endpoint) = (Relay::to(stage.vhost.node.port), Relay::to(stage.sandbox.port()));
    let (mut history, mut random) = (History::default(), Random::of(6));
    let worker = stage.worker_between(broker.port, endpoint.port);
    let mut after_first = None;
    for round in 0..FIRST_ROUNDS + Sizes::of_run().fault_rounds {
        let first = history.jobs.len();
        history.add_random(&mut random, 100, IMAGES);
        stage.publish(&history.jobs[first..]);
        endpoint.cut();
        let mark = worker.mark();
        broker.cut();
        worker.until_subscribed_after(mark);
        stage.until_worked_off();
        if round + 1 == FIRST_ROUNDS {
            after_first = Some((worker.files_and_threads(), worker.resident_kib()));
        }
    }
    let ((files, threads), memory) = after_first.unwrap();
    // A connection that was just replaced may be a moment older than the one that takes its place.
    until("it has no more files and threads than at first", || {
        let now = worker.files_and_threads();
        (now.0 <= files && now.1 <= threads).then_some(())
    });
    let now = worker.resident_kib();
    figures(&[("most-growth-kib", now.saturating_sub(memory))]);
    assert!(now < memory + GROWTH_MAX_KIB, "from {memory} to {now} KiB");
    stage.check_done(&history);
    worker.drain();
}

#[test]
fn a_job_of_the_default_exchange_is_as_good_as_any() {
    let stage = Stage::new(Node::any(), Sandbox::start(&["--rps", "0"]), 500);
    let mut history = History::default();
    history.add(&image(0), true, [account(1), account(2)]);
    let body = history.jobs[0].to_string().into_bytes();
    stage.client().publish_to("", kit::stage::QUEUE, [(body, lapin::BasicProperties::default())]);
    let worker = stage.worker();
    worker.until_serving();
    stage.check_done(&history);
    worker.drain();
}
