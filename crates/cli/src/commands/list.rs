//! `lastgood list`: the backups of each database, oldest first.

use engine::{
    list::{Backup, Proof},
    repo::ledger::{BackupKind, Outcome},
};
use serde::Serialize;

use crate::{
    Result,
    args::List,
    commands::{Run, show::word},
    output,
    render::{self, Align, Table},
};

#[derive(Serialize)]
struct Database {
    name: String,
    repository: String,
    backups: Vec<Backup>,
}

/// Lists the backups.
pub(crate) async fn run(run: &Run, args: &List) -> Result<output::Outcome> {
    let mut databases = Vec::new();
    for target in run.targets(args.target.as_deref())? {
        let opened = engine::database::open(&run.context, &target.database()?).await?;
        let backups = engine::list::backups(&opened).await;
        databases.push(Database {
            name: target.name,
            repository: target.location.to_string(),
            backups,
        });
    }
    let text = databases.iter().map(text).collect::<Vec<_>>().join("\n");
    Ok(output::Outcome::new(
        serde_json::json!({ "databases": databases }),
        text,
    ))
}

fn text(database: &Database) -> String {
    let heading = format!("{} in {}\n", database.name, render::printable(&database.repository));
    if database.backups.is_empty() {
        return format!("{heading}no backup yet; take one: lastgood backup {}\n", database.name);
    }
    let right = Align::Right;
    let mut table = Table::new(&[
        ("BACKUP", Align::Left),
        ("KIND", Align::Left),
        ("ENDED (UTC)", Align::Left),
        ("SIZE", right),
        ("STORED", right),
        ("PROVEN", Align::Left),
        ("LABEL", Align::Left),
    ]);
    for backup in &database.backups {
        table.row([
            backup.id.clone(),
            kind(&backup.kind),
            render::utc(backup.stopped),
            render::size(backup.bytes),
            render::size(backup.stored),
            backup.proofs.first().map_or("-".into(), proof),
            backup.label.clone().unwrap_or_default(),
        ]);
    }
    heading + &table.render()
}

/// Short: with the whole word a line would not fit eighty columns.
fn kind(kind: &BackupKind) -> String {
    match kind {
        BackupKind::Incremental => "incr".into(),
        kind => word(kind),
    }
}

/// A proof in two words: how far, and how it went where it did not pass.
pub(crate) fn proof(proof: &Proof) -> String {
    match proof.outcome {
        Outcome::Passed => word(&proof.level),
        outcome => format!("{} {}", word(&proof.level), word(&outcome).to_uppercase()),
    }
}

#[cfg(test)]
mod tests {
    use engine::repo::ledger::Level;

    use super::*;

    fn backup(kind: BackupKind, stored: u64) -> Backup {
        Backup {
            id: "20261121T000834Z-8z8fn2".into(),
            kind,
            label: None,
            started: 1_795_219_714_000_000,
            stopped: 1_795_219_716_000_000,
            start_lsn: None,
            stop_lsn: None,
            timeline: None,
            generation: None,
            major: None,
            bytes: 1023 << 20,
            stored,
            files: 1263,
            databases: 3,
            committed: 5,
            proofs: vec![Proof {
                backup: "20261121T000834Z-8z8fn2".into(),
                level: Level::Restore,
                outcome: Outcome::Passed,
                at: 1_795_219_716_000_000,
                seconds: 1,
                found: Vec::new(),
            }],
        }
    }

    #[test]
    fn a_list_tells_full_backups_from_incremental_ones_within_eighty_columns() {
        let backups = [(BackupKind::Full, 1023 << 20), (BackupKind::Incremental, 1 << 20)];
        let text = text(&Database {
            name: "shop".into(),
            repository: "/srv/backups".into(),
            backups: backups.map(|(kind, stored)| backup(kind, stored)).into(),
        });
        assert_eq!(
            text,
            "shop in /srv/backups\n\
             BACKUP                   KIND  ENDED (UTC)              SIZE    STORED  PROVEN\n\
             20261121T000834Z-8z8fn2  full  2026-11-21 00:08:36  1023 MiB  1023 MiB  restore\n\
             20261121T000834Z-8z8fn2  incr  2026-11-21 00:08:36  1023 MiB   1.0 MiB  restore\n"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
