//! The checksum of a data page.
//!
//! Algorithm: `storage/checksum_impl.h`. The page is a table of 32-bit words, 32 columns wide. Each
//! column is hashed on its own, by FNV-1a with an extra shift, so that 32 hashes advance side by
//! side; their exclusive-or, the block number mixed in, is reduced to 1..=65535.

const LANES: usize = 32;
const ROW_BYTES: usize = LANES * 4;
const PRIME: u32 = 16_777_619;

/// Where each column's hash begins. The values are part of the format.
const OFFSET_BASIS: [u32; LANES] = [
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C, //
    0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB, //
    0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4, //
    0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
];

/// The checksum of `page` at `block_number` of its relation's fork, whatever the page says itself;
/// `None` if the slice has no page's size (a power of two from 1 to 32 KiB).
pub fn checksum(page: &[u8], block_number: u32) -> Option<u16> {
    if !page.len().is_power_of_two() || !(1 << 10..=32 << 10).contains(&page.len()) {
        return None;
    }
    let (rows, _) = page.as_chunks::<ROW_BYTES>();
    let (first, others) = rows.split_first()?;
    let mut lanes = OFFSET_BASIS;
    let mut words = words_of(first);
    // The stored checksum, low half of the third word, counts as zero.
    words[2] &= 0xFFFF_0000;
    mix(&mut lanes, &words);
    for row in others {
        mix(&mut lanes, &words_of(row));
    }
    mix(&mut lanes, &[0; LANES]);
    mix(&mut lanes, &[0; LANES]);
    let folded = lanes.iter().fold(0, |result, lane| result ^ lane) ^ block_number;
    u16::try_from(folded % 65_535 + 1).ok()
}

#[inline(always)]
fn words_of(row: &[u8; ROW_BYTES]) -> [u32; LANES] {
    let (bytes, _) = row.as_chunks::<4>();
    let mut words = [0; LANES];
    for (word, bytes) in words.iter_mut().zip(bytes) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

/// One row for all columns. Without branches or dependencies between columns, so that the compiler
/// uses vector registers.
#[inline(always)]
fn mix(lanes: &mut [u32; LANES], words: &[u32; LANES]) {
    for (lane, word) in lanes.iter_mut().zip(words) {
        let mixed = *lane ^ word;
        *lane = mixed.wrapping_mul(PRIME) ^ (mixed >> 17);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The algorithm column by column, as slowly and plainly as it can be said.
    fn plain(page: &[u8], block_number: u32) -> u16 {
        let word = |at: usize| u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
        let mut folded = block_number;
        for (column, basis) in OFFSET_BASIS.iter().enumerate() {
            let mut hash = *basis;
            for row in 0..page.len() / 128 + 2 {
                let at = row * 128 + column * 4;
                let value = match at {
                    8 => word(8) & 0xFFFF_0000,
                    at if at < page.len() => word(at),
                    _ => 0,
                };
                hash = (hash ^ value).wrapping_mul(16_777_619) ^ ((hash ^ value) >> 17);
            }
            folded ^= hash;
        }
        (folded % 65_535 + 1) as u16
    }

    #[test]
    fn the_fast_form_gives_what_the_plain_form_gives_at_every_block_size() {
        for shift in 10..=15 {
            let page: Vec<u8> = (0..1u32 << shift)
                .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
                .collect();
            for block in [0, 1, 131_071, 131_072, u32::MAX] {
                assert_eq!(
                    checksum(&page, block),
                    Some(plain(&page, block)),
                    "{} bytes, block {block}",
                    page.len()
                );
            }
        }
    }

    #[test]
    fn what_is_no_page_has_no_checksum() {
        for length in [0, 1, 512, 1000, 8191, 8193, 65_536] {
            assert_eq!(checksum(&vec![1; length], 0), None, "{length}");
        }
    }
}
