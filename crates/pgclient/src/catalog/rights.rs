//! What the session's role may do, and the SQL that gives what is missing.

use pgformat::Major;

use crate::{Result, classify::identifier, connect::Session};

/// Rights of the session's role. Those on functions hold in the session's database only: that is
/// where PostgreSQL keeps them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// The role.
    pub role: String,
    /// The database whose function rights these are.
    pub database: String,
    /// Superuser: may everything.
    pub superuser: bool,
    /// May open replication connections.
    pub replication: bool,
    /// May start and stop a backup.
    pub backup: bool,
    /// May read the cluster's files through SQL (`pg_ls_dir`, `pg_stat_file`, `pg_read_binary_file`).
    pub read_files: bool,
    /// May switch to the next WAL segment.
    pub switch_wal: bool,
    /// May create restore points.
    pub restore_point: bool,
    /// Sees all settings (`pg_read_all_settings`).
    pub read_settings: bool,
}

impl Rights {
    /// Asks the server.
    pub async fn read(session: &Session) -> Result<Rights> {
        let major = session.major();
        let all = |functions: &[&str]| -> String {
            let checks: Vec<_> = functions
                .iter()
                .map(|function| format!("pg_catalog.has_function_privilege('pg_catalog.{function}', 'EXECUTE')"))
                .collect();
            checks.join(" AND ")
        };
        let sql = format!(
            "SELECT r.rolname::text, pg_catalog.current_database()::text, r.rolsuper, r.rolreplication, \
             {}, {}, {}, {}, pg_catalog.pg_has_role('pg_read_all_settings', 'USAGE') \
             FROM pg_catalog.pg_roles r WHERE r.rolname = CURRENT_USER",
            all(&backup_functions(major)),
            all(&FILE_FUNCTIONS),
            all(&["pg_switch_wal()"]),
            all(&["pg_create_restore_point(text)"]),
        );
        let row = session.query_one("read the role's rights", &sql, &[]).await?;
        let right = |column| session.cell::<bool>(&row, column);
        let superuser = right(2)?;
        Ok(Rights {
            role: session.cell(&row, 0)?,
            database: session.cell(&row, 1)?,
            superuser,
            replication: superuser || right(3)?,
            backup: right(4)?,
            read_files: right(5)?,
            switch_wal: right(6)?,
            restore_point: right(7)?,
            read_settings: superuser || right(8)?,
        })
    }
}

/// Functions that begin and end a backup; renamed in 15, when exclusive backups went.
pub(crate) fn backup_functions(major: Major) -> [&'static str; 2] {
    if major >= Major::V15 {
        ["pg_backup_start(text, boolean)", "pg_backup_stop(boolean)"]
    } else {
        [
            "pg_start_backup(text, boolean, boolean)",
            "pg_stop_backup(boolean, boolean)",
        ]
    }
}

const FILE_FUNCTIONS: [&str; 3] = [
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
];

/// The SQL that lets a role name restore points. To be run in the database that the role connects to.
pub fn grant_for_points(role: &str) -> String {
    let function = "pg_catalog.pg_create_restore_point(text)";
    format!("GRANT EXECUTE ON FUNCTION {function} TO {};", identifier(role))
}

/// The SQL that lets a role start and stop backups. To be run in the database that the role connects to.
pub fn grants_for_backup(major: Major, role: &str) -> String {
    let functions = backup_functions(major).map(|function| format!("pg_catalog.{function}"));
    format!(
        "GRANT EXECUTE ON FUNCTION {} TO {};",
        functions.join(", "),
        identifier(role)
    )
}

/// The SQL that lets a role take backups over SQL: start and stop them, and read files. To be run in the database that
/// the role connects to. These rights equal reading everything in the data directory, [`READING_MEANS`] says how much
/// that is.
pub fn grants_for_reader(major: Major, role: &str) -> String {
    let functions = backup_functions(major).into_iter().chain(FILE_FUNCTIONS);
    let functions: Vec<_> = functions.map(|function| format!("pg_catalog.{function}")).collect();
    format!(
        "GRANT EXECUTE ON FUNCTION {} TO {};",
        functions.join(", "),
        identifier(role)
    )
}

/// What the right to read files means, as a clause for whoever is to give it.
pub const READING_MEANS: &str = "whoever has these rights can read everything in the data directory: every row of every \
     database, whatever its own rights and policies say, server configuration and keys, and the password hashes of all roles";
