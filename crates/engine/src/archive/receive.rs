//! Receives WAL as the server writes it, until it is asked to stop.
//!
//! Invariants: it goes on where the repository's WAL ends, so that nothing is left out however often it is killed; and
//! the server hears as flushed only what is durable in the repository. Beside `synchronous_standby_names` it is an honest
//! synchronous standby: a commit that waits for it is here.

mod attend;
mod commits;
mod finisher;
mod follow;
mod marks;
mod patience;
mod queue;
mod record;
mod refusals;
mod slot;
mod store;
mod unfinished;

use std::time::Duration;

use pgformat::protocol::SlotName;
use repo::{ledger::Lsn, session::Session};
use serde::Serialize;

use crate::{
    Error, Result,
    database::{self, Database, Opened},
    event::Context,
    server::WalSource,
};

pub use record::Gap;

use attend::{Attendant, Ended};
use finisher::Finisher;
use patience::{Patience, unless_stopped};

/// How long the segment under way may take to be finished once somebody asked to stop; the next start goes on with it.
const LAST_SEGMENT: Duration = Duration::from_secs(3);
/// How long is waited before a server is asked again that ended a timeline at once.
const NEXT_TIMELINE: Duration = Duration::from_secs(1);

/// How to receive.
#[derive(Debug, Clone)]
pub struct Options {
    /// What makes the server keep WAL.
    pub slot: SlotChoice,
    /// Make the slot though the server would let it fill its disk.
    pub unlimited_slot: bool,
    /// How long a commit may wait to be stored.
    pub seal_interval: Duration,
    /// How often is said that nothing more was written.
    pub mark_interval: Duration,
}

impl Options {
    /// With a slot, a commit waiting for at most a second, and a mark each minute.
    pub fn new(slot: SlotChoice) -> Options {
        Options {
            slot,
            unlimited_slot: false,
            seal_interval: Duration::from_secs(1),
            mark_interval: Duration::from_secs(60),
        }
    }
}

/// Whether the server keeps WAL while nobody receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotChoice {
    /// By a slot of this name, made if it is not there.
    Named(SlotName),
    /// No: what it recycles meanwhile is a gap.
    None,
}

impl SlotChoice {
    /// The slot of the database called `name` here. Letters are made small, and what a slot's name cannot hold becomes `_`.
    pub fn of_database(name: &str) -> Result<SlotChoice> {
        let plain = |letter: char| match letter {
            'a'..='z' | '0'..='9' | '_' => letter,
            'A'..='Z' => letter.to_ascii_lowercase(),
            _ => '_',
        };
        let slot: String = "lastgood_".chars().chain(name.chars().map(plain)).collect();
        SlotChoice::named(&slot)
    }

    /// The slot called `name`.
    pub fn named(name: &str) -> Result<SlotChoice> {
        SlotName::new(name)
            .map(SlotChoice::Named)
            .map_err(|error| Error::Refused {
                code: "slot-name",
                what: format!("{error}"),
                hint: "Name the slot with --slot: 1 to 63 small letters, digits and underscores.".into(),
            })
    }
}

/// What was received.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Bytes that were made durable.
    pub bytes: u64,
    /// Segments that became complete.
    pub segments: u64,
    /// The timeline received last; none if nothing ever came.
    pub timeline: Option<u32>,
    /// Everything of that timeline before it, from where this began, is durable.
    pub position: Option<Lsn>,
    /// WAL that the server did not have any more.
    pub gaps: Vec<Gap>,
}

/// Opens the folder that WAL is received into; a repository that is away is waited for. `None` if somebody asked to stop
/// first.
///
/// # Errors
/// What no waiting mends, as [`database::open`].
pub async fn open(context: &Context, database: &Database) -> Result<Option<Opened>> {
    let mut patience = Patience::default();
    loop {
        let error = match unless_stopped(context, database::open(context, database)).await {
            Ok(Ok(opened)) => return Ok(Some(opened)),
            Err(_) => return Ok(None),
            Ok(Err(error)) => error,
        };
        let wait = patience.after(context, error)?;
        // Whether to stop is looked at above.
        let _ = unless_stopped(context, context.runtime.clock.sleep(wait)).await;
    }
}

/// Receives WAL of `source` until `context` is asked to stop.
///
/// Connections that are lost, servers that restart and a repository that is away are waited out, for ever.
///
/// # Errors
/// What no waiting mends: at the start a wrong password, a missing right, a foreign server; at any time
/// [`Error::Conflict`] if the server is behind what is here (`server-behind`, `timeline-behind`), and
/// [`repo::Error::TwoServers`]. Nothing that was acknowledged is lost by any of them.
pub async fn run(context: &Context, opened: &Opened, source: &dyn WalSource, options: &Options) -> Result<Summary> {
    let (mut patience, mut summary) = (Patience::default(), Summary::default());
    let Some(session) = begin_session(context, opened, &mut patience).await? else {
        return Ok(summary);
    };
    let finisher = Finisher::start(context, &opened.repository, &session);
    let ended = {
        let mut attendant = Attendant::new(context, opened, &session, &finisher, options, &mut summary);
        receive(context, source, &mut attendant, &mut patience).await
    };
    let finished = finisher.end(context, LAST_SEGMENT).await;
    let ended = ended.and(match finished {
        Err(error @ Error::Repository(repo::Error::TwoServers { .. })) => Err(error),
        // What else kept a segment from being finished is mended by the next start.
        _ => Ok(()),
    });
    if let Err(error) = &ended {
        record::alert_of(opened, error).await;
    }
    ended.map(|()| summary)
}

/// Connection after connection, until somebody asks to stop.
async fn receive(
    context: &Context,
    source: &dyn WalSource,
    attendant: &mut Attendant<'_>,
    patience: &mut Patience,
) -> Result<()> {
    loop {
        let wait = match attendant.attend(source, patience).await {
            Ok(Ended::Stopped) | Err(Error::Interrupted) => return Ok(()),
            Ok(Ended::GoesOn) => Duration::ZERO,
            Ok(Ended::NothingCame) => NEXT_TIMELINE,
            // That two servers write one timeline is no less true because somebody asked to stop.
            Err(error) if context.stop.check().is_err() && !is_conflict(&error) => {
                // What was not stored was not acknowledged either, and is sent again.
                context.warn("receive-stopped-early", format!("while stopping: {error}"));
                return Ok(());
            }
            Err(error) => {
                if matches!(error, Error::Repository(_)) {
                    attendant.looks_again();
                }
                patience.after(context, error)?
            }
        };
        if unless_stopped(context, context.runtime.clock.sleep(wait))
            .await
            .is_err()
        {
            return Ok(());
        }
    }
}

fn is_conflict(error: &Error) -> bool {
    let two_servers = matches!(error, Error::Repository(repo::Error::TwoServers { .. }));
    two_servers || matches!(error, Error::Conflict { code, .. } if matches!(*code, "server-behind" | "timeline-behind"))
}

/// The session that everything is written in; `None` if somebody asked to stop first.
async fn begin_session(context: &Context, opened: &Opened, patience: &mut Patience) -> Result<Option<Session>> {
    loop {
        if context.stop.check().is_err() {
            return Ok(None);
        }
        match opened.begin_session().await {
            Ok(session) => return Ok(Some(session)),
            Err(error) => {
                let wait = patience.after(context, error)?;
                // Whether to stop is looked at above.
                let _ = unless_stopped(context, context.runtime.clock.sleep(wait)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_databases_slot_has_a_name_that_every_server_takes() {
        let name = |database: &str| match SlotChoice::of_database(database) {
            Ok(SlotChoice::Named(name)) => name.as_str().to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(name("shop"), "lastgood_shop");
        assert_eq!(name("Shop-1.eu"), "lastgood_shop_1_eu");
        assert!(SlotChoice::of_database(&"a".repeat(55)).is_err());
    }
}
