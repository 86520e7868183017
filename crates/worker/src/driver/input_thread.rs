//! Reads an input on a thread of its own and passes its jobs on, one by one. It can be stopped between two lines without
//! losing one.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::lane_messages::Delivery;

/// An item of an input.
#[derive(Clone, Debug)]
pub struct InputItem<I, R> {
    /// The line on which the job begins, from 1; `None` of an invalid job, which may be read before a job that began
    /// earlier is complete.
    pub line: Option<u64>,
    /// A job, or the reason for its rejection.
    pub content: Result<Delivery<I>, R>,
}

/// An item that the driver does not receive.
#[derive(Clone, Debug)]
pub enum Aside<I, R> {
    /// An invalid job.
    Rejected(R),
    /// A job that was read when the driver received no more.
    NotReceived(Delivery<I>),
}

/// An input that is being read. A slow file holds up nothing, and one that never ends can be stopped.
pub struct InputThread<I, R>(Arc<ReadState<I, R>>);

/// How far an input was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The line on which the last job begins that was passed on. Every job that begins before it was passed on too, and
    /// none that begins after it.
    pub last_line: Option<u64>,
    /// How the read ended.
    pub end: End,
}

/// How the read of an input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A bug ended it.
    BrokeDown,
    /// It was stopped.
    Stopped,
    /// All of it was read.
    Whole,
}

struct ReadState<I, R> {
    /// Locked while an item is passed on; `None` when no more are passed on.
    receivers: Mutex<Option<Receivers<I, R>>>,
    position: Mutex<Position>,
}

/// Where items are passed on to.
struct Receivers<I, R> {
    jobs: mpsc::Sender<Delivery<I>>,
    aside: mpsc::Sender<Aside<I, R>>,
}

#[derive(Default)]
struct Position {
    last_line: Option<u64>,
    /// `None` while it is read.
    end: Option<End>,
    /// Since when the thread waits for the next line.
    waiting_since: Option<Instant>,
}

impl<I: Send + 'static, R: Send + 'static> InputThread<I, R> {
    /// Starts to read. Jobs go to `jobs`, all else to `aside`. Before each line `until_wanted` may block.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        lines: impl Iterator<Item = InputItem<I, R>> + Send + 'static,
        jobs: mpsc::Sender<Delivery<I>>,
        aside: mpsc::Sender<Aside<I, R>>,
        until_wanted: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let receivers = Mutex::new(Some(Receivers { jobs, aside }));
        let state = Arc::new(ReadState { receivers, position: Mutex::default() });
        let reader = Reader(Arc::clone(&state));
        thread::Builder::new().name("input".to_owned()).spawn(move || reader.run(lines, until_wanted))?;
        Ok(Self(state))
    }

    /// Returns how long the thread has waited for the next line; 0 while one is passed on or held up.
    #[must_use]
    pub fn quiet_for(&self) -> Duration {
        self.0.position.lock().waiting_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Stops after the item that is passed on now, and returns how far the input was read. Blocks until that item is
    /// received, so it must not be called by the receiver.
    pub fn stop(&self) -> Extent {
        drop(self.0.receivers.lock().take());
        let Position { last_line, end, .. } = *self.0.position.lock();
        Extent { last_line, end: end.unwrap_or(End::Stopped) }
    }
}

/// The thread's side. When it is dropped the channels are closed, so that the receivers stop waiting.
struct Reader<I, R>(Arc<ReadState<I, R>>);

impl<I, R> Reader<I, R> {
    fn run(self, mut lines: impl Iterator<Item = InputItem<I, R>>, until_wanted: impl Fn()) {
        loop {
            until_wanted();
            self.0.position.lock().waiting_since = Some(Instant::now());
            let next = lines.next();
            let receivers = self.0.receivers.lock();
            self.0.position.lock().waiting_since = None;
            let Some(InputItem { line, content }) = next else {
                self.0.position.lock().end = Some(End::Whole);
                return;
            };
            // An item that comes after the stop counts as not read.
            let Some(Receivers { jobs, aside }) = &*receivers else { return };
            let set_aside = match content {
                Ok(delivery) => jobs.blocking_send(delivery).err().map(|refused| Aside::NotReceived(refused.0)),
                Err(rejected) => Some(Aside::Rejected(rejected)),
            };
            let is_over = matches!(set_aside, Some(Aside::NotReceived(_)));
            if set_aside.is_some_and(|item| aside.blocking_send(item).is_err()) {
                return;
            }
            if line.is_some() {
                self.0.position.lock().last_line = line;
            }
            if is_over {
                return;
            }
        }
    }
}

impl<I, R> Drop for Reader<I, R> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.position.lock().end = Some(End::BrokeDown);
        }
        drop(self.0.receivers.lock().take());
    }
}

#[cfg(test)]
mod tests {
    use imageshare_engine::{
        io::LaneId,
        job::{Job, Mode},
    };

    use super::*;

    type TestItem = InputItem<u64, &'static str>;

    fn job(number: u64) -> TestItem {
        let job = Job {
            region: "ap-singapore".parse().unwrap(),
            image_id: "img-6pb6lrmy".parse().unwrap(),
            mode: Mode::Share,
            account_ids: [].into(),
            deadline: None,
            force: false,
            redelivered: false,
        };
        InputItem {
            line: Some(number),
            content: Ok(Delivery { identity: number, lane: LaneId(0), jobs: vec![job], expires_at: None }),
        }
    }

    struct Ends {
        jobs: mpsc::Receiver<Delivery<u64>>,
        aside: mpsc::Receiver<Aside<u64, &'static str>>,
    }

    fn read(lines: impl Iterator<Item = TestItem> + Send + 'static) -> (InputThread<u64, &'static str>, Ends) {
        let (jobs_in, jobs) = mpsc::channel(1);
        let (aside_in, aside) = mpsc::channel(1);
        (InputThread::start(lines, jobs_in, aside_in, || {}).unwrap(), Ends { jobs, aside })
    }

    #[test]
    fn jobs_and_rejections_have_channels_of_their_own() {
        let lines = [job(1), InputItem { line: None, content: Err("no job") }, job(5)];
        let (source, mut ends) = read(lines.into_iter());
        assert_eq!(ends.jobs.blocking_recv().unwrap().identity, 1);
        assert!(matches!(ends.aside.blocking_recv(), Some(Aside::Rejected("no job"))));
        assert_eq!(ends.jobs.blocking_recv().unwrap().identity, 5);
        assert!(ends.jobs.blocking_recv().is_none() && ends.aside.blocking_recv().is_none());
        assert_eq!(source.stop(), Extent { last_line: Some(5), end: End::Whole });
    }

    #[test]
    fn panic_is_not_end_of_input() {
        let lines = (1..).map(|number| if number < 3 { job(number) } else { panic!("a bug in the reader") });
        let (source, mut ends) = read(lines);
        while ends.jobs.blocking_recv().is_some() {}
        assert_eq!(source.stop(), Extent { last_line: Some(2), end: End::BrokeDown });
    }

    #[test]
    fn job_that_is_not_received_is_set_aside() {
        let (source, mut ends) = read((1..).map(job));
        assert_eq!(ends.jobs.blocking_recv().unwrap().identity, 1);
        ends.jobs.close();
        let mut taken = 1;
        while let Some(delivery) = ends.jobs.blocking_recv() {
            taken = delivery.identity;
        }
        let Some(Aside::NotReceived(in_hand)) = ends.aside.blocking_recv() else { panic!("it was lost") };
        assert_eq!(in_hand.identity, taken + 1);
        assert!(ends.aside.blocking_recv().is_none());
        assert_eq!(source.stop(), Extent { last_line: Some(in_hand.identity), end: End::Stopped });
    }

    #[test]
    fn silent_input_can_be_stopped() {
        let (more, to_come) = std::sync::mpsc::channel::<u64>();
        let (source, mut ends) = read(to_come.into_iter().map(job));
        more.send(1).unwrap();
        assert_eq!(ends.jobs.blocking_recv().unwrap().identity, 1);
        while source.quiet_for() == Duration::ZERO {
            thread::yield_now();
        }
        assert_eq!(source.stop(), Extent { last_line: Some(1), end: End::Stopped });
        assert!(ends.jobs.blocking_recv().is_none() && ends.aside.blocking_recv().is_none());
        // A line that comes now is not read.
        more.send(2).unwrap();
        assert_eq!(source.stop().last_line, Some(1));
    }
}
