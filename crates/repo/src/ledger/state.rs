//! What a prefix of the ledger means.
//!
//! A pure function: the same entries in the same order give the same state everywhere, whatever the
//! clock, the store or the reader. An entry is judged once, on the entries before it, and is valid or
//! void for ever. A void entry keeps its place in the order and has no effect.
//!
//! Words: a *run* is open from a valid `run-started` until it is committed, failed or abandoned. A
//! *backup* is a committed run. A backup *uses* its own folder and those of every backup it
//! references. A run is *condemned* once a valid `condemned` names it, and stays so.
//!
//! Rules. An entry is void if
//!  1. it is not the next one (entries are applied without holes);
//!  2. its object does not open, is no record, or is the record of another number. Alarm;
//!  3. (not void:) its `prev` is not the hash of the object before it. Alarm; the entry is judged as
//!     any other, because it is authentic and it may be its neighbour that was altered;
//!  4. its kind is unknown. If it is marked `required`, nobody reads past it;
//!  5. some writer was admitted before, and this one not for this kind. A `no-op` is open to all;
//!  6. it starts a run whose id was started before;
//!  7. it starts a run on a parent that is not committed, or that uses a condemned run (while an alarm stands, one that
//!     is not known counts as committed);
//!  8. it commits, fails or abandons a run that is not open;
//!  9. it commits a run that references what is not a backup (with the same exception);
//! 10. it commits a run that is condemned, references a condemned run, or needs WAL condemned on its timeline;
//! 11. it names a generation that has not begun, begins one again, or a timeline again;
//! 12. it expires, holds, releases, pins, verifies or drills what is not a backup; or expires, holds
//!     or releases one that has expired;
//! 13. it expires a backup on which a hold stands;
//! 14. it pins under an id whose pin stands, or a backup that uses a condemned run; or ends a pin that does not stand;
//! 15. it condemns a run that was never started, or whose condemnation is not swept yet;
//! 16. it condemns what an unexpired backup uses, or WAL from such a backup's start on, on its
//!     timeline or a later one;
//! 17. it condemns an open run, what an open run's parent uses, or WAL from that parent's start on;
//! 18. it condemns what a pinned backup uses, or WAL from its start on;
//! 19. it sweeps what is not validly condemned or is swept already, or says swept without a sweep;
//! 20. it condemns or sweeps while an alarm is uncleared: the entry that cannot be read may be a pin.
//!     `alert-cleared` of `ledger-<n>` clears the alarms of entry n;
//! 21. it approves or ends a restore that was not requested.
//!
//! Invariant, by rules 7, 10, 14 and 16 to 18: no unexpired backup, open run or pin ever uses a
//! condemned run. So whatever a valid `sweeping` covers may be deleted at any later time.

mod effect;
mod facts;
mod query;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use facts::{Alarm, Backup, Condemnation, Gap, Pin, Proof, Run};
pub use rules::{Rule, Verdict};

use super::{Hash, Lsn, ObjectReference, Record};

/// What the entries read so far mean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    n: u64,
    head: Hash,
    generations: BTreeMap<String, BTreeSet<u32>>,
    runs: BTreeMap<String, Run>,
    backups: BTreeMap<String, Backup>,
    pins: BTreeMap<String, Pin>,
    condemnations: BTreeMap<u64, Condemnation>,
    condemned_runs: BTreeMap<String, u64>,
    wal_horizons: BTreeMap<(String, u32), Lsn>,
    archived: BTreeMap<(String, u32), Lsn>,
    gaps: Vec<Gap>,
    proofs: Vec<Proof>,
    alarms: BTreeMap<u64, Alarm>,
    alerts: BTreeMap<String, u64>,
    raised: BTreeMap<String, u64>,
    cleared: BTreeMap<String, u64>,
    writers: BTreeMap<String, BTreeSet<String>>,
    requests: BTreeSet<String>,
    imported: BTreeMap<String, (u64, String)>,
    epochs: BTreeMap<u32, (String, bool)>,
    policy: Option<ObjectReference>,
    #[cfg(feature = "mutants")]
    ignored: Option<Rule>,
}

impl State {
    /// The state before the first entry.
    pub fn new() -> State {
        State::default()
    }

    /// A state that breaks `rule`, to prove that the tests would notice.
    #[cfg(feature = "mutants")]
    pub fn ignoring(rule: Rule) -> State {
        State {
            ignored: Some(rule),
            ..State::default()
        }
    }

    /// Takes in the next object: its BLAKE3 and its record, or why there is none. Rules 2 and 3 are
    /// judged here, the others in [`State::apply`].
    pub fn read(&mut self, hash: Hash, record: Result<&Record, &str>) -> Verdict {
        let before = self.head;
        let verdict = match record {
            Ok(record) if record.n == self.n.saturating_add(1) => {
                if record.prev != hex::encode(before) {
                    let what = "it does not continue the entry before it".to_owned();
                    self.alarms.insert(record.n, Alarm { n: record.n, what });
                }
                self.apply(record)
            }
            Ok(record) => self.unreadable(&format!("it says it is entry {}", record.n)),
            Err(what) => self.unreadable(what),
        };
        self.head = hash;
        verdict
    }

    /// Takes in the next record, without looking at hashes.
    pub fn apply(&mut self, record: &Record) -> Verdict {
        let verdict = self.judge(record);
        if verdict != Verdict::Void(Rule::Order) {
            self.n = record.n;
        }
        if verdict == Verdict::Valid {
            self.effect(record);
        }
        verdict
    }

    fn unreadable(&mut self, what: &str) -> Verdict {
        self.n = self.n.saturating_add(1);
        self.alarms.insert(
            self.n,
            Alarm {
                n: self.n,
                what: what.to_owned(),
            },
        );
        Verdict::Void(Rule::Unreadable)
    }

    /// How many entries were taken in: the number of the last.
    pub fn last(&self) -> u64 {
        self.n
    }

    /// BLAKE3 of the last object as stored; zeros before the first.
    pub fn head(&self) -> Hash {
        self.head
    }
}
