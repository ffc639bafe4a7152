//! A position in the write-ahead log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// A byte position in the WAL stream, counted from the beginning of the cluster's first timeline.
///
/// Printed as PostgreSQL prints it up to version 18: `X/Y`, the high and the low half in upper-case
/// hexadecimal, neither padded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// PostgreSQL's `InvalidXLogRecPtr`, which stands for "none". No record begins there.
    pub const INVALID: Lsn = Lsn(0);

    /// Whether this is a position at all, and not [`Lsn::INVALID`].
    pub fn is_valid(self) -> bool {
        self != Lsn::INVALID
    }

    /// The position `bytes` later; `None` past the end of the address space.
    pub fn checked_add(self, bytes: u64) -> Option<Lsn> {
        self.0.checked_add(bytes).map(Lsn)
    }

    /// The position `bytes` earlier; `None` before the beginning.
    pub fn checked_sub(self, bytes: u64) -> Option<Lsn> {
        self.0.checked_sub(bytes).map(Lsn)
    }

    /// The position `bytes` later, or the last position there is.
    pub fn saturating_add(self, bytes: u64) -> Lsn {
        Lsn(self.0.saturating_add(bytes))
    }

    /// Bytes from `earlier` to here; 0 if `earlier` is later.
    pub fn bytes_since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Lsn {
    type Err = Error;

    /// Takes what `pg_lsn` takes: one to eight hexadecimal digits of either case on each side.
    fn from_str(text: &str) -> Result<Self> {
        let halves = text
            .split_once('/')
            .and_then(|(high, low)| Some((half(high)?, half(low)?)));
        match halves {
            Some((high, low)) => Ok(Lsn(u64::from(high) << 32 | u64::from(low))),
            None => Err(Error::malformed("a WAL position of the form X/Y", text)),
        }
    }
}

fn half(text: &str) -> Option<u32> {
    let plain = (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expect: Option<u64>) {
        assert_eq!(text.parse::<Lsn>().ok(), expect.map(Lsn), "{text}");
    }

    #[test]
    fn a_position_reads_as_pg_lsn_reads_it() {
        check("0/0", Some(0));
        check("16/B374D848", Some(0x16_B374_D848));
        check("16/b374d848", Some(0x16_B374_D848));
        check("FFFFFFFF/FFFFFFFF", Some(u64::MAX));
        check("0/03000028", Some(0x0300_0028));
        for wrong in [
            "",
            "/",
            "1/",
            "/1",
            "1",
            "G/0",
            "0/123456789",
            "+1/2",
            "1/2/3",
            " 1/2",
            "-1/0",
            "0x1/2",
            "é/1",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_position_prints_without_padding() {
        assert_eq!(Lsn(0x1_0000_0028).to_string(), "1/28");
        assert_eq!(serde_json::to_string(&Lsn(0x1_0000_0028)).unwrap(), "\"1/28\"");
    }

    #[test]
    fn distances_never_wrap() {
        assert_eq!(Lsn(10).bytes_since(Lsn(4)), 6);
        assert_eq!(Lsn(4).bytes_since(Lsn(10)), 0);
        assert_eq!(Lsn(u64::MAX).checked_add(1), None);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(value: u64) {
            prop_assert_eq!(Lsn(value).to_string().parse::<Lsn>(), Ok(Lsn(value)));
            let json = serde_json::to_string(&Lsn(value)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Lsn>(&json).unwrap(), Lsn(value));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Lsn>();
        }
    }
}
