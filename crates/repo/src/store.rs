//! Where objects live: a folder of named, immutable byte strings.
//!
//! Names are relative to one database's folder, with `/` between parts; they hold only
//! `[A-Za-z0-9._-]`. Nothing is ever overwritten. The contract below is what the faulty store of
//! the tests stretches as far as it allows.

mod folder;
mod listing;
mod object;
mod place;

pub use object::{Location, Objects};

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::Result;

/// What became of a [`Store::put_new`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object did not exist, is now stored and durable.
    Created,
    /// An object of that name exists; its bytes are untouched and may be ours from a lost answer.
    Exists,
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Full name within the database's folder.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// When the store says it was written: microseconds since 1970-01-01 UTC, by the store's clock.
    pub modified_micros: i64,
}

/// The operations a repository needs; everything beyond them is ours.
///
/// Errors: [`crate::Error::Store`] means that it is not known whether a write happened. Then the
/// object may appear at any later time, until the name is seen taken.
#[async_trait]
pub trait Store: Send + Sync {
    /// Stores `bytes` under `name` if nothing is there: whole or not at all, durable before it returns.
    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<Put>;
    /// The whole object; `None` if there is none.
    async fn get(&self, name: &str) -> Result<Option<Bytes>>;
    /// Exactly `length` bytes from `offset`. `None` if there is no such object; an object too short
    /// for the range is [`crate::Error::Damaged`].
    async fn get_range(&self, name: &str, offset: u64, length: usize) -> Result<Option<Bytes>>;
    /// Size and time; `None` if there is none.
    async fn head(&self, name: &str) -> Result<Option<Listed>>;
    /// Objects whose names begin with `prefix` and are greater than `after`, in order of name, at
    /// most `limit` (a page). A listing is a hint: absence is proven by exact name only.
    async fn list_after(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>>;
    /// Removes the object; it is no error that it is gone.
    async fn delete(&self, name: &str) -> Result<()>;
    /// Removes what writers that were killed left half written before `before_micros` (microseconds since 1970-01-01
    /// UTC), where the store shows such things at all; says how many. No object is ever touched.
    async fn clear_unfinished(&self, _before_micros: i64) -> Result<u64> {
        Ok(0)
    }
}

#[async_trait]
impl<S: Store + ?Sized> Store for Arc<S> {
    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<Put> {
        (**self).put_new(name, bytes).await
    }
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        (**self).get(name).await
    }
    async fn get_range(&self, name: &str, offset: u64, length: usize) -> Result<Option<Bytes>> {
        (**self).get_range(name, offset, length).await
    }
    async fn head(&self, name: &str) -> Result<Option<Listed>> {
        (**self).head(name).await
    }
    async fn list_after(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>> {
        (**self).list_after(prefix, after, limit).await
    }
    async fn delete(&self, name: &str) -> Result<()> {
        (**self).delete(name).await
    }
    async fn clear_unfinished(&self, before_micros: i64) -> Result<u64> {
        (**self).clear_unfinished(before_micros).await
    }
}
