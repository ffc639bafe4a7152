//! Sizes in IEC units, durations, and moments: UTC always, local time beside it where it differs.

use jiff::{Timestamp, tz::TimeZone};

/// Bytes, such as `1.4 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    scaled(bytes as f64)
}

/// Bytes a second.
pub(crate) fn rate(bytes_per_second: f64) -> String {
    if bytes_per_second < 1024.0 {
        return format!("{bytes_per_second:.0} B/s");
    }
    format!("{}/s", scaled(bytes_per_second))
}

fn scaled(mut number: f64) -> String {
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        // 1023.95 would be shown as 1024.0.
        if number < 1023.5 {
            break;
        }
        number /= 1024.0;
        unit = next;
    }
    if number < 99.95 {
        format!("{number:.1} {unit}")
    } else {
        format!("{number:.0} {unit}")
    }
}

/// Seconds, such as `4.2 s`, `1 min 30 s` or `3 h 5 min`.
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".into();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// A moment of the tables: `2026-11-20 14:30:00`, to stand under a heading that says UTC.
pub(crate) fn utc(micros: i64) -> String {
    in_zone(micros, &TimeZone::UTC, "%Y-%m-%d %H:%M:%S")
}

/// A moment of a text: `2026-11-20 14:30:00 UTC`, with the local time if this machine has another.
pub(crate) fn moment(micros: i64) -> String {
    moment_in(micros, &TimeZone::system())
}

fn moment_in(micros: i64, zone: &TimeZone) -> String {
    let utc = format!("{} UTC", utc(micros));
    let here = Timestamp::from_microsecond(micros).map(|at| zone.to_offset(at));
    match here {
        Ok(offset) if !offset.is_zero() => format!("{utc} ({})", in_zone(micros, zone, "%Y-%m-%d %H:%M:%S %:z")),
        _ => utc,
    }
}

fn in_zone(micros: i64, zone: &TimeZone, format: &str) -> String {
    match Timestamp::from_microsecond(micros) {
        Ok(at) => at.to_zoned(zone.clone()).strftime(format).to_string(),
        Err(_) => "a time beyond the calendar".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_and_a_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1 << 20, "1.0 MiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (200 << 20, "200 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(rate(0.4), "0 B/s");
        assert_eq!(rate(1536.0), "1.5 KiB/s");
    }

    #[test]
    fn durations_have_two_units_at_most() {
        for (seconds, text) in [
            (0.04, "0.0 s"),
            (9.99, "10 s"),
            (90.2, "1 min 30 s"),
            (7260.0, "2 h 1 min"),
            (f64::NAN, "?"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(duration(200_000.0), "2 d 7 h");
    }

    #[test]
    fn moments_are_utc_with_local_time_beside() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        assert_eq!(moment_in(0, &TimeZone::UTC), "1970-01-01 00:00:00 UTC");
        assert_eq!(
            moment_in(0, &zone),
            "1970-01-01 00:00:00 UTC (1970-01-01 01:00:00 +01:00)"
        );
        assert_eq!(moment_in(i64::MAX, &zone), "a time beyond the calendar UTC");
    }
}
