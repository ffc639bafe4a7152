//! `lastgood status`: one screen that says how well each database is protected, the worst first.
//!
//! It fits 24 lines of 80 columns: what does not fit is counted, never dropped in silence.

use engine::status::{State, Status};
use serde::Serialize;

use crate::{
    Error, Result, args,
    commands::{Run, list::proof},
    config::Target,
    exit::Exit,
    output::{Outcome, Problem},
    render::{self, Align, Table},
};

/// Lines of a small terminal, without the prompt.
const LINES: usize = 23;
/// Columns of a small terminal.
const COLUMNS: usize = 80;

/// A database as the screen shows it.
#[derive(Debug, Serialize)]
struct Seen {
    name: String,
    /// What could be found out.
    status: Option<Status>,
    /// Why nothing could.
    unknown: Option<Problem>,
}

/// Shows the screen.
pub(crate) async fn run(run: &Run, args: &args::Status) -> Result<Outcome> {
    let mut targets = run.targets(args.target.as_deref())?;
    if let (Some(only), true) = (targets.first(), targets.len() == 1) {
        // With a single database its error is the command's error, with its own exit code.
        let seen = Seen {
            name: only.name.clone(),
            status: Some(look(run, only).await?),
            unknown: None,
        };
        return Ok(outcome(&[seen]));
    }
    let mut seen = Vec::new();
    for target in targets.drain(..) {
        run.context.stop.check()?;
        seen.push(match look(run, &target).await {
            Ok(status) => Seen {
                name: target.name,
                status: Some(status),
                unknown: None,
            },
            Err(error) => Seen {
                name: target.name,
                status: None,
                unknown: Some(Problem::of(&error, Exit::Interrupted)),
            },
        });
    }
    seen.sort_by_key(|seen| seen.status.as_ref().map_or(UNKNOWN_RANK, |status| rank(status.state)));
    Ok(outcome(&seen))
}

async fn look(run: &Run, target: &Target) -> Result<Status, Error> {
    let opened = engine::database::open(&run.context, &target.database()?).await?;
    Ok(engine::status::of(&run.context, &opened, target.server.as_ref()).await?)
}

fn outcome(seen: &[Seen]) -> Outcome {
    Outcome::new(serde_json::json!({ "databases": seen }), screen(seen)).but(problem(seen))
}

/// Where what is not known stands among the states: nobody looks after it.
const UNKNOWN_RANK: u8 = 1;

fn rank(state: State) -> u8 {
    match state {
        State::NotRecoverable => 0,
        State::AtRisk => 2,
        State::Unproven => 3,
        State::SettingUp => 4,
        State::Proven => 5,
    }
}

fn problem(seen: &[Seen]) -> Option<Problem> {
    let names = |chosen: &dyn Fn(&Seen) -> bool| -> Vec<&str> {
        seen.iter()
            .filter(|seen| chosen(seen))
            .map(|seen| seen.name.as_str())
            .collect()
    };
    let bad = |state| matches!(state, State::NotRecoverable | State::AtRisk);
    let at_risk = names(&|seen| seen.status.as_ref().is_some_and(|status| bad(status.state)));
    let unknown = names(&|seen| seen.status.is_none());
    if !at_risk.is_empty() {
        let message = format!("not protected as they should be: {}", at_risk.join(", "));
        return Some(Problem::found(
            Exit::Objective,
            "at-risk",
            message,
            "Run `lastgood doctor` for each of them.",
        ));
    }
    if !unknown.is_empty() {
        let message = format!("nothing is known of: {}", unknown.join(", "));
        return Some(Problem::found(
            Exit::Partly,
            "unknown",
            message,
            "Run `lastgood status NAME` to see why.",
        ));
    }
    None
}

fn screen(seen: &[Seen]) -> String {
    let mut lines = Vec::new();
    let mut table = Table::new(&[
        ("DATABASE", Align::Left),
        ("STATE", Align::Left),
        ("LAST GOOD (UTC)", Align::Left),
        ("BACKUPS", Align::Right),
        ("PROVEN", Align::Left),
        ("BACK IN", Align::Right),
    ]);
    let rows = if seen.len() < LINES { seen.len() } else { LINES - 2 };
    for seen in seen.iter().take(rows) {
        table.row(row(seen));
    }
    lines.extend(table.render().lines().map(str::to_string));
    if rows < seen.len() {
        lines.push(format!(
            "... and {} more, all better off: lastgood status --json",
            seen.len() - rows
        ));
    }
    let mut details: Vec<String> = Vec::new();
    for seen in seen {
        details.extend(detail(seen, seen.status.is_some() && rows == 1));
    }
    let room = LINES.saturating_sub(lines.len());
    if details.len() > room && room > 0 {
        details.truncate(room - 1);
        details.push("... more: lastgood status NAME, or --json".into());
    }
    lines.extend(details.into_iter().take(room));
    lines.join("\n") + "\n"
}

fn row(seen: &Seen) -> Vec<String> {
    let Some(status) = &seen.status else {
        return vec![seen.name.clone(), "UNKNOWN".into()];
    };
    vec![
        seen.name.clone(),
        status.state.word().into(),
        status.newest.as_ref().map_or("-".into(), |newest| {
            render::utc(newest.stopped.max(status.reaches.unwrap_or(i64::MIN)))
        }),
        status.backups.to_string(),
        status
            .proven
            .as_ref()
            .map_or("never".into(), |made| format!("{} {}", day(made.at), proof(made))),
        status
            .restore_seconds
            .map_or("-".into(), |seconds| render::duration(seconds as f64)),
    ]
}

/// The day of a moment.
fn day(micros: i64) -> String {
    render::utc(micros).chars().take(10).collect()
}

/// Why the state is what it is, indented below the table. Of those that are well only if `whole` is asked for.
fn detail(seen: &Seen, whole: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut add = |text: &str| lines.extend(render::wrap(text, "  ", COLUMNS));
    if let Some(problem) = &seen.unknown {
        add(&problem.message);
        problem.hint.iter().for_each(|hint| add(&format!("try: {hint}")));
    }
    if let Some(status) = &seen.status {
        if !whole && status.state == State::Proven && status.alarms.is_empty() {
            return Vec::new();
        }
        status.alarms.iter().for_each(|alarm| add(&format!("ALARM: {alarm}")));
        status.because.iter().for_each(|reason| add(reason));
        let unfinished = |id: &String| add(&format!("under way or cut off, not listed: {id}"));
        status.unfinished.iter().for_each(unfinished);
    }
    if !lines.is_empty() {
        lines.splice(0..0, [String::new(), format!("{}:", seen.name)]);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: State, because: usize) -> Seen {
        let status = Status {
            name: "shop".into(),
            state,
            because: vec![
                "a reason that is long enough to need a second line, because it says so much ".repeat(2);
                because
            ],
            reaches: None,
            newest: None,
            backups: 0,
            stored: 0,
            proven: None,
            unfinished: Vec::new(),
            alarms: Vec::new(),
            restore_seconds: Some(75),
        };
        Seen {
            name: "shop".into(),
            status: Some(status),
            unknown: None,
        }
    }

    #[test]
    fn the_screen_fits_a_small_terminal() {
        for (databases, because) in [(1, 1), (1, 40), (5, 5), (22, 1), (23, 1), (500, 3)] {
            let seen: Vec<Seen> = (0..databases).map(|_| status(State::AtRisk, because)).collect();
            let screen = screen(&seen);
            assert!(screen.lines().count() <= LINES, "{databases} databases:\n{screen}");
            assert!(screen.lines().all(|line| line.len() <= COLUMNS), "{screen}");
        }
    }

    #[test]
    fn a_database_at_risk_is_no_success() {
        assert_eq!(problem(&[status(State::Proven, 0), status(State::Unproven, 0)]), None);
        let found = problem(&[status(State::Proven, 0), status(State::AtRisk, 1)]);
        assert_eq!(found.map(|problem| problem.exit), Some(Exit::Objective));
    }
}
