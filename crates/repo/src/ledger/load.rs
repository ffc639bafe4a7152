//! Reading a ledger: from its first entry to its proven end.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};

use super::handle::Ledger;
use super::{EntryCodec, Limits, Record, State, Verdict, name, number};
use crate::runtime::Runtime;
use crate::{Error, Result, Store};

/// Entries read at the same time: enough to hide an object store's latency, few enough to stay far
/// below its request limits.
const READS_AT_ONCE: usize = 16;

/// Names asked for in one listing; no provider returns more at once.
const PAGE: usize = 1000;

/// First pause after silence, doubled each time: 0.1 s to 12.8 s.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

impl Ledger {
    /// A ledger of which nothing was read yet; `writer` signs what it appends.
    pub fn new(store: Arc<dyn Store>, runtime: Runtime, codec: Arc<dyn EntryCodec>, writer: &str) -> Ledger {
        Ledger {
            store,
            runtime,
            codec,
            writer: writer.to_owned(),
            state: State::new(),
            hashes: Vec::new(),
            limits: Limits::DEFAULT,
            #[cfg(feature = "mutants")]
            broken: None,
        }
    }

    /// Opens a ledger and reads it to its end. A repository without entries has an empty ledger.
    ///
    /// Errors: as [`Ledger::refresh`].
    pub async fn load(
        store: Arc<dyn Store>,
        runtime: Runtime,
        codec: Arc<dyn EntryCodec>,
        writer: &str,
    ) -> Result<Ledger> {
        let mut ledger = Ledger::new(store, runtime, codec, writer);
        ledger.refresh().await?;
        Ok(ledger)
    }

    /// Reads on to the end. The listing only hints how far that is; the end is where the exact name
    /// is absent.
    ///
    /// What was read before an error stays read.
    ///
    /// Errors: [`Error::Missing`] names the entry that is absent although a later one was listed;
    /// [`Error::Unsupported`] an entry that only a later version can honour; [`Error::Store`] when
    /// the store does not answer.
    pub async fn refresh(&mut self) -> Result<()> {
        let listed = self.last_listed().await?;
        let first = self.state.last().saturating_add(1);
        let store = self.store.clone();
        let (runtime, tries) = (self.runtime.clone(), self.limits.tries);
        let reads = stream::iter(first..=listed).map(|n| {
            let (store, runtime) = (store.clone(), runtime.clone());
            async move { (n, get(&*store, &runtime, tries, &name(n)).await) }
        });
        let mut reads = reads.buffered(READS_AT_ONCE);
        while let Some((n, object)) = reads.next().await {
            let object = object?.ok_or_else(|| Error::Missing { name: name(n) })?;
            self.codec.prepare(n, &object).await?;
            self.take(n, &object)?;
        }
        loop {
            let n = self.state.last().saturating_add(1);
            match get(&*self.store, &self.runtime, self.limits.tries, &name(n)).await? {
                Some(object) => {
                    self.codec.prepare(n, &object).await?;
                    self.take(n, &object)?
                }
                None => return Ok(()),
            };
        }
    }

    /// The highest entry a listing shows. Other names in the folder are none of ours.
    async fn last_listed(&self) -> Result<u64> {
        let (mut last, mut after) = (self.state.last(), name(self.state.last()));
        loop {
            let page = {
                let mut tried = 0;
                loop {
                    match self.store.list_after("ledger/", &after, PAGE).await {
                        Ok(page) => break page,
                        Err(error) => give_up_or_pause(&self.runtime, error, &mut tried, self.limits.tries).await?,
                    }
                }
            };
            last = page
                .iter()
                .filter_map(|listed| number(&listed.name))
                .fold(last, u64::max);
            match page.last() {
                // A store that repeats itself would keep us here for ever.
                Some(end) if end.name > after && page.len() >= PAGE => after = end.name.clone(),
                _ => return Ok(last),
            }
        }
    }

    /// Takes in the object of entry `n`, if it is the next one.
    pub(super) fn take(&mut self, n: u64, object: &Bytes) -> Result<Option<Verdict>> {
        if self.state.last().checked_add(1) != Some(n) {
            return Ok(None);
        }
        let record = match self.codec.open(n, object).and_then(|body| Record::decode(n, &body)) {
            Ok(record) => Ok(record),
            Err(error @ (Error::Unsupported { .. } | Error::WrongKey { .. })) => return Err(error),
            Err(error) => Err(error.to_string()),
        };
        if let Ok(Record {
            entry: super::Entry::Unknown { kind, required: true },
            ..
        }) = &record
        {
            return Err(Error::Unsupported {
                name: name(n),
                what: format!("ledger entries of the kind {kind}"),
            });
        }
        let hash = *blake3::hash(object).as_bytes();
        let verdict = self.state.read(hash, record.as_ref().map_err(String::as_str));
        self.hashes.push(hash);
        Ok(Some(verdict))
    }

    pub(super) async fn pause(&self, silences: u8) {
        pause(&self.runtime, silences).await;
    }
}

async fn pause(runtime: &Runtime, silences: u8) {
    let doubled = FIRST_PAUSE.saturating_mul(1 << u32::from(silences.saturating_sub(1)).min(7));
    // Half to whole of it, so that writers that failed together do not come back together.
    let share = u32::from(runtime.random::<1>()[0]);
    let wait = doubled / 2 + (doubled / 2).saturating_mul(share) / 256;
    runtime.clock.sleep(wait).await;
}

async fn give_up_or_pause(runtime: &Runtime, error: Error, tried: &mut u8, tries: u8) -> Result<()> {
    *tried = tried.saturating_add(1);
    if !error.is_transient() || *tried >= tries {
        return Err(error);
    }
    pause(runtime, *tried).await;
    Ok(())
}

async fn get(store: &dyn Store, runtime: &Runtime, tries: u8, name: &str) -> Result<Option<Bytes>> {
    let mut tried = 0;
    loop {
        match store.get(name).await {
            Ok(object) => return Ok(object),
            Err(error) => give_up_or_pause(runtime, error, &mut tried, tries).await?,
        }
    }
}
