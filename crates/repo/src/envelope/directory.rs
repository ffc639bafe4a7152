//! The directory of a sealed object: where its frames are.

use crate::{
    Error, Result,
    bytes_codec::{Malformed, Reader, put_varint},
};

use super::{HEADER, MAX_RAW_FRAME, TAG};

/// How a frame's bytes are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As they are.
    Stored = 0,
    /// One zstd frame.
    Zstd = 1,
}

/// Where one frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Offset in the object.
    pub offset: u64,
    /// Sealed bytes, the tag among them.
    pub sealed: u32,
    /// Bytes after decompression.
    pub raw: u32,
    /// How they are packed.
    pub codec: Codec,
}

/// All frames of an object, and what its kind says of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    /// The frames, in order, back to back.
    pub frames: Vec<Frame>,
    /// The kind's own part, still encoded.
    pub extra: Vec<u8>,
}

impl Directory {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.frames.len() * 8 + self.extra.len() + 8);
        put_varint(&mut out, self.frames.len() as u64);
        for frame in &self.frames {
            put_varint(&mut out, frame.sealed.into());
            put_varint(&mut out, frame.raw.into());
            out.push(frame.codec as u8);
        }
        out.extend_from_slice(&self.extra);
        out
    }

    /// Decodes and checks that the frames fill the object from its header to `end`, the directory's offset.
    pub(crate) fn decode(name: &str, bytes: &[u8], frames: u32, end: u64) -> Result<Directory> {
        let damaged = |Malformed(what)| Error::Damaged {
            name: name.into(),
            what: format!("its directory: {what}"),
        };
        let mut reader = Reader::new(bytes);
        let count = reader.count(3).map_err(damaged)?;
        if count != frames as usize {
            return Err(damaged(Malformed("its number of frames is not the trailer's")));
        }
        let mut directory = Directory {
            frames: Vec::with_capacity(count),
            extra: Vec::new(),
        };
        let mut offset = HEADER as u64;
        for _ in 0..count {
            let sealed = reader.varint32().map_err(damaged)?;
            let raw = reader.varint32().map_err(damaged)?;
            let codec = match reader.byte().map_err(damaged)? {
                0 => Codec::Stored,
                1 => Codec::Zstd,
                _ => {
                    return Err(Error::Unsupported {
                        name: name.into(),
                        what: "an unknown codec".into(),
                    });
                }
            };
            if (sealed as usize) < TAG || raw as usize > MAX_RAW_FRAME {
                return Err(damaged(Malformed("a frame has an impossible size")));
            }
            directory.frames.push(Frame {
                offset,
                sealed,
                raw,
                codec,
            });
            offset += u64::from(sealed);
        }
        if offset != end {
            return Err(damaged(Malformed("its frames do not fill the object")));
        }
        directory.extra = reader.rest().to_vec();
        Ok(directory)
    }
}
