//! What the WAL between backups adds to how a database stands.

use crate::{
    Error, Result,
    archive::damaged,
    damage,
    database::Opened,
    event::Context,
    target::{self, Window},
};

/// A receiver says each minute that it lives; silence of a quarter of an hour is no hiccup.
const SILENT_MICROS: i64 = 15 * 60 * 1_000_000;
const MINUTE_MICROS: i64 = 60 * 1_000_000;

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Wal {
    /// The last moment that can be reached, if it is later than a backup's end.
    pub(super) reaches: Option<i64>,
    /// What is wrong.
    pub(super) because: Vec<String>,
}

/// Looks at the WAL that is here, and at alerts that nobody cleared.
pub(super) async fn look(context: &Context, opened: &Opened, newest: Option<&str>) -> Result<Wal> {
    let mut wal = match target::window(context, opened).await {
        Ok(window) => judge(&window, newest, context.runtime.clock.now_micros()),
        // What is damaged is told, and keeps nobody from seeing the rest.
        Err(Error::Repository(error)) if !error.is_transient() => Wal {
            because: vec![format!("its WAL cannot be looked at: {error}")],
            ..Wal::default()
        },
        Err(error) => return Err(error),
    };
    let alerts: Vec<String> = opened
        .with_state(|state| {
            // Whether a gap matters still, the window tells.
            let shown = ["wal-gap-", damaged::ALERT];
            let others = state
                .alerts()
                .filter(|(alert, _)| !shown.iter().any(|prefix| alert.starts_with(prefix)))
                .filter(|(alert, raised)| !damage::is_past(state, alert, *raised));
            others.map(|(alert, n)| format!("alert {alert} (entry {n})")).collect()
        })
        .await;
    wal.because.extend(alerts);
    Ok(wal)
}

fn judge(window: &Window, newest: Option<&str>, now: i64) -> Wal {
    let mut wal = Wal::default();
    // What holds the newest backup is where work goes on.
    let current = window
        .ranges
        .iter()
        .rev()
        .filter(|range| !range.beside)
        .find(|range| newest.is_some_and(|newest| range.backups.iter().any(|backup| backup == newest)));
    let Some(current) = current else {
        return wal;
    };
    wal.reaches = current.to_time;
    let behind = window
        .gaps
        .iter()
        .filter(|gap| gap.timeline == current.timeline && gap.from >= current.to);
    for gap in behind.filter(|gap| gap.archived) {
        let cause = gap.cause.as_deref().unwrap_or("it is not in the repository");
        wal.because.push(format!(
            "WAL is missing from {} to {}: {cause}; {}",
            gap.from, gap.to, gap.advice
        ));
    }
    if let Some(heard) = current.heard {
        let silent = now.saturating_sub(heard);
        if silent > SILENT_MICROS {
            wal.because.push(format!(
                "no WAL came for {} minutes: is `lastgood wal receive` running?",
                silent / MINUTE_MICROS
            ));
        }
    }
    wal
}

#[cfg(test)]
mod tests {
    use repo::ledger::Lsn;

    use super::*;
    use crate::target::{Gap, Range};

    fn range(from: u64, to: u64, heard: Option<i64>) -> Range {
        Range {
            timeline: 1,
            from: Lsn(from),
            from_time: None,
            to: Lsn(to),
            to_time: heard,
            heard,
            beside: false,
            backups: vec!["b".into()],
        }
    }

    fn because(window: &Window, now: i64) -> Vec<String> {
        judge(window, Some("b"), now).because
    }

    #[test]
    fn a_receiver_that_fell_silent_and_a_hole_behind_the_newest_backup_are_told() {
        let gap = |from, to, archived| Gap {
            timeline: 1,
            from: Lsn(from),
            to: Lsn(to),
            cause: Some("the slot was lost".into()),
            archived,
            advice: "take a backup now".into(),
        };
        let window = |gaps| Window {
            ranges: vec![range(1, 9, Some(1))],
            gaps,
        };
        assert_eq!(because(&window(vec![]), 1 + SILENT_MICROS), Vec::<String>::new());
        assert!(because(&window(vec![]), 2 + SILENT_MICROS)[0].contains("wal receive"));
        assert!(because(&window(vec![gap(9, 12, true)]), 1)[0].contains("take a backup now"));
        // The WAL of backups has holes; nobody promised that it had not.
        assert_eq!(because(&window(vec![gap(9, 12, false)]), 1), Vec::<String>::new());
        // What a copy wrote beside it says nothing of the one that goes on.
        let beside = Range {
            beside: true,
            ..range(1, 99, Some(1))
        };
        let mut both = window(vec![]);
        both.ranges = vec![range(1, 9, Some(7)), beside];
        assert_eq!(judge(&both, Some("b"), 1).reaches, Some(7));
        // Before the newest backup it is history.
        assert_eq!(because(&window(vec![gap(0, 1, true)]), 1), Vec::<String>::new());
        assert_eq!(judge(&window(vec![]), None, 1).reaches, None);
    }
}
