//! Bounded retries around a store.
//!
//! Safe because every operation of [`Store`] may be repeated: a put that was done and whose answer was lost
//! answers `Exists` the second time, and whoever put a name of its own then compares the bytes.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    Result,
    runtime::Runtime,
    store::{Listed, Put, Store},
};

/// Tries in all. With the waits below that is about a quarter of a minute: long enough for a store that
/// restarts a front end, short enough that a person at the terminal still waits for the answer.
const TRIES: u32 = 6;
/// The first wait; each further one is twice as long, and up to half of it is drawn at random.
const FIRST_WAIT: Duration = Duration::from_millis(400);

/// A store that asks again.
pub struct Retrying {
    inner: Arc<dyn Store>,
    runtime: Runtime,
}

impl Retrying {
    /// Asks `inner` again when it fails in a way that may pass.
    pub fn new(inner: Arc<dyn Store>, runtime: Runtime) -> Self {
        Retrying { inner, runtime }
    }

    /// Waits before try `number + 1`, or says that there is none.
    async fn again(&self, number: u32) -> bool {
        if number + 1 >= TRIES {
            return false;
        }
        let wait = FIRST_WAIT * 2u32.pow(number);
        let [random] = self.runtime.random::<1>();
        let jitter = wait.mul_f64(f64::from(random) / 512.0);
        self.runtime.clock.sleep(wait + jitter).await;
        true
    }
}

macro_rules! retried {
    ($self:ident, $call:expr) => {{
        let mut number = 0;
        loop {
            match $call.await {
                Err(error) if error.is_transient() && $self.again(number).await => number += 1,
                done => break done,
            }
        }
    }};
}

#[async_trait]
impl Store for Retrying {
    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<Put> {
        retried!(self, self.inner.put_new(name, bytes.clone()))
    }
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        retried!(self, self.inner.get(name))
    }
    async fn get_range(&self, name: &str, offset: u64, length: usize) -> Result<Option<Bytes>> {
        retried!(self, self.inner.get_range(name, offset, length))
    }
    async fn head(&self, name: &str) -> Result<Option<Listed>> {
        retried!(self, self.inner.head(name))
    }
    async fn list_after(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>> {
        retried!(self, self.inner.list_after(prefix, after, limit))
    }
    async fn delete(&self, name: &str) -> Result<()> {
        retried!(self, self.inner.delete(name))
    }
    async fn clear_unfinished(&self, before_micros: i64) -> Result<u64> {
        retried!(self, self.inner.clear_unfinished(before_micros))
    }
}
