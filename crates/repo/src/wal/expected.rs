//! WAL that is here already and that a server is still to send: it has to be the same.
//!
//! Two servers that went apart may have written the same bytes for a while. What one of them has stored tells nothing of
//! what the other one sends next.

use crate::{Result, repository::Repository};

use super::{Assembly, WalStream};

/// Bytes that are here, for comparison with those that come.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    start: u64,
    bytes: Vec<u8>,
}

impl Expected {
    /// What is here from `from` to before `to`. A run begins at `run`, not after `from`, from which on there is no hole.
    ///
    /// # Errors
    /// [`crate::Error::Missing`] if there is one nevertheless, [`crate::Error::Damaged`] and the like.
    pub async fn read(repository: &Repository, stream: &WalStream, run: u64, from: u64, to: u64) -> Result<Expected> {
        let mut bytes = Vec::new();
        let mut stored = Assembly::new(repository, *stream, from, to).beginning_at(run);
        while let Some(piece) = stored.next().await? {
            bytes.extend_from_slice(&piece.bytes);
        }
        Ok(Expected { start: from, bytes })
    }

    /// The first position from which on `bytes`, which begin at `at`, are others than those that are here; `None` as far
    /// as both go.
    pub fn differs(&self, at: u64, bytes: &[u8]) -> Option<u64> {
        let from = self.start.max(at);
        let here = after(&self.bytes, from - self.start);
        let come = after(bytes, from - at);
        let offset = here.iter().zip(come).position(|(here, come)| here != come)?;
        Some(from.saturating_add(offset as u64))
    }
}

fn after(bytes: &[u8], skipped: u64) -> &[u8] {
    let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
    bytes.get(skipped..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_compared_where_both_are() {
        let expected = Expected {
            start: 100,
            bytes: b"wal of ours".to_vec(),
        };
        let check = |at, bytes: &[u8], differs| assert_eq!(expected.differs(at, bytes), differs, "{at}");
        check(100, b"wal of ours and more", None);
        check(90, b"0123456789wal of", None);
        check(90, b"0123456789wal if", Some(104));
        check(104, b"of others", Some(108));
        check(50, b"long before", None);
        check(111, b"long after", None);
        check(u64::MAX, b"far", None);
    }
}
