//! Finds connection poolers, through which no backup's session and no WAL stream can go.
//!
//! A pooler in transaction mode gives each transaction another server process: `pg_backup_stop` would
//! run where no backup was started, and settings would leak into other people's sessions.

use crate::{Error, Result, connect::Session, conninfo::Host};

/// What a host's name and port tell about a pooler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspicion {
    /// How it was seen.
    pub evidence: String,
    /// Where to connect instead, as an imperative sentence.
    pub instead: String,
}

/// Recognises hosted poolers that work in transaction mode by their documented names.
pub fn by_name(host: &Host) -> Option<Suspicion> {
    let first_label = host.name.split('.').next().unwrap_or_default();
    if host.name.ends_with(".neon.tech") && first_label.ends_with("-pooler") {
        return Some(Suspicion {
            evidence: format!("\"{}\" is Neon's PgBouncer in transaction mode", host.name),
            instead: format!("Connect to {} instead.", host.name.replacen("-pooler", "", 1)),
        });
    }
    let supabase = [".supabase.com", ".supabase.co"]
        .iter()
        .any(|domain| host.name.ends_with(domain));
    if supabase && host.port == 6543 {
        return Some(Suspicion {
            evidence: "port 6543 is Supabase's pooler in transaction mode".to_owned(),
            instead: "Connect to port 5432 of the database's own host (db.<project>.supabase.co) instead.".to_owned(),
        });
    }
    if host.name.contains(".proxy-") && host.name.ends_with(".rds.amazonaws.com") {
        return Some(Suspicion {
            evidence: format!("\"{}\" is an RDS Proxy", host.name),
            instead: "Connect to the database instance's own endpoint instead.".to_owned(),
        });
    }
    None
}

/// Refuses a session that goes through a pooler in transaction mode.
///
/// Looks at the name, then at whether two transactions meet the same server process. A pooler with a
/// single server process and no other client is not seen; what then goes wrong is seen by
/// [`crate::BackupSession`], whose stop fails if its process is not the one that started.
pub async fn refuse(session: &Session) -> Result<()> {
    let refused = |suspicion: Suspicion| Error::Pooler {
        server: session.server().to_owned(),
        evidence: suspicion.evidence,
        instead: suspicion.instead,
    };
    if let Some(suspicion) = by_name(session.host()) {
        return Err(refused(suspicion));
    }
    let (first, second) = (process_id(session).await?, process_id(session).await?);
    if first == second {
        return Ok(());
    }
    Err(refused(Suspicion {
        evidence: format!("two transactions of one session were run by the processes {first} and {second}"),
        instead: "Connect to PostgreSQL itself, or to a pooler in session mode.".to_owned(),
    }))
}

/// The server process behind the session, in a transaction of its own.
pub(crate) async fn process_id(session: &Session) -> Result<i32> {
    let row = session
        .query_one("ask for the server process", "SELECT pg_catalog.pg_backend_pid()", &[])
        .await?;
    session.cell(&row, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, port: u16, pooler: bool) {
        let host = Host {
            name: name.to_owned(),
            address: None,
            port,
        };
        assert_eq!(by_name(&host).is_some(), pooler, "{host}");
    }

    #[test]
    fn hosted_poolers_in_transaction_mode_are_known_by_name() {
        check("ep-cool-dew-123456-pooler.eu-central-1.aws.neon.tech", 5432, true);
        check("ep-cool-dew-123456.eu-central-1.aws.neon.tech", 5432, false);
        check("aws-0-eu-central-1.pooler.supabase.com", 6543, true);
        check("aws-0-eu-central-1.pooler.supabase.com", 5432, false);
        check("db.abcdefgh.supabase.co", 6543, true);
        check("main.proxy-abc.eu-west-1.rds.amazonaws.com", 5432, true);
        check("main.abc.eu-west-1.rds.amazonaws.com", 5432, false);
        check("db-pooler.example.org", 6543, false);
        check("/var/run/postgresql", 6543, false);
    }

    #[test]
    fn the_refusal_of_neons_pooler_names_the_direct_host() {
        let host = Host {
            name: "ep-a-1-pooler.x.aws.neon.tech".to_owned(),
            address: None,
            port: 5432,
        };
        assert_eq!(
            by_name(&host).unwrap().instead,
            "Connect to ep-a-1.x.aws.neon.tech instead."
        );
    }
}
