//! Objects that anybody may read: identity, epochs, sessions. What is secret in them is an age file.

use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, Result};

use super::{Kind, check_preamble, preamble};

/// A plain object, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plain<H> {
    /// The JSON head.
    pub head: H,
    /// What follows it.
    pub body: Vec<u8>,
}

/// The bytes of a plain object.
pub fn seal_plain(kind: Kind, head: &impl Serialize, body: &[u8]) -> Vec<u8> {
    // A head is a struct of strings and numbers of ours: there is nothing in it that JSON cannot say.
    let head = serde_json::to_vec(head).unwrap_or_default();
    let mut out = preamble(kind, 0).to_vec();
    out.extend_from_slice(&(head.len() as u32).to_le_bytes());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(body);
    let hash = blake3::hash(&out);
    out.extend_from_slice(hash.as_bytes());
    out
}

/// Whether only the bytes that would make the object a newer one keep its hash from fitting.
fn is_ours_but_for_the_preamble(bytes: &[u8], kind: Kind) -> bool {
    let ours = preamble(kind, 0);
    let Some((content, hash)) = bytes.split_last_chunk::<32>() else {
        return false;
    };
    content.get(ours.len()..).is_some_and(|rest| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&ours).update(rest);
        hasher.finalize() == *hash
    })
}

/// Checks and opens a plain object.
///
/// # Errors
/// [`Error::Damaged`] if a byte of it is not as written, [`Error::Unsupported`] if it is newer than we are.
pub fn open_plain<H: DeserializeOwned>(name: &str, bytes: &[u8], kind: Kind) -> Result<Plain<H>> {
    let damaged = |what: &str| Error::Damaged {
        name: name.into(),
        what: what.into(),
    };
    match check_preamble(name, bytes, kind) {
        Err(Error::Unsupported { .. }) if is_ours_but_for_the_preamble(bytes, kind) => {
            return Err(damaged("its first bytes are not as written"));
        }
        checked => checked?,
    }
    let (content, hash) = bytes.split_last_chunk::<32>().ok_or_else(|| damaged("it is cut off"))?;
    if blake3::hash(content) != *hash {
        return Err(damaged("its hash does not fit"));
    }
    let lengths = content.get(16..24).and_then(|bytes| bytes.first_chunk::<8>());
    let lengths = lengths.ok_or_else(|| damaged("it is cut off"))?;
    let [a, b, c, d, e, f, g, h] = *lengths;
    let (head, body) = (
        u32::from_le_bytes([a, b, c, d]) as usize,
        u32::from_le_bytes([e, f, g, h]) as usize,
    );
    let rest = &content[24..];
    if head.checked_add(body) != Some(rest.len()) {
        return Err(damaged("its lengths do not fit"));
    }
    let (head, body) = rest.split_at(head);
    let head = serde_json::from_slice(head).map_err(|_| damaged("its head cannot be read"))?;
    Ok(Plain {
        head,
        body: body.to_vec(),
    })
}
