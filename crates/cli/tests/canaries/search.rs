//! Looks for secrets in bytes: as they are, in hex, and in base64 wherever it may have begun.

use std::{fs, path::Path};

/// Something that must not be seen, and what it is.
#[derive(Debug, Clone)]
pub(crate) struct Canary {
    pub(crate) what: &'static str,
    forms: Vec<Vec<u8>>,
}

impl Canary {
    pub(crate) fn new(what: &'static str, secret: &[u8]) -> Canary {
        assert!(secret.len() >= 16, "{what} could be found by chance");
        let hex = hex(secret);
        let mut forms = vec![secret.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
        forms.extend((0..3).map(|offset| base64_inside(secret, offset)));
        Canary { what, forms }
    }

    pub(crate) fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms
            .iter()
            .any(|form| bytes.windows(form.len()).any(|window| window == form))
    }
}

/// What of `canaries` is seen in `bytes`, with where that is.
pub(crate) fn seen(canaries: &[Canary], bytes: &[u8], place: &str) -> Vec<String> {
    let found = canaries.iter().filter(|canary| canary.is_in(bytes));
    found.map(|canary| format!("{} is in {place}", canary.what)).collect()
}

/// The same over every file below `root`, names included.
pub(crate) fn seen_below(canaries: &[Canary], root: &Path) -> Vec<String> {
    let mut found = seen(canaries, root.as_os_str().as_encoded_bytes(), "a name");
    if root.is_dir() {
        for entry in fs::read_dir(root).unwrap() {
            found.extend(seen_below(canaries, &entry.unwrap().path()));
        }
    } else if let Ok(bytes) = fs::read(root) {
        found.extend(seen(canaries, &bytes, &root.display().to_string()));
    }
    found
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What `secret` looks like in the base64 of something that begins `offset` bytes (modulo 3) before it: without the
/// characters at its ends that its neighbours have a part in.
fn base64_inside(secret: &[u8], offset: usize) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let padded = [&vec![0; offset][..], secret].concat();
    let mut encoded = Vec::new();
    for group in padded.chunks_exact(3) {
        let bits = u32::from(group[0]) << 16 | u32::from(group[1]) << 8 | u32::from(group[2]);
        encoded.extend([18, 12, 6, 0].map(|shift| ALPHABET[(bits >> shift & 63) as usize]));
    }
    // One byte has a part in two characters, two bytes in three.
    encoded.split_off([0, 2, 3][offset])
}
