//! A timeline's number, and its two written forms.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bytes::hex8;
use crate::error::{Error, Result};

/// A timeline id. PostgreSQL numbers from 1; 0 stands for "none".
///
/// It is printed in decimal, as in `backup_label` and in settings. In file names it stands in
/// hexadecimal: [`Tli::to_hex`]. The two differ from timeline 10 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tli(pub u32);

impl Tli {
    /// The eight upper-case hexadecimal digits that file names hold.
    pub fn to_hex(self) -> String {
        format!("{:08X}", self.0)
    }

    /// Reads the form of file names. Timeline 0 does not exist.
    pub fn from_hex(text: &str) -> Result<Self> {
        match hex8(text) {
            Some(value) if value > 0 => Ok(Tli(value)),
            _ => Err(Error::malformed("a timeline of eight hexadecimal digits", text)),
        }
    }
}

impl fmt::Display for Tli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenth_timeline_is_an_a_in_file_names_and_ten_elsewhere() {
        assert_eq!(Tli(10).to_hex(), "0000000A");
        assert_eq!(Tli(10).to_string(), "10");
        assert_eq!(Tli::from_hex("00000010"), Ok(Tli(16)));
    }

    #[test]
    fn what_is_not_eight_upper_case_digits_is_refused() {
        for wrong in ["", "1", "0000000a", "000000001", "00000000", "+0000001", "0000000é"] {
            assert!(Tli::from_hex(wrong).is_err(), "{wrong}");
        }
    }
}
