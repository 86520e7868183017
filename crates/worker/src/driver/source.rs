//! The source of jobs: read on a thread of its own, handed on job by job, and stopped with nothing lost in between.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::Delivery;

/// What a source gives.
#[derive(Clone, Debug)]
pub struct Found<I, R> {
    /// On which line the job begins, from 1; `None` of what is no job, which may be told before a job that began earlier
    /// is complete.
    pub line: Option<u64>,
    /// A job, or what nobody carries out.
    pub content: Result<Delivery<I>, R>,
}

/// What a driver does not get to see.
#[derive(Clone, Debug)]
pub enum Aside<I, R> {
    /// No job.
    Rejected(R),
    /// A job that was in hand when the driver took no more.
    NotTaken(Delivery<I>),
}

/// A source that is being read. A file that comes slowly holds nobody up, and one that never ends keeps nobody from
/// ending.
pub struct Source<I, R>(Arc<Shared<I, R>>);

/// How far a source was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where the last job begins that was handed on: so was every one that begins before it, and none that begins after.
    pub last_line: Option<u64>,
    /// How the reading ended.
    pub end: End,
}

/// How the reading of a source ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A bug ended it.
    BrokeDown,
    /// It was stopped.
    Stopped,
    /// All was read.
    Whole,
}

struct Shared<I, R> {
    /// Locked from when something is in hand until it was handed on; `None` when nothing is handed on any more.
    way: Mutex<Option<Way<I, R>>>,
    position: Mutex<Position>,
}

/// Where lines are handed on to.
struct Way<I, R> {
    jobs: mpsc::Sender<Delivery<I>>,
    aside: mpsc::Sender<Aside<I, R>>,
}

#[derive(Default)]
struct Position {
    last_line: Option<u64>,
    /// `None` while it goes on.
    end: Option<End>,
    /// Since when the next line is waited for.
    waiting_since: Option<Instant>,
}

impl<I: Send + 'static, R: Send + 'static> Source<I, R> {
    /// Begins to read. Jobs go to `jobs`, all else to `aside`; before each line `until_wanted` may hold it up.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn read(
        lines: impl Iterator<Item = Found<I, R>> + Send + 'static,
        jobs: mpsc::Sender<Delivery<I>>,
        aside: mpsc::Sender<Aside<I, R>>,
        until_wanted: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let way = Mutex::new(Some(Way { jobs, aside }));
        let shared = Arc::new(Shared { way, position: Mutex::default() });
        let reading = Reading(Arc::clone(&shared));
        thread::Builder::new().name("source".to_owned()).spawn(move || reading.run(lines, until_wanted))?;
        Ok(Self(shared))
    }

    /// For how long the next line has been waited for; nothing while one is in hand or held up.
    #[must_use]
    pub fn quiet_for(&self) -> Duration {
        lock(&self.0.position).waiting_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Hands on nothing more but what is in hand now, waits for that, and tells how far it came. Must not be called by
    /// whoever takes the jobs or what goes aside.
    pub fn stop(&self) -> Extent {
        drop(lock(&self.0.way).take());
        let Position { last_line, end, .. } = *lock(&self.0.position);
        Extent { last_line, end: end.unwrap_or(End::Stopped) }
    }
}

/// The reader's side. Dropped, it lets go of the way, which is how the others learn that there is no more.
struct Reading<I, R>(Arc<Shared<I, R>>);

impl<I, R> Reading<I, R> {
    fn run(self, mut lines: impl Iterator<Item = Found<I, R>>, until_wanted: impl Fn()) {
        loop {
            until_wanted();
            lock(&self.0.position).waiting_since = Some(Instant::now());
            let next = lines.next();
            let way = lock(&self.0.way);
            lock(&self.0.position).waiting_since = None;
            let Some(Found { line, content }) = next else {
                lock(&self.0.position).end = Some(End::Whole);
                return;
            };
            // What comes after it was stopped counts as not read.
            let Some(Way { jobs, aside }) = &*way else { return };
            let aside_of_jobs = match content {
                Ok(delivery) => jobs.blocking_send(delivery).err().map(|refused| Aside::NotTaken(refused.0)),
                Err(rejected) => Some(Aside::Rejected(rejected)),
            };
            let is_over = matches!(aside_of_jobs, Some(Aside::NotTaken(_)));
            if aside_of_jobs.is_some_and(|what| aside.blocking_send(what).is_err()) {
                return;
            }
            if line.is_some() {
                lock(&self.0.position).last_line = line;
            }
            if is_over {
                return;
            }
        }
    }
}

impl<I, R> Drop for Reading<I, R> {
    fn drop(&mut self) {
        if thread::panicking() {
            lock(&self.0.position).end = Some(End::BrokeDown);
        }
        drop(lock(&self.0.way).take());
    }
}

/// What a panic left locked is whole all the same: everything in here is set in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use imageshare_engine::{
        io::LaneId,
        job::{Job, Mode},
    };

    use super::*;

    type TestFound = Found<u64, &'static str>;

    fn job(number: u64) -> TestFound {
        let job = Job {
            region: "ap-singapore".parse().unwrap(),
            image_id: "img-6pb6lrmy".parse().unwrap(),
            mode: Mode::Share,
            account_ids: [].into(),
            deadline: None,
            force: false,
            redelivered: false,
        };
        Found { line: Some(number), content: Ok(Delivery { identity: number, lane: LaneId(0), job, expires_at: None }) }
    }

    struct Ends {
        jobs: mpsc::Receiver<Delivery<u64>>,
        aside: mpsc::Receiver<Aside<u64, &'static str>>,
    }

    fn read(lines: impl Iterator<Item = TestFound> + Send + 'static) -> (Source<u64, &'static str>, Ends) {
        let (jobs_in, jobs) = mpsc::channel(1);
        let (aside_in, aside) = mpsc::channel(1);
        (Source::read(lines, jobs_in, aside_in, || {}).unwrap(), Ends { jobs, aside })
    }

    #[test]
    fn jobs_go_one_way_and_rejections_the_other_to_the_end() {
        let lines = [job(1), Found { line: None, content: Err("no job") }, job(5)];
        let (source, mut ends) = read(lines.into_iter());
        assert_eq!(ends.jobs.blocking_recv().unwrap().identity, 1);
        assert!(matches!(ends.aside.blocking_recv(), Some(Aside::Rejected("no job"))));
        assert_eq!(ends.jobs.blocking_recv().unwrap().identity, 5);
        assert!(ends.jobs.blocking_recv().is_none() && ends.aside.blocking_recv().is_none());
        assert_eq!(source.stop(), Extent { last_line: Some(5), end: End::Whole });
    }

    #[test]
    fn a_panic_is_not_the_end_of_the_file() {
        let lines = (1..).map(|number| if number < 3 { job(number) } else { panic!("a bug in the reader") });
        let (source, mut ends) = read(lines);
        while ends.jobs.blocking_recv().is_some() {}
        assert_eq!(source.stop(), Extent { last_line: Some(2), end: End::BrokeDown });
    }

    #[test]
    fn the_job_in_hand_comes_aside_when_no_more_are_taken_and_no_line_after_it_counts() {
        let (source, mut ends) = read((1..).map(job));
        assert_eq!(ends.jobs.blocking_recv().unwrap().identity, 1);
        ends.jobs.close();
        let mut taken = 1;
        while let Some(delivery) = ends.jobs.blocking_recv() {
            taken = delivery.identity;
        }
        let Some(Aside::NotTaken(in_hand)) = ends.aside.blocking_recv() else { panic!("it was lost") };
        assert_eq!(in_hand.identity, taken + 1);
        assert!(ends.aside.blocking_recv().is_none());
        assert_eq!(source.stop(), Extent { last_line: Some(in_hand.identity), end: End::Stopped });
    }

    #[test]
    fn a_source_that_never_comes_on_can_be_stopped() {
        let (more, to_come) = std::sync::mpsc::channel::<u64>();
        let (source, mut ends) = read(to_come.into_iter().map(job));
        more.send(1).unwrap();
        assert_eq!(ends.jobs.blocking_recv().unwrap().identity, 1);
        while source.quiet_for() == Duration::ZERO {
            thread::yield_now();
        }
        assert_eq!(source.stop(), Extent { last_line: Some(1), end: End::Stopped });
        assert!(ends.jobs.blocking_recv().is_none() && ends.aside.blocking_recv().is_none());
        // What comes now is nobody's any more.
        more.send(2).unwrap();
        assert_eq!(source.stop().last_line, Some(1));
    }
}
