//! Where the jobs of a driver come from, and where their reports go.

use std::{future::ready, sync::Arc, time::Duration};

use imageshare_engine::io::LaneId;

use super::Driver;
use crate::ownership_proof::OwnershipProof;

/// A source of jobs, which takes the reports. It has the two kinds of a command: an [`InputSource`](super::InputSource) for
/// the jobs of files and flags, which ends, and a [`BrokerSource`](super::BrokerSource) for the lanes of a daemon, which
/// come and go.
pub trait JobSource<I>: Send {
    /// What can happen at the source.
    type Event: Send;

    /// Brings up the lanes that are available from the beginning.
    fn start(&mut self, driver: &mut Driver<I>);

    /// Waits for the next event. Cancel safe.
    fn next(&mut self, demand: Demand) -> impl Future<Output = Self::Event> + Send;

    /// Passes an event on to the driver.
    fn handle(&mut self, event: Self::Event, driver: &mut Driver<I>) -> impl Future<Output = ()> + Send;

    /// Takes events of the driver, in their order, as far as there is room. Never waits.
    fn take_events(&mut self, driver: &mut Driver<I>);

    /// Returns whether nothing is left to do.
    fn is_done(&self, driver: &Driver<I>) -> bool;

    /// Ends the work that is left when the source is done.
    fn finish(&mut self, _driver: &mut Driver<I>) -> impl Future<Output = ()> + Send {
        ready(())
    }

    /// Called when the loop wakes, with the time that it was asleep.
    fn woke(&mut self, _asleep: Duration, _driver: &mut Driver<I>) {}

    /// Returns the ownership proof of a lane that can be lost. Its calls need it.
    fn proof(&self, _lane: LaneId) -> Option<Arc<OwnershipProof>> {
        None
    }
}

/// What a driver wants of its source.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// Whether there is room for more jobs.
    pub jobs: bool,
    /// Whether there are events to take.
    pub events: bool,
}
