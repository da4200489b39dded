//! The primitives on loom's atomics and locks, for the models.

use std::collections::VecDeque;
// The real one: no code relies on the order of its counts, and each count would be a step to interleave.
pub(crate) use std::sync::Arc;

use loom::sync::atomic::AtomicUsize;
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
pub(crate) use loom::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Release and acquire only: a reader that is not ordered after a store by something else may load the earlier value.
pub(crate) struct Slot<T> {
    /// All values ever stored. Locked between two steps of a model, never across one.
    stored: std::sync::Mutex<Vec<Option<Arc<T>>>>,
    current: AtomicUsize,
}

impl<T> Slot<T> {
    pub(crate) fn empty() -> Self {
        Self { stored: std::sync::Mutex::new(vec![None]), current: AtomicUsize::new(0) }
    }

    pub(crate) fn with<R>(&self, read: impl FnOnce(&T) -> R) -> Option<R> {
        self.load().as_deref().map(read)
    }

    pub(crate) fn load(&self) -> Option<Arc<T>> {
        let current = self.current.load(Ordering::Acquire);
        self.stored.lock().unwrap()[current].clone()
    }

    pub(crate) fn store(&self, value: Option<Arc<T>>) {
        let current = {
            let mut stored = self.stored.lock().unwrap();
            stored.push(value);
            stored.len() - 1
        };
        self.current.store(current, Ordering::Release);
    }
}

/// Weaker than the real one: a relaxed flag shows whether it is set. A model passes only where another edge (the ring's
/// head) orders the set before the get.
pub(crate) struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    is_set: AtomicBool,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self { value: std::sync::OnceLock::new(), is_set: AtomicBool::new(false) }
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        self.is_set.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn get(&self) -> Option<&T> {
        if self.is_set.load(Ordering::Relaxed) { self.value.get() } else { None }
    }
}

/// Relaxed operations count the items. A model passes only where fences make a push visible to the reader.
pub(crate) struct ArrayQueue<T> {
    /// Locked between two steps of a model, never across one.
    items: std::sync::Mutex<VecDeque<T>>,
    length: AtomicUsize,
    capacity: usize,
}

impl<T> ArrayQueue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { items: std::sync::Mutex::default(), length: AtomicUsize::new(0), capacity }
    }

    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        // Two threads may find room for the last item. No code relies on the exact capacity.
        if self.items.lock().unwrap().len() >= self.capacity {
            return Err(item);
        }
        self.length.fetch_add(1, Ordering::Relaxed);
        self.items.lock().unwrap().push_back(item);
        Ok(())
    }

    pub(crate) fn pop(&self) -> Option<T> {
        let item = self.items.lock().unwrap().pop_front();
        // A step after each pop, also of an empty queue: another thread may push before the caller continues.
        match item {
            Some(_) => self.length.fetch_sub(1, Ordering::Relaxed),
            None => self.length.load(Ordering::Relaxed),
        };
        item
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length.load(Ordering::Relaxed) == 0
    }
}
