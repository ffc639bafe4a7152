//! Objects of backups that somebody found damaged or missing, as the ledger remembers them.
//!
//! A backup that is taken now has no use for an object that was lost; those that are here still do. So there is one alert, and it
//! stands until a verification has opened the object again or no backup needs it any more.

use repo::{
    BackupId,
    ledger::{Level, Severity, State, state::Backup},
    manifest::Manifest,
    session::{Session, SessionId},
};

use crate::{Error, Result, alert, database::Opened, restore};

/// What the names of these alerts begin with; the object's name follows.
const ALERT: &str = "object-damaged-";
/// What the names of objects begin with that hold the keys of writing sessions.
const SESSION: &str = "sessions/";

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

/// Whether that is the key of a session. Whatever was written in it is noise without it, and nothing tells what that was.
pub(crate) fn is_session(name: &str) -> bool {
    name.starts_with(SESSION)
}

/// The objects that alerts call damaged or missing, with the entries that said so last.
fn standing(state: &State) -> impl Iterator<Item = (&str, u64)> {
    let alerts = state.alerts();
    alerts.filter_map(|(alert, raised)| Some((alert.strip_prefix(ALERT)?, raised)))
}

/// What speaks against that backup: an object of a backup whose objects it uses, which somebody found damaged or missing and
/// nobody has read whole since. It may not need that very one; but where the key that a backup was written with is lost, all of
/// it is noise, and who opens one object is told of that alone. Of a damaged key nobody knows whose it was: every backup that was
/// begun when it was found may be written in it, may be built on one that is, or may need WAL that is.
pub(crate) fn known<'s>(state: &'s State, manifest: &Manifest) -> Option<&'s str> {
    let begun = alert::begun(state, manifest.facts.backup.as_str());
    let speaks = |name: &str, raised: u64| match parts(name) {
        None => is_session(name) && begun < raised,
        Some((_, owner, _)) => manifest.needed.sources.iter().any(|source| *source == owner),
    };
    let found = standing(state).find(|(name, raised)| speaks(name, *raised));
    found.map(|(name, _)| name)
}

/// Kind, owner and the rest of the name of a backup's object (`repo::names`).
fn parts(name: &str) -> Option<(&str, BackupId, &str)> {
    let mut parts = name.splitn(3, '/');
    let (kind, owner, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let owner = BackupId::parse(owner)?;
    matches!(kind, "packs" | "maps" | "files" | "backups").then_some((kind, owner, rest))
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

/// Raises an alert about the object of that name, which stands in the way for the reason `what`; again, if one does: who reads
/// it just now and finds it whole may have read it before. That of a session speaks against what was begun before, so it
/// is raised again only where it was met of a backup, `of`, that was begun since: somebody may have gone on to write with that key.
///
/// # Errors
/// As [`Opened::append`].
pub(crate) async fn remember(opened: &Opened, name: &str, what: &str, of: Option<&str>) -> Result<()> {
    let alert = format!("{ALERT}{name}");
    let users = opened.with_state(|state| users(state, name).join(", ")).await;
    let whose = match users.is_empty() {
        true => String::new(),
        false => format!(" Backups that may not restore without it: {users}."),
    };
    let text = format!(
        "{what}.{whose} Copy it back from another copy of the repository if there is one; `lastgood verify BACKUP` tells of each whether it can be restored."
    );
    let says = |state: &State, raised| is_session(name) && of.is_some_and(|of| alert::begun(state, of) < raised);
    alert::raise_unless(opened, &alert, Severity::Critical, text, says).await
}

/// Remembers what a reader of a backup met, of which one if that is known, if it is that something of one is damaged or missing. Who may only read cannot,
/// and is told of the damage all the same.
pub(crate) async fn met(opened: &Opened, error: &Error, of: Option<&str>) {
    let Error::Repository(error) = error else {
        return;
    };
    let Some(name) = object_of(error).filter(|name| parts(name).is_some() || is_session(name)) else {
        return;
    };
    // The damage itself is the error that is told.
    if opened.begin_session().await.is_ok() {
        let _ = remember(opened, name, &error.to_string(), of).await;
    }
}

/// Clears what was said, up to the entry `until`, of objects of `backup`, which a verification that began after that entry has
/// read whole to that level; of objects that no backup needs; and of sessions whose keys can be read again, whoever needs them.
/// That the bytes of an object are those which were stored does not say that it opens: that level clears nothing.
///
/// # Errors
/// As [`Opened::append`], and what reading manifests says.
pub(crate) async fn clear(opened: &Opened, backup: &Backup, level: Level, until: u64) -> Result<()> {
    let raised: Vec<String> = opened
        .with_state(|state| standing(state).map(|(name, _)| name.to_owned()).collect())
        .await;
    if raised.is_empty() || level == Level::Objects {
        return Ok(());
    }
    let manifest = restore::manifest(opened, backup).await?;
    for name in raised {
        let is_over = match is_session(&name) {
            true => opens(opened, &name).await?,
            false => needs(&manifest, &name) || !is_needed(opened, &name).await?,
        };
        if is_over {
            alert::clear(opened, &format!("{ALERT}{name}"), until, "verify").await?;
        }
    }
    Ok(())
}

/// Whether any backup needs the object of that name; one whose manifest cannot be read may.
async fn is_needed(opened: &Opened, name: &str) -> Result<bool> {
    let users: Vec<String> = opened
        .with_state(|state| users(state, name).into_iter().map(str::to_owned).collect())
        .await;
    for user in users {
        let found = opened.find(Some(&user)).await?;
        match restore::manifest(opened, &found).await {
            Ok(manifest) if !needs(&manifest, name) => {}
            Err(Error::Repository(error)) if error.is_transient() => return Err(error.into()),
            _ => return Ok(true),
        }
    }
    Ok(false)
}

/// Whether the session of that name opens. It is read again: one that was opened before is remembered, and would say nothing.
async fn opens(opened: &Opened, name: &str) -> Result<bool> {
    let mut id = SessionId([0; 16]);
    let digits = name.strip_prefix(SESSION).unwrap_or_default();
    if hex::decode_to_slice(digits, &mut id.0).is_err() {
        return Ok(false);
    }
    let bytes = opened.repository.store().get(name).await?;
    Ok(bytes.is_some_and(|bytes| Session::open(opened.repository.keyring(), id, &bytes).is_ok()))
}

/// Whether an alert, which the entry `raised` raised, is about an object that no backup uses any more: for a session, whether
/// all backups that were begun then have gone, for none was built on these since.
pub(crate) fn is_past(state: &State, alert: &str, raised: u64) -> bool {
    let Some(name) = alert.strip_prefix(ALERT) else {
        return false;
    };
    if is_session(name) {
        return state.backups().all(|backup| alert::begun(state, &backup.id) > raised);
    }
    parts(name).is_some() && users(state, name).is_empty()
}

#[cfg(test)]
mod tests {
    use repo::ledger::{BackupKind, Entry, ObjectReference, Record, References, Summary, Verdict, What};

    use super::*;

    const FIRST: &str = "20260101T000000Z-aaaaaa";
    const SECOND: &str = "20260102T000000Z-bbbbbb";

    fn backup(run: &str, references: &[&str]) -> [Entry; 2] {
        let started = Entry::RunStarted {
            run: run.into(),
            session: "0".repeat(32),
            what: What::Backup,
            parent: None,
        };
        let summary = Summary {
            kind: BackupKind::Full,
            label: None,
            parent: None,
            started: 1,
            stopped: 2,
            generation: None,
            timeline: None,
            start_lsn: None,
            stop_lsn: None,
            major: None,
            bytes: 1,
            stored: 1,
            files: 1,
            databases: 1,
        };
        let manifest = ObjectReference {
            object: format!("backups/{run}/manifest"),
            hash: "0".repeat(64),
            size: 1,
        };
        let backups = references.iter().map(|reference| (*reference).to_owned()).collect();
        let committed = Entry::Committed {
            run: run.into(),
            manifest,
            references: References { backups },
            summary,
        };
        [started, committed]
    }

    fn raised(name: &str) -> Entry {
        Entry::AlertRaised {
            alert: format!("{ALERT}{name}"),
            severity: Severity::Critical,
            text: "it is gone".into(),
        }
    }

    fn expired(backup: &str) -> Entry {
        Entry::Expired { backup: backup.into() }
    }

    /// Which alerts are past, after these entries.
    fn past(entries: &[Entry]) -> Vec<bool> {
        let mut state = State::new();
        for (number, entry) in entries.iter().enumerate() {
            let record = Record {
                n: number as u64 + 1,
                prev: "0".repeat(64),
                at: 0,
                writer: "a test".into(),
                operation: "0".repeat(32),
                entry: entry.clone(),
            };
            assert_eq!(state.apply(&record), Verdict::Valid, "{entry:?}");
        }
        state.alerts().map(|(alert, n)| is_past(&state, alert, n)).collect()
    }

    #[test]
    fn an_alert_is_past_when_no_backup_uses_what_it_is_about() {
        let pack = format!("packs/{FIRST}/00000000");
        let first = [&backup(FIRST, &[])[..], &[raised(&pack)]].concat();
        assert_eq!(past(&first), [false]);
        let both = [&first[..], &backup(SECOND, &[FIRST]), &[expired(FIRST)]].concat();
        assert_eq!(past(&both), [false]);
        let apart = [&first[..], &backup(SECOND, &[]), &[expired(FIRST)]].concat();
        assert_eq!(past(&apart), [true]);
    }

    #[test]
    fn an_alert_about_a_session_is_past_when_all_backups_that_were_there_have_gone() {
        let first = [&backup(FIRST, &[])[..], &[raised("sessions/00")]].concat();
        assert_eq!(past(&first), [false]);
        let both = [&first[..], &backup(SECOND, &[])].concat();
        assert_eq!(past(&both), [false]);
        assert_eq!(past(&[&both[..], &[expired(FIRST)]].concat()), [true]);
    }
}
