//! The one list of moments at which something is due.

use alloc::collections::BTreeSet;

use crate::{arena::Key, call::Kind, images::Entry, io::LaneId, time::Instant};

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Alarm {
    Image(Key<Entry>),
    Lane(LaneId),
    Slot(LaneId, Kind),
}

/// The next moment of each image, lane and slot; each has at most one.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    // A set instead of a heap: a moment that is replaced is removed at once, so the set never outgrows its subjects.
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

    /// Replaces the moment of an image or lane.
    pub(crate) fn replace(&mut self, standing: Option<Instant>, at: Option<Instant>, alarm: Alarm) {
        // Most calls into an image do not change its moment.
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
