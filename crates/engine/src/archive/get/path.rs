//! A planned recovery: which segments it needs.

use std::str::FromStr;

use pgformat::{Lsn, Tli, history::History};
use repo::{
    Repository,
    wal::{WalStream, read_history},
};

use crate::{Error, Result};

/// The end of a planned recovery: `TIMELINE:LSN`, the timeline in decimal, the position after the last record that is
/// to be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Until {
    /// The timeline that is recovered along.
    pub timeline: Tli,
    /// The position after the last record.
    pub end: Lsn,
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Until, String> {
        let until = || {
            let (timeline, end) = text.split_once(':')?;
            let timeline = timeline.parse().ok().filter(|timeline| *timeline > 0)?;
            Some(Until {
                timeline: Tli(timeline),
                end: end.parse().ok()?,
            })
        };
        until().ok_or_else(|| "it must be a timeline and a position, such as 1:0/5000098".into())
    }
}

impl std::fmt::Display for Until {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:{}", self.timeline, self.end)
    }
}

impl Until {
    /// Up to which position the plan needs the segment that begins at `start`; `None` if it does not need it.
    pub(super) async fn needs(&self, repository: &Repository, stream: &WalStream, start: u64) -> Result<Option<u64>> {
        let history = match self.timeline {
            Tli(1) => History::without_past(Tli(1)),
            timeline => {
                let content = read_history(repository, stream.generation, timeline.0).await?;
                let content = content.ok_or_else(|| no_history(timeline, "it is not in the repository"))?;
                History::parse(timeline, &content).map_err(|error| no_history(timeline, &error.to_string()))?
            }
        };
        Ok(self.needs_of(&history, stream, start))
    }

    fn needs_of(&self, history: &History, stream: &WalStream, start: u64) -> Option<u64> {
        let range = history
            .ranges()
            .into_iter()
            .find(|range| range.timeline.0 == stream.timeline)?;
        let end = range.end.min(self.end).0.min(stream.segment_end(start));
        (start < end && range.start.0 < end).then_some(end)
    }
}

fn no_history(timeline: Tli, why: &str) -> Error {
    Error::Failed {
        code: "history-missing",
        what: format!("the history of timeline {timeline} cannot be read: {why}"),
        hint: "Check --until, and with `lastgood verify` the repository.".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_needs_the_segments_of_its_path_up_to_its_end() {
        let history = History::parse(Tli(3), b"1\t0/5000098\t\n2\t0/7800000\t\n").unwrap();
        let until: Until = "3:0/9000100".parse().unwrap();
        let needs = |timeline, start| {
            let stream = WalStream::new(1, timeline, 16 << 20).unwrap();
            until.needs_of(&history, &stream, start)
        };
        assert_eq!(needs(1, 0x400_0000), Some(0x500_0000));
        assert_eq!(needs(1, 0x500_0000), Some(0x500_0098));
        assert_eq!(needs(1, 0x600_0000), None);
        assert_eq!(needs(2, 0x400_0000), None);
        assert_eq!(needs(2, 0x500_0000), Some(0x600_0000));
        assert_eq!(needs(2, 0x700_0000), Some(0x780_0000));
        assert_eq!(needs(3, 0x600_0000), None);
        assert_eq!(needs(3, 0x700_0000), Some(0x800_0000));
        assert_eq!(needs(3, 0x900_0000), Some(0x900_0100));
        assert_eq!(needs(3, 0xA00_0000), None);
        assert_eq!(needs(4, 0x900_0000), None);
    }

    #[test]
    fn the_end_of_a_plan_is_a_timeline_and_a_position() {
        for text in ["1:0/5000098", "12:AB/0"] {
            assert_eq!(text.parse::<Until>().unwrap().to_string(), text);
        }
        for wrong in ["", "1", "0/5", "0:0/5", "x:0/5", "1:5", "1:0/5:", "-1:0/5"] {
            assert!(wrong.parse::<Until>().is_err(), "{wrong}");
        }
    }
}
