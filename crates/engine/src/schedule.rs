//! When the engine looks at what: the one list of moments.

use alloc::collections::BTreeSet;

use crate::{arena::Key, call::Kind, image::Image, io::LaneId, time::Instant};

/// What is looked at when its time comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Alarm {
    Image(Key<Entry>),
    Lane(LaneId),
    Slot(LaneId, Kind),
}

/// An image, and where the engine has it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) image: Image,
    /// Its next moment, as it is on the schedule.
    pub(crate) alarm: Option<Instant>,
    /// Whether it stands in the lane's queue for each kind of call.
    pub(crate) queued: [bool; 3],
    /// Whether it is among those that have jobs to settle.
    pub(crate) is_finishing: bool,
    /// Calls about it that were not answered yet, probes included.
    pub(crate) calls: u32,
}

impl Entry {
    pub(crate) const fn new(image: Image) -> Self {
        Self { image, alarm: None, queued: [false; 3], is_finishing: false, calls: 0 }
    }
}

/// The moments at which something is looked at. Each thing has at most one.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    moments: BTreeSet<(Instant, Alarm)>,
}

impl Schedule {
    pub(crate) fn first(&self) -> Option<(Instant, Alarm)> {
        self.moments.first().copied()
    }

    pub(crate) fn pop(&mut self) {
        self.moments.pop_first();
    }

    pub(crate) fn add(&mut self, at: Instant, alarm: Alarm) {
        self.moments.insert((at, alarm));
    }

    /// Puts the next moment of something in place of the one that stood there.
    pub(crate) fn replace(&mut self, standing: Option<Instant>, at: Option<Instant>, alarm: Alarm) {
        if standing == at {
            return;
        }
        if let Some(standing) = standing {
            self.moments.remove(&(standing, alarm));
        }
        if let Some(at) = at {
            self.add(at, alarm);
        }
    }
}
