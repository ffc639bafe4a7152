//! A position in the WAL as the ledger writes it.
//!
//! The repository only compares positions; what they mean is known elsewhere. The text is PostgreSQL's
//! own (`pg_lsn`), so that an entry can be read beside the server's log.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A byte position in the WAL of one generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl std::fmt::Display for Lsn {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl std::str::FromStr for Lsn {
    type Err = &'static str;

    /// Reads `X/Y`, each half one to eight hexadecimal digits, as PostgreSQL's `pg_lsn` does.
    fn from_str(text: &str) -> Result<Lsn, Self::Err> {
        let (high, low) = text.split_once('/').ok_or("a WAL position has the form X/Y")?;
        Ok(Lsn(half(high)? << 32 | half(low)?))
    }
}

fn half(text: &str) -> Result<u64, &'static str> {
    // `from_str_radix` alone would also take a sign.
    if text.is_empty() || text.len() > 8 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("each half of a WAL position is one to eight hexadecimal digits");
    }
    u64::from_str_radix(text, 16).map_err(|_| "each half of a WAL position is hexadecimal")
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Lsn, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_as_it_was_written() {
        for position in [0, 1, 0x0300_0028, 0x1_0000_0000, u64::MAX] {
            assert_eq!(Lsn(position).to_string().parse(), Ok(Lsn(position)));
        }
    }

    #[test]
    fn what_postgresql_would_refuse_as_a_position_is_refused() {
        for text in ["", "/", "1/", "/1", "+1/1", "1/123456789", "g/1", "1/1/1", " 1/1"] {
            assert!(text.parse::<Lsn>().is_err(), "{text:?} was taken");
        }
    }
}
