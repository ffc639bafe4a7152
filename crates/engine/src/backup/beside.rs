//! A standby whose relation files are read for the backup of its primary.
//!
//! Invariant: nothing is read of the standby before one of its restartpoints begins at or after the backup's start, for until
//! then its files may lack what was changed before it; and what was read counts only if it was a standby until the end. Its
//! pages are then of a moment between the backup's start and its stop, as the primary's own would be.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::future::{Either, pending, select};
use pgclient::Session;
use pgformat::control::Control;

use crate::{
    Error, Result,
    event::Context,
    server::{ServerFacts, Started},
    source::Source,
};

use super::control;

/// How long the standby may take to come to the backup's start: three times as long as restartpoints are apart unless somebody
/// asks for one (`checkpoint_timeout`).
const PATIENCE: Duration = Duration::from_secs(900);
/// How often is looked whether it has.
const LOOK: Duration = Duration::from_millis(100);
/// How often it is asked for a restartpoint: one that finds nothing new costs nothing.
const AGAIN: Duration = Duration::from_millis(500);
/// `insufficient_privilege`.
const NOT_ALLOWED: &str = "42501";

/// The standby.
pub(super) struct Beside {
    /// Its data directory.
    pub(super) files: Arc<dyn Source>,
    /// Open from the first look to the end: who is restarted meanwhile ends it.
    pub(super) session: Session,
}

type Asking<'a> = Pin<Box<dyn Future<Output = pgclient::Result<()>> + Send + 'a>>;

impl Beside {
    /// Waits until a restartpoint of the standby begins at or after the backup's start; what its `pg_control` says then.
    /// `primary` is what the plan found: the standby is of its cluster, and its pages go under the primary's `pg_control`.
    pub(super) async fn catch_up(
        &self,
        context: &Context,
        begun: &Started,
        primary: &ServerFacts,
        still_good: &(dyn Fn() -> Result<()> + Sync),
    ) -> Result<Control> {
        let clock = &context.runtime.clock;
        let until = clock.monotonic().saturating_add(PATIENCE);
        let mut asking: Asking<'_> = Box::pin(self.ask(context, Duration::ZERO));
        let mut is_said = false;
        loop {
            context.stop.check()?;
            still_good()?;
            let (_, control) = control::read(context, &*self.files).await?;
            control::check_same(&control, primary.system_identifier, &of_standby(begun))?;
            control::check_checksums(&control, primary.data_checksums)?;
            if control.checkpoint.redo >= begun.start {
                return Ok(control);
            }
            if clock.monotonic() >= until {
                return Err(behind(&control, begun));
            }
            if !is_said {
                context.step("standby", "waiting until the standby has come to the backup's start");
                is_said = true;
            }
            asking = match select(asking, clock.sleep(LOOK)).await {
                Either::Right(((), asking)) => asking,
                Either::Left((Ok(()), _)) => Box::pin(self.ask(context, AGAIN)),
                Either::Left((Err(error), _)) if error.sqlstate() == Some(NOT_ALLOWED) => {
                    context.warn("standby-checkpoint", not_allowed(&self.session));
                    Box::pin(pending())
                }
                Either::Left((Err(error), _)) => return Err(error.into()),
            };
        }
    }

    /// Asks for a restartpoint, after a while; returns when it is done.
    async fn ask(&self, context: &Context, after: Duration) -> pgclient::Result<()> {
        context.runtime.clock.sleep(after).await;
        self.session.execute("ask for a restartpoint", "CHECKPOINT").await
    }

    /// Whether it was a standby all the time since `since` was read, after which the first file was.
    pub(super) async fn check_still(&self, context: &Context, begun: &Started, since: &Control) -> Result<()> {
        let (_, last) = control::read(context, &*self.files).await?;
        control::check_ended(since, &last, &of_standby(begun))?;
        match self.session.is_in_recovery().await? {
            true => Ok(()),
            false => Err(control::promoted()),
        }
    }
}

/// What is asked of the standby's files: to be in recovery, on the backup's timeline.
fn of_standby(begun: &Started) -> Started {
    Started {
        in_recovery: true,
        ..*begun
    }
}

fn not_allowed(session: &Session) -> String {
    format!(
        "the role {} may not ask the standby for a restartpoint: it makes one by itself every checkpoint_timeout; GRANT pg_checkpoint (from 15 on) makes the backup begin at once",
        session.conninfo().user()
    )
}

fn behind(control: &Control, begun: &Started) -> Error {
    Error::Failed {
        code: "standby-behind",
        what: format!(
            "the standby's last restartpoint begins at {}, and {} seconds after the backup began at {} there is none behind that",
            control.checkpoint.redo,
            PATIENCE.as_secs(),
            begun.start
        ),
        hint: "Look whether the standby replays WAL (pg_stat_wal_receiver, pg_is_wal_replay_paused(), recovery_min_apply_delay), then take the backup again; or take it without the standby.".into(),
    }
}
