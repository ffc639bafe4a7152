//! Questions on the terminal: what a signal does while one is open.
//!
//! Whoever waits for an answer cannot look at the stop flag. Nothing has begun by then, so a signal may end the program
//! at once; but a terminal that was told not to show a passphrase must be told to show what is typed again.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::termios::{OptionalActions, Termios, tcsetattr};

static OPEN: Mutex<Option<Question>> = Mutex::new(None);

struct Question {
    /// How the terminal was before, if it was changed.
    before: Option<Termios>,
}

/// A question is open until this is dropped.
pub(crate) struct Open;

/// Opens a question. `before` is how the terminal was, if it is changed for it.
pub(crate) fn open(before: Option<Termios>) -> Open {
    *lock() = Some(Question { before });
    Open
}

/// Whether a question is open; if so, the terminal is as it was before.
pub(crate) fn withdraw() -> bool {
    let Some(question) = lock().take() else { return false };
    if let Some(before) = question.before {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &before);
    }
    true
}

impl Drop for Open {
    fn drop(&mut self) {
        lock().take();
    }
}

fn lock() -> MutexGuard<'static, Option<Question>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_ends_the_program_at_once_only_while_a_question_is_open() {
        assert!(!withdraw());
        let question = open(None);
        assert!(withdraw());
        drop(question);
        drop(open(None));
        assert!(!withdraw());
    }
}
