//! The hosts that callers wait for, to announce them.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// How long a wait is not announced. Most responses take a tenth of this.
const SHORT: Duration = Duration::from_secs(2);

/// The waits of a client. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Waits(Arc<watch::Sender<WaitsState>>);

#[derive(Debug, Default)]
struct WaitsState {
    next_id: u64,
    waits: BTreeMap<u64, Wait>,
    /// Why the last call to a host failed, until one has a response.
    problems: BTreeMap<Box<str>, String>,
    /// Hosts that were announced. One line for each is enough: the command ends with the result.
    announced: BTreeSet<Box<str>>,
}

#[derive(Debug)]
struct Wait {
    host: Box<str>,
    since: Instant,
}

/// A wait. It ends when this is dropped.
#[derive(Debug)]
pub struct WaitGuard {
    waits: Waits,
    id: u64,
}

impl Waits {
    /// Begins a wait for a host. It may cover several calls and the pauses between them.
    #[must_use]
    pub fn begin(&self, host: &str) -> WaitGuard {
        let mut id = 0;
        self.0.send_modify(|state| {
            id = state.next_id;
            state.next_id += 1;
            state.waits.insert(id, Wait { host: host.into(), since: Instant::now() });
        });
        WaitGuard { waits: self.clone(), id }
    }

    /// Records the result of a call to a host.
    pub(super) fn ended<T>(&self, host: &str, result: &Result<T, impl ToString>) {
        self.0.send_if_modified(|state| match result {
            Ok(_) => state.problems.remove(host).is_some(),
            Err(error) => {
                state.problems.insert(host.into(), error.to_string());
                true
            }
        });
    }

    /// Announces each host once, when a wait for it has taken 2 s, until the result is dropped.
    pub async fn announce(&self, say: impl Fn(&str)) -> Infallible {
        let mut changes = self.0.subscribe();
        loop {
            let due = changes.borrow_and_update().due();
            if due.is_some_and(|due| due <= Instant::now()) {
                self.due_lines().iter().for_each(|line| say(line));
                continue;
            }
            tokio::select! {
                // `self` holds a sender, so the channel stays open.
                _ = changes.changed() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    /// Returns the lines that are due, and marks their hosts as announced.
    fn due_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.0.send_modify(|state| {
            let WaitsState { waits, problems, announced, .. } = state;
            let now = Instant::now();
            for wait in waits.values().filter(|wait| wait.since + SHORT <= now) {
                if announced.insert(wait.host.clone()) {
                    lines.push(match problems.get(&wait.host) {
                        Some(problem) => format!("waiting for {}: {problem}; trying again", wait.host),
                        None => format!("waiting for {}: no usable answer yet", wait.host),
                    });
                }
            }
        });
        lines
    }
}

impl WaitsState {
    /// Returns when the next line is due.
    fn due(&self) -> Option<Instant> {
        let waits = self.waits.values().filter(|wait| !self.announced.contains(&wait.host));
        waits.map(|wait| wait.since + SHORT).min()
    }
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        self.waits.0.send_modify(|state| drop(state.waits.remove(&self.id)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::sleep;

    use super::*;

    /// Returns the lines during `work`, with the second of each.
    async fn said(waits: &Waits, work: impl Future<Output = ()>) -> Vec<(f32, String)> {
        let (started, lines) = (Instant::now(), Mutex::new(Vec::new()));
        let say = |line: &str| lines.lock().unwrap().push((started.elapsed().as_secs_f32().round(), line.to_owned()));
        tokio::select! {
            never = waits.announce(say) => match never {},
            () = work => {}
        }
        lines.into_inner().unwrap()
    }

    const REFUSED: Result<(), &str> = Err("connection refused");

    #[tokio::test(start_paused = true)]
    async fn long_wait_is_announced_once_per_host() {
        let waits = Waits::default();
        let lines = said(&waits, async {
            let refusing = waits.begin("api.example");
            waits.ended("api.example", &REFUSED);
            sleep(Duration::from_secs(1)).await;
            let _silent = waits.begin("sts.example");
            sleep(Duration::from_secs(60)).await;
            drop(refusing);
            let _again = waits.begin("api.example");
            sleep(Duration::from_secs(60)).await;
        });
        let expected = [
            (2.0, "waiting for api.example: connection refused; trying again".to_owned()),
            (3.0, "waiting for sts.example: no usable answer yet".to_owned()),
        ];
        assert_eq!(lines.await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn answer_ends_problem_of_its_host() {
        let waits = Waits::default();
        let lines = said(&waits, async {
            let _waiting = waits.begin("api.example");
            waits.ended("api.example", &REFUSED);
            waits.ended("api.example", &Ok::<_, &str>(()));
            sleep(Duration::from_secs(3)).await;
        });
        assert_eq!(lines.await, [(2.0, "waiting for api.example: no usable answer yet".to_owned())]);
    }

    #[tokio::test(start_paused = true)]
    async fn answered_calls_are_not_announced() {
        let waits = Waits::default();
        let lines = said(&waits, async {
            for _ in 0..10 {
                let call = waits.begin("api.example");
                sleep(Duration::from_millis(1_900)).await;
                drop(call);
            }
        });
        assert_eq!(lines.await, []);
    }
}
