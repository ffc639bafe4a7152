//! From what a decoder refuses to what a caller is told.

use crate::{Error, bytes_codec::Malformed};

impl Malformed {
    /// The object `name` is damaged in this way.
    pub(crate) fn of(self, name: &str) -> Error {
        let Malformed(what) = self;
        Error::Damaged {
            name: name.into(),
            what: what.into(),
        }
    }
}
