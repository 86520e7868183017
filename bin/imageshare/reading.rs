//! Reading files that may never come: a pipe without a writer, a network file system that hangs.
//!
//! Such a reading cannot be broken off, so it gets a thread of its own, which is left behind when it takes too long. A
//! process that ends does not wait for it.

use std::{sync::Arc, thread, time::Duration};

use anyhow::{Context as _, anyhow};
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};

/// Threads that may hang at once.
const THREADS_MAX: usize = 4;

/// How long a reading may take.
const TIME_MAX: Duration = Duration::from_secs(30);

/// Reads the files of the settings, each time on a thread of its own. At most [`THREADS_MAX`] of them may hang.
#[derive(Clone)]
pub(crate) struct Readings {
    permits: Arc<Semaphore>,
    time_max: Duration,
}

impl Readings {
    pub(crate) fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(THREADS_MAX)), time_max: TIME_MAX }
    }

    /// Reads on a thread of its own, and waits for the result as long as a reading may take.
    ///
    /// # Errors
    /// If the reading takes longer, or if too many earlier ones hang.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, anyhow::Error> {
        let seconds = self.time_max.as_secs();
        let slow = || {
            anyhow!(
                "settings: not read within {seconds} s (expected files on a file system that responds, and no pipe \
                 without a writer)"
            )
        };
        timeout(self.time_max, self.read_at_last(read)).await.map_err(|_| slow())?
    }

    async fn read_at_last<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, anyhow::Error> {
        let permit = Arc::clone(&self.permits).acquire_owned().await?;
        let (done, result) = oneshot::channel();
        let read = move || {
            // If the result is late, the receiver is gone.
            drop(done.send(read()));
            drop(permit);
        };
        let thread = thread::Builder::new().name("reading".to_owned()).spawn(read);
        thread.context("the thread that reads settings cannot be started")?;
        result.await.context("settings: the reading broke down, and this is a bug")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn threads_that_hang_are_left_behind_and_bounded() {
        let impatient = Readings { time_max: Duration::from_millis(1), ..Readings::new() };
        let mut hung = Vec::new();
        for _ in 0..THREADS_MAX {
            let (release, wait) = mpsc::channel::<()>();
            let error = impatient.read(move || wait.recv()).await.unwrap_err();
            assert!(error.to_string().starts_with("settings: not read within 0 s"), "{error}");
            hung.push(release);
        }
        assert_eq!(impatient.permits.available_permits(), 0);
        assert!(impatient.read(|| ()).await.is_err(), "no thread is left for it");
        drop(hung);
        // Each thread gives its place back when its reading ends.
        let patient = Readings { time_max: TIME_MAX, ..impatient };
        assert_eq!(patient.read(|| 7).await.unwrap(), 7);
    }
}
