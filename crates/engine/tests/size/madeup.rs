//! Data directories of any size that exist only while they are read.

use std::{io, sync::LazyLock};

use engine::source::{FileKind, Names, Source, SourceFile, Stat};

/// A `pg_control` whose last checkpoint lies after the model's backup begins; of a server in production.
pub static CONTROL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    const STATE: usize = 16;
    const IN_PRODUCTION: u32 = 6;
    const CRC: usize = 288;
    let mut bytes = include_bytes!("../../../pgformat/tests/fixtures/pg_control.15").to_vec();
    bytes[STATE..STATE + 4].copy_from_slice(&IN_PRODUCTION.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..CRC]);
    bytes[CRC..CRC + 4].copy_from_slice(&crc.to_le_bytes());
    bytes
});
pub const VERSION: &[u8] = b"15\n";
/// Bytes of a relation's segment file.
const SEGMENT: u64 = 1 << 30;
const PAGE: usize = 8192;

/// What relation files hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Some words of text, shorter than a page: a file apiece, in a frame shared with others.
    Tiny,
    /// Zeroes.
    Holes,
    /// Pages that do not compress, newer than the backup's start, so that no checksum is asked of them.
    Noise,
    /// Pages whose checksum does not fit.
    Damaged,
}

/// Many relation files in one database.
pub struct MadeUp {
    files: u64,
    bytes: u64,
    content: Content,
}

impl MadeUp {
    /// `files` files of a page or less.
    pub fn files(files: u64, content: Content) -> MadeUp {
        MadeUp {
            files,
            bytes: 200,
            content,
        }
    }

    /// One file.
    pub fn file(bytes: u64, content: Content) -> MadeUp {
        MadeUp {
            files: 1,
            bytes,
            content,
        }
    }

    /// `segments` files of 1 GiB.
    pub fn segments(segments: u64, content: Content) -> MadeUp {
        MadeUp {
            files: segments,
            bytes: SEGMENT,
            content,
        }
    }

    /// File `number`, as PostgreSQL names what a table consists of; listed in no order, as directories are.
    fn name(&self, number: u64) -> String {
        let (relation, fork) = (16384 + number / 3, ["", "_fsm", "_vm"][(number % 3) as usize]);
        format!("{relation}{fork}")
    }

    fn is_relation(path: &[u8]) -> bool {
        path.starts_with(b"base/5/")
    }

    fn stat_of(&self, path: &[u8]) -> Stat {
        let size = match path {
            b"PG_VERSION" => VERSION.len() as u64,
            b"global/pg_control" => CONTROL.len() as u64,
            _ if MadeUp::is_relation(path) => self.bytes,
            _ => 4096,
        };
        Stat {
            size,
            mode: 0o600,
            modified_micros: 1_700_000_000_000_000,
        }
    }
}

impl Source for MadeUp {
    fn list(&self, path: &[u8]) -> io::Result<Option<Names>> {
        let mut names = Names::default();
        match path {
            b"" => {
                names.push(b"PG_VERSION", FileKind::File);
                names.push(b"base", FileKind::Directory);
                names.push(b"global", FileKind::Directory);
            }
            b"base" => names.push(b"5", FileKind::Directory),
            b"base/5" => {
                for number in (0..self.files).rev() {
                    names.push(self.name(number).as_bytes(), FileKind::File);
                }
            }
            b"global" => names.push(b"pg_control", FileKind::File),
            _ => return Ok(None),
        }
        names.sort();
        Ok(Some(names))
    }

    fn stat(&self, path: &[u8]) -> io::Result<Option<Stat>> {
        Ok(Some(self.stat_of(path)))
    }

    fn link(&self, _: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn open(&self, path: &[u8]) -> io::Result<Option<Box<dyn SourceFile>>> {
        let stat = self.stat_of(path);
        Ok(Some(match path {
            b"PG_VERSION" => Box::new(Whole { stat, bytes: VERSION }),
            b"global/pg_control" => Box::new(Whole { stat, bytes: &CONTROL }),
            _ => Box::new(Relation {
                stat,
                content: self.content,
                seed: path.iter().fold(7, mix),
            }),
        }))
    }
}

struct Whole {
    stat: Stat,
    bytes: &'static [u8],
}

impl SourceFile for Whole {
    fn stat(&self) -> io::Result<Stat> {
        Ok(self.stat)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.bytes.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

struct Relation {
    stat: Stat,
    content: Content,
    seed: u64,
}

impl SourceFile for Relation {
    fn stat(&self) -> io::Result<Stat> {
        Ok(self.stat)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.stat.size.saturating_sub(offset)).unwrap();
        let count = left.min(buffer.len());
        let buffer = &mut buffer[..count];
        match self.content {
            Content::Holes => buffer.fill(0),
            Content::Tiny => {
                for (number, word) in buffer.chunks_mut(8).enumerate() {
                    let text = mix(self.seed, &(number as u8)).to_le_bytes();
                    word.copy_from_slice(&text[..word.len()]);
                }
            }
            Content::Noise => {
                noise(self.seed ^ offset, buffer);
                for page in buffer.chunks_mut(PAGE) {
                    header(page, u64::MAX);
                }
            }
            Content::Damaged => {
                buffer.fill(0x11);
                for page in buffer.chunks_mut(PAGE) {
                    header(page, 1);
                }
            }
        }
        Ok(count)
    }
}

/// Fills `buffer` with what does not compress.
pub fn noise(mut state: u64, buffer: &mut [u8]) {
    for word in buffer.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word.copy_from_slice(&(mixed ^ (mixed >> 29)).to_le_bytes());
    }
}

/// A page header with this LSN and no checksum.
fn header(page: &mut [u8], lsn: u64) {
    page[..4].copy_from_slice(&((lsn >> 32) as u32).to_le_bytes());
    page[4..8].copy_from_slice(&(lsn as u32).to_le_bytes());
    page[8..12].fill(0);
}

fn mix(seed: u64, byte: &u8) -> u64 {
    (seed ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
}
