//! Tells what is wrong with a backup from what is wrong with the machine that looks at it.
//!
//! Invariant: only what PostgreSQL says of missing or damaged data is evidence against a backup. What it says of a
//! library, a configuration file or memory that this machine has not leaves the backup unjudged: that is not good
//! either, but no reason to throw it away.

/// What PostgreSQL says when this machine lacks something (`errmsg` of `dfmgr.c`, `guc-file.l`, `guc.c`, `pg_shmem`,
/// `pg_locale.c`, `miscinit.c`). All of them in English: the scratch server is told to speak so.
const ENVIRONMENT: [&str; 15] = [
    "could not access file \"",
    "could not load library \"",
    "could not open configuration file \"",
    "could not open configuration directory \"",
    "contains errors",
    "unrecognized configuration parameter \"",
    "invalid value for parameter \"",
    "could not map anonymous shared memory",
    "could not create shared memory segment",
    "could not create semaphores",
    "No space left on device",
    "Cannot allocate memory",
    "could not create any Unix-domain sockets",
    "database files are incompatible with server",
    "is incompatible with operating system",
];

/// Whether a server that did not open blames this machine: by the last word it said before it ended.
pub(super) fn is_environment_log(log: &str) -> bool {
    let grave = |line: &&str| line.contains("FATAL:") || line.contains("PANIC:");
    log.lines().rev().find(grave).is_some_and(is_environment)
}

/// Whether one message blames this machine.
pub(super) fn is_environment(message: &str) -> bool {
    ENVIRONMENT.iter().any(|word| message.contains(word))
        || message.contains("extension \"") && message.contains("is not available")
}

/// What `pg_amcheck` ended with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Amcheck {
    /// Everything was looked at, and nothing found.
    Clean,
    /// What it found in the data.
    Found(Vec<String>),
    /// What kept it from looking.
    Unchecked(Vec<String>),
}

/// The most lines of its output that are passed on.
const LINES: usize = 50;

/// Judges `pg_amcheck` by its own word: it ends with 2 if what it found is in the data, and tells of that on its
/// standard output; everything else (1, a signal, words on standard error) kept it from looking.
pub(super) fn amcheck(code: Option<i32>, output: &str, errors: &str) -> Amcheck {
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines.take(LINES).map(|line| format!("pg_amcheck: {line}")).collect()
    };
    match code {
        Some(0) => Amcheck::Clean,
        // Below the name of each relation stand its messages, indented.
        Some(2) => {
            let mut messages = output.lines().filter(|line| line.starts_with("    ")).peekable();
            if messages.peek().is_some() && messages.all(is_environment) {
                Amcheck::Unchecked(lines(output))
            } else {
                Amcheck::Found(or(lines(output), "pg_amcheck found damage and did not say where"))
            }
        }
        code => {
            let ended = code.map_or("a signal".into(), |code| format!("exit code {code}"));
            let all = lines(&[output, errors].join("\n"));
            Amcheck::Unchecked(or(all, &format!("pg_amcheck ended with {ended}")))
        }
    }
}

fn or(lines: Vec<String>, otherwise: &str) -> Vec<String> {
    if lines.is_empty() {
        vec![otherwise.into()]
    } else {
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_lacks_is_no_damage_and_what_the_data_lack_is() {
        let check = |log: &str, expected| assert_eq!(is_environment_log(log), expected, "{log}");
        check(
            "FATAL:  could not access file \"timescaledb\": No such file or directory",
            true,
        );
        check(
            "LOG:  could not open configuration file \"/etc/x.conf\": No such file\n\
             FATAL:  configuration file \"/d/postgresql.conf\" contains errors\nLOG:  database system is shut down",
            true,
        );
        check(
            "FATAL:  could not map anonymous shared memory: Cannot allocate memory",
            true,
        );
        check("FATAL:  could not locate required checkpoint record", false);
        check(
            "FATAL:  recovery ended before configured recovery target was reached",
            false,
        );
        check(
            "PANIC:  could not open file \"base/1/2\": No such file or directory",
            false,
        );
        check(
            "LOG:  could not access file \"x\"\nPANIC:  WAL contains references to invalid pages",
            false,
        );
        check("", false);
    }

    #[test]
    fn amcheck_that_could_not_look_has_found_nothing() {
        assert_eq!(amcheck(Some(0), "", ""), Amcheck::Clean);
        let damage = "btree index \"a.b.c\":\n    ERROR:  item order invariant violated for index \"c\"\n";
        assert!(matches!(amcheck(Some(2), damage, ""), Amcheck::Found(lines) if lines.len() == 2));
        let library =
            "btree index \"a.b.c\":\n    ERROR:  could not access file \"$libdir/x\": No such file or directory\n";
        assert!(matches!(amcheck(Some(2), library, ""), Amcheck::Unchecked(_)));
        let both = format!("{damage}{library}");
        assert!(matches!(amcheck(Some(2), &both, ""), Amcheck::Found(_)));
        let refused = "pg_amcheck: error: connection to server failed: FATAL:  too many clients";
        assert!(matches!(amcheck(Some(1), "", refused), Amcheck::Unchecked(_)));
        assert_eq!(
            amcheck(None, "", ""),
            Amcheck::Unchecked(vec!["pg_amcheck ended with a signal".into()])
        );
    }
}
