//! Times in WAL.

/// From 1970-01-01 to 2000-01-01 UTC, where PostgreSQL's times begin (`POSTGRES_EPOCH_JDATE`).
const EPOCH_MICROSECONDS: i64 = 10_957 * 86_400 * 1_000_000;

/// Microseconds since 1970-01-01 UTC of a `TimestampTz`. One that no clock shows gives the last there is.
pub(super) fn unix_microseconds(timestamp: u64) -> i64 {
    timestamp.cast_signed().saturating_add(EPOCH_MICROSECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_from_1970() {
        assert_eq!(unix_microseconds(0), 946_684_800_000_000);
        assert_eq!(unix_microseconds(1u64.wrapping_neg()), 946_684_799_999_999);
        assert_eq!(unix_microseconds(u64::MAX >> 1), i64::MAX);
    }
}
