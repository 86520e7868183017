//! All images, by key and by name, with their places in the queues and on the schedule.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    arena::{Arena, Key},
    image::{Image, ImageName, NotPermitted},
    lane::{Arrival, Lane},
    time::Instant,
};

/// An image, and its places in the queues and on the schedule.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) image: Image,
    /// Its moment on the schedule.
    pub(crate) alarm: Option<Instant>,
    /// Whether it is in the lane's queue for each kind of call.
    pub(crate) queued: [bool; 3],
    /// Whether it is in the queue of images with jobs to settle.
    pub(crate) is_finishing: bool,
    /// Calls about it in flight, including probes.
    pub(crate) calls: u32,
}

/// All images.
#[derive(Debug)]
pub(crate) struct Images {
    entries: Arena<Entry>,
    by_name: BTreeMap<ImageName, Key<Entry>>,
}

impl Images {
    pub(crate) const fn new() -> Self {
        Self { entries: Arena::new(), by_name: BTreeMap::new() }
    }

    pub(crate) fn find(&self, name: ImageName) -> Option<Key<Entry>> {
        self.by_name.get(&name).copied()
    }

    pub(crate) fn insert(&mut self, name: ImageName) -> Key<Entry> {
        let image = Image::new(name);
        let entry = Entry { image, alarm: None, queued: [false; 3], is_finishing: false, calls: 0 };
        let key = self.entries.insert(entry);
        self.by_name.insert(name, key);
        key
    }

    pub(crate) fn remove(&mut self, key: Key<Entry>) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_name.remove(&entry.image.name());
        }
    }

    pub(crate) fn contains(&self, key: Key<Entry>) -> bool {
        self.entries.get(key).is_some()
    }

    /// The entry of an image that exists.
    pub(crate) fn entry(&mut self, key: Key<Entry>) -> &mut Entry {
        &mut self.entries[key]
    }

    /// An image that exists.
    pub(crate) fn image(&self, key: Key<Entry>) -> &Image {
        &self.entries[key].image
    }

    /// The images of a lane.
    pub(crate) fn of<'a>(&'a self, lane: &'a Lane) -> impl Iterator<Item = &'a Image> {
        lane.images().iter().filter_map(|&image| self.entries.get(image)).map(|entry| &entry.image)
    }

    /// Whether a job that arrived is still held.
    pub(crate) fn is_held(&self, arrival: &Arrival) -> bool {
        self.entries.get(arrival.image).is_some_and(|entry| entry.image.holds(arrival.job, arrival.seq))
    }

    /// The images of a lane, the one with the oldest refusal first: each has its turn to show what the key is permitted.
    pub(crate) fn by_refusal(&self, lane: &Lane) -> Vec<Key<Entry>> {
        let mut keys: Vec<_> = lane.images().iter().copied().collect();
        // Images that were never refused come first: they may be permitted.
        keys.sort_by_key(|&key| self.image(key).not_permitted().map(NotPermitted::again));
        keys
    }

    /// The image whose listing shows whether the lane works: one that awaits a listing.
    pub(crate) fn awaiting_listing(&self, lane: &Lane) -> Option<Key<Entry>> {
        self.by_refusal(lane).into_iter().find(|&key| self.image(key).awaits_listing())
    }

    /// The image whose state is queried to see whether the lane works: one with jobs, if there is one.
    pub(crate) fn to_ask(&self, lane: &Lane) -> Option<Key<Entry>> {
        let keys = lane.images();
        keys.iter().copied().find(|&key| self.image(key).in_hand()).or_else(|| keys.first().copied())
    }
}
