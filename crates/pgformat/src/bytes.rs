//! Integers at an offset of a byte string, never past its end.

/// Little-endian, as all clusters that are supported store them.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Little-endian.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Little-endian.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Big-endian, as the frontend/backend protocol sends them.
pub(crate) fn network_u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A number of plain decimal digits; unlike `str::parse` no sign is taken.
pub(crate) fn decimal(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Exactly eight upper-case hexadecimal digits, as in the names of files in `pg_wal`.
pub(crate) fn hex8(text: &str) -> Option<u32> {
    let plain = text.len() == 8 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    plain.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

/// Takes integers off the front of a byte string, never past its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (piece, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(piece)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Option<u16> {
        let (piece, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_le_bytes(*piece))
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Option<u32> {
        let (piece, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*piece))
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Option<u64> {
        let (piece, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*piece))
    }

    /// `count` items of `item_bytes` each; a count is signed in PostgreSQL, and a negative one is none.
    pub(crate) fn items(&mut self, count: u32, item_bytes: usize) -> Option<&'a [u8]> {
        let count = usize::try_from(count.cast_signed()).ok()?;
        self.take(count.checked_mul(item_bytes)?)
    }
}
