//! The primitives for shared memory, in one place so that loom can replace them.
//!
//! A build with `--cfg fanline_loom` uses loom's atomics and locks, and explores every interleaving of the models in `ring`
//! and `hub`. Where loom has no counterpart (`OnceLock`, `ArcSwapOption`, `ArrayQueue`), the replacement here guarantees no
//! more than the real type does, as far as the models rely on it.

use std::sync::{PoisonError, TryLockError};

#[cfg(fanline_loom)]
mod loom;

#[cfg(not(fanline_loom))]
mod real {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
    pub(crate) use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

    pub(crate) use crossbeam_queue::ArrayQueue;

    pub(crate) use std::sync::OnceLock;

    /// A shared pointer that one thread replaces while others load it.
    pub(crate) struct Slot<T>(arc_swap::ArcSwapOption<T>);

    impl<T> Slot<T> {
        pub(crate) fn empty() -> Self {
            Self(arc_swap::ArcSwapOption::empty())
        }

        /// Reads the value without counting a reference, for one that all threads read often.
        pub(crate) fn with<R>(&self, read: impl FnOnce(&T) -> R) -> Option<R> {
            self.0.load().as_deref().map(read)
        }

        pub(crate) fn load(&self) -> Option<Arc<T>> {
            self.0.load_full()
        }

        pub(crate) fn store(&self, value: Option<Arc<T>>) {
            self.0.store(value);
        }
    }
}

#[cfg(fanline_loom)]
pub(crate) use self::loom::*;
#[cfg(not(fanline_loom))]
pub(crate) use self::real::*;

/// Locks `mutex`, also when it is poisoned, as do all functions here.
///
/// Everything behind a lock is consistent after each statement, and a server with thousands of streams does not stop for one
/// thread that panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks `mutex` if it is free.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poison)) => Some(poison.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

pub(crate) fn read<T>(rw_lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    rw_lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(rw_lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    rw_lock.write().unwrap_or_else(PoisonError::into_inner)
}
