//! Which failures are waited out, for how long, and how often they are told.

use std::{collections::BTreeMap, time::Duration};

use futures::future::{Either, select};

use crate::{Error, Result, event::Context};

/// The first wait after a failure; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A stream that lived so long was no failure in a row.
const STEADY: Duration = Duration::from_secs(60);
/// The same words are said again after this long: who comes to look should find them.
const SAY_AGAIN: Duration = Duration::from_secs(3600);
/// The most different warnings that are remembered as said.
const SAID: usize = 100;
/// How long a slot may be held by somebody else at the start: the server takes a moment to notice that our predecessor
/// was killed.
const SLOT_WAIT: Duration = Duration::from_secs(20);
/// How often whoever waits looks whether to stop.
const LOOK: Duration = Duration::from_millis(100);

/// What failed before, and what has been said of it.
#[derive(Debug, Default)]
pub(super) struct Patience {
    began: Option<Duration>,
    streamed: bool,
    streaming_since: Option<Duration>,
    failures: u32,
    said: BTreeMap<String, Duration>,
}

impl Patience {
    /// WAL begins to come.
    pub(super) fn streaming(&mut self, now: Duration) {
        self.streamed = true;
        self.streaming_since = Some(now);
    }

    /// How long to wait after `error`; the error itself if waiting mends nothing.
    pub(super) fn after(&mut self, context: &Context, error: Error) -> Result<Duration> {
        let now = context.runtime.clock.monotonic();
        let began = *self.began.get_or_insert(now);
        if !self.may_pass(&error, now.saturating_sub(began)) {
            return Err(error);
        }
        if self
            .streaming_since
            .take()
            .is_some_and(|since| now.saturating_sub(since) >= STEADY)
        {
            self.failures = 0;
        }
        let wait = FIRST_WAIT
            .saturating_mul(2u32.saturating_pow(self.failures))
            .min(LONGEST_WAIT);
        self.failures = self.failures.saturating_add(1);
        self.say(context, &error, now);
        Ok(wait)
    }

    /// Before anything ever came, what a person has to mend is told to that person. Later it is waited out: who changes a
    /// password at night wants no receiver that has ended.
    fn may_pass(&self, error: &Error, waited: Duration) -> bool {
        match error {
            Error::Conflict {
                code: "slot-in-use", ..
            } => self.streamed || waited < SLOT_WAIT,
            Error::Conflict { .. } | Error::Repository(repo::Error::TwoServers { .. }) => false,
            Error::Failed { code, .. } => *code != "worker-died",
            Error::Server(error) => self.streamed || error.is_transient() || is_odd(error),
            Error::Repository(error) => self.streamed || error.is_transient(),
            _ => self.streamed,
        }
    }

    fn say(&mut self, context: &Context, error: &Error, now: Duration) {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(source) = cause {
            let said = source.to_string();
            if !text.contains(&said) {
                text = format!("{text}: {said}");
            }
            cause = source.source();
        }
        let known = self.said.get(&text);
        if known.is_some_and(|said| now.saturating_sub(*said) < SAY_AGAIN) {
            return;
        }
        if self.said.len() >= SAID {
            self.said.clear();
        }
        self.said.insert(text.clone(), now);
        context.warn("receive-interrupted", format!("{text}; trying again"));
    }
}

/// A stream that came out of step is in step again after a new connection.
fn is_odd(error: &pgclient::Error) -> bool {
    matches!(error, pgclient::Error::Protocol { .. })
}

/// Waits for `work`, unless somebody asks us to stop.
pub(super) async fn unless_stopped<T>(context: &Context, work: impl Future<Output = T>) -> Result<T> {
    let stopped = async {
        while context.stop.check().is_ok() {
            context.runtime.clock.sleep(LOOK).await;
        }
    };
    futures::pin_mut!(work, stopped);
    match select(work, stopped).await {
        Either::Left((done, _)) => Ok(done),
        Either::Right(_) => Err(Error::Interrupted),
    }
}
