//! Counts the reports that wait to be written, so that a slow reader of reports pauses the reading of jobs.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

/// Above this many waiting bytes no further jobs are read. Jobs that were read before still add their reports.
const WAITING_MAX: usize = 16 * 1024 * 1024;

/// The waiting bytes of all destinations together.
#[derive(Clone, Default)]
pub(super) struct Backlog(Arc<(Mutex<usize>, Condvar)>);

/// A waiting line. It counts until it is dropped.
pub(super) struct Waiting {
    pub(super) line: Arc<str>,
    backlog: Backlog,
}

impl Backlog {
    /// Adds a line.
    pub(super) fn add(&self, line: Arc<str>) -> Waiting {
        self.change(|waiting| waiting + line.len());
        Waiting { line, backlog: self.clone() }
    }

    /// Blocks until the limit permits further jobs.
    pub(super) fn until_room(&self) {
        let (waiting, changed) = &*self.0;
        changed.wait_while(&mut waiting.lock(), |waiting| *waiting > WAITING_MAX);
    }

    fn change(&self, to: impl FnOnce(usize) -> usize) {
        let (waiting, changed) = &*self.0;
        let mut waiting = waiting.lock();
        *waiting = to(*waiting);
        changed.notify_all();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.backlog.change(|waiting| waiting - self.line.len());
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn reading_resumes_when_backlog_is_written_or_closed() {
        let backlog = Backlog::default();
        let line: Arc<str> = "x".repeat(WAITING_MAX).into();
        let waiting = [backlog.add(Arc::clone(&line)), backlog.add(line)];
        assert_eq!(*backlog.0.0.lock(), 2 * WAITING_MAX, "each destination has its own line");
        let reader = thread::spawn({
            let backlog = backlog.clone();
            move || backlog.until_room()
        });
        drop(waiting);
        reader.join().unwrap();
        assert_eq!(*backlog.0.0.lock(), 0);
    }
}
