//! A collection without an order of its own.
//!
//! Messages in flight and jobs at work came to be in some order that means nothing. Its hash does
//! not depend on that order, so the model checker takes two such worlds for one.

use std::hash::{Hash, Hasher};
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
            let mut hasher = Quick::default();
            element.hash(&mut hasher);
            sum.wrapping_add(hasher.finish())
        });
        state.write_usize(self.0.len());
        state.write_u64(sum);
    }
}

/// A hash of the same kind as `rustc`'s own: fast, the same everywhere, and good enough where what
/// is hashed was not made to collide.
#[derive(Default)]
struct Quick(u64);

impl Quick {
    fn mix(&mut self, word: u64) {
        const FACTOR: u64 = 0x517c_c1b7_2722_0a95;
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    }
}

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.mix(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }

    fn finish(&self) -> u64 {
        // The low bits of a product are its weakest; the sum of many must not show that.
        self.0 ^ (self.0 >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}
