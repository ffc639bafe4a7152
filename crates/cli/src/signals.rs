//! SIGINT and SIGTERM: the first one asks everybody to stop at the next safe place, the second one ends at once.
//!
//! Ending at once is safe too: nothing is listed before it is committed. It only leaves more to sweep up.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use engine::event::Stop;
use tokio::signal::unix::{SignalKind, signal};

use crate::{exit::Exit, progress::Progress, prompt};

/// Which signal came first, if any. Clones are one and the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caught(Arc<AtomicU8>);

impl Caught {
    /// How to end after an interruption.
    pub(crate) fn exit(&self) -> Exit {
        if self.0.load(Ordering::Relaxed) == Exit::Terminated.code() {
            Exit::Terminated
        } else {
            Exit::Interrupted
        }
    }
}

/// Begins to listen, on the current tokio runtime.
pub(crate) fn listen(stop: Stop, progress: Arc<Progress>) -> std::io::Result<Caught> {
    let caught = Caught::default();
    for (kind, exit) in [
        (SignalKind::interrupt(), Exit::Interrupted),
        (SignalKind::terminate(), Exit::Terminated),
    ] {
        let mut signals = signal(kind)?;
        let (stop, progress, caught) = (stop.clone(), Arc::clone(&progress), caught.clone());
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                // While a question is open, nothing has begun that would have to be stopped in order.
                if prompt::withdraw() || caught.0.swap(exit.code(), Ordering::Relaxed) != 0 {
                    std::process::exit(i32::from(exit.code()));
                }
                stop.stop();
                progress.note("stopping at the next safe place; a second signal ends at once");
            }
        });
    }
    Ok(caught)
}
