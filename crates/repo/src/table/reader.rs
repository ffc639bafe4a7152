//! Reading a file table, in order.

use crate::{
    Result,
    backup_id::BackupId,
    bytes_codec::Malformed,
    envelope::{Kind, Opener, Pin},
    names,
    repository::Repository,
    sources::Sources,
};

use super::{
    Entry, MAX_TABLE_OBJECT,
    object::{TableFrame, TableObject},
};

/// Reads the table of one backup. Holds one of its objects at a time.
pub struct TableReader {
    repository: Repository,
    backup: BackupId,
    block_size: u32,
    pins: Vec<Pin>,
    opener: Opener,
    /// The object at hand and its number.
    object: Option<(usize, TableObject)>,
    /// Where reading goes on: object, and frame in it.
    place: (usize, u32),
    /// The frame being read.
    frame: Option<TableFrame>,
    /// The last path read.
    last: Option<Vec<u8>>,
}

impl TableReader {
    /// Begins at the first entry. `pins` is what the manifest of `backup` remembers of the table's objects,
    /// `block_size` the cluster's in bytes.
    pub fn new(repository: &Repository, backup: BackupId, pins: Vec<Pin>, block_size: u32) -> Result<TableReader> {
        Ok(TableReader {
            repository: repository.clone(),
            backup,
            block_size,
            pins,
            opener: Opener::new()?,
            object: None,
            place: (0, 0),
            frame: None,
            last: None,
        })
    }

    /// The next entry in order; `None` after the last. Its references are by the numbers of `into`, which
    /// learns the backups it lacks: a restore passes one list for all, an incremental backup its own.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] and [`crate::Error::Missing`]; after an error the reader has no use.
    pub async fn next(&mut self, into: &mut Sources) -> Result<Option<Entry>> {
        loop {
            if self.frame.is_none() {
                self.frame = self.next_frame().await?;
            }
            let Some(frame) = &mut self.frame else {
                return Ok(None);
            };
            let Some(entry) = frame.next(self.block_size, into)? else {
                self.frame = None;
                continue;
            };
            if self.last.as_ref().is_some_and(|last| *last >= entry.path) {
                let name = names::files(&self.backup, self.place.0 as u32);
                return Err(Malformed("its paths do not ascend").of(&name));
            }
            self.last.get_or_insert_default().clone_from(&entry.path);
            return Ok(Some(entry));
        }
    }

    async fn next_frame(&mut self) -> Result<Option<TableFrame>> {
        while self.place.0 < self.pins.len() {
            let (object, frame) = self.place;
            if (frame as usize) < self.object(object).await?.firsts.len() {
                self.place.1 += 1;
                return self.open_frame(object, frame).await.map(Some);
            }
            self.place = (object + 1, 0);
        }
        Ok(None)
    }

    async fn open_frame(&mut self, object: usize, frame: u32) -> Result<TableFrame> {
        self.object(object).await?;
        match &self.object {
            Some((_, object)) => object.frame(&mut self.opener, frame),
            None => Err(self.refuse(object, "it is not there")),
        }
    }

    /// The object `number`, read if it is not at hand.
    async fn object(&mut self, number: usize) -> Result<&TableObject> {
        let held = self.object.take().filter(|(held, _)| *held == number);
        let object = match held {
            Some((_, object)) => object,
            None => self.read_object(number).await?,
        };
        Ok(&self.object.insert((number, object)).1)
    }

    async fn read_object(&self, number: usize) -> Result<TableObject> {
        let pin = self
            .pins
            .get(number)
            .ok_or_else(|| self.refuse(number, "nothing names it"))?;
        if pin.size > MAX_TABLE_OBJECT {
            return Err(self.refuse(number, "it is too large for a file table"));
        }
        let name = names::files(&self.backup, number as u32);
        let sealed = self.repository.open_pinned(Kind::Files, &name, pin).await?;
        TableObject::new(sealed, self.backup)
    }

    fn refuse(&self, number: usize, what: &'static str) -> crate::Error {
        Malformed(what).of(&names::files(&self.backup, number as u32))
    }
}

impl std::fmt::Debug for TableReader {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "TableReader({}, at {:?})", self.backup, self.place)
    }
}
