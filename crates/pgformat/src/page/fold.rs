//! Folds pages: takes out of them what the page itself lets one foresee, so that they compress better and faster.
//!
//! A heap page holds, for each tuple, where it lies (which follows from the lengths before it) and its own address
//! (which is mostly the page's block and the line pointer's number). An index page of tuples built in order holds
//! addresses that grow by one. Written as differences from what is foreseen, most become zeroes, and the bytes around
//! them match from tuple to tuple.
//!
//! Invariant: unfolding undoes folding for any bytes whatever. What is foreseen is computed from bytes that folding
//! leaves alone or that were unfolded before; items that overlap one another are left as they are.
//!
//! The stored format depends on every detail here: it is fold 1 of `FORMAT.md` section 10 and never changes.

/// Bytes of the page header before the line pointers.
const HEADER: usize = 24;
/// Layout version of pages since PostgreSQL 8.3.
const LAYOUT: u16 = 4;
/// Line pointers in use have these flags.
const NORMAL: u32 = 1;
/// Where in a heap tuple its address lies, and where in an index tuple.
const HEAP_ADDRESS: usize = 12;
const INDEX_ADDRESS: usize = 0;
/// Bytes that an item must have to be folded: all of a heap tuple's header, or of an index tuple's.
const HEAP_LEAST: usize = 23;
const INDEX_LEAST: usize = 8;

/// What is carried from page to page: the block that the next heap page is foreseen to be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Folder {
    next_block: u32,
}

impl Folder {
    /// Folds one page in place. What does not look like a page of tuples stays as it is.
    pub fn fold(&mut self, page: &mut [u8]) {
        let Some(shape) = Shape::of(page) else { return };
        let items = shape.items(page);
        if shape.heap {
            self.heap(page, &items, |own, foreseen| own.wrapping_sub(foreseen), |own, _| own);
        } else {
            index(page, &items, |own, before| own.wrapping_sub(before), |own, _| own);
        }
        shape.pointers(
            page,
            |offset, foreseen| offset.wrapping_sub(foreseen),
            |offset, _| offset,
        );
    }

    /// Undoes [`Folder::fold`]; pages must come in the same order.
    pub fn unfold(&mut self, page: &mut [u8]) {
        let Some(shape) = Shape::of(page) else { return };
        shape.pointers(
            page,
            |offset, foreseen| offset.wrapping_add(foreseen),
            |_, unfolded| unfolded,
        );
        let items = shape.items(page);
        if shape.heap {
            self.heap(
                page,
                &items,
                |own, foreseen| own.wrapping_add(foreseen),
                |_, unfolded| unfolded,
            );
        } else {
            index(
                page,
                &items,
                |own, before| own.wrapping_add(before),
                |_, unfolded| unfolded,
            );
        }
    }

    /// Each tuple's block against the first tuple's, the first's against the page before; each position against
    /// the line pointer's number. `change` makes the new value, `original` tells which of the two is the page's.
    fn heap(
        &mut self,
        page: &mut [u8],
        items: &Items,
        change: impl Fn(u32, u32) -> u32,
        original: impl Fn(u32, u32) -> u32,
    ) {
        let mut foreseen = self.next_block;
        let mut first = true;
        for &(number, offset) in items.list() {
            let at = usize::from(offset) + HEAP_ADDRESS;
            let (block, position) = address(page, at);
            let new_block = change(block, foreseen);
            let new_position = change(u32::from(position), u32::from(number) + 1) as u16;
            set_address(page, at, new_block, new_position);
            if first {
                foreseen = original(block, new_block);
                self.next_block = foreseen.wrapping_add(1);
                first = false;
            }
        }
    }
}

/// Each index tuple's address against the one before it.
fn index(page: &mut [u8], items: &Items, change: impl Fn(u32, u32) -> u32, original: impl Fn(u32, u32) -> u32) {
    let (mut block_before, mut position_before) = (0, 0);
    for &(_, offset) in items.list() {
        let at = usize::from(offset) + INDEX_ADDRESS;
        let (block, position) = address(page, at);
        let new_block = change(block, block_before);
        let new_position = change(u32::from(position), position_before) & 0xFFFF;
        set_address(page, at, new_block, new_position as u16);
        block_before = original(block, new_block);
        position_before = original(u32::from(position), new_position);
    }
}

/// The part of a page's layout that folding rests on and leaves alone.
struct Shape {
    pointers: usize,
    lower: usize,
    special: usize,
    heap: bool,
}

impl Shape {
    fn of(page: &[u8]) -> Option<Shape> {
        let size = page.len();
        if !(1024..=32768).contains(&size) || !size.is_power_of_two() {
            return None;
        }
        let lower = usize::from(u16_at(page, 12));
        let special = usize::from(u16_at(page, 16));
        let fits = u16_at(page, 18) == size as u16 | LAYOUT && lower > HEADER && lower <= special && special <= size;
        let pointers = lower.saturating_sub(HEADER) / 4;
        (fits && pointers > 0).then_some(Shape {
            pointers,
            lower,
            special,
            heap: special == size,
        })
    }

    /// The items that are folded: in use, long enough, inside the page, and clear of those before them.
    fn items(&self, page: &[u8]) -> Items {
        let (least, bytes) = if self.heap {
            (HEAP_LEAST, HEAP_ADDRESS + 6)
        } else {
            (INDEX_LEAST, INDEX_ADDRESS + 6)
        };
        let mut items = Items {
            list: [(0, 0); MAX_ITEMS],
            count: 0,
        };
        // One bit for each 8 bytes of the page: items begin at multiples of 8.
        let mut taken = [0u64; 64];
        for number in 0..self.pointers.min(MAX_ITEMS) {
            let pointer = u32_at(page, HEADER + 4 * number);
            let (offset, flags, length) = (
                (pointer & 0x7FFF) as usize,
                (pointer >> 15) & 3,
                (pointer >> 17) as usize,
            );
            let inside = offset >= self.lower && offset + bytes <= self.special;
            if flags != NORMAL || length < least || !inside || !offset.is_multiple_of(8) {
                continue;
            }
            let units = offset / 8..(offset + bytes).div_ceil(8);
            if units.clone().any(|unit| taken[unit / 64] & (1 << (unit % 64)) != 0) {
                continue;
            }
            units.for_each(|unit| taken[unit / 64] |= 1 << (unit % 64));
            items.list[items.count] = (number as u16, offset as u16);
            items.count += 1;
        }
        items
    }

    /// Each line pointer's offset against the one before it, less its own length. Lengths and flags stay.
    fn pointers(&self, page: &mut [u8], change: impl Fn(u32, u32) -> u32, original: impl Fn(u32, u32) -> u32) {
        let mut before = self.special as u32;
        for number in 0..self.pointers {
            let at = HEADER + 4 * number;
            let pointer = u32_at(page, at);
            let (offset, length) = (pointer & 0x7FFF, pointer >> 17);
            let foreseen = before.wrapping_sub((length + 7) & !7);
            let new = change(offset, foreseen) & 0x7FFF;
            page[at..at + 4].copy_from_slice(&(pointer & !0x7FFF | new).to_le_bytes());
            let own = original(offset, new);
            if own != 0 {
                before = own;
            }
        }
    }
}

/// More line pointers than these, on a page of 32 KiB, are left alone.
const MAX_ITEMS: usize = 2048;

struct Items {
    list: [(u16, u16); MAX_ITEMS],
    count: usize,
}

impl Items {
    fn list(&self) -> &[(u16, u16)] {
        &self.list[..self.count]
    }
}

/// An address is two halves of a block number, the high one first, and a position.
fn address(page: &[u8], at: usize) -> (u32, u16) {
    (
        u32::from(u16_at(page, at)) << 16 | u32::from(u16_at(page, at + 2)),
        u16_at(page, at + 4),
    )
}

fn set_address(page: &mut [u8], at: usize, block: u32, position: u16) {
    page[at..at + 2].copy_from_slice(&((block >> 16) as u16).to_le_bytes());
    page[at + 2..at + 4].copy_from_slice(&(block as u16).to_le_bytes());
    page[at + 4..at + 6].copy_from_slice(&position.to_le_bytes());
}

fn u16_at(page: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([page[at], page[at + 1]])
}

fn u32_at(page: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(pages: &[Vec<u8>]) {
        let (mut folder, mut unfolder) = (Folder::default(), Folder::default());
        for page in pages {
            let mut folded = page.clone();
            folder.fold(&mut folded);
            unfolder.unfold(&mut folded);
            assert_eq!(&folded, page);
        }
    }

    /// A page that passes for one: a plausible header over random bytes, so that pointers lead anywhere.
    fn page_like() -> impl Strategy<Value = Vec<u8>> {
        let sizes = prop_oneof![Just(1024usize), Just(8192), Just(32768)];
        (sizes, any::<u64>(), 0usize..400, 0usize..64, any::<bool>()).prop_map(|(size, seed, items, special, aimed)| {
            let mut state = seed | 1;
            let mut random = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state
            };
            let mut page: Vec<u8> = (0..size).map(|_| random() as u8).collect();
            let lower = (HEADER + items * 4).min(size);
            let special = (size - special * 8).max(lower);
            page[12..14].copy_from_slice(&(lower as u16).to_le_bytes());
            page[16..18].copy_from_slice(&(special as u16).to_le_bytes());
            page[18..20].copy_from_slice(&(size as u16 | 4).to_le_bytes());
            if aimed {
                for number in 0..(lower - HEADER) / 4 {
                    let offset = (random() as usize % size) & !7;
                    let pointer = (offset as u32 & 0x7FFF) | 1 << 15 | 40 << 17;
                    page[HEADER + number * 4..HEADER + number * 4 + 4].copy_from_slice(&pointer.to_le_bytes());
                }
            }
            page
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn unfolding_undoes_folding_on_pages_with_pointers_that_lead_anywhere(
            pages in proptest::collection::vec(page_like(), 1..4)
        ) {
            round_trip(&pages);
        }

        #[test]
        fn unfolding_undoes_folding_on_any_bytes(pages: Vec<Vec<u8>>) {
            round_trip(&pages);
        }
    }

    #[test]
    fn a_page_of_tuples_in_order_becomes_mostly_foreseen() {
        let mut page = vec![0; 8192];
        let count = 50;
        page[12..14].copy_from_slice(&((HEADER + count * 4) as u16).to_le_bytes());
        page[16..18].copy_from_slice(&8192u16.to_le_bytes());
        page[18..20].copy_from_slice(&(8192u16 | 4).to_le_bytes());
        for number in 0..count {
            let offset = 8192 - (number + 1) * 64;
            let pointer = offset as u32 | 1 << 15 | 61 << 17;
            page[HEADER + number * 4..HEADER + number * 4 + 4].copy_from_slice(&pointer.to_le_bytes());
            set_address(&mut page, offset + HEAP_ADDRESS, 7, number as u16 + 1);
        }
        let mut folded = page.clone();
        Folder { next_block: 7 }.fold(&mut folded);
        let pointers = folded[HEADER..HEADER + count * 4].chunks(4);
        assert!(pointers.clone().all(|pointer| u32_at(pointer, 0) & 0x7FFF == 0));
        assert!((0..count).all(|number| address(&folded, 8192 - (number + 1) * 64 + HEAP_ADDRESS) == (0, 0)));
        round_trip(&[page.clone(), page]);
    }

    #[test]
    fn a_page_of_a_real_server_unfolds_to_itself() {
        round_trip(&[include_bytes!("../../tests/fixtures/pg_class.15.page").to_vec()]);
    }
}
