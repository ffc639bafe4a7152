//! Timeline history files: on which timelines, and up to where, a timeline's past lies.
//!
//! Format: `access/transam/timeline.c`. One line for each switch, `parent TAB position TAB reason`,
//! oldest first; `#` begins a comment.

use crate::bytes::decimal;
use crate::error::{Error, Result};
use crate::{Lsn, Tli};

const WHAT: &str = "the timeline history file";

/// The past of one timeline.
///
/// Invariant: timelines strictly increase from the oldest to the tip, so there is no cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    tip: Tli,
    switches: Vec<Switch>,
}

/// Where the history left one timeline for the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// The timeline that was left.
    pub parent: Tli,
    /// Position after the last byte taken from the parent.
    pub at: Lsn,
    /// Why, for people.
    pub reason: String,
}

/// A stretch of WAL on one timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The timeline.
    pub timeline: Tli,
    /// Its first byte.
    pub start: Lsn,
    /// After its last byte.
    pub end: Lsn,
}

impl History {
    /// A timeline without a past, such as timeline 1.
    pub fn without_past(tip: Tli) -> Self {
        History {
            tip,
            switches: Vec::new(),
        }
    }

    /// Reads the history file of timeline `tip`.
    ///
    /// Refused is what the server refuses: a line that begins with no timeline and position, and
    /// timelines that do not strictly increase up to `tip`. Positions may decrease: a recovery that
    /// ends before the point where its target timeline began writes such a file.
    pub fn parse(tip: Tli, content: &[u8]) -> Result<Self> {
        let mut switches: Vec<Switch> = Vec::new();
        let text = String::from_utf8_lossy(content);
        for line in text
            .lines()
            .map(str::trim_start)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let switch =
                parse_line(line).ok_or_else(|| Error::damaged(WHAT, format!("its line {line:?} is no switch")))?;
            if switches.last().is_some_and(|last| last.parent >= switch.parent) {
                return Err(Error::damaged(
                    WHAT,
                    format!("timeline {} does not follow its elder", switch.parent),
                ));
            }
            switches.push(switch);
        }
        match switches.last() {
            Some(last) if last.parent >= tip => Err(Error::damaged(
                WHAT,
                format!("timeline {} cannot be a parent of timeline {tip}", last.parent),
            )),
            _ => Ok(History { tip, switches }),
        }
    }

    /// The file as a server would write it.
    pub fn print(&self) -> String {
        let lines: Vec<String> = self
            .switches
            .iter()
            .map(|s| format!("{}\t{}\t{}\n", s.parent, s.at, s.reason))
            .collect();
        // The server puts an empty line before each line but the first.
        lines.join("\n")
    }

    /// The timeline whose past this is.
    pub fn tip(&self) -> Tli {
        self.tip
    }

    /// The switches, oldest first.
    pub fn switches(&self) -> &[Switch] {
        &self.switches
    }

    /// Each timeline with the stretch that belongs to this past, oldest first. The tip's end is the
    /// last position there is. Stretches may be empty.
    pub fn ranges(&self) -> Vec<Range> {
        let mut ranges = vec![Range {
            timeline: self.tip,
            start: Lsn::INVALID,
            end: Lsn(u64::MAX),
        }];
        // From the tip backwards: what lies past a later switch was left behind for good.
        let mut end = Lsn(u64::MAX);
        for switch in self.switches.iter().rev() {
            end = end.min(switch.at);
            if let Some(child) = ranges.last_mut() {
                child.start = end;
            }
            ranges.push(Range {
                timeline: switch.parent,
                start: Lsn::INVALID,
                end,
            });
        }
        ranges.reverse();
        ranges
    }

    /// Whether WAL on `timeline` up to `lsn` is part of this past: what a backup that stopped there
    /// needs in order to be brought to the tip.
    pub fn contains(&self, timeline: Tli, lsn: Lsn) -> bool {
        self.ranges()
            .iter()
            .any(|range| range.timeline == timeline && range.start <= lsn && lsn <= range.end)
    }

    /// The timeline that holds the byte at `lsn`.
    pub fn timeline_of(&self, lsn: Lsn) -> Tli {
        let holder = self
            .ranges()
            .into_iter()
            .find(|range| range.start <= lsn && lsn < range.end);
        holder.map_or(self.tip, |range| range.timeline)
    }

    /// The stretches from `start` on timeline `from` to `end` on the tip, oldest first; `None` if
    /// `from` at `start` is not part of this past or lies after `end`.
    pub fn path(&self, from: Tli, start: Lsn, end: Lsn) -> Option<Vec<Range>> {
        if !self.contains(from, start) || start > end {
            return None;
        }
        let stretches = self
            .ranges()
            .into_iter()
            .filter(|range| range.timeline >= from)
            .map(|range| Range {
                timeline: range.timeline,
                start: range.start.max(start),
                end: range.end.min(end),
            });
        Some(
            stretches
                .filter(|range| range.start < range.end || range.timeline == self.tip)
                .collect(),
        )
    }
}

fn parse_line(line: &str) -> Option<Switch> {
    let (parent, rest) = line.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let (at, reason) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let parent = decimal(parent).filter(|tli| *tli > 0)?;
    Some(Switch {
        parent: Tli(parent),
        at: at.parse().ok()?,
        reason: reason.trim_end().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const THREE: &str = "1\t0/5000098\tno recovery target specified\n\n2\t0/70000A0\tbefore 2026-11-20 10:00:00+00\n";

    fn history(tip: u32, text: &str) -> History {
        History::parse(Tli(tip), text.as_bytes()).unwrap()
    }

    fn check(tip: u32, text: &str, timeline: u32, lsn: &str, expect: bool) {
        assert_eq!(
            history(tip, text).contains(Tli(timeline), lsn.parse().unwrap()),
            expect,
            "{timeline} {lsn}"
        );
    }

    #[test]
    fn a_point_belongs_to_the_past_up_to_the_switch_and_no_further() {
        check(3, THREE, 1, "0/5000098", true);
        check(3, THREE, 1, "0/5000099", false);
        check(3, THREE, 2, "0/5000098", true);
        check(3, THREE, 2, "0/5000097", false);
        check(3, THREE, 2, "0/70000A1", false);
        check(3, THREE, 3, "1/0", true);
        check(3, THREE, 3, "0/7000000", false);
        check(3, THREE, 4, "1/0", false);
        check(1, "", 1, "0/1", true);
    }

    #[test]
    fn a_recovery_that_ended_before_its_target_timeline_began_has_no_wal_of_that_timeline() {
        let text = "1\t0/5000000\t\n2\t0/4000000\tbefore\n";
        check(3, text, 1, "0/4500000", false);
        check(3, text, 1, "0/4000000", true);
        check(3, text, 2, "0/4500000", false);
        assert_eq!(history(3, text).timeline_of(Lsn(0x4800000)), Tli(3));
    }

    #[test]
    fn the_timeline_of_a_byte_is_the_one_that_wrote_it() {
        let history = history(3, THREE);
        assert_eq!(history.timeline_of(Lsn(0x5000097)), Tli(1));
        assert_eq!(history.timeline_of(Lsn(0x5000098)), Tli(2));
        assert_eq!(history.timeline_of(Lsn(0x70000A0)), Tli(3));
    }

    #[test]
    fn the_path_from_a_backup_names_each_timeline_once() {
        let path = history(3, THREE).path(Tli(1), Lsn(0x4000000), Lsn(0x8000000)).unwrap();
        let text: Vec<String> = path
            .iter()
            .map(|r| format!("{} {}-{}", r.timeline, r.start, r.end))
            .collect();
        assert_eq!(
            text,
            [
                "1 0/4000000-0/5000098",
                "2 0/5000098-0/70000A0",
                "3 0/70000A0-0/8000000"
            ]
        );
        assert_eq!(history(3, THREE).path(Tli(1), Lsn(0x6000000), Lsn(0x8000000)), None);
    }

    #[test]
    fn comments_and_empty_lines_are_passed_over() {
        assert_eq!(
            history(2, "# made by hand\n \n 1 0/5 why not\r\n").switches()[0].reason,
            "why not"
        );
    }

    #[test]
    fn what_the_server_refuses_is_refused() {
        for wrong in [
            "2\t0/1\t\n1\t0/2\t\n",
            "1\t0/1\n1\t0/2\n",
            "3\t0/1\n",
            "x\t0/1\n",
            "1\n",
            "1\t5\n",
            "0\t0/1\n",
        ] {
            assert!(History::parse(Tli(3), wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(tip: u32, content: Vec<u8>) {
            let _ = History::parse(Tli(tip), &content);
        }

        #[test]
        fn what_is_printed_is_read_back(points in proptest::collection::vec((any::<u64>(), "[a-z][a-z ]{0,9}[a-z]"), 0..5)) {
            let lines: Vec<String> = points.iter().enumerate()
                .map(|(n, (lsn, reason))| format!("{}\t{}\t{reason}\n", n + 1, Lsn(*lsn))).collect();
            let first = history(9, &lines.concat());
            prop_assert_eq!(history(9, &first.print()), first);
        }

        #[test]
        fn each_byte_has_one_timeline(points in proptest::collection::vec(any::<u64>(), 0..5), lsn in 0..u64::MAX) {
            let lines: Vec<String> = points.iter().enumerate()
                .map(|(n, at)| format!("{}\t{}\n", n + 1, Lsn(*at))).collect();
            let ranges = history(9, &lines.concat()).ranges();
            prop_assert_eq!(ranges.iter().filter(|r| r.start <= Lsn(lsn) && Lsn(lsn) < r.end).count(), 1);
        }
    }
}
