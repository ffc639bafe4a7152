//! The slot that makes the server keep what is not here yet.

use pgformat::{Lsn, protocol::SlotName};

use crate::{
    Error, Result,
    event::Context,
    server::{KeptSlot, WalLink},
};

use super::{Options, SlotChoice};

/// The slot through which WAL is received, and where the server keeps WAL from for its sake.
pub(super) struct Held {
    pub(super) name: Option<SlotName>,
    pub(super) restart: Option<Lsn>,
}

/// Finds the slot, or makes it.
///
/// # Errors
/// [`Error::Conflict`] if another process streams through it, [`Error::Refused`] if it would have to be made on a server
/// that lets slots fill its disk.
pub(super) async fn hold(context: &Context, link: &mut dyn WalLink, options: &Options) -> Result<Held> {
    let SlotChoice::Named(name) = &options.slot else {
        return Ok(Held {
            name: None,
            restart: None,
        });
    };
    let mut found = link.slot(name).await?;
    if let Some(slot) = &found {
        check(name, slot, &link.identity().server)?;
        if slot.lost {
            // Before anything is dropped: who is refused finds all as it was.
            check_limited(link, options)?;
            let what = format!(
                "the server gave up the slot {} because it held back more WAL than max_slot_wal_keep_size allows; it is made anew",
                name.as_str()
            );
            context.warn("slot-lost", what);
            link.drop_slot(name).await?;
            found = None;
        }
    }
    let slot = match found {
        Some(slot) => slot,
        None => make(link, name, options).await?,
    };
    Ok(Held {
        name: Some(name.clone()),
        restart: slot.restart,
    })
}

fn check_limited(link: &dyn WalLink, options: &Options) -> Result<()> {
    let identity = link.identity();
    if !identity.facts.slots_are_unlimited || options.unlimited_slot {
        return Ok(());
    }
    Err(Error::Refused {
        code: "slot-unlimited",
        what: format!(
            "{} would keep all WAL for a slot that nobody reads, until its disk is full (max_slot_wal_keep_size = -1)",
            identity.server
        ),
        hint: "Run as a superuser: ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf(); \
               or give --slot-unlimited or --no-slot."
            .into(),
    })
}

async fn make(link: &mut dyn WalLink, name: &SlotName, options: &Options) -> Result<KeptSlot> {
    check_limited(link, options)?;
    link.create_slot(name).await?;
    link.slot(name).await?.ok_or_else(|| Error::Failed {
        code: "slot-gone",
        what: format!("the slot {} was made and is not there", name.as_str()),
        hint: "Look who drops replication slots on the server.".into(),
    })
}

fn check(name: &SlotName, slot: &KeptSlot, server: &str) -> Result<()> {
    let name = name.as_str();
    if !slot.physical {
        return Err(Error::Conflict {
            code: "slot-foreign",
            what: format!("the slot {name} of {server} is a logical one"),
            hint: "Choose another name with --slot.".into(),
        });
    }
    match slot.held_by {
        Some(pid) => Err(Error::Conflict {
            code: "slot-in-use",
            what: format!("the slot {name} of {server} is in use by its process {pid}"),
            hint: format!(
                "Stop the other receiver, or choose another name with --slot. See `SELECT * FROM pg_stat_replication WHERE pid = {pid}`."
            ),
        }),
        None => Ok(()),
    }
}
