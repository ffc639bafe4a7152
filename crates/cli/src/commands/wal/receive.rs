//! `lastgood wal receive`: WAL as the server writes it, until somebody asks to stop.

use engine::{
    archive::receive::{self, Options, SlotChoice, Summary},
    server::LiveSource,
};

use crate::{Result, args::WalReceive, commands::Run, output::Outcome, render};

/// Receives.
pub(crate) async fn run(run: &Run, args: WalReceive) -> Result<Outcome> {
    let target = run.target(args.target.as_deref())?;
    let source = LiveSource::new(target.server()?.clone());
    let slot = match (args.no_slot, &args.slot) {
        (true, _) => SlotChoice::None,
        (false, Some(name)) => SlotChoice::named(name)?,
        (false, None) => SlotChoice::of_database(&target.name)?,
    };
    let options = Options {
        unlimited_slot: args.slot_unlimited,
        seal_interval: args.seal_interval,
        ..Options::new(slot)
    };
    let summary = match receive::open(&run.context, &target.database()?).await? {
        Some(opened) => receive::run(&run.context, &opened, &source, &options).await?,
        None => Summary::default(),
    };
    Ok(Outcome::new(&summary, text(&target.name, &summary)))
}

fn text(name: &str, summary: &Summary) -> String {
    let mut text = match (summary.timeline, summary.position) {
        (Some(timeline), Some(position)) => {
            format!("WAL of {name} is here up to {position} of timeline {timeline}\n")
        }
        _ => format!("Nothing of {name} was received\n"),
    };
    text.push_str(&render::fields(&[(
        "  received",
        format!(
            "{} in {} finished segments",
            render::size(summary.bytes),
            summary.segments
        ),
    )]));
    for gap in &summary.gaps {
        text.push_str(&format!(
            "  lost      timeline {} from {} to {}: take a backup now, `lastgood backup {name}`\n",
            gap.timeline, gap.from, gap.to
        ));
    }
    text
}
