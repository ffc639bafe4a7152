//! Compresses frames of one form and puts them into packs, one pack after another.

use std::sync::Arc;

use repo::{
    envelope::Codec,
    leaf::PageRef,
    pack::{Form, PackWriter, Slots},
};
use zstd::bulk::Compressor;

use crate::{Error, Result};

use super::{Level, Place};

/// The pack being filled with frames of one form.
pub(super) struct Frames {
    place: Arc<Place>,
    form: Form,
    compressor: Option<Compressor<'static>>,
    packed: Vec<u8>,
    pack: Option<(u32, PackWriter)>,
}

impl Frames {
    pub(super) fn new(place: Arc<Place>, form: Form) -> Result<Frames> {
        let compressor = match place.level {
            Level::None => None,
            Level::Zstd(level) => Some(compressor(level)?),
        };
        Ok(Frames {
            place,
            form,
            compressor,
            packed: Vec::new(),
            pack: None,
        })
    }

    /// Where slot `slot` of the next frame will be found.
    pub(super) fn at(&mut self, slot: u32) -> Result<PageRef> {
        let (pack, frame) = match &self.pack {
            Some((number, writer)) => (*number, writer.frames()),
            None => {
                let number = self.place.uploads.next_pack();
                let name = repo::names::pack(&self.place.backup, number);
                let writer = PackWriter::new(&self.place.repository, &self.place.session, name, self.form)?;
                self.pack = Some((number, writer));
                (number, 0)
            }
        };
        Ok(PageRef {
            source: 0,
            pack,
            frame,
            slot,
        })
    }

    /// Adds a frame where [`Frames::at`] said, and hands the pack over if it is full.
    pub(super) async fn put(&mut self, raw: &[u8], slots: &Slots, hashes: &[[u8; 8]]) -> Result<()> {
        let mut codec = Codec::Stored;
        if let Some(compressor) = &mut self.compressor {
            let most = zstd::zstd_safe::compress_bound(raw.len());
            self.packed.clear();
            self.packed.reserve_exact(most);
            compressor
                .compress_to_buffer(raw, &mut self.packed)
                .map_err(no_compression)?;
            // What hardly shrinks is kept as it is: it then costs nothing to read back.
            if self.packed.len() < raw.len() - raw.len() / 32 {
                codec = Codec::Zstd;
            }
        }
        let packed = if codec == Codec::Zstd { &self.packed } else { raw };
        if let Some((_, writer)) = &mut self.pack {
            writer.frame(packed, raw.len(), codec, slots, hashes)?;
        }
        match self.pack.take_if(|(_, writer)| writer.is_full()) {
            Some((number, writer)) => self.place.uploads.put(number, writer.finish()?).await,
            None => Ok(()),
        }
    }

    /// Hands over what is open.
    pub(super) async fn finish(self) -> Result<()> {
        match self.pack {
            Some((number, writer)) if !writer.is_empty() => self.place.uploads.put(number, writer.finish()?).await,
            _ => Ok(()),
        }
    }
}

fn compressor(level: i32) -> Result<Compressor<'static>> {
    let mut compressor = Compressor::new(level).map_err(no_compression)?;
    compressor.include_checksum(false).map_err(no_compression)?;
    Ok(compressor)
}

fn no_compression(source: std::io::Error) -> Error {
    Error::File {
        operation: "compress",
        path: "a frame".into(),
        source,
    }
}
