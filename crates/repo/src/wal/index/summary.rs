//! The summary of a run.

use serde::{Deserialize, Serialize};

use crate::{bytes_codec::Malformed, ledger::Lsn};

/// The most bytes of a summary.
pub(in crate::wal) const MAX_SUMMARY: usize = 4 << 10;
/// The most bytes of each text in it.
const MAX_TEXT: usize = 500;

/// What most questions need to know of a run, in at most 4 KiB.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// BLAKE3 of the run's bytes of WAL, hexadecimal: whoever has them too need not read them here.
    pub content: String,
    /// Whether the record that lies across the run's start, if there is one, was seen whole.
    pub joined: bool,
    /// Records that end in the run.
    pub records: u64,
    /// Where the record before the first of them begins, as that one says.
    pub before: Option<Lsn>,
    /// Where the first of them begins; it may be before the run.
    pub first: Option<Lsn>,
    /// Where the last of them begins.
    pub last: Option<Lsn>,
    /// Where it ends.
    pub end: Option<Lsn>,
    /// How many of them end a transaction.
    pub endings: u64,
    /// The earliest time of such a record, microseconds since 1970-01-01 UTC.
    pub earliest: Option<i64>,
    /// The latest.
    pub latest: Option<i64>,
    /// Why its records were not all read: where the walk stopped and what was wrong there.
    pub broken: Option<String>,
    /// Why changed pages cannot be known from this run.
    pub incomplete: Option<String>,
}

impl Summary {
    pub(in crate::wal) fn encode(&self) -> Vec<u8> {
        // Whatever the texts say, the summary keeps its size.
        let short = |text: &Option<String>| {
            let mut text = text.clone()?;
            let cut = (0..=MAX_TEXT.min(text.len()))
                .rev()
                .find(|at| text.is_char_boundary(*at));
            text.truncate(cut.unwrap_or(0));
            Some(text)
        };
        let summary = Summary {
            broken: short(&self.broken),
            incomplete: short(&self.incomplete),
            ..self.clone()
        };
        // Strings and numbers of ours: there is nothing in it that JSON cannot say.
        serde_json::to_vec(&summary).unwrap_or_default()
    }

    pub(in crate::wal) fn decode(bytes: &[u8]) -> Result<Summary, Malformed> {
        if bytes.len() > MAX_SUMMARY {
            return Err(Malformed("its summary is too large"));
        }
        serde_json::from_slice(bytes).map_err(|_| Malformed("its summary cannot be read"))
    }
}
