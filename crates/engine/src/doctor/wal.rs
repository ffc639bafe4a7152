//! Whether the server's WAL is kept in bounds: a disk that fills with it stops the server.

use std::{
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use futures::future::{Either, select};
use pgclient::{
    Conninfo, Session,
    catalog::{ServerFacts, Slot, WalState},
};
use pgformat::control::Control;

use crate::event::Context;

use super::{Check, Outcome};

/// Who looks at many databases does not wait longer for a server that may be gone.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// So many segments waiting for `archive_command` are more than a burst.
const MANY_WAITING: u64 = 32;
/// A slot that nobody uses and that holds more than this, bytes, was forgotten.
const MUCH_HELD: u64 = 1 << 30;
/// A slot may still take so many segments before it is given up: time to look.
const FEW_LEFT: u64 = 16;

/// Looks at queue, slots and size.
pub(super) async fn examine(conninfo: &Conninfo, facts: &ServerFacts, local: Option<&Path>, checks: &mut Vec<Check>) {
    let state = match read(conninfo).await {
        Ok(state) => state,
        Err(error) => {
            checks.push(warning(
                "wal",
                format!("how its WAL stands is not known: {error}"),
                error.hint().unwrap_or_default(),
            ));
            return;
        }
    };
    let before = checks.len();
    piles_up(&state, facts, local, checks);
    if checks.len() == before {
        let bytes = state
            .wal_bytes
            .map_or("its WAL".into(), |bytes| format!("{} MiB of WAL", bytes >> 20));
        checks.push(Check {
            id: "wal",
            outcome: Outcome::Ok,
            detail: format!("{bytes}, {} slots, nothing that piles up", state.slots.len()),
            remedy: None,
        });
    }
}

/// The same as sentences, for who looks at many databases at once: nothing of a server that does not answer soon.
pub(crate) async fn warnings(context: &Context, conninfo: &Conninfo) -> Vec<String> {
    let asking = async {
        let session = Session::connect(conninfo).await?;
        let facts = ServerFacts::read(&session).await;
        let state = WalState::read(&session).await;
        session.close().await;
        Ok::<_, pgclient::Error>((facts?, state?))
    };
    let patience = context.runtime.clock.sleep(ANSWERS_WITHIN);
    let Either::Left((Ok((facts, state)), _)) = select(pin!(asking), patience).await else {
        return Vec::new();
    };
    let mut checks = Vec::new();
    piles_up(&state, &facts, local(&facts).as_deref(), &mut checks);
    let sentence = |check: Check| match check.remedy {
        Some(remedy) => format!("{}. {remedy}", check.detail),
        None => check.detail,
    };
    checks.into_iter().map(sentence).collect()
}

/// The server's directory, if it is on this machine: another one may well have one under the same path.
fn local(facts: &ServerFacts) -> Option<PathBuf> {
    let directory = PathBuf::from(facts.data_directory.as_ref()?);
    let control = std::fs::read(directory.join("global/pg_control")).ok()?;
    let control = Control::parse(&control).ok()?;
    (control.system_identifier == facts.system_identifier).then_some(directory)
}

fn piles_up(state: &WalState, facts: &ServerFacts, local: Option<&Path>, checks: &mut Vec<Check>) {
    queue(state, facts, checks);
    for slot in &state.slots {
        checks.extend(of_slot(slot, facts.wal_segment_size.bytes()));
    }
    checks.extend(room(state, local));
}

async fn read(conninfo: &Conninfo) -> pgclient::Result<WalState> {
    let session = Session::connect(conninfo).await?;
    let state = WalState::read(&session).await;
    session.close().await;
    state
}

fn queue(state: &WalState, facts: &ServerFacts, checks: &mut Vec<Check>) {
    if state.archiver_fails == Some(true) {
        checks.push(warning(
            "archive-fails",
            "archive_command failed the last time it was called".into(),
            "The server's log says why; WAL piles up in pg_wal until it succeeds.",
        ));
    }
    if let Some(waiting) = state.waiting.filter(|waiting| *waiting >= MANY_WAITING) {
        let mebibytes = (waiting * facts.wal_segment_size.bytes()) >> 20;
        checks.push(warning(
            "archive-queue",
            format!("{waiting} segments ({mebibytes} MiB) wait for archive_command"),
            "See to it that archive_command succeeds, before pg_wal fills its disk.",
        ));
    }
}

fn of_slot(slot: &Slot, segment_size: u64) -> Option<Check> {
    let (name, held) = (&slot.name, slot.held_bytes >> 20);
    match slot.wal_status.as_deref() {
        Some("lost") => Some(warning(
            "slot-lost",
            format!("the slot {name} was given up by the server: WAL that its reader needs is gone"),
            format!(
                "Take a backup now; `lastgood wal receive` makes its own slot again. Another's: SELECT pg_drop_replication_slot('{name}');"
            ),
        )),
        Some("unreserved") => Some(warning(
            "slot-unreserved",
            format!("the slot {name} holds {held} MiB and is about to be given up"),
            "Start its reader now (`lastgood wal receive`), or raise max_slot_wal_keep_size.",
        )),
        _ => of_bytes(slot, segment_size),
    }
}

fn of_bytes(slot: &Slot, segment_size: u64) -> Option<Check> {
    let (name, held) = (&slot.name, slot.held_bytes >> 20);
    if let Some(safe) = slot.safe_bytes
        && safe < FEW_LEFT * segment_size
        && slot.held_bytes > safe
    {
        return Some(warning(
            "slot-near-limit",
            format!(
                "the slot {name} holds {held} MiB and is given up after {} MiB more",
                safe >> 20
            ),
            "Start its reader (`lastgood wal receive`), or raise max_slot_wal_keep_size.",
        ));
    }
    if slot.active && slot.safe_bytes.is_none() && slot.held_bytes >= MUCH_HELD {
        return Some(warning(
            "slot-behind",
            format!("the reader of the slot {name} is {held} MiB behind, and the server keeps them without limit"),
            "See that its reader keeps up; set max_slot_wal_keep_size, so that the slot is given up before the disk is full.",
        ));
    }
    (!slot.active && slot.held_bytes >= MUCH_HELD).then(|| {
        let endless = match slot.safe_bytes {
            None => ", without limit",
            Some(_) => "",
        };
        warning(
            "slot-unused",
            format!("nobody reads the slot {name}, and the server keeps {held} MiB for it{endless}"),
            format!("Start its reader, or drop it: SELECT pg_drop_replication_slot('{name}');"),
        )
    })
}

/// Whether `pg_wal` outgrows what is left of its file system, where that can be seen.
fn room(state: &WalState, local: Option<&Path>) -> Option<Check> {
    let (bytes, room) = (state.wal_bytes?, rustix::fs::statvfs(local?.join("pg_wal")).ok()?);
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    (bytes > free).then(|| {
        warning(
            "wal-disk",
            format!(
                "pg_wal holds {} MiB and its disk has {} MiB left",
                bytes >> 20,
                free >> 20
            ),
            "Find out what keeps WAL (slots, archive_command, wal_keep_size), or make room.",
        )
    })
}

fn warning(id: &'static str, detail: String, remedy: impl Into<String>) -> Check {
    Check {
        id,
        outcome: Outcome::Warning,
        detail,
        remedy: Some(remedy.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(active: bool, status: &str, held: u64, safe: Option<u64>) -> Slot {
        Slot {
            name: "s".into(),
            active,
            wal_status: Some(status.into()),
            held_bytes: held,
            safe_bytes: safe,
        }
    }

    fn found(slot: &Slot) -> Option<&'static str> {
        of_slot(slot, 16 << 20).map(|check| check.id)
    }

    #[test]
    fn a_slot_that_nobody_reads_is_told_of_long_before_the_disk_is_full() {
        assert_eq!(found(&slot(true, "reserved", 1 << 29, None)), None);
        assert_eq!(found(&slot(true, "reserved", 5 << 30, None)), Some("slot-behind"));
        assert_eq!(found(&slot(false, "reserved", 1 << 20, None)), None);
        assert_eq!(found(&slot(false, "extended", 2 << 30, None)), Some("slot-unused"));
        assert_eq!(
            found(&slot(true, "extended", 900 << 20, Some(100 << 20))),
            Some("slot-near-limit")
        );
        assert_eq!(found(&slot(true, "reserved", 0, Some(1 << 30))), None);
        assert_eq!(
            found(&slot(true, "unreserved", 2 << 30, Some(0))),
            Some("slot-unreserved")
        );
        assert_eq!(found(&slot(false, "lost", 0, None)), Some("slot-lost"));
    }
}
