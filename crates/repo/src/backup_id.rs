//! How a backup is called (`FORMAT.md` section 2).

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Characters of an id.
const LENGTH: usize = 23;
/// 32 characters that nobody reads for one another: `0-9a-hjkmnp-tv-z`.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Form of the first 16 characters.
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// A backup's id, `YYYYMMDDThhmmssZ-xxxxxx`: when it began, and six random characters.
///
/// People read the time; nothing is ordered by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupId([u8; LENGTH]);

impl BackupId {
    /// The id of a backup that begins at `started_micros` (microseconds since 1970-01-01 UTC, held to the
    /// years that four digits can say).
    pub fn new(started_micros: i64, random: [u8; 6]) -> BackupId {
        let latest = jiff::Timestamp::MAX.as_microsecond();
        let started = jiff::Timestamp::from_microsecond(started_micros.clamp(0, latest)).unwrap_or_default();
        let mut id = *b"19700101T000000Z-000000";
        for (to, from) in id.iter_mut().zip(started.strftime(TIME).to_string().bytes()) {
            *to = from;
        }
        for (to, from) in id[17..].iter_mut().zip(random) {
            *to = ALPHABET[usize::from(from & 31)];
        }
        BackupId(id)
    }

    /// Reads an id; `None` if it is none.
    pub fn parse(text: &str) -> Option<BackupId> {
        let id: [u8; LENGTH] = text.as_bytes().try_into().ok()?;
        let (time, random) = (text.get(..16)?, id.get(17..)?);
        let time_digits = time.bytes().enumerate().all(|(at, byte)| match at {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
        let is_random = random.iter().all(|byte| ALPHABET.contains(byte));
        if !time_digits || id[16] != b'-' || !is_random {
            return None;
        }
        let civil = jiff::civil::DateTime::strptime(TIME, time).ok()?;
        // A leap second or the like would be read as another time than is written.
        (civil.strftime(TIME).to_string() == time).then_some(BackupId(id))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        // Made of ASCII by both constructors.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::fmt::Display for BackupId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.as_str())
    }
}

impl std::fmt::Debug for BackupId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.as_str())
    }
}

impl Serialize for BackupId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for BackupId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<BackupId, D::Error> {
        let text = String::deserialize(deserializer)?;
        BackupId::parse(&text).ok_or_else(|| D::Error::custom("it is no backup id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_says_when_the_backup_began() {
        let id = BackupId::new(1_700_000_000_000_000, [0, 1, 2, 29, 30, 31]);
        assert_eq!(id.as_str(), "20231114T221320Z-012xyz");
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "20231114T221320Z",
            "20231114T221320Z-01234i",
            "20231114T221320Z-01234A",
            "20231314T221320Z-012345",
            "20230230T221320Z-012345",
            "20231114T221360Z-012345",
            "20231114T241320Z-012345",
            "20231114 221320Z-012345",
            "20231114T221320Z/012345",
            "+0231114T221320Z-012345",
            "../../../etc/passwd-012",
            "2023111éT22132Z-012345",
        ] {
            assert_eq!(BackupId::parse(text), None, "{text:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn every_id_made_reads_back(micros: i64, random: [u8; 6]) {
            let id = BackupId::new(micros, random);
            prop_assert_eq!(BackupId::parse(id.as_str()), Some(id));
        }

        #[test]
        fn no_text_panics_the_reader(text: String) {
            let _ = BackupId::parse(&text);
        }
    }
}
