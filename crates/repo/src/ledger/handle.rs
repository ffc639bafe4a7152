//! A ledger in hand: its state as far as read, and the way to append.

use std::sync::Arc;

use bytes::Bytes;

use super::append::{Action, Append, Event, Found, Limits, Outcome, Why};
use super::{Entry, EntryCodec, Hash, MAX_ENTRIES, Record, Rule, State, Verdict, name};
use crate::runtime::Runtime;
use crate::store::Put;
use crate::{Error, Result, Store};

/// What a caller wants, given the state.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "made once an append; a box would burden every caller"
)]
pub enum Decision {
    /// Append this.
    Append(Entry),
    /// Append nothing, for this reason.
    Stop(String),
}

/// What came of [`Ledger::append`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an append that was refused or is in doubt must not be taken for done"]
pub enum Appended {
    /// The entry is number `n`, and valid.
    Done {
        /// Its number.
        n: u64,
    },
    /// The caller decided against it.
    Stopped(String),
    /// It would have been void by this rule, and was not written.
    Refused(Rule),
    /// The store fell silent with the entry under way: it may be at `n` or appear there. Whoever reads
    /// the ledger later sees which; nobody may take it for failed before `n` is taken.
    Unknown {
        /// Its number, if it is there.
        n: u64,
        /// The operation id by which to recognise it.
        operation: String,
        /// What the store said last, with its causes.
        said: String,
    },
}

/// The highest entry a client has seen, kept outside the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// Its number.
    pub n: u64,
    /// BLAKE3 of its object.
    pub hash: Hash,
}

/// A ledger, read up to some entry.
pub struct Ledger {
    pub(super) store: Arc<dyn Store>,
    pub(super) runtime: Runtime,
    pub(super) codec: Arc<dyn EntryCodec>,
    pub(super) writer: String,
    pub(super) state: State,
    /// BLAKE3 of every object read, in order.
    pub(super) hashes: Vec<Hash>,
    pub(super) limits: Limits,
    #[cfg(feature = "mutants")]
    pub(super) broken: Option<super::append::Mutant>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Ledger read to {}", self.state.last())
    }
}

/// The bytes one append has sent.
#[derive(Default)]
struct Sent {
    ours: Option<(String, Bytes)>,
    fill: Option<Bytes>,
    error: Option<Error>,
    stop: Option<Appended>,
}

impl Ledger {
    /// What the entries read so far mean.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What a client should remember of this ledger; `None` while it is empty.
    pub fn remember(&self) -> Option<Remembered> {
        self.hashes.last().map(|hash| Remembered {
            n: self.state.last(),
            hash: *hash,
        })
    }

    /// Other bounds than [`Limits::DEFAULT`].
    pub fn with_limits(mut self, limits: Limits) -> Ledger {
        self.limits = limits;
        self
    }

    /// Breaks one rule on purpose, to prove that the tests would notice. Only before anything is read.
    #[cfg(feature = "mutants")]
    pub fn ignoring(mut self, rule: Rule) -> Ledger {
        self.state = State::ignoring(rule);
        self
    }

    /// Breaks the protocol on purpose, to prove that the tests would notice.
    #[cfg(feature = "mutants")]
    pub fn broken(mut self, mutant: super::append::Mutant) -> Ledger {
        self.broken = Some(mutant);
        self
    }

    fn begin(&self) -> Append {
        #[cfg(feature = "mutants")]
        if let Some(mutant) = self.broken {
            return Append::broken(self.state.last(), self.limits, mutant);
        }
        Append::new(self.state.last(), self.limits)
    }

    /// Compares with what a client saw earlier. Call it after [`Ledger::load`] or [`Ledger::refresh`].
    ///
    /// Errors: [`Error::Missing`] if entries seen before are gone, [`Error::Damaged`] if there are
    /// others in their place: the repository was rolled back or exchanged.
    pub fn check_not_rolled_back(&self, remembered: &Remembered) -> Result<()> {
        let index = remembered
            .n
            .checked_sub(1)
            .and_then(|index| usize::try_from(index).ok());
        let Some(found) = index.and_then(|index| self.hashes.get(index)) else {
            return Err(Error::Missing {
                name: name(remembered.n),
            });
        };
        if found != &remembered.hash {
            return Err(Error::Damaged {
                name: name(remembered.n),
                what: "it is not the entry seen before".into(),
            });
        }
        Ok(())
    }

    /// Appends what `decide` wants. It is asked again, on the newer state, whenever another writer was
    /// faster, so it must look at nothing else that others may change.
    ///
    /// `Done` promises that every reader finds the entry, valid. An error promises that it is not in
    /// the ledger and never will be; only `Unknown` leaves it open. Dropping the future leaves it open too.
    ///
    /// Errors: [`Error::Store`] when the store does not answer, [`Error::Conflict`] when others
    /// were always faster, [`Error::Unsupported`] for an entry of a later version that is required.
    pub async fn append(&mut self, mut decide: impl FnMut(&State) -> Decision + Send) -> Result<Appended> {
        let mut append = self.begin();
        let mut sent = Sent::default();
        let mut action = append.action();
        loop {
            let event = match action {
                Action::Read(n) => Event::Read(self.look(n, &mut sent).await?),
                Action::Decide => Event::Decided(self.prepare(decide(&self.state), &mut sent)?),
                Action::Create(n) => Event::Put(self.put(n, false, &mut sent).await?),
                Action::Fill(n) => Event::Put(self.put(n, true, &mut sent).await?),
                Action::Pause(silences) => {
                    // A full disk or a missing right does not pass by waiting.
                    if sent.error.as_ref().is_none_or(Error::is_transient) {
                        self.pause(silences).await;
                    }
                    Event::Waited
                }
                Action::Finish(outcome) => return finish(outcome, sent),
            };
            action = append.step(event);
        }
    }

    /// Reads entry `n`, and takes it in if it is there.
    async fn look(&mut self, n: u64, sent: &mut Sent) -> Result<Found> {
        let object = match self.store.get(&name(n)).await {
            Ok(Some(object)) => object,
            Ok(None) => return Ok(Found::Absent),
            Err(error) => {
                sent.error = Some(error);
                return Ok(Found::Unread);
            }
        };
        let found = if sent.ours.as_ref().is_some_and(|(_, ours)| ours == &object) {
            Found::Ours
        } else if sent.fill.as_ref() == Some(&object) {
            Found::OurFill
        } else {
            Found::Other
        };
        if found == Found::Other
            && let Err(error) = self.codec.prepare(n, &object).await
        {
            sent.error = Some(error);
            return Ok(Found::Unread);
        }
        match self.take(n, &object) {
            // What we wrote is there, whether or not we can open it again.
            Err(error) if found == Found::Other => Err(error),
            _ => Ok(found),
        }
    }

    /// Makes the bytes for the next number. False if there is nothing to append.
    fn prepare(&self, decision: Decision, sent: &mut Sent) -> Result<bool> {
        let entry = match decision {
            Decision::Append(entry) => entry,
            Decision::Stop(reason) => {
                sent.stop = Some(Appended::Stopped(reason));
                return Ok(false);
            }
        };
        let record = self.record(entry);
        if record.n > MAX_ENTRIES {
            return Err(Error::Conflict {
                what: "the ledger is full".into(),
            });
        }
        if let Verdict::Void(rule) = self.state.judge(&record) {
            sent.stop = Some(Appended::Refused(rule));
            return Ok(false);
        }
        let object = self.codec.seal(record.n, &record.encode()?)?;
        sent.ours = Some((record.operation, object));
        sent.fill = None;
        Ok(true)
    }

    fn record(&self, entry: Entry) -> Record {
        Record {
            n: self.state.last().saturating_add(1),
            prev: hex::encode(self.state.head()),
            at: self.runtime.clock.now_micros(),
            writer: self.writer.clone(),
            operation: hex::encode(self.runtime.random::<16>()),
            entry,
        }
    }

    /// Whether the store created it. A retry sends identical bytes.
    async fn put(&mut self, n: u64, fill: bool, sent: &mut Sent) -> Result<bool> {
        if fill && sent.fill.is_none() {
            match self
                .record(Entry::NoOp {})
                .encode()
                .and_then(|body| self.codec.seal(n, &body))
            {
                Ok(object) => sent.fill = Some(object),
                Err(error) => {
                    // Nothing was sent for the no-op, and our entry may be under way: that is for
                    // the reading of the name to settle, not an error.
                    sent.error = Some(error);
                    return Ok(false);
                }
            }
        }
        let object = if fill {
            sent.fill.clone()
        } else {
            sent.ours.as_ref().map(|(_, object)| object.clone())
        };
        let Some(object) = object else { return Ok(false) };
        match self.store.put_new(&name(n), object.clone()).await {
            Ok(Put::Created) => {
                // It is there, and that is the answer; a reader's complaint comes at the next refresh.
                let _ = self.take(n, &object);
                Ok(true)
            }
            Ok(Put::Exists) => Ok(false),
            Err(error) => {
                sent.error = Some(error);
                Ok(false)
            }
        }
    }
}

/// An error and all that caused it, in one line.
fn causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn finish(outcome: Outcome, sent: Sent) -> Result<Appended> {
    match outcome {
        Outcome::Won(n) => Ok(Appended::Done { n }),
        Outcome::Stopped => Ok(sent
            .stop
            .unwrap_or_else(|| Appended::Stopped("nothing to append".into()))),
        Outcome::Unknown(n) => {
            let operation = sent.ours.map(|(operation, _)| operation).unwrap_or_default();
            let said = sent.error.as_ref().map_or_else(String::new, causes);
            Ok(Appended::Unknown { n, operation, said })
        }
        Outcome::Lost(Why::Contention) => Err(Error::Conflict {
            what: "other writers appended to the ledger faster, again and again".into(),
        }),
        Outcome::Lost(Why::Silence) => Err(sent.error.unwrap_or_else(|| Error::Store {
            operation: "append to",
            name: "ledger".into(),
            transient: true,
            source: "it kept answering that an entry exists which is not there".into(),
        })),
    }
}
