//! Many jobs against the API's limit, by the sandbox's own count. The same at full size, with the time that it takes,
//! is a command in the manual.

use std::{fmt::Write as _, time::Instant};

use kit::{Folder, Sandbox, job};

#[test]
fn many_jobs_cost_the_least_requests_and_never_exceed_the_limit() {
    const IMAGES: u64 = 6;
    const ACCOUNTS: u64 = 250;
    const LEAST_WRITES: u64 = IMAGES * ACCOUNTS.div_ceil(50);

    let sandbox = Sandbox::start(&["--rps", "0", "--latency", "80ms"]);
    let mut jobs = String::new();
    for account in 0..ACCOUNTS {
        for image in 0..IMAGES {
            let id = 100_000_000_000 + image * 1000 + account;
            write!(jobs, "{}", job(&format!("img-golden{image:02}"), "SHARE", [id])).unwrap();
        }
    }
    let folder = Folder::new();
    let begun = Instant::now();
    let ended = sandbox.program("run").arg(folder.file("jobs.ndjson", jobs)).run().check(0);
    assert_eq!(ended.json().len() as u64, IMAGES * ACCOUNTS);

    let stats = sandbox.stats();
    let number = |pointer: &str| stats.pointer(pointer).and_then(serde_json::Value::as_u64).unwrap_or_default();
    let writes = number("/by_action/ModifyImageSharePermission");
    assert!(writes >= LEAST_WRITES && writes * 10 <= LEAST_WRITES * 11, "{writes} writes: {stats}");
    // By the worker's own clock; a busy machine may bring the writes of two seconds together at the sandbox.
    let seconds = begun.elapsed().as_secs_f64();
    assert!(writes as f64 <= 10.0 * seconds + 1.0, "{writes} writes in {seconds} s");
    assert_eq!(number("/max_writes_in_flight"), 1, "{stats}");
    assert_eq!(number("/repeated_accounts"), 0, "{stats}");
    for (image, accounts) in sandbox.state() {
        assert_eq!(accounts.len() as u64, ACCOUNTS, "{image}");
    }
}
