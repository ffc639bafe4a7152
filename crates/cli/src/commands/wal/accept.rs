//! `lastgood wal accept`: a person's word that a timeline goes on though others left it.

use engine::archive::accept::{Accepted, accept};
use serde_json::json;

use crate::{Result, args::WalAccept, commands::Run, output::Outcome};

/// The most of a name that is written down, characters.
const NAME_MAX: usize = 64;

/// Writes the word down.
pub(crate) async fn run(run: &Run, args: WalAccept) -> Result<Outcome> {
    let target = run.target(args.target.as_deref())?;
    let opened = engine::database::open(&run.context, &target.database()?).await?;
    let accepted = accept(&opened, args.timeline, &who()).await?;
    let text = text(&target.name, args.timeline, &accepted);
    Ok(Outcome::new(
        json!({ "timeline": args.timeline, "accepted": accepted }),
        text,
    ))
}

/// Who says so, as far as the environment tells; it is for readers of the ledger and proves nothing.
fn who() -> String {
    let names = ["SUDO_USER", "USER", "LOGNAME"].into_iter();
    let name = names
        .filter_map(|name| std::env::var(name).ok())
        .find(|name| !name.is_empty());
    name.map_or_else(|| "wal accept".into(), |name| name.chars().take(NAME_MAX).collect())
}

fn text(name: &str, timeline: u32, accepted: &[Accepted]) -> String {
    let mut text = String::new();
    for left in accepted {
        text.push_str(&format!(
            "Timeline {timeline} of {name} goes on beside timeline {}, which left it at {}\n",
            left.timeline, left.at
        ));
    }
    text.push_str("  restore with --timeline to say which of them is meant\n");
    text
}
