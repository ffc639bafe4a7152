//! `lastgood list`: the backups of each database, oldest first.

use engine::{
    list::{Backup, Proof},
    repo::ledger::Outcome,
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
        ("ENDED (UTC)", Align::Left),
        ("SIZE", right),
        ("STORED", right),
        ("PROVEN", Align::Left),
        ("LABEL", Align::Left),
    ]);
    for backup in &database.backups {
        table.row([
            backup.id.clone(),
            render::utc(backup.stopped),
            render::size(backup.bytes),
            render::size(backup.stored),
            backup.proofs.first().map_or("-".into(), proof),
            backup.label.clone().unwrap_or_default(),
        ]);
    }
    heading + &table.render()
}

/// A proof in two words: how far, and how it went where it did not pass.
pub(crate) fn proof(proof: &Proof) -> String {
    match proof.outcome {
        Outcome::Passed => word(&proof.level),
        outcome => format!("{} {}", word(&proof.level), word(&outcome).to_uppercase()),
    }
}
