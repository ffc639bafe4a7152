//! Objects of backups that somebody found damaged or missing, as the ledger remembers them.
//!
//! A backup that is taken now has no use for an object that was lost; those that are here still do. So it is told once, and
//! stands until a verification has read the object again or nothing uses it any more.

use repo::{
    BackupId,
    ledger::{Entry, Severity, State, state::Backup},
    manifest::Manifest,
};

use crate::{Result, alert, database::Opened, restore};

/// What the names of these alerts begin with; the object's name follows.
const ALERT: &str = "object-damaged-";

/// The object that an error says is damaged or missing.
pub(crate) fn object_of(error: &repo::Error) -> Option<&str> {
    match error {
        repo::Error::Damaged { name, .. } | repo::Error::Missing { name } => Some(name),
        _ => None,
    }
}

/// Whether that is an object without which the backup does not restore: a pack, a map, a part of its file table, its manifest.
pub(crate) fn needs(manifest: &Manifest, name: &str) -> bool {
    let Some((kind, owner, rest)) = parts(name) else {
        return false;
    };
    let number = rest.parse::<u32>().ok();
    let needed = &manifest.needed;
    match kind {
        "packs" => number.is_some_and(|number| needed.pack(&owner, number).is_some()),
        "maps" => number.is_some_and(|number| needed.map(&owner, number).is_some()),
        "files" | "backups" => owner == manifest.facts.backup,
        _ => false,
    }
}

/// Kind, owner and the rest of an object's name (`repo::names`).
fn parts(name: &str) -> Option<(&str, BackupId, &str)> {
    let mut parts = name.splitn(3, '/');
    let (kind, owner, rest) = (parts.next()?, parts.next()?, parts.next()?);
    Some((kind, BackupId::parse(owner)?, rest))
}

/// The backups that may not restore without the object: whoever uses anything of its owner's, for what exactly only their
/// manifests say. A file table and a manifest are of use to their owner alone.
fn users<'s>(state: &'s State, name: &str) -> Vec<&'s str> {
    let Some((kind, owner, _)) = parts(name) else {
        return Vec::new();
    };
    let is_own = matches!(kind, "files" | "backups");
    let users = state.backups().filter(|backup| match is_own {
        true => backup.id == owner.as_str(),
        false => backup.uses(owner.as_str()),
    });
    users.map(|backup| backup.id.as_str()).collect()
}

/// Raises an alert about the object of that name, which stands in the way for the reason `what`, unless one does.
///
/// # Errors
/// As [`Opened::append`].
pub(crate) async fn remember(opened: &Opened, name: &str, what: &str) -> Result<()> {
    let alert = format!("{ALERT}{name}");
    let users = opened.with_state(|state| users(state, name).join(", ")).await;
    let whose = match users.is_empty() {
        true => String::new(),
        false => format!(" Backups that may not restore without it: {users}."),
    };
    let text = format!(
        "{what}.{whose} Copy it back from another copy of the repository if there is one; `lastgood verify BACKUP` tells of each whether it can be restored."
    );
    alert::raise(opened, &alert, Severity::Critical, text).await
}

/// Clears what was said of objects of `backup`, all of which were read just now and are whole.
///
/// # Errors
/// As [`Opened::append`], and what reading its manifest says.
pub(crate) async fn clear(opened: &Opened, backup: &Backup) -> Result<()> {
    let raised: Vec<String> = opened
        .with_state(|state| {
            let raised = state.alerts().filter(|(alert, _)| alert.starts_with(ALERT));
            raised.map(|(alert, _)| alert.to_owned()).collect()
        })
        .await;
    if raised.is_empty() {
        return Ok(());
    }
    let manifest = restore::manifest(opened, backup).await?;
    let is_over = |alert: &String| alert.strip_prefix(ALERT).is_some_and(|name| needs(&manifest, name));
    for alert in raised.into_iter().filter(is_over) {
        let by = "verify".to_owned();
        opened.append(Entry::AlertCleared { alert, by }).await?;
    }
    Ok(())
}

/// Whether an alert is about an object that no backup uses any more.
pub(crate) fn is_past(state: &State, alert: &str) -> bool {
    let name = alert.strip_prefix(ALERT);
    name.is_some_and(|name| parts(name).is_some() && users(state, name).is_empty())
}
