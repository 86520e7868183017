//! Storage for values that refer to each other, by small typed keys.

use alloc::vec::Vec;
use core::{
    cmp, fmt,
    marker::PhantomData,
    num::NonZeroU32,
    ops::{Index, IndexMut},
};

/// The key of a `T` in its [`Arena`]. Four bytes, also as an `Option`.
pub(crate) struct Key<T> {
    number: NonZeroU32,
    of: PhantomData<fn() -> T>,
}

/// Holds values of one type. The places of removed values are used again.
#[derive(Debug)]
pub(crate) struct Arena<T> {
    places: Vec<Place<T>>,
    free: Option<Key<T>>,
    len: usize,
}

#[derive(Debug)]
enum Place<T> {
    Free { next: Option<Key<T>> },
    Used(T),
}

impl<T> Arena<T> {
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), free: None, len: 0 }
    }

    /// The number of values.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, value: T) -> Key<T> {
        self.len += 1;
        if let Some(key) = self.free {
            // The last freed place first: it is the one that is most likely still in the cache.
            let place = &mut self.places[key.place()];
            if let Place::Free { next } = *place {
                self.free = next;
            }
            *place = Place::Used(value);
            return key;
        }
        self.places.push(Place::Used(value));
        let number = u32::try_from(self.places.len()).ok().and_then(NonZeroU32::new);
        Key::new(number.expect("an arena never holds 2^32 values: the bound on operations is far below"))
    }

    /// Removes a value. Its key must not be used again.
    pub(crate) fn remove(&mut self, key: Key<T>) -> Option<T> {
        let place = self.places.get_mut(key.place())?;
        // A place that is freed twice would be given to two values.
        if matches!(place, Place::Free { .. }) {
            return None;
        }
        let taken = core::mem::replace(place, Place::Free { next: self.free });
        self.free = Some(key);
        self.len -= 1;
        match taken {
            Place::Used(value) => Some(value),
            Place::Free { .. } => None,
        }
    }

    pub(crate) fn get(&self, key: Key<T>) -> Option<&T> {
        match self.places.get(key.place())? {
            Place::Used(value) => Some(value),
            Place::Free { .. } => None,
        }
    }

    pub(crate) fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        match self.places.get_mut(key.place())? {
            Place::Used(value) => Some(value),
            Place::Free { .. } => None,
        }
    }
}

impl<T> Index<Key<T>> for Arena<T> {
    type Output = T;

    /// # Panics
    /// If the value was removed. Keys are dropped with their values, so that is a bug of the engine.
    fn index(&self, key: Key<T>) -> &T {
        self.get(key).expect("a key is dropped when its value is removed")
    }
}

impl<T> IndexMut<Key<T>> for Arena<T> {
    fn index_mut(&mut self, key: Key<T>) -> &mut T {
        self.get_mut(key).expect("a key is dropped when its value is removed")
    }
}

impl<T> Key<T> {
    const fn new(number: NonZeroU32) -> Self {
        Self { number, of: PhantomData }
    }

    const fn place(self) -> usize {
        self.number.get() as usize - 1
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Key<T> {}

impl<T> PartialOrd for Key<T> {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Key<T> {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        self.number.cmp(&other.number)
    }
}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again_and_keys_stay_small() {
        let mut arena = Arena::new();
        let a = arena.insert("a");
        let b = arena.insert("b");
        assert_eq!(arena.remove(a), Some("a"));
        assert_eq!(arena.remove(a), None);
        assert_eq!(arena.get(a), None);
        let c = arena.insert("c");
        assert_eq!((arena[b], arena[c], arena.len()), ("b", "c", 2));
        assert_eq!(c, a, "the free place was used");
        assert_eq!(size_of::<Option<Key<u64>>>(), 4);
    }
}
