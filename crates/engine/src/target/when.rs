//! What a user may say for "when", and what it means.

use std::str::FromStr;

use jiff::{Span, Timestamp, civil::DateTime, tz::AmbiguousOffset, tz::TimeZone};
use pgformat::Lsn;
use repo::BackupId;

/// Which moment to go back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// The last record that is here.
    Latest,
    /// The end of this backup.
    Backup(String),
    /// Before the first transaction that ended after this moment: microseconds since 1970-01-01 UTC.
    Time(i64),
    /// So many microseconds before now.
    Ago(i64),
    /// The last record that ends at or before this position.
    Lsn(Lsn),
    /// After the end of this transaction.
    Xid(u32),
    /// Before the end of this transaction: everything up to it, and nothing of it.
    BeforeXid(u32),
    /// A named restore point.
    Point(String),
}

/// The forms, for who typed none of them.
const FORMS: &str = "latest, backup:ID, a time with its zone (\"2026-11-20 14:30:00 UTC\", \"2026-11-20 14:30:00 Europe/Berlin\", \
     2026-11-20T14:30:00+01:00), \"5 minutes ago\", lsn:X/Y, xid:N, before-xid:N or name:POINT";

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<At, String> {
        let text = text.trim();
        if text == "latest" {
            return Ok(At::Latest);
        }
        let xid = |number: &str| match number.parse() {
            Ok(xid @ 3..) => Ok(xid),
            _ => Err(format!("{number} is no transaction id: a number from 3 to 4294967295")),
        };
        match text.split_once(':') {
            Some(("backup", id)) if BackupId::parse(id).is_some() => return Ok(At::Backup(id.into())),
            Some(("backup", id)) => return Err(format!("{id} is no backup id; `lastgood list` shows them")),
            Some(("lsn", position)) => {
                let position: Lsn = position.parse().map_err(|error| format!("{error}"))?;
                return Ok(At::Lsn(position));
            }
            Some(("xid", number)) => return xid(number).map(At::Xid),
            Some(("before-xid", number)) => return xid(number).map(At::BeforeXid),
            Some(("name", "")) => return Err("a restore point has a name".into()),
            Some(("name", name)) => return Ok(At::Point(name.into())),
            _ => {}
        }
        if let Some(span) = text.strip_suffix("ago") {
            return ago(span.trim())
                .ok_or_else(|| format!("{text} is no time that has passed, such as \"5 minutes ago\""));
        }
        time(text).map(At::Time)
    }
}

/// Days and longer are counted by the calendar in UTC, as of an arbitrary day where only months would differ.
fn ago(span: &str) -> Option<At> {
    let span = Span::from_str(span).ok()?;
    let epoch = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    let moved = epoch.checked_add(span.abs()).ok()?.timestamp();
    let micros = moved.as_microsecond();
    (micros > 0).then_some(At::Ago(micros))
}

/// A moment, with the zone in which it was said. Without one there is no telling which moment is meant.
fn time(text: &str) -> Result<i64, String> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment.as_microsecond());
    }
    let (moment, zone) = match text.rsplit_once(' ') {
        Some((moment, zone)) if !zone.contains(':') || zone.starts_with(['+', '-']) => (moment, zone),
        _ if text.parse::<DateTime>().is_ok() || DateTime::strptime("%Y-%m-%d %H:%M", text).is_ok() => {
            return Err(format!(
                "{text} is a different moment in each time zone: say which, as in \"{text} UTC\" or \"{text} Europe/Berlin\""
            ));
        }
        _ => return Err(format!("{text} is none of {FORMS}")),
    };
    let civil = moment
        .parse::<DateTime>()
        .or_else(|_| DateTime::strptime("%Y-%m-%d %H:%M", moment))
        .map_err(|_| format!("{text} is none of {FORMS}"))?;
    if let Ok(moment) = format!("{}{zone}", civil.strftime("%Y-%m-%dT%H:%M:%S%.f")).parse::<Timestamp>() {
        return Ok(moment.as_microsecond());
    }
    let zone = match zone {
        "UTC" | "utc" | "Z" | "z" | "GMT" => TimeZone::UTC,
        name => TimeZone::get(name).map_err(|_| {
            format!("{name} is no time zone of this machine: say one such as UTC, Europe/Berlin or +02:00")
        })?,
    };
    let ambiguous = zone.to_ambiguous_timestamp(civil);
    let shown = |offset: jiff::tz::Offset| format!("\"{} {offset}\"", civil.strftime("%Y-%m-%d %H:%M:%S%.f"));
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => {}
        AmbiguousOffset::Fold { before, after } => {
            return Err(format!(
                "{text} was twice, because clocks went back: say {} for the first or {} for the second",
                shown(before),
                shown(after)
            ));
        }
        AmbiguousOffset::Gap { before, after } => {
            return Err(format!(
                "{text} was never, because clocks went forward: {} or {} may be meant",
                shown(before),
                shown(after)
            ));
        }
    }
    let moment = ambiguous.unambiguous().map_err(|error| error.to_string())?;
    Ok(moment.as_microsecond())
}

/// The moment that is meant, where it is one: microseconds since 1970-01-01 UTC.
impl At {
    pub(crate) fn moment(&self, now: i64) -> Option<i64> {
        match self {
            At::Time(moment) => Some(*moment),
            At::Ago(micros) => Some(now.saturating_sub(*micros)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(text: &str, expected: At) {
        assert_eq!(text.parse::<At>(), Ok(expected), "{text}");
    }

    #[test]
    fn every_form_of_when_is_understood() {
        let afternoon = 1_795_185_000_000_000;
        means("latest", At::Latest);
        for text in [
            "2026-11-20T14:30:00Z",
            "2026-11-20T15:30:00+01:00",
            "2026-11-20 14:30:00Z",
            "2026-11-20 14:30:00 UTC",
            "2026-11-20 14:30 UTC",
            "2026-11-20 15:30:00 Europe/Berlin",
            "2026-11-20 15:30:00 +01:00",
            "2026-11-20 15:30:00.000 +01",
        ] {
            means(text, At::Time(afternoon));
        }
        means("2026-11-20 14:30:00.25 UTC", At::Time(afternoon + 250_000));
        means("5 minutes ago", At::Ago(300_000_000));
        means("1h 30m ago", At::Ago(5_400_000_000));
        means("2 days ago", At::Ago(172_800_000_000));
        means("lsn:1/ABC", At::Lsn(Lsn(0x1_0000_0ABC)));
        means("xid:1234", At::Xid(1234));
        means("before-xid:1234", At::BeforeXid(1234));
        means("name:before the upgrade", At::Point("before the upgrade".into()));
        means(
            "backup:20261120T101500Z-0a1b2c",
            At::Backup("20261120T101500Z-0a1b2c".into()),
        );
    }

    fn refused(text: &str, words: &[&str]) {
        let said = text.parse::<At>().unwrap_err();
        for word in words {
            assert!(said.contains(word), "{text}: {said}");
        }
    }

    #[test]
    fn a_time_that_could_mean_two_moments_is_refused_with_both() {
        refused(
            "2026-10-25 02:30:00 Europe/Berlin",
            &["twice", "02:30:00 +02", "02:30:00 +01"],
        );
        refused("2026-03-29 02:30:00 Europe/Berlin", &["never", "+01", "+02"]);
        refused("2026-11-20 14:30:00", &["time zone", "2026-11-20 14:30:00 UTC"]);
        refused("2026-11-20 14:30", &["time zone"]);
        refused("2026-11-20 14:30:00 Middle/Earth", &["Middle/Earth"]);
    }

    #[test]
    fn what_is_no_moment_is_refused_with_the_forms_there_are() {
        refused("yesterday", &["lsn:X/Y", "ago"]);
        refused("ago", &["5 minutes ago"]);
        refused("lsn:zz", &["zz"]);
        refused("xid:0", &["transaction id"]);
        refused("xid:-5", &["transaction id"]);
        refused("name:", &["name"]);
        refused("backup:1", &["lastgood list"]);
        refused("2026-13-20 14:30:00 UTC", &["ago"]);
    }
}
