//! Decides where a receiver goes on: where the repository's WAL ends, never where the server is.
//!
//! Pure: what is here and what the server is in, a place out.
//!
//! Invariant: no byte between where archiving began and the place is left out, unless the ledger says that it will never be
//! here.

use pgformat::{
    Lsn, Tli,
    history::{History, Range},
};
use repo::wal::WalStream;

/// WAL that will never be here: from the first position to before the second.
pub(super) type Missing = (u64, u64);

/// What is here of one timeline of the server's past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Here {
    /// The timeline.
    pub(super) timeline: Tli,
    /// Stretches without a gap, ascending.
    pub(super) stretches: Vec<(u64, u64)>,
    /// Gaps that the ledger knows.
    pub(super) missing: Vec<Missing>,
    /// From where on the timeline was archived without pause, if it was: a hole after it is a loss. Before it, backups leave
    /// holes between them.
    pub(super) archived: Option<u64>,
}

/// Where to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The timeline.
    pub(super) timeline: Tli,
    /// The next byte.
    pub(super) position: u64,
    /// Where that timeline ends in the server's past; the last position there is on its own.
    pub(super) ends: u64,
}

/// Where to go on with a server whose past is `history`.
///
/// `here` are the newest timelines of that past of which anything is known, oldest first: one, and those before it whose
/// WAL the slot may still hold back, or that were archived. `slot` is where the server's slot begins to do so; `flushed` is
/// where the server is, and `backup` where the newest backup begins.
pub(super) fn place(
    shape: &WalStream,
    history: &History,
    here: &[Here],
    slot: Option<Lsn>,
    flushed: Lsn,
    backup: Option<Lsn>,
) -> Place {
    let ranges = history.ranges();
    let first = || {
        // Nothing is here: from now on, and from before now as far as the server keeps it for us anyway.
        beginning(
            shape,
            &ranges,
            [slot, backup].into_iter().flatten().fold(flushed, Lsn::min),
        )
    };
    let known: Vec<(usize, &Here)> = here
        .iter()
        .filter_map(|here| Some((ranges.iter().position(|range| range.timeline == here.timeline)?, here)))
        .collect();
    let Some(first_known) = oldest_to_look_at(&ranges, &known, slot) else {
        return first();
    };
    let mut known = known.into_iter().skip(first_known).peekable();
    let oldest = known.peek().map(|(at, _)| *at).filter(|at| *at > 0);
    if let (Some(oldest), Some(slot)) = (oldest, slot)
        && slot < ranges[oldest].start
    {
        // It was made on a timeline of which nothing came, and others have stored WAL of a later one.
        return beginning(shape, &ranges, slot);
    }
    let mut inherited = None;
    while let Some((at, here)) = known.next() {
        let range = &ranges[at];
        let archived = here.archived.into_iter().chain(inherited).min();
        let Some(end) = end(shape, here, archived, slot.map(|slot| slot.max(range.start))) else {
            return first();
        };
        // A timeline that was left the moment it began holds nothing.
        let next = (at + 1..ranges.len()).find(|next| ranges[*next].start < ranges[*next].end);
        let child = known
            .peek()
            .filter(|(stored, _)| Some(*stored) == next)
            .map(|(_, child)| *child);
        if end < range.end.0 && !child.is_some_and(|child| brought_along(shape, range, end, child, slot)) {
            return Place {
                timeline: here.timeline,
                position: end,
                ends: range.end.0,
            };
        }
        match (next, child) {
            (Some(next), Some(_)) => {
                // What leaves an archived timeline is archived from the first segment on.
                inherited = archived.map(|_| shape.segment_of(ranges[next].start.0));
            }
            (Some(next), None) => return beginning(shape, &ranges, ranges[next].start),
            (None, _) => return first(),
        }
    }
    first()
}

/// Which of the timelines to begin with: the newest, unless the slot holds back what was written before it, or an older one
/// was archived: then its end may be missing, though others have stored later ones. `None` if nothing is known.
fn oldest_to_look_at(ranges: &[Range], known: &[(usize, &Here)], slot: Option<Lsn>) -> Option<usize> {
    let newest = known.len().checked_sub(1)?;
    let held = slot.map_or(newest, |slot| {
        let before = known.iter().rposition(|(at, _)| ranges[*at].start <= slot);
        before.unwrap_or(0)
    });
    let archived = known.iter().position(|(_, here)| here.archived.is_some());
    Some(archived.map_or(held, |archived| archived.min(held)))
}

/// Whether `child` has the rest of a timeline of which everything before `end` is here: the segment in which it left comes
/// along with it. What the slot still holds back is fetched all the same.
fn brought_along(shape: &WalStream, range: &Range, end: u64, child: &Here, slot: Option<Lsn>) -> bool {
    let segment = shape.segment_of(range.end.0);
    let has = child
        .stretches
        .iter()
        .any(|(from, to)| *from <= segment && segment < *to);
    end >= segment && has && slot.is_none_or(|slot| slot >= range.end)
}

/// With nothing stored, at the segment of `oldest`, on the timeline on which that was written.
fn beginning(shape: &WalStream, ranges: &[Range], oldest: Lsn) -> Place {
    let written = |range: &&Range| range.start <= oldest && range.start < range.end;
    let range = ranges.iter().rfind(written).or(ranges.last());
    Place {
        timeline: range.map_or(Tli(1), |range| range.timeline),
        position: shape.segment_of(oldest.0),
        ends: range.map_or(u64::MAX, |range| range.end.0),
    }
}

/// Where what is here ends. What a slot still holds back is fetched even if later WAL, a backup's, is here already.
fn end(shape: &WalStream, here: &Here, archived: Option<u64>, slot: Option<Lsn>) -> Option<u64> {
    let last = here.stretches.last();
    let before = |slot: Lsn| here.stretches.iter().rev().find(|stretch| stretch.0 <= slot.0);
    let mut end = match slot.map(|slot| (slot, before(slot))) {
        Some((_, Some(stretch))) => Some(stretch.1),
        // It was made before anything came, and others have stored later WAL meanwhile.
        Some((slot, None)) if last.is_some() || archived.is_some() => Some(shape.segment_of(slot.0)),
        _ => last.map(|stretch| stretch.1),
    };
    // A hole where everything was archived is filled, if the server still can; if not, that is recorded.
    if let Some(archived) = archived {
        let holding = here.stretches.iter().find(|stretch| stretch.1 >= archived);
        let reached = match holding {
            Some((from, to)) if *from <= archived => Some(*to),
            Some(_) => Some(archived),
            // Who began to archive it was stopped before anything came.
            None => last.is_none().then_some(archived),
        };
        end = end.into_iter().chain(reached).min();
    }
    let mut ends = end;
    let mut missing = here.missing.clone();
    missing.sort_unstable();
    for (from, to) in missing {
        // Past a gap goes on what is here after it.
        if ends.is_none_or(|end| (from..to).contains(&end)) {
            let after = here
                .stretches
                .iter()
                .find(|stretch| (stretch.0..=stretch.1).contains(&to));
            ends = Some(after.map_or(to, |stretch| stretch.1));
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 1 << 20;

    /// Positions in segments and tenths of them, as `3.5`.
    fn at(text: &str) -> u64 {
        let (segments, tenths) = text.split_once('.').unwrap_or((text, "0"));
        segments.parse::<u64>().unwrap() * SEGMENT + tenths.parse::<u64>().unwrap() * (SEGMENT / 10)
    }

    fn stretches(text: &str) -> Vec<(u64, u64)> {
        let parts = text.split_whitespace();
        parts
            .map(|part| part.split_once('-').unwrap())
            .map(|(from, to)| (at(from), at(to)))
            .collect()
    }

    /// `past` such as `1@4.5 2@6`; `here` as `2: 3-5 7-8`, or `2: 3-5 7-8 from 4` if it was archived from there on, more
    /// timelines after a `;`, and `missing` on each of them.
    fn check(past: &str, tip: u32, here: &str, missing: &str, slot: &str, expect: &str) {
        let lines = past.split_whitespace().map(|part| part.split_once('@').unwrap());
        let lines: String = lines
            .map(|(tli, lsn)| format!("{tli}\t{}\tx\n", Lsn(at(lsn))))
            .collect();
        let history = History::parse(Tli(tip), lines.as_bytes()).unwrap();
        let here = here.split(';').filter_map(|known| known.trim().split_once(':'));
        let archived = |text: &str| text.split_once(" from ").map(|(_, from)| at(from));
        let here = here.map(|(timeline, text)| Here {
            timeline: Tli(timeline.parse().unwrap()),
            stretches: stretches(text.split(" from ").next().unwrap()),
            missing: stretches(missing),
            archived: archived(text),
        });
        let here: Vec<Here> = here.collect();
        let slot = (!slot.is_empty()).then(|| Lsn(at(slot)));
        let shape = WalStream::new(1, 1, SEGMENT).unwrap();
        let found = place(&shape, &history, &here, slot, Lsn(at("9.5")), None);
        let (timeline, position) = expect.split_once(':').unwrap();
        let expect = (Tli(timeline.parse().unwrap()), at(position.trim()));
        assert_eq!(
            (found.timeline, found.position),
            expect,
            "{past} {here:?} {missing} {slot:?}"
        );
    }

    #[test]
    fn a_receiver_goes_on_where_the_wal_here_ends() {
        check("", 1, "1: 3-5.3", "", "", "1: 5.3");
        check("", 1, "1: 3-5 7-8.2", "", "", "1: 8.2");
        check("", 1, "1: 3-5", "", "4.9", "1: 5");
    }

    #[test]
    fn with_nothing_here_it_begins_with_the_servers_segment_or_what_the_slot_holds() {
        check("", 1, "", "", "", "1: 9");
        check("", 1, "", "", "7.3", "1: 7");
        check("1@4.5", 2, "", "", "", "2: 9");
    }

    #[test]
    fn what_a_slot_still_holds_is_fetched_though_a_backup_has_later_wal() {
        check("", 1, "1: 3-5 7-8.2", "", "5", "1: 5");
        check("", 1, "1: 3-5 7-8.2", "", "4.2", "1: 5");
        check("", 1, "1: 3-5 7-8.2", "", "6", "1: 5");
        check("", 1, "1: 3-5 7-8.2", "5-6", "6", "1: 6");
        check("", 1, "1: 7-8.2", "", "6.5", "1: 6");
    }

    #[test]
    fn a_gap_that_is_recorded_is_not_asked_for_again() {
        check("", 1, "1: 3-5.2", "5.2-8", "", "1: 8");
        check("", 1, "1: 3-5.2", "5.2-8 8-9", "", "1: 9");
        check("", 1, "1: 3-5.2 8-8.7", "5.2-8", "5", "1: 8.7");
        check("", 1, "1: 3-5.2 8-8.7", "5.2-8", "", "1: 8.7");
        check("1@4.5", 2, "1: 3-4", "4-4.5", "", "2: 4");
    }

    #[test]
    fn a_hole_in_what_was_archived_is_filled_or_recorded_and_those_between_backups_are_let_be() {
        check("", 1, "1: 3-5 7-8.2 from 4", "", "", "1: 5");
        check("", 1, "1: 3-5 7-8.2 from 4", "", "8.1", "1: 5");
        check("", 1, "1: 3-5 7-8.2 from 7", "", "", "1: 8.2");
        check("", 1, "1: 3-5 7-8.2 from 7", "", "4", "1: 5");
        check("", 1, "1: 1-2 3-5.1 5.2-8.2 from 4", "", "8.1", "1: 5.1");
        check("", 1, "1: 3-5 7-8.2 from 4", "5-7", "", "1: 8.2");
        check("", 1, "1: 3-5 6-6.5 7-8.2 from 4", "5-7", "", "1: 8.2");
        check("", 1, "1: 3-5 6-6.5 7-8.2 from 4", "5-6", "", "1: 6.5");
        check("", 1, "1: 3-5 from 7", "", "", "1: 5");
    }

    #[test]
    fn a_receiver_that_was_stopped_before_anything_came_is_followed_by_one_that_begins_where_it_did() {
        check("", 1, "1: from 7", "", "", "1: 7");
        check("", 1, "1: from 7", "7-8", "", "1: 8");
        check("", 1, "1: from 7", "", "4.2", "1: 4");
        check("", 1, "1: from 7", "", "8.1", "1: 7");
        check("1@8.5", 2, "1: from 7", "", "", "1: 7");
        check("1@8.5", 2, "1: from 7; 2: 8-9", "", "", "1: 7");
        check("1@8.5", 2, "1: 3-8.5 from 3; 2: from 8", "", "", "2: 8");
        check("1@6.5", 2, "1: from 7", "", "", "2: 6");
    }

    #[test]
    fn an_old_timeline_is_received_to_its_end_before_the_next() {
        check("1@4.5", 2, "1: 3-4.2", "", "", "1: 4.2");
        check("1@4.5", 2, "1: 3-4.5", "", "", "2: 4");
        check("1@4.5", 2, "1: 3-6", "", "", "2: 4");
        check("1@4.5 2@6.1", 3, "1: 3-6", "", "", "2: 4");
        check("1@4.5 2@6.1", 3, "2: 4-6.1", "", "", "3: 6");
        check("1@4.5 2@4.5", 3, "1: 3-4.5", "", "", "3: 4");
    }

    #[test]
    fn what_a_slot_holds_of_an_old_timeline_is_fetched_though_others_have_stored_the_next() {
        check("1@4.5", 2, "1: 3-4.2; 2: 4-8", "", "3.1", "1: 4.2");
        check("1@4.5", 2, "1: 3-4.5; 2: 4-8", "", "4.4", "2: 8");
        check("1@4.5", 2, "1: 3-4.5; 2: 4-6 7-8", "", "4.4", "2: 6");
        check("1@4.5", 2, "1: 3-4.5; 2: 6-8", "", "4.4", "2: 4");
        check("1@4.5", 2, "2: 4-8", "", "3.1", "1: 3");
        check("1@4.5", 2, "2: 4-8", "", "4.5", "2: 8");
        check("1@4.5 2@6.1", 3, "1: 3-4.2; 3: 6-8", "", "3.1", "1: 4.2");
        check("1@4.5 2@6.1", 3, "1: 3-4.5; 3: 6-8", "", "3.1", "2: 4");
    }

    #[test]
    fn the_tail_of_an_archived_timeline_is_fetched_though_others_have_stored_the_next() {
        check("1@6.5", 2, "1: 3-4.2 from 3; 2: 7-8", "", "", "1: 4.2");
        check("1@6.5", 2, "1: 3-4.2 from 3; 2: 6-8 from 6", "", "", "1: 4.2");
        check("1@6.5", 2, "1: 3-4.2 from 3; 2: 6-8 from 6", "", "7", "1: 4.2");
        check("1@6.5", 2, "1: 3-4.2 from 3; 2: 6-8 from 6", "4.2-6.5", "", "2: 8");
        // Backups alone leave holes.
        check("1@6.5", 2, "1: 3-4.2; 2: 7-8", "", "", "2: 8");
        // The segment in which it was left is in the next one, too.
        check("1@6.5", 2, "1: 3-6 from 3; 2: 6-8 from 6", "", "", "2: 8");
        check("1@6.5", 2, "1: 3-6 from 3; 2: 7-8", "", "", "1: 6");
        check("1@6.5", 2, "1: 3-6.5 from 3; 2: 7-8", "", "", "2: 6");
        check(
            "1@6.5 2@7.1",
            3,
            "1: 3-4.2 from 3; 2: 6-7.1; 3: 7-8 from 7",
            "",
            "",
            "1: 4.2",
        );
        check("1@6.5 2@7.1", 3, "1: 3-6.5 from 3; 3: 7-8 from 7", "", "", "2: 6");
    }

    #[test]
    fn a_timeline_that_leaves_an_archived_one_is_fetched_from_its_first_segment_on() {
        check("1@4.5", 2, "1: 3-4.5 from 3; 2: 6-8", "", "", "2: 4");
        check("1@4.5", 2, "1: 3-4.5 from 3; 2: 6-8 from 6", "", "7", "2: 4");
        check("1@4.5", 2, "1: 3-4.5 from 3; 2: 6-8", "4-6", "", "2: 8");
    }

    #[test]
    fn with_nothing_here_what_a_slot_holds_is_of_the_timeline_it_was_written_on() {
        check("1@4.5", 2, "", "", "3.1", "1: 3");
        check("1@4.5", 2, "", "", "4.5", "2: 4");
        check("1@4.5 2@4.5", 3, "", "", "4.4", "1: 4");
    }
}
