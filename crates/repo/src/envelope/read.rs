//! Reading a sealed object, whole or in parts.

use aws_lc_rs::aead::Aad;
use bytes::Bytes;

use crate::{Error, Result, session::Session, store::Store};

use super::{Codec, Directory, END_MAGIC, Frame, HEADER, Kind, ObjectKey, TAG, TRAILER, check_preamble, nonce};

/// The plain end of a sealed object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// Offset of the directory.
    pub directory: u64,
    /// Its sealed length.
    pub directory_length: u32,
    /// Number of frames.
    pub frames: u32,
    /// Length of the object.
    pub total: u64,
    /// Hash of everything before the hash.
    pub hash: [u8; 32],
}

impl Tail {
    /// Reads the last bytes of the object `name`, `size` bytes long.
    fn read(name: &str, end: &[u8], size: u64) -> Result<Tail> {
        let damaged = |what: &str| Error::Damaged {
            name: name.into(),
            what: what.into(),
        };
        let end = end.last_chunk::<TRAILER>().ok_or_else(|| damaged("it is cut off"))?;
        if end[56..] != END_MAGIC {
            return Err(damaged("it is cut off or its end is not ours"));
        }
        let u64_at = |at: usize| end[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let u32_at = |at: usize| end[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        let mut hash = [0; 32];
        hash.copy_from_slice(&end[24..56]);
        let tail = Tail {
            directory: u64_at(0),
            directory_length: u32_at(8),
            frames: u32_at(12),
            total: u64_at(16),
            hash,
        };
        let expected = (tail.directory).checked_add(u64::from(tail.directory_length) + TRAILER as u64);
        if tail.total != size || expected != Some(size) || tail.directory < HEADER as u64 {
            return Err(damaged("its length is not the one it was written with"));
        }
        Ok(tail)
    }
}

/// What a reader uses again from frame to frame.
pub struct Opener {
    zstd: zstd::bulk::Decompressor<'static>,
    scratch: Vec<u8>,
}

impl Opener {
    /// A fresh one. Fails only without memory for a decompression context.
    pub fn new() -> Result<Opener> {
        let mut zstd = zstd::bulk::Decompressor::new().map_err(no_context)?;
        // 8 MiB: `FORMAT.md` section 3. A larger window is somebody's attempt on our memory.
        zstd.window_log_max(23).map_err(no_context)?;
        Ok(Opener {
            zstd,
            scratch: Vec::new(),
        })
    }
}

fn no_context(source: std::io::Error) -> Error {
    Error::Store {
        operation: "decompress",
        name: "a frame".into(),
        transient: false,
        source: source.into(),
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Opener")
    }
}

/// What is remembered of an object by who refers to it: another object under its name is not it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// Bytes of the object.
    pub size: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

/// Checks a sealed object's bytes against its own trailer, without any key.
pub fn check_hash(name: &str, bytes: &[u8]) -> Result<Pin> {
    if bytes.is_empty() {
        return Err(Error::Damaged {
            name: name.into(),
            what: "it is empty".into(),
        });
    }
    let tail = Tail::read(name, bytes, bytes.len() as u64)?;
    if *blake3::hash(&bytes[..bytes.len() - 40]).as_bytes() != tail.hash {
        return Err(Error::Damaged {
            name: name.into(),
            what: "its bytes do not hash to what its end says".into(),
        });
    }
    Ok(Pin {
        size: tail.total,
        hash: tail.hash,
    })
}

/// A sealed object whose directory was opened.
pub struct Sealed {
    name: String,
    header: [u8; HEADER],
    key: ObjectKey,
    /// Where its frames are.
    pub directory: Directory,
    /// Its plain end.
    pub tail: Tail,
    /// All its bytes, if they are here.
    bytes: Option<Bytes>,
}

impl Sealed {
    /// Opens an object that is here whole, after checking its hash.
    pub fn whole(session: &Session, kind: Kind, name: &str, bytes: Bytes) -> Result<Sealed> {
        check_preamble(name, &bytes, kind)?;
        check_hash(name, &bytes)?;
        let tail = Tail::read(name, &bytes, bytes.len() as u64)?;
        let sealed_directory = &bytes[tail.directory as usize..bytes.len() - TRAILER];
        let mut sealed = Sealed::open_directory(session, kind, name, &bytes, tail, sealed_directory)?;
        sealed.bytes = Some(bytes);
        Ok(sealed)
    }

    /// Opens an object by its ends alone: its first [`HEADER`] bytes, and its last, which hold directory and
    /// trailer. `pin` is what whoever refers to the object remembers of it.
    pub fn by_ends(session: &Session, kind: Kind, name: &str, start: &[u8], end: &[u8], pin: &Pin) -> Result<Sealed> {
        check_preamble(name, start, kind)?;
        let tail = Tail::read(name, end, pin.size)?;
        if tail.hash != pin.hash || end.len() != tail.directory_length as usize + TRAILER {
            return Err(Error::Damaged {
                name: name.into(),
                what: "it is not the object that was written here".into(),
            });
        }
        Sealed::open_directory(session, kind, name, start, tail, &end[..end.len() - TRAILER])
    }

    fn open_directory(
        session: &Session,
        kind: Kind,
        name: &str,
        start: &[u8],
        tail: Tail,
        directory: &[u8],
    ) -> Result<Sealed> {
        let damaged = |what: &str| Error::Damaged {
            name: name.into(),
            what: what.into(),
        };
        let header = *start.first_chunk::<HEADER>().ok_or_else(|| damaged("it is cut off"))?;
        let mut salt = [0; 32];
        salt.copy_from_slice(&header[32..64]);
        let key = ObjectKey::derive(session, &salt, kind, name)?;
        if key.check != header[64..] {
            return Err(damaged("it was not written under this name"));
        }
        let mut sealed = Sealed {
            name: name.into(),
            header,
            key,
            directory: Directory::default(),
            tail,
            bytes: None,
        };
        let mut buffer = directory.to_vec();
        let plain = sealed.unseal(&mut buffer, 1, 0)?;
        sealed.directory = Directory::decode(name, plain, tail.frames, tail.directory)?;
        Ok(sealed)
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens frame `number` from its sealed bytes into `out`.
    pub fn open_frame(&self, opener: &mut Opener, number: u32, sealed: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let frame = self.frame(number)?;
        if sealed.len() != frame.sealed as usize {
            return Err(self.damaged("a frame is cut off"));
        }
        let raw = frame.raw as usize;
        let Opener { zstd, scratch } = opener;
        scratch.clear();
        scratch.extend_from_slice(sealed);
        let plain = self.unseal(scratch, 0, u64::from(number))?;
        out.clear();
        match frame.codec {
            Codec::Stored => out.extend_from_slice(plain),
            Codec::Zstd => {
                // The zstd frame says what it unpacks to: one that lies costs no memory, and zstd refuses one that needs
                // more than is reserved.
                if zstd::zstd_safe::get_frame_content_size(plain).ok().flatten() != Some(raw as u64) {
                    return Err(self.damaged("a frame has another length than recorded"));
                }
                out.reserve_exact(raw);
                zstd.decompress_to_buffer(plain, out)
                    .map_err(|_| self.damaged("a frame does not decompress"))?;
            }
        }
        if out.len() != raw {
            Err(self.damaged("a frame has another length than recorded"))
        } else {
            Ok(())
        }
    }

    /// Opens frame `number` of an object that is here whole.
    pub fn read(&self, opener: &mut Opener, number: u32) -> Result<Vec<u8>> {
        let frame = self.frame(number)?;
        let bytes = self
            .bytes
            .as_ref()
            .ok_or_else(|| self.damaged("it was opened by its ends alone"))?;
        let at = frame.offset as usize;
        let mut out = Vec::new();
        self.open_frame(opener, number, &bytes[at..at + frame.sealed as usize], &mut out)?;
        Ok(out)
    }

    /// The sealed bytes of frames `first` and on, `count` of them, back to back.
    pub async fn fetch(&self, store: &dyn Store, first: u32, count: u32) -> Result<Bytes> {
        let (start, last) = (
            self.frame(first)?,
            self.frame(first.saturating_add(count.saturating_sub(1)))?,
        );
        let length = (last.offset - start.offset) as usize + last.sealed as usize;
        if let Some(bytes) = &self.bytes {
            return Ok(bytes.slice(start.offset as usize..start.offset as usize + length));
        }
        let bytes = store.get_range(&self.name, start.offset, length).await?;
        bytes.ok_or_else(|| Error::Missing {
            name: self.name.clone(),
        })
    }

    /// Where frame `number` is.
    pub fn frame(&self, number: u32) -> Result<Frame> {
        let frame = self.directory.frames.get(number as usize);
        frame
            .copied()
            .ok_or_else(|| self.damaged(&format!("it has no frame {number}")))
    }

    fn unseal<'a>(&self, buffer: &'a mut [u8], part: u32, number: u64) -> Result<&'a [u8]> {
        if buffer.len() < TAG {
            return Err(self.damaged("a frame is cut off"));
        }
        let opened = self
            .key
            .aead
            .open_in_place(nonce(part, number), Aad::from(&self.header), buffer);
        opened
            .map(|plain| &*plain)
            .map_err(|_| self.damaged("a frame is not what was sealed"))
    }

    fn damaged(&self, what: &str) -> Error {
        Error::Damaged {
            name: self.name.clone(),
            what: what.into(),
        }
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Sealed({}, {} frames)", self.name, self.directory.frames.len())
    }
}
