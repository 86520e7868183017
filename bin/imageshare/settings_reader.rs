//! Reads settings with a time limit. A file may block its reader forever, such as a pipe without a writer or a file on a
//! network file system that hangs.
//!
//! A blocked read cannot be cancelled. It runs on its own thread, which is abandoned after the limit and does not delay
//! the exit of the process.

use std::{sync::Arc, thread, time::Duration};

use anyhow::{Context as _, anyhow};
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};

/// The most threads that may be blocked at once.
const THREADS_MAX: usize = 4;

/// How long a read may take.
const TIME_MAX: Duration = Duration::from_secs(30);

/// Reads the files of the settings, each time on a new thread. At most [`THREADS_MAX`] threads exist.
#[derive(Clone)]
pub(crate) struct SettingsReader {
    permits: Arc<Semaphore>,
    time_max: Duration,
}

impl SettingsReader {
    pub(crate) fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(THREADS_MAX)), time_max: TIME_MAX }
    }

    /// Runs `read` on a new thread and returns its result.
    ///
    /// # Errors
    /// If it takes longer than 30 s, also because too many earlier reads are still blocked.
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
        timeout(self.time_max, self.read_unbounded(read)).await.map_err(|_| slow())?
    }

    async fn read_unbounded<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, anyhow::Error> {
        let permit = Arc::clone(&self.permits).acquire_owned().await?;
        let (done, result) = oneshot::channel();
        let read = move || {
            // After a timeout the receiver is gone.
            drop(done.send(read()));
            drop(permit);
        };
        let thread = thread::Builder::new().name("settings".to_owned()).spawn(read);
        thread.context("cannot start the thread that reads settings")?;
        result.await.context("settings: the thread that reads them panicked, which is a bug")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn blocked_threads_are_abandoned_and_bounded() {
        let impatient = SettingsReader { time_max: Duration::from_millis(1), ..SettingsReader::new() };
        let mut hung = Vec::new();
        for _ in 0..THREADS_MAX {
            let (release, wait) = mpsc::channel::<()>();
            let error = impatient.read(move || wait.recv()).await.unwrap_err();
            assert!(error.to_string().starts_with("settings: not read within 0 s"), "{error}");
            hung.push(release);
        }
        assert_eq!(impatient.permits.available_permits(), 0);
        assert!(impatient.read(|| ()).await.is_err(), "all threads are blocked");
        drop(hung);
        // A thread that ends makes room for another.
        let patient = SettingsReader { time_max: TIME_MAX, ..impatient };
        assert_eq!(patient.read(|| 7).await.unwrap(), 7);
    }
}
