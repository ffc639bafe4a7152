//! How the program ends: one number per reaction of whoever called it.
//!
//! The numbers are a promise to scripts and timers. They are shown by `--help`, and an unknown number
//! is to be treated as a failure.

/// The ways to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for was done.
    Done,
    /// Something went wrong on the way.
    Failed,
    /// The command line or the configuration does not make sense.
    Usage,
    /// The work was done, but not all of it, or with findings.
    Partly,
    /// A condition did not hold; nothing was changed.
    Refused,
    /// A question was answered with no.
    Declined,
    /// What was named does not exist.
    NotFound,
    /// What a server asked for is proven not to exist: an answer to `restore_command`, and no failure.
    Absent,
    /// Another database, another writer, or another content is in the way.
    Conflict,
    /// The server or the repository could not be reached.
    Unreachable,
    /// What was stored or restored is not what it should be.
    Unproven,
    /// A database is not as well protected as it is meant to be.
    Objective,
    /// SIGINT.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

/// Number, meaning, and whether running the same command again is sensible.
const TABLE: &[(Exit, &str, &str)] = &[
    (Exit::Done, "done", "-"),
    (Exit::Failed, "failed; nothing half-done is listed", "yes"),
    (Exit::Usage, "usage or configuration is wrong", "no, correct it"),
    (Exit::Partly, "done in part, or done with findings", "yes"),
    (
        Exit::Refused,
        "preflight refused, nothing was changed",
        "after the hint",
    ),
    (Exit::Declined, "declined at a question", "yes"),
    (Exit::NotFound, "what was named does not exist", "no"),
    (Exit::Conflict, "conflict: other database or writer", "after a look"),
    (Exit::Unreachable, "server or repository unreachable", "yes"),
    (Exit::Unproven, "verification failed, damage found", "after the hint"),
    (
        Exit::Objective,
        "a database is at risk, or a check failed",
        "after the hint",
    ),
    (Exit::Interrupted, "interrupted (SIGINT)", "yes"),
    (Exit::Terminated, "terminated (SIGTERM)", "yes"),
];

impl Exit {
    /// The process's exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed | Exit::Absent => 1,
            Exit::Usage => 2,
            Exit::Partly => 3,
            Exit::Refused => 4,
            Exit::Declined => 5,
            Exit::NotFound => 6,
            Exit::Conflict => 7,
            Exit::Unreachable => 8,
            Exit::Unproven => 9,
            Exit::Objective => 10,
            Exit::Interrupted => 130,
            Exit::Terminated => 143,
        }
    }
}

/// The table for `--help`.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit codes:                                          retry safe?\n");
    for (exit, meaning, retry) in TABLE {
        text.push_str(&format!("  {:>3}  {meaning:<46}  {retry}\n", exit.code()));
    }
    text.push_str("  Treat any other code as a failure.\n\n");
    text.push_str("A setting comes from its flag, else its LASTGOOD_* variable, else lastgood.toml\n");
    text.push_str("(--config, ./lastgood.toml, /etc/lastgood/lastgood.toml), else its default.");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_exit_code_once() {
        let mut codes: Vec<u8> = TABLE.iter().map(|(exit, _, _)| exit.code()).collect();
        codes.dedup();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 130, 143]);
    }

    #[test]
    fn help_fits_eighty_columns() {
        assert!(help().lines().all(|line| line.len() <= 80), "{}", help());
    }
}
