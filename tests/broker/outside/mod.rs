//! The outside checker: rounds of random jobs and faults, judged by the reports and by the sandbox alone.
//!
//! `ROUNDS=500 SEED=1 cargo test --workspace --test broker outside::rounds -- --nocapture` runs 500 rounds.
//! `ROUND=NUMBER` repeats one round, `TRACKS=4` runs four side by side, and `KEEP=1` writes the records of all rounds to
//! `target/outside`. `RECORD=FILE` judges such a record again.

mod judge;
#[cfg(test)]
mod judge_tests;
mod outcomes;
mod plan;
mod record;
mod round;
mod story;
mod timeline;

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use serde_json::Value;

use judge::{Problem, Rule, judge, problem};
use kit::{
    Node, figures, of_repository,
    sizes::{number, seed},
};
use plan::Plan;
use record::Record;
use round::Round;

/// Rounds of the ordinary run.
const ROUNDS: u64 = 4;

/// Rounds that run side by side, each on its own broker.
const TRACKS: u64 = 2;

/// Distance between the first rounds of two seeds.
const ROUNDS_A_SEED: u64 = 10_000;

/// Attempts of a round that ends without a record.
const ATTEMPTS: usize = 3;

/// Stories that are printed for one round.
const STORIES_MAX: usize = 3;

/// Totals of a run.
#[derive(Default)]
struct Totals {
    rounds: u64,
    jobs: u64,
    reports: u64,
    requests: u64,
    /// Problems, each with the number of its round.
    broken: Vec<(u64, String)>,
}

/// Judges the record of a file again.
fn judge_file(path: &str) {
    let record = Record::parse(&serde_json::from_slice(&fs::read(path).unwrap()).unwrap());
    let problems = judge(&record);
    for problem in &problems {
        eprintln!("{problem}\n{}", story::of(&record, problem));
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn rounds_lose_nothing_and_report_truly() {
    if let Ok(path) = env::var("RECORD") {
        return judge_file(&path);
    }
    let first = number("ROUND").unwrap_or_else(|| seed() * ROUNDS_A_SEED);
    let rounds = if number("ROUND").is_some() { 1 } else { number("ROUNDS").unwrap_or(ROUNDS) };
    let next = AtomicU64::new(first);
    let totals = Mutex::new(Totals::default());
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..number("TRACKS").unwrap_or(TRACKS).min(rounds) {
            scope.spawn(|| track(&next, first + rounds, &totals));
        }
    });
    let Totals { rounds: judged, jobs, reports, requests, broken } = totals.into_inner().unwrap();
    let seconds = begun.elapsed().as_secs();
    figures(&[("rounds", judged), ("jobs", jobs), ("reports", reports), ("requests", requests)]);
    eprintln!(
        "outside: {judged} rounds in {seconds} s: {jobs} jobs, {reports} reports, {requests} requests, {} broken",
        broken.len()
    );
    assert_eq!(judged, rounds, "each round was judged");
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Runs one round after another on one broker.
fn track(next: &AtomicU64, end: u64, totals: &Mutex<Totals>) {
    let mut node = None;
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return;
        }
        let plan = Plan::new(seed);
        let line = format!("round {seed}: {}", plan.words());
        let mut begun = Instant::now();
        let mut attempts = (0..ATTEMPTS).map(|_| {
            begun = Instant::now();
            let raw = attempt(&mut node, &plan);
            if raw.is_none() {
                eprintln!("{line}: {:.1} s: did not end", begun.elapsed().as_secs_f64());
            }
            raw
        });
        let raw = attempts.find_map(|raw| raw);
        let seconds = begun.elapsed().as_secs_f64();
        let mut totals_now = totals.lock().unwrap();
        totals_now.rounds += 1;
        let Some(raw) = raw else {
            totals_now.broken.push((seed, "the round did not end".to_owned()));
            continue;
        };
        let record = Record::parse(&raw);
        let problems = judge(&record);
        let (jobs, reports, requests) = (record.jobs.len(), record.reports.len(), record.requests.len());
        let problems = if problems.is_empty() { undetected(&record) } else { problems };
        let verdict = if problems.is_empty() { "ok".to_owned() } else { format!("{} BROKEN", problems.len()) };
        eprintln!("{line}: {jobs} jobs, {reports} reports, {requests} requests, {seconds:.1} s: {verdict}");
        totals_now.jobs += u64::try_from(jobs).unwrap();
        totals_now.reports += u64::try_from(reports).unwrap();
        totals_now.requests += u64::try_from(requests).unwrap();
        if number("KEEP").is_some() {
            keep(seed, &raw);
        }
        if !problems.is_empty() {
            print_broken(seed, &raw, &record, &problems);
            totals_now.broken.extend(problems.iter().map(|problem| (seed, problem.to_string())));
        }
    }
}

/// Runs a round. If the kit loses patience, such as with a broker that does not start on a busy machine, there is no
/// record, and the next attempt gets another broker.
fn attempt(node: &mut Option<Node>, plan: &Plan) -> Option<Value> {
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let node = node.get_or_insert_with(Node::start);
        Round::run(node, plan)
    }));
    if ran.is_err() {
        drop(node.take());
    }
    ran.ok()
}

/// Falsifies the record of a good round, and returns what the judge then misses: a flipped account, a dropped report.
fn undetected(record: &Record) -> Vec<Problem> {
    let Some(job) = record.jobs.last() else { return Vec::new() };
    let mut flipped = record.clone();
    for account in &job.accounts {
        let accounts = flipped.last.entry(job.image.clone()).or_default();
        if !accounts.remove(account) {
            accounts.insert(*account);
        }
    }
    let mut dropped = record.clone();
    dropped.reports.retain(|report| report.job_id != job.id);
    let falsified = [(Rule::EndState, "a flipped account", flipped), (Rule::Lost, "a dropped report", dropped)];
    let is_missed = |(rule, what, record): (Rule, &str, Record)| {
        let is_found = judge(&record).iter().any(|problem| problem.rule == rule);
        (!is_found).then(|| problem(rule, None, format!("{what} of {} was not detected", job.id)))
    };
    falsified.into_iter().filter_map(is_missed).collect()
}

/// Writes the record of a round to a file.
fn keep(seed: u64, raw: &Value) -> PathBuf {
    let folder = of_repository("target/outside");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{seed}.json"));
    fs::write(&path, raw.to_string()).unwrap();
    path
}

/// Prints the problems of a round with the stories of their accounts.
fn print_broken(seed: u64, raw: &Value, record: &Record, problems: &[Problem]) {
    let path = keep(seed, raw);
    for problem in problems {
        eprintln!("round {seed}: {problem}");
    }
    for problem in problems.iter().filter(|problem| problem.about.is_some()).take(STORIES_MAX) {
        eprintln!("round {seed}: {problem}\n{}", story::of(record, problem));
    }
    eprintln!("round {seed}: the record is in {}; run it again with ROUND={seed}", path.display());
}
