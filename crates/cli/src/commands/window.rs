//! `lastgood window`: to which moments each database can be brought back.

use engine::target::{self, Gap, Range, Window};
use serde::Serialize;

use crate::{
    Result, args,
    commands::Run,
    output::Outcome,
    render::{self, Align, Table},
};

#[derive(Serialize)]
struct Database {
    name: String,
    #[serde(flatten)]
    window: Window,
}

/// Shows what can be reached.
pub(crate) async fn run(run: &Run, args: &args::Window) -> Result<Outcome> {
    let mut databases = Vec::new();
    for target in run.targets(args.target.as_deref())? {
        let opened = engine::database::open(&run.context, &target.database()?).await?;
        let window = target::window(&run.context, &opened).await?;
        databases.push(Database {
            name: target.name,
            window,
        });
    }
    let text = databases.iter().map(text).collect::<Vec<_>>().join("\n");
    Ok(Outcome::new(serde_json::json!({ "databases": databases }), text))
}

fn text(database: &Database) -> String {
    let Window { ranges, gaps } = &database.window;
    if ranges.is_empty() {
        return format!(
            "{0} can be brought back to no moment yet; take a backup: lastgood backup {0}\n",
            database.name
        );
    }
    let mut table = Table::new(&[
        ("TIMELINE", Align::Right),
        ("FROM (UTC)", Align::Left),
        ("TO (UTC)", Align::Left),
        ("FROM LSN", Align::Left),
        ("TO LSN", Align::Left),
        ("BACKUPS", Align::Right),
    ]);
    for range in ranges {
        table.row(row(range));
    }
    let mut text = format!(
        "{} can be brought back to any moment of\n{}",
        database.name,
        table.render()
    );
    // Backups alone leave holes between them, which is no news.
    for gap in gaps.iter().filter(|gap| gap.archived) {
        text.push_str(&told(gap));
    }
    text
}

fn row(range: &Range) -> [String; 6] {
    let time = |time: Option<i64>| time.map_or("-".into(), render::utc);
    [
        range.timeline.to_string(),
        time(range.from_time),
        time(range.to_time),
        range.from.to_string(),
        range.to.to_string(),
        range.backups.len().to_string(),
    ]
}

fn told(gap: &Gap) -> String {
    format!(
        "GAP on timeline {} from {} to {}: {}; {}\n",
        gap.timeline,
        gap.from,
        gap.to,
        gap.cause.as_deref().unwrap_or("the WAL is not in the repository"),
        gap.advice
    )
}
