//! What waits to be written: as much as there is of it holds up the reading of further jobs.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Bytes of reports that may wait before no more jobs are read. What was read before still adds to them.
const WAITING_MAX: usize = 16 * 1024 * 1024;

/// The bytes that wait at all places together.
#[derive(Clone, Default)]
pub(super) struct Backlog(Arc<(Mutex<usize>, Condvar)>);

/// A line that waits. It counts until it is dropped.
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

    /// Waits until there is room for more.
    pub(super) fn until_room(&self) {
        let (waiting, changed) = &*self.0;
        let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // What a panic left behind is a number all the same.
        drop(changed.wait_while(waiting, |waiting| *waiting > WAITING_MAX).unwrap_or_else(PoisonError::into_inner));
    }

    fn change(&self, to: impl FnOnce(usize) -> usize) {
        let (waiting, changed) = &*self.0;
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
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
        assert_eq!(*backlog.0.0.lock().unwrap(), 2 * WAITING_MAX, "each place has its own to write");
        let reader = thread::spawn({
            let backlog = backlog.clone();
            move || backlog.until_room()
        });
        drop(waiting);
        reader.join().unwrap();
        assert_eq!(*backlog.0.0.lock().unwrap(), 0);
    }
}
