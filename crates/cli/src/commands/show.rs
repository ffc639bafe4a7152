//! `lastgood show BACKUP`: everything known about one backup.

use engine::{database::Opened, list::Detail};

use crate::{
    Error, Result,
    args::Show,
    commands::{Run, list::proof},
    config::Target,
    output::Outcome,
    render,
};

/// Shows the backup.
pub(crate) async fn run(run: &Run, args: &Show) -> Result<Outcome> {
    let (target, opened) = find(run, &args.backup).await?;
    let detail = engine::list::show(&run.context, &opened, &args.backup).await?;
    let text = text(&target, &detail);
    Ok(Outcome::new(&detail, text))
}

/// Looks for a backup in every database that flags and configuration name. The ledger alone says whose it is: a
/// backup with a damaged manifest is found too. A database that does not open is passed over; only if no other has the
/// backup is its error the answer.
pub(crate) async fn find(run: &Run, id: &str) -> Result<(Target, Opened)> {
    let (mut missed, mut unopened) = (None, None);
    for target in run.targets(None)? {
        run.context.stop.check()?;
        match look(run, &target, id).await {
            Ok(opened) => return Ok((target, opened)),
            Err(error @ Error::Engine(engine::Error::NotFound { .. })) => missed = Some(error),
            Err(error) => unopened = Some(unopened.unwrap_or(error)),
        }
    }
    Err(unopened
        .or(missed)
        .unwrap_or_else(|| Error::not_found(format!("no backup {id}"), "See `lastgood list`.")))
}

async fn look(run: &Run, target: &Target, id: &str) -> Result<Opened> {
    let opened = engine::database::open(&run.context, &target.database()?).await?;
    opened.find(Some(id)).await?;
    Ok(opened)
}

fn text(target: &Target, detail: &Detail) -> String {
    let backup = &detail.backup;
    let either = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let mut text = render::fields(&[
        ("Backup", backup.id.clone()),
        ("Database", format!("{} in {}", target.name, target.location)),
        ("Label", either(&backup.label)),
        ("Kind", word(&backup.kind)),
        ("Began", render::moment(backup.started)),
        ("Brings back", render::moment(backup.stopped)),
        ("PostgreSQL", backup.major.map_or("-".into(), |major| major.to_string())),
        ("System id", either(&backup.generation)),
        (
            "Timeline",
            backup.timeline.map_or("-".into(), |timeline| timeline.to_string()),
        ),
        (
            "WAL needed",
            format!("{} to {}", either(&backup.start_lsn), either(&backup.stop_lsn)),
        ),
        (
            "Size",
            format!(
                "{} in {} files, {} databases",
                render::size(backup.bytes),
                backup.files,
                backup.databases
            ),
        ),
        (
            "Stored",
            format!("{} in {} packs", render::size(backup.stored), detail.packs),
        ),
    ]);
    if backup.proofs.is_empty() {
        text.push_str(&format!(
            "Proofs       none; make one: lastgood verify {} --level restore\n",
            backup.id
        ));
    }
    for made in &backup.proofs {
        let seconds = render::duration(made.seconds as f64);
        text.push_str(&format!(
            "Proof        {}, {}, took {seconds}\n",
            proof(made),
            render::moment(made.at)
        ));
        for found in &made.found {
            text.push_str(&format!("             {}\n", render::printable(found)));
        }
    }
    text
}

/// A word of ours as JSON has it.
pub(crate) fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "?".into(),
    }
}
