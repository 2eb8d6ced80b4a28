//! A collection without an order of its own.
//!
//! Messages in flight and jobs at work came to be in some order that means nothing. Its hash does
//! not depend on that order, so the model checker takes two such worlds for one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::{Deref, DerefMut};

/// Elements in arbitrary order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bag<T>(Vec<T>);

impl<T> Default for Bag<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Bag<T> {
    pub(crate) fn add(&mut self, element: T) {
        self.0.push(element);
    }

    /// Takes out the element at this place.
    pub(crate) fn take(&mut self, at: usize) -> T {
        self.0.swap_remove(at)
    }

    pub(crate) fn take_all(&mut self) -> Vec<T> {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.0.retain(keep);
    }
}

impl<T> Deref for Bag<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for Bag<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T: Hash> Hash for Bag<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let sum = self.0.iter().fold(0_u64, |sum, element| {
            let mut hasher = DefaultHasher::new();
            element.hash(&mut hasher);
            sum.wrapping_add(hasher.finish())
        });
        state.write_usize(self.0.len());
        state.write_u64(sum);
    }
}
