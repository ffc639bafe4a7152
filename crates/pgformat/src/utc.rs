//! The one form of time that `backup_manifest` holds: `YYYY-MM-DD HH:MM:SS GMT`.
//!
//! Days are counted in cycles of 400 years, each beginning on 1 March so that a leap day is the last
//! day of its year. No leap seconds, as everywhere in PostgreSQL.

const DAY_SECONDS: i64 = 86_400;
/// From 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;
const CYCLE_DAYS: i64 = 146_097;
/// Days before each month of a year that begins in March.
const BEFORE_MONTH: [i64; 12] = [0, 31, 61, 92, 122, 153, 184, 214, 245, 275, 306, 337];

/// Prints seconds since 1970-01-01 UTC. Times outside of the years 0 to 9999, which no file system
/// gives, print as the nearest time inside.
pub(crate) fn print(seconds: i64) -> String {
    let seconds = seconds.clamp(-62_167_219_200, 253_402_300_799);
    let (days, rest) = (
        seconds.div_euclid(DAY_SECONDS) + EPOCH_DAYS,
        seconds.rem_euclid(DAY_SECONDS),
    );
    let (cycle, day) = (days.div_euclid(CYCLE_DAYS), days.rem_euclid(CYCLE_DAYS));
    // Take away the leap days already passed: one every 1461 days, none every 36524, one at the very end.
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - days_before_year(year);
    let month = BEFORE_MONTH.iter().rposition(|before| *before <= day).unwrap_or(0);
    let day = day - BEFORE_MONTH.get(month).unwrap_or(&0) + 1;
    // January and February belong to the year that began in the March before.
    let (year, month) = if month < 10 {
        (year, month + 3)
    } else {
        (year + 1, month - 9)
    };
    let year = year + cycle * 400;
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} GMT",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// Reads what [`print()`] prints; `None` for all else, 30 February included.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to).and_then(crate::bytes::decimal).map(i64::from);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let (year, slot) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let before = BEFORE_MONTH.get(usize::try_from(slot).ok()?)?;
    let (cycle, in_cycle) = (year.div_euclid(400), year.rem_euclid(400));
    let days = cycle * CYCLE_DAYS + days_before_year(in_cycle) + before + day - 1 - EPOCH_DAYS;
    let seconds = days * DAY_SECONDS + hour * 3600 + minute * 60 + second;
    // Printing again catches every field out of its range.
    (print(seconds) == text).then_some(seconds)
}

fn days_before_year(year: i64) -> i64 {
    year * 365 + year / 4 - year / 100
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(seconds: i64, text: &str) {
        assert_eq!(print(seconds), text);
        assert_eq!(parse(text), Some(seconds));
    }

    #[test]
    fn times_are_those_of_the_gregorian_calendar() {
        check(0, "1970-01-01 00:00:00 GMT");
        check(-1, "1969-12-31 23:59:59 GMT");
        check(951_782_400, "2000-02-29 00:00:00 GMT");
        check(951_868_800, "2000-03-01 00:00:00 GMT");
        check(4_107_456_000, "2100-02-28 00:00:00 GMT");
        check(4_107_542_400, "2100-03-01 00:00:00 GMT");
        check(1_795_169_571, "2026-11-20 10:12:51 GMT");
        check(253_402_300_799, "9999-12-31 23:59:59 GMT");
    }

    #[test]
    fn times_that_do_not_exist_are_refused() {
        for wrong in [
            "",
            "2026-02-30 00:00:00 GMT",
            "2100-02-29 00:00:00 GMT",
            "2026-13-01 00:00:00 GMT",
            "2026-00-01 00:00:00 GMT",
            "2026-01-01 24:00:00 GMT",
            "2026-01-01 00:00:00 UTC",
            "2026-01-01T00:00:00 GMT",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(seconds in -62_167_219_200i64..=253_402_300_799) {
            prop_assert_eq!(parse(&print(seconds)), Some(seconds));
        }

        #[test]
        fn nothing_panics(seconds: i64, text: String) {
            let _ = (print(seconds), parse(&text));
        }
    }
}
