//! All images, by key and by name, and where the engine has each.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    arena::{Arena, Key},
    image::{Image, ImageName, NotPermitted},
    lane::{Arrival, Lane},
    time::Instant,
};

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

    /// The images of a lane, those first that were refused longest ago: each has its turn to show what the key may do.
    pub(crate) fn by_refusal(&self, lane: &Lane) -> Vec<Key<Entry>> {
        let mut keys: Vec<_> = lane.images().iter().copied().collect();
        keys.sort_by_key(|&key| self.image(key).not_permitted().map(NotPermitted::again));
        keys
    }

    /// The image to list, to see whether the lane works: one whose listing is awaited and not under way. First those that can
    /// have nothing to write before that, then those whose refused listing shows whether the key may list again.
    pub(crate) fn awaiting_listing(&self, lane: &Lane) -> Option<Key<Entry>> {
        self.by_refusal(lane).into_iter().find(|&key| self.image(key).awaits_listing())
    }

    /// The image to ask about, to see whether the lane works: one with jobs if there is one.
    pub(crate) fn to_ask(&self, lane: &Lane) -> Option<Key<Entry>> {
        let keys = lane.images();
        keys.iter().copied().find(|&key| self.image(key).in_hand()).or_else(|| keys.first().copied())
    }
}
