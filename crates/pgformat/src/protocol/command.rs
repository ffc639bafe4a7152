//! The text of replication commands. The grammar changed with PostgreSQL 15.

use std::fmt;

use crate::error::{Error, Result};
use crate::{Lsn, Major, Tli};

/// The text of a command, to be sent as a simple query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command(String);

impl Command {
    /// Who the server is and how far its WAL reaches; the answer is [`super::SystemIdentity`].
    pub fn identify_system() -> Self {
        Command("IDENTIFY_SYSTEM".to_owned())
    }

    /// The size of WAL segments, as the setting shows it (`16MB`).
    pub fn show_wal_segment_size() -> Self {
        Command("SHOW wal_segment_size".to_owned())
    }

    /// What to send.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a replication slot: 1 to 63 of lower-case letters, digits and underscores. It needs
/// no quoting anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SlotName(String);

impl SlotName {
    /// Refuses what the server would refuse (`ReplicationSlotValidateName`).
    pub fn new(name: &str) -> Result<Self> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if (1..=63).contains(&name.len()) && name.bytes().all(allowed) {
            Ok(SlotName(name.to_owned()))
        } else {
            Err(Error::malformed(
                "a slot name (1 to 63 lower-case letters, digits and underscores)",
                name,
            ))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Creates a slot that holds WAL back from now on and vanishes with the connection.
pub fn create_temporary_physical_slot(major: Major, slot: &SlotName) -> Command {
    create_slot(major, slot, "TEMPORARY PHYSICAL")
}

/// Creates a slot that holds WAL back from now on, whether anybody reads it or not.
pub fn create_permanent_physical_slot(major: Major, slot: &SlotName) -> Command {
    create_slot(major, slot, "PHYSICAL")
}

/// Without RESERVE_WAL it would hold nothing until it is first used.
fn create_slot(major: Major, slot: &SlotName, kind: &str) -> Command {
    let options = if major >= Major::V15 {
        "(RESERVE_WAL true)"
    } else {
        "RESERVE_WAL"
    };
    Command(format!("CREATE_REPLICATION_SLOT \"{}\" {kind} {options}", slot.0))
}

/// Drops a slot, at once or not at all.
pub fn drop_slot(slot: &SlotName) -> Command {
    Command(format!("DROP_REPLICATION_SLOT \"{}\"", slot.0))
}

/// Asks what a slot holds back; PostgreSQL 15 and later, else `None`.
pub fn read_slot(major: Major, slot: &SlotName) -> Option<Command> {
    (major >= Major::V15).then(|| Command(format!("READ_REPLICATION_SLOT \"{}\"", slot.0)))
}

/// Streams WAL of `timeline` from `start` on, keeping what `slot` holds back. `start` need not be
/// the start of a segment, nor of a record.
pub fn start_replication(slot: Option<&SlotName>, start: Lsn, timeline: Tli) -> Command {
    let slot = slot.map_or(String::new(), |slot| format!("SLOT \"{}\" ", slot.0));
    Command(format!("START_REPLICATION {slot}PHYSICAL {start} TIMELINE {timeline}"))
}

/// Asks for the history file of `timeline`; the answer is [`super::TimelineHistoryFile`].
pub fn timeline_history(timeline: Tli) -> Command {
    Command(format!("TIMELINE_HISTORY {timeline}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> SlotName {
        SlotName::new("lastgood_1").unwrap()
    }

    #[test]
    fn each_version_is_spoken_to_in_its_grammar() {
        let create = |major| create_temporary_physical_slot(major, &slot()).to_string();
        let old = "CREATE_REPLICATION_SLOT \"lastgood_1\" TEMPORARY PHYSICAL RESERVE_WAL";
        let new = "CREATE_REPLICATION_SLOT \"lastgood_1\" TEMPORARY PHYSICAL (RESERVE_WAL true)";
        for major in Major::ALL {
            assert_eq!(create(major), if major.number() < 15 { old } else { new }, "{major}");
            assert_eq!(read_slot(major, &slot()).is_some(), major.number() >= 15, "{major}");
            let permanent = create_permanent_physical_slot(major, &slot()).to_string();
            assert_eq!(permanent, create(major).replace("TEMPORARY ", ""), "{major}");
        }
    }

    #[test]
    fn timelines_in_commands_are_decimal() {
        let command = start_replication(Some(&slot()), Lsn(0x1_0000_0028), Tli(16));
        assert_eq!(
            command.as_str(),
            "START_REPLICATION SLOT \"lastgood_1\" PHYSICAL 1/28 TIMELINE 16"
        );
        assert_eq!(
            start_replication(None, Lsn(0), Tli(1)).as_str(),
            "START_REPLICATION PHYSICAL 0/0 TIMELINE 1"
        );
        assert_eq!(timeline_history(Tli(16)).as_str(), "TIMELINE_HISTORY 16");
    }

    #[test]
    fn a_slot_name_that_would_need_quoting_is_refused() {
        for wrong in ["", "a b", "A", "a\"", "a-b", "ä", &"a".repeat(64)] {
            assert!(SlotName::new(wrong).is_err(), "{wrong}");
        }
        assert!(SlotName::new(&"a".repeat(63)).is_ok());
    }
}
