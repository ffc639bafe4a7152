//! One ledger object's body: an entry with its place, its chain and its author.
//!
//! JSON: `{"n":12,"prev":"<hex>","at":<micros>,"writer":"…","operation":"<hex>","entry":{"kind":…}}`.
//! Sealing and signing happen around these bytes.

use serde::{Deserialize, Serialize};

use super::{Entry, KINDS};
use crate::{Error, Result};

/// Longest body read or written, in bytes. Long lists are objects of their own, so an honest entry
/// has a few hundred bytes; the bound keeps a hostile object from filling memory.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// The last number that twelve digits can name.
pub const MAX_ENTRIES: u64 = 999_999_999_999;

/// BLAKE3 of an object's bytes as stored.
pub type Hash = [u8; 32];

/// An entry with its envelope of facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Its position, from 1.
    pub n: u64,
    /// BLAKE3 of object n-1 as stored, in hexadecimal; zeros for the first.
    pub prev: String,
    /// When it was written by the writer's clock, microseconds since 1970-01-01 UTC. Orders nothing.
    pub at: i64,
    /// Who wrote it.
    pub writer: String,
    /// 16 random bytes in hexadecimal: one attempt to append.
    pub operation: String,
    /// What happened.
    pub entry: Entry,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    n: u64,
    prev: String,
    at: i64,
    writer: String,
    operation: String,
    entry: serde_json::Value,
}

impl Record {
    /// The body to seal.
    ///
    /// Errors: [`Error::Conflict`] for an entry longer than [`MAX_RECORD_BYTES`] or of an unknown kind.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let body = serde_json::to_vec(self).map_err(|cause| Error::Conflict {
            what: format!("entry {} cannot be written: {cause}", self.n),
        })?;
        if body.len() > MAX_RECORD_BYTES {
            return Err(Error::Conflict {
                what: format!("entry {} is too long: {} bytes", self.n, body.len()),
            });
        }
        Ok(body)
    }

    /// Reads the body of entry `n`.
    ///
    /// Errors: [`Error::Damaged`] if it is not a record, or not that of `n`. An unknown kind is no
    /// error here: it becomes [`Entry::Unknown`].
    pub fn decode(n: u64, body: &[u8]) -> Result<Record> {
        let damaged = |what: String| Error::Damaged { name: name(n), what };
        if body.len() > MAX_RECORD_BYTES {
            return Err(damaged(format!("an entry of {} bytes", body.len())));
        }
        let raw: Raw = serde_json::from_slice(body).map_err(|cause| damaged(cause.to_string()))?;
        if raw.n != n {
            return Err(damaged(format!("it says it is entry {}", raw.n)));
        }
        for (field, text, digits) in [("prev", &raw.prev, 64), ("operation", &raw.operation, 32)] {
            if text.len() != digits || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(damaged(format!("{field} is not {digits} hexadecimal digits")));
            }
        }
        let entry = entry(raw.entry).map_err(damaged)?;
        Ok(Record {
            n,
            prev: raw.prev,
            at: raw.at,
            writer: raw.writer,
            operation: raw.operation,
            entry,
        })
    }
}

fn entry(value: serde_json::Value) -> Result<Entry, String> {
    let Some(kind) = value.get("kind").and_then(|kind| kind.as_str()) else {
        return Err("the entry has no kind".into());
    };
    if KINDS.contains(&kind) {
        return serde_json::from_value(value).map_err(|cause| cause.to_string());
    }
    // Anything but a plain `false` counts as required: a program that cannot read the mark must not
    // go past it.
    let required = value
        .get("required")
        .is_some_and(|mark| mark != &serde_json::Value::Bool(false));
    Ok(Entry::Unknown {
        kind: kind.to_owned(),
        required,
    })
}

/// The object that holds entry `n`.
pub fn name(n: u64) -> String {
    format!("ledger/{n:012}")
}

/// The entry that an object's name stands for; `None` if it is not a ledger object's name.
pub fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("ledger/")?;
    if digits.len() != 12 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::What;

    fn body(entry: &str) -> String {
        let (prev, operation) = ("0".repeat(64), "a".repeat(32));
        format!(r#"{{"n":1,"prev":"{prev}","at":5,"writer":"host","operation":"{operation}","entry":{entry}}}"#)
    }

    #[test]
    fn an_entry_is_stored_as_the_format_says() {
        let entry = Entry::RunStarted {
            run: "r".into(),
            session: "s".into(),
            what: What::Receive,
            parent: None,
        };
        let record = Record {
            n: 1,
            prev: "0".repeat(64),
            at: 5,
            writer: "host".into(),
            operation: "a".repeat(32),
            entry,
        };
        let stored = body(r#"{"kind":"run-started","run":"r","session":"s","what":"receive"}"#);
        assert_eq!(String::from_utf8(record.encode().unwrap()).unwrap(), stored);
        assert_eq!(Record::decode(1, stored.as_bytes()).unwrap(), record);
    }

    #[test]
    fn a_kind_of_a_later_version_is_kept_apart_and_its_mark_read() {
        let read = |entry: &str| Record::decode(1, body(entry).as_bytes()).unwrap().entry;
        let unknown = |required| Entry::Unknown {
            kind: "teleported".into(),
            required,
        };
        assert_eq!(read(r#"{"kind":"teleported","where":[1]}"#), unknown(false));
        assert_eq!(read(r#"{"kind":"teleported","required":false}"#), unknown(false));
        assert_eq!(read(r#"{"kind":"teleported","required":true}"#), unknown(true));
        assert_eq!(read(r#"{"kind":"teleported","required":"perhaps"}"#), unknown(true));
    }

    #[test]
    fn what_is_no_record_is_damaged_and_nothing_panics() {
        let good = body(r#"{"kind":"no-op"}"#);
        assert!(Record::decode(1, good.as_bytes()).is_ok());
        assert!(matches!(Record::decode(2, good.as_bytes()), Err(Error::Damaged { .. })));
        for length in 0..good.len() {
            assert!(Record::decode(1, &good.as_bytes()[..length]).is_err());
        }
        for bad in [
            body(r#"{"kind":"no-op","more":1}"#),
            body(r#"{"kind":"swept"}"#),
            body(r#"{"kind":"swept","condemned":-1}"#),
            body(r#"{"kind":"swept","condemned":1,"extra":2}"#),
            body(r#"{"kind":7}"#),
            body("[]"),
            body(&"[".repeat(100_000)),
            good.replace("aaaa", "AAAA"),
            good.replace("\"at\":5", "\"at\":5,\"further\":1"),
            " ".repeat(MAX_RECORD_BYTES + 1),
        ] {
            assert!(
                matches!(Record::decode(1, bad.as_bytes()), Err(Error::Damaged { .. })),
                "{bad:.200}"
            );
        }
    }

    #[test]
    fn every_kind_has_its_name_in_the_list() {
        // serde names the kinds it knows when it meets one that it does not.
        let text = serde_json::from_str::<Entry>(r#"{"kind":"?"}"#)
            .unwrap_err()
            .to_string();
        let known: Vec<&str> = text.split('`').skip(3).step_by(2).collect();
        assert_eq!(known, KINDS);
        let entry = Entry::Abandoned { run: "r".into() };
        assert_eq!(serde_json::to_value(&entry).unwrap()["kind"], entry.kind());
    }

    #[test]
    fn names_are_twelve_digits_from_one() {
        assert_eq!(name(12), "ledger/000000000012");
        assert_eq!(number("ledger/000000000012"), Some(12));
        for other in [
            "ledger/12",
            "ledger/000000000000",
            "ledger/00000000001x",
            "ledger/0000000000012",
            "packs/1",
        ] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
