//! Being called by a server, which gives exit codes a meaning of its own.
//!
//! To `archive_command` everything but 0 is a failure, and one above 125 ends the archiver. To `restore_command` 1 is the
//! end of the WAL, and only one above 125 stops a recovery before the server opens. So whatever happens here, a panic
//! and a mistake on the command line included, is translated.

use std::{ffi::OsString, panic::catch_unwind};

use crate::exit::Exit;

/// Somebody who reads more into exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// `archive_command`.
    Archiver,
    /// `restore_command`.
    Recovery,
}

/// Everything that is neither "delivered" nor "proven absent".
const STOP_RECOVERY: u8 = 200;

impl Caller {
    /// Who called this process, as the words of its command line tell even where they make no sense.
    pub(crate) fn of_process() -> Option<Caller> {
        let words: Vec<OsString> = std::env::args_os().skip(1).collect();
        caller_at(&words).map(|(caller, _)| caller)
    }

    /// Carries out `work` and says with which code the process has to end.
    pub(crate) fn code(self, work: impl FnOnce() -> Exit + std::panic::UnwindSafe) -> u8 {
        let exit = catch_unwind(work).unwrap_or(Exit::Failed);
        match (self, exit) {
            (_, Exit::Done) => 0,
            (Caller::Archiver, _) | (Caller::Recovery, Exit::Absent) => 1,
            (Caller::Recovery, _) => STOP_RECOVERY,
        }
    }
}

/// Ends at once when somebody says so: what was begun is whole or not there. A server takes death by a signal for more
/// than a failure.
pub(crate) fn end_on_signals(caller: Caller) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signals = signal(kind)?;
        tokio::spawn(async move {
            if signals.recv().await.is_some() {
                std::process::exit(caller.code(|| Exit::Terminated).into());
            }
        });
    }
    Ok(())
}

/// The caller that `words` stand for, and where the word is that tells.
pub(super) fn caller_at(words: &[OsString]) -> Option<(Caller, usize)> {
    // A database may be called `wal`, too: the words have to follow one another.
    let callers = words.windows(2).enumerate().filter_map(|(at, pair)| match pair {
        [wal, push] if wal == "wal" && push == "push" => Some((Caller::Archiver, at + 1)),
        [wal, get] if wal == "wal" && get == "get" => Some((Caller::Recovery, at + 1)),
        _ => None,
    });
    callers.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_delivered_or_proven_absent_lets_a_recovery_go_on() {
        std::panic::set_hook(Box::new(|_| {}));
        for (exit, archiver, recovery) in [
            (Exit::Done, 0, 0),
            (Exit::Absent, 1, 1),
            (Exit::Failed, 1, 200),
            (Exit::Usage, 1, 200),
            (Exit::NotFound, 1, 200),
            (Exit::Terminated, 1, 200),
        ] {
            assert_eq!(Caller::Archiver.code(|| exit), archiver, "{exit:?}");
            assert_eq!(Caller::Recovery.code(|| exit), recovery, "{exit:?}");
        }
        assert_eq!(Caller::Archiver.code(|| panic!("a bug")), 1);
        assert_eq!(Caller::Recovery.code(|| panic!("a bug")), 200);
        drop(std::panic::take_hook());
    }

    #[test]
    fn who_calls_is_told_by_the_words() {
        let caller = |text: &str| {
            let words: Vec<OsString> = text.split(' ').map(OsString::from).collect();
            caller_at(&words).map(|(caller, _)| caller)
        };
        assert_eq!(caller("wal push pg_wal/1 shop"), Some(Caller::Archiver));
        assert_eq!(caller("--config x wal get --nonsense"), Some(Caller::Recovery));
        assert_eq!(caller("--name wal wal get a b"), Some(Caller::Recovery));
        assert_eq!(caller("wal receive shop"), None);
        assert_eq!(caller("list"), None);
    }
}
