//! A protected database: its folder in the repository, opened, and its ledger.

use std::sync::Arc;

use async_lock::Mutex;
use repo::{
    Repository,
    keys::Unlock,
    ledger::{Appended, Decision, Entry, Ledger, State},
    session::Session,
    signed::SignedEntries,
    store::{Location, Store},
};

use crate::{Error, Result, event::Context, target::At};

/// Where a database's backups are, and how to read them.
#[derive(Debug, Clone)]
pub struct Database {
    /// The folder's name.
    pub name: String,
    /// The repository.
    pub location: Location,
    /// What opens it.
    pub unlock: Unlock,
    /// The database id that must be found there, 32 hex digits, if one is known.
    pub expected_id: Option<String>,
}

/// An open folder and its ledger.
pub struct Opened {
    /// The folder.
    pub repository: Repository,
    codec: Arc<SignedEntries>,
    ledger: Mutex<Ledger>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Opened({:?})", self.repository)
    }
}

/// Opens a database's folder and reads its ledger to the end.
///
/// # Errors
/// [`Error::NotFound`] if there is no such folder; [`repo::Error::Foreign`] if it belongs to another database.
pub async fn open(context: &Context, database: &Database) -> Result<Opened> {
    Opened::new(folder(context, database).await?).await
}

/// Opens a database's folder to restore the backup that `at` means. One that is named needs no ledger: where the
/// ledger cannot be read to its end, it is left aside, with a warning.
///
/// # Errors
/// As [`open`]; for the newest backup, which only the ledger knows, everything that is wrong with that too.
pub async fn open_to_restore(context: &Context, database: &Database, at: &At) -> Result<Opened> {
    let repository = folder(context, database).await?;
    match (Opened::new(repository.clone()).await, at) {
        // The store was reached and the key fits: what fails now is the ledger, or a session of its entries.
        (Err(Error::Repository(error)), At::Backup(_)) if !error.is_transient() => {
            let left = format!("{error}; the ledger is left aside, because a restore of a named backup needs none");
            context.warn("ledger-unreadable", left);
            Opened::without_ledger(repository)
        }
        (opened, _) => opened,
    }
}

/// Opens a database's folder and leaves its ledger unread.
///
/// # Errors
/// As [`open`].
pub async fn folder(context: &Context, database: &Database) -> Result<Repository> {
    let store = database
        .location
        .database(&database.name, false)
        .map_err(|error| no_folder(database, error))?;
    let repository = Repository::open(store, context.runtime.clone(), &database.unlock).await?;
    if let Some(expected) = &database.expected_id {
        let found = &repository.identity().database;
        if found != expected {
            let what = format!("it holds the database {found}, the configuration says {expected}");
            return Err(repo::Error::Foreign { what }.into());
        }
    }
    Ok(repository)
}

/// Opens the folder in `store`.
pub async fn open_store(context: &Context, store: Arc<dyn Store>, unlock: &Unlock) -> Result<Opened> {
    let repository = Repository::open(store, context.runtime.clone(), unlock).await?;
    Opened::new(repository).await
}

fn no_folder(database: &Database, error: repo::Error) -> Error {
    match error {
        repo::Error::Missing { .. } => Error::NotFound {
            what: format!(
                "there is no folder {} in the repository {}",
                database.name, database.location
            ),
            hint: "Check name and --repository, or make it with `lastgood init`.".into(),
        },
        error => error.into(),
    }
}

impl Opened {
    /// Reads the ledger of an open folder.
    pub async fn new(repository: Repository) -> Result<Opened> {
        let codec = Arc::new(SignedEntries::new(repository.clone())?);
        let store = repository.bare_store().clone();
        let ledger = Ledger::load(store, repository.runtime().clone(), codec.clone(), &codec.writer()).await?;
        Ok(Opened {
            repository,
            codec,
            ledger: Mutex::new(ledger),
        })
    }

    /// With a ledger of which nothing was read.
    fn without_ledger(repository: Repository) -> Result<Opened> {
        let codec = Arc::new(SignedEntries::new(repository.clone())?);
        let store = repository.bare_store().clone();
        let ledger = Ledger::new(store, repository.runtime().clone(), codec.clone(), &codec.writer());
        Ok(Opened {
            repository,
            codec,
            ledger: Mutex::new(ledger),
        })
    }

    /// Begins a session to write in; entries are sealed in it from now on.
    pub async fn begin_session(&self) -> Result<Session> {
        let session = self.repository.begin_session().await?;
        self.codec.write_in(session.clone());
        Ok(session)
    }

    /// Looks at the ledger's state as last read.
    pub async fn with_state<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(self.ledger.lock().await.state())
    }

    /// Appends `entry`, deciding anew on whatever others appended meanwhile.
    ///
    /// # Errors
    /// [`Error::Failed`] if the ledger's rules forbid it, or if its outcome is not known.
    pub async fn append(&self, entry: Entry) -> Result<u64> {
        let kind = entry.kind().to_string();
        let append = |_: &State| Decision::Append(entry.clone());
        let appended = self.ledger.lock().await.append(append).await?;
        done(appended, &kind)
    }

    /// Appends `entry` if the state in which it would come `is` so; its number, if it came.
    ///
    /// # Errors
    /// As [`Opened::append`].
    pub async fn append_if(&self, entry: Entry, is: impl Fn(&State) -> bool + Send + Sync) -> Result<Option<u64>> {
        let kind = entry.kind().to_string();
        let decide = |state: &State| match is(state) {
            true => Decision::Append(entry.clone()),
            false => Decision::Stop("it is not so any more".into()),
        };
        match self.ledger.lock().await.append(decide).await? {
            Appended::Stopped(_) => Ok(None),
            appended => done(appended, &kind).map(Some),
        }
    }

    /// Looks for a backup's manifest reference and name by id, or the newest.
    pub async fn find(&self, id: Option<&str>) -> Result<repo::ledger::state::Backup> {
        let found = self
            .with_state(|state| {
                let mut live = state.backups().filter(|backup| backup.expired.is_none());
                match id {
                    Some(id) => live.find(|backup| backup.id == id).cloned(),
                    None => live.last().cloned(),
                }
            })
            .await;
        let name = &self.repository.identity().name;
        found.ok_or_else(|| Error::NotFound {
            what: match id {
                Some(id) => format!("there is no backup {id} of {name}"),
                None => format!("there is no backup of {name} yet"),
            },
            hint: match id {
                Some(_) => format!("See `lastgood list {name}`."),
                None => format!("Take one with `lastgood backup {name}`."),
            },
        })
    }
}

/// The number of an entry that was appended, or why it was not.
fn done(appended: Appended, kind: &str) -> Result<u64> {
    let failed = |code, what: String, hint: &str| {
        Err(Error::Failed {
            code,
            what,
            hint: hint.into(),
        })
    };
    match appended {
        Appended::Done { n } => Ok(n),
        Appended::Stopped(why) => failed("ledger-refused", why, "Run the command again."),
        Appended::Refused(rule) => failed(
            "ledger-refused",
            format!("the ledger does not take the entry {kind}: {rule:?}"),
            "Somebody else changed what it rests on; look with `lastgood list`, then run the command again.",
        ),
        Appended::Unknown { n, said, .. } => failed(
            "outcome-unknown",
            format!("whether entry {n} of the ledger was written is not known: {said}"),
            "Make sure that the repository can be reached and has space left; `lastgood list` then shows whether the entry is there.",
        ),
    }
}
