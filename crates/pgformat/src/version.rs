//! The major versions of PostgreSQL that are supported, and where each announces itself.

use std::fmt;

use crate::bytes::decimal;
use crate::error::{Error, Result};

/// A supported major version. In order of age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Major {
    /// PostgreSQL 13.
    V13,
    /// PostgreSQL 14.
    V14,
    /// PostgreSQL 15.
    V15,
    /// PostgreSQL 16.
    V16,
    /// PostgreSQL 17.
    V17,
    /// PostgreSQL 18.
    V18,
}

impl Major {
    /// Every supported version, oldest first.
    pub const ALL: [Major; 6] = [Major::V13, Major::V14, Major::V15, Major::V16, Major::V17, Major::V18];

    /// The number that users know: 13 to 18.
    pub fn number(self) -> u32 {
        match self {
            Major::V13 => 13,
            Major::V14 => 14,
            Major::V15 => 15,
            Major::V16 => 16,
            Major::V17 => 17,
            Major::V18 => 18,
        }
    }

    /// From the setting `server_version_num`, such as 150014. Its last four digits are the minor version.
    pub fn from_server_version_num(number: u32) -> Result<Self> {
        Self::from_number(number / 10_000).ok_or_else(|| {
            unsupported(format!(
                "server_version_num {number}, which is PostgreSQL {}",
                number / 10_000
            ))
        })
    }

    /// From the content of a file `PG_VERSION`, such as `"15\n"`.
    pub fn from_pg_version_file(content: &[u8]) -> Result<Self> {
        let text = String::from_utf8_lossy(content);
        let text = text.trim_end_matches(['\n', '\r']);
        decimal(text).and_then(Self::from_number).ok_or_else(|| {
            unsupported(format!(
                "PG_VERSION says {:?}",
                text.chars().take(40).collect::<String>()
            ))
        })
    }

    /// From the magic number at the head of each WAL page (`XLOG_PAGE_MAGIC`, `access/xlog_internal.h`).
    /// It is one number per major version since releases do not change the WAL format.
    pub fn from_wal_magic(magic: u16) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|major| major.wal_magic() == magic)
            .ok_or_else(|| unsupported(format!("WAL page magic {magic:04X} is of no version from 13 to 18")))
    }

    /// The magic number of this version's WAL pages.
    pub fn wal_magic(self) -> u16 {
        match self {
            Major::V13 => 0xD106,
            Major::V14 => 0xD10D,
            Major::V15 => 0xD110,
            Major::V16 => 0xD113,
            Major::V17 => 0xD116,
            Major::V18 => 0xD118,
        }
    }

    /// `CATALOG_VERSION_NO` of this version's releases (`catalog/catversion.h`); betas had others.
    pub fn catalog_version(self) -> u32 {
        match self {
            Major::V13 => 202_007_201,
            Major::V14 => 202_107_181,
            Major::V15 => 202_209_061,
            Major::V16 => 202_307_071,
            Major::V17 => 202_406_281,
            Major::V18 => 202_506_291,
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|major| major.number() == number)
    }
}

impl fmt::Display for Major {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.number(), f)
    }
}

fn unsupported(found: String) -> Error {
    Error::unsupported("this version of PostgreSQL", found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_is_known_by_every_name_it_has() {
        for major in Major::ALL {
            assert_eq!(Major::from_server_version_num(major.number() * 10_000 + 7), Ok(major));
            assert_eq!(Major::from_pg_version_file(format!("{major}\n").as_bytes()), Ok(major));
            assert_eq!(Major::from_wal_magic(major.wal_magic()), Ok(major));
        }
    }

    #[test]
    fn an_unknown_version_is_refused_by_name() {
        let error = Major::from_server_version_num(120_022).unwrap_err().to_string();
        assert_eq!(
            error,
            "this version of PostgreSQL is not supported: server_version_num 120022, which is PostgreSQL 12"
        );
        for content in ["", "12", "9.6\n", "19\n", "+15", "15 ", "15devel", "\u{fe}"] {
            assert!(Major::from_pg_version_file(content.as_bytes()).is_err(), "{content}");
        }
        assert!(
            Major::from_wal_magic(0x10D1).is_err(),
            "the magic of 15 in the other byte order"
        );
    }
}
