//! A list that every response of an action has.

use alloc::vec::Vec;
use core::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

use super::NotAnAnswer;

/// An entry of a list.
pub(crate) trait Listed: Sized {
    /// The entry in JSON.
    type Entry<'a>: Deserialize<'a>;

    /// # Errors
    /// If the entry is invalid; the error names its index.
    fn read(entry: &Self::Entry<'_>, index: usize) -> Result<Self, NotAnAnswer>;
}

/// A list whose entries are read one by one; null is an empty list. An invalid entry makes the whole list invalid: without it,
/// the list would prove that it does not exist.
pub(crate) struct List<T>(Result<Vec<T>, NotAnAnswer>);

impl<T: Listed> List<T> {
    /// Returns the list with this name. A missing list is an error: an empty one would show that no entry exists.
    pub(crate) fn read(name: &str, member: Option<Self>) -> Result<Vec<T>, NotAnAnswer> {
        let missing = || NotAnAnswer::new(alloc::format!("{name}: missing (expected a list or null)"));
        member.ok_or_else(missing)?.0
    }
}

impl<'de, T: Listed> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);

        impl<'de, T: Listed> Visitor<'de> for ListVisitor<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list or null")
            }

            fn visit_unit<E: Error>(self) -> Result<List<T>, E> {
                Ok(List(Ok(Vec::new())))
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut entries: S) -> Result<List<T>, S::Error> {
                let mut list = Ok(Vec::new());
                // Behind one that cannot be read the others are looked at all the same: each has to be an entry.
                while let Some(entry) = entries.next_element::<T::Entry<'de>>()? {
                    if let Ok(read) = &mut list {
                        match T::read(&entry, read.len()) {
                            Ok(entry) => read.push(entry),
                            Err(cause) => list = Err(cause),
                        }
                    }
                }
                Ok(List(list))
            }
        }

        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

/// A list that is null is there.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
