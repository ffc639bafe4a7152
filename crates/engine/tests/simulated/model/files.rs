//! The model's data directory: relations with sound pages, a `pg_control`, and what stands around them.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use engine::{
    pgformat::{Lsn, control::Control, page},
    source::{FileKind, Names, Source, SourceFile, Stat},
};
use testkit::sim::Random;

use super::WAL_SEGMENT_BYTES;

const PAGE: &[u8] = include_bytes!("../../../../pgformat/tests/fixtures/pg_class.15.page");
const CONTROL: &[u8] = include_bytes!("../../../../pgformat/tests/fixtures/pg_control.15");
/// The relation with the rows.
const SHOP: &str = "base/5/16384";
const CONTROL_PATH: &str = "global/pg_control";
/// 2023-11-14 22:13:20 UTC.
const MODIFIED_MICROS: i64 = 1_700_000_000_000_000;

/// The files by path. Cheap to clone; clones share the content.
#[derive(Clone)]
pub(crate) struct Files {
    entries: Arc<Entries>,
    /// What `global/pg_control` holds now; checkpoints rewrite it.
    control: Arc<Mutex<Arc<Vec<u8>>>>,
}

/// What stands at each path: a file's content, or a directory.
type Entries = BTreeMap<Vec<u8>, Option<Arc<Vec<u8>>>>;

impl Files {
    pub(super) fn new(seed: u64) -> Files {
        let mut random = Random::new(seed);
        let mut entries = Entries::new();
        for directory in ["", "base", "base/5", "global", "pg_tblspc", "pg_wal", "pg_xact"] {
            entries.insert(directory.into(), None);
        }
        let mut file = |path: &str, content: Vec<u8>| entries.insert(path.into(), Some(Arc::new(content)));
        file("PG_VERSION", b"15\n".to_vec());
        file("postgresql.conf", b"max_connections = 77\n".to_vec());
        file(CONTROL_PATH, Vec::new());
        file("global/1262", relation(&mut random, 1));
        file("base/5/1259", relation(&mut random, 3));
        file(SHOP, relation(&mut random, 70));
        file("base/5/16384_fsm", relation(&mut random, 3));
        file("base/5/16390", Vec::new());
        file("pg_xact/0000", vec![0x55; 8192]);
        Files {
            entries: Arc::new(entries),
            control: Arc::new(Mutex::new(Arc::new(control(Lsn(0), 1)))),
        }
    }

    pub(crate) fn control(&self) -> Control {
        Control::parse(&self.control_bytes()).unwrap()
    }

    /// A checkpoint arrived in `pg_control`: recovery would begin at `redo`.
    pub(super) fn checkpoint(&self, redo: Lsn, timeline: u32) {
        *self.control.lock().unwrap() = Arc::new(control(redo, timeline));
    }

    /// What `pg_control` holds.
    pub(crate) fn control_bytes(&self) -> Arc<Vec<u8>> {
        self.control.lock().unwrap().clone()
    }

    fn content(&self, path: &[u8]) -> Option<Arc<Vec<u8>>> {
        if path == CONTROL_PATH.as_bytes() {
            return Some(self.control_bytes());
        }
        self.entries.get(path)?.clone()
    }

    /// Every file and what it holds, by path.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&[u8], Arc<Vec<u8>>)> {
        self.entries
            .keys()
            .filter_map(|path| Some((&path[..], self.content(path)?)))
    }
}

/// The fixture with the model's segment size, of a server in production whose last checkpoint begins at `redo` of `timeline`;
/// padded to the file's length.
fn control(redo: Lsn, timeline: u32) -> Vec<u8> {
    const STATE: usize = 16;
    const IN_PRODUCTION: u32 = 6;
    const REDO: usize = 40;
    const TIMELINE: usize = 48;
    const PREVIOUS_TIMELINE: usize = 52;
    const SEGMENT_SIZE: usize = 228;
    const CRC: usize = 288;
    let mut bytes = CONTROL.to_vec();
    bytes.resize(engine::pgformat::control::FILE_BYTES, 0);
    bytes[STATE..STATE + 4].copy_from_slice(&IN_PRODUCTION.to_le_bytes());
    bytes[REDO..REDO + 8].copy_from_slice(&redo.0.to_le_bytes());
    bytes[TIMELINE..TIMELINE + 4].copy_from_slice(&timeline.to_le_bytes());
    bytes[PREVIOUS_TIMELINE..PREVIOUS_TIMELINE + 4].copy_from_slice(&timeline.to_le_bytes());
    bytes[SEGMENT_SIZE..SEGMENT_SIZE + 4].copy_from_slice(&(WAL_SEGMENT_BYTES as u32).to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..CRC]);
    bytes[CRC..CRC + 4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Pages of a real catalog, each with some bytes of its own and a checksum that fits.
fn relation(random: &mut Random, pages: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in 0..pages {
        let mut page = PAGE.to_vec();
        // An old LSN, so that the checksum is judged; free space and rows differ from page to page.
        page[..8].copy_from_slice(&[0, 0, 0, 0, 0x28, 0, 0, 0x01]);
        random.fill(&mut page[4096..4096 + 512]);
        page[8..10].fill(0);
        let checksum = page::checksum(&page, block).unwrap();
        page[8..10].copy_from_slice(&checksum.to_le_bytes());
        bytes.extend_from_slice(&page);
    }
    bytes
}

impl Source for Files {
    fn list(&self, path: &[u8]) -> io::Result<Option<Names>> {
        if !matches!(self.entries.get(path), Some(None)) {
            return Ok(None);
        }
        let mut names = Names::default();
        for (entry, content) in self.entries.iter() {
            let name = match path {
                b"" => Some(&entry[..]),
                _ => entry.strip_prefix(path).and_then(|rest| rest.strip_prefix(b"/")),
            };
            if let Some(name) = name.filter(|name| !name.is_empty() && !name.contains(&b'/')) {
                let kind = if content.is_some() {
                    FileKind::File
                } else {
                    FileKind::Directory
                };
                names.push(name, kind);
            }
        }
        names.sort();
        Ok(Some(names))
    }

    fn stat(&self, path: &[u8]) -> io::Result<Option<Stat>> {
        let content = self.content(path);
        Ok(self.entries.contains_key(path).then(|| Stat {
            size: content.as_ref().map_or(0, |content| content.len() as u64),
            mode: if content.is_some() { 0o600 } else { 0o700 },
            modified_micros: MODIFIED_MICROS,
        }))
    }

    fn link(&self, _: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn open(&self, path: &[u8]) -> io::Result<Option<Box<dyn SourceFile>>> {
        Ok(self
            .content(path)
            .map(|content| Box::new(Open(content)) as Box<dyn SourceFile>))
    }
}

struct Open(Arc<Vec<u8>>);

impl SourceFile for Open {
    fn stat(&self) -> io::Result<Stat> {
        Ok(Stat {
            size: self.0.len() as u64,
            mode: 0o600,
            modified_micros: MODIFIED_MICROS,
        })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}
