//! The hash of a server's certificate that SCRAM is bound to: `tls-server-end-point`.
//!
//! RFC 5929, section 4.1: the hash function is the one of the certificate's signature, with MD5 and
//! SHA-1 replaced by SHA-256. A signature without one hash function (Ed25519, RSA-PSS, whose hash
//! PostgreSQL before 16 does not find either) has no such binding.

use aws_lc_rs::digest::{Algorithm, SHA224, SHA256, SHA384, SHA512, digest};

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// 1.2.840.113549.1.1, RSA signatures (RFC 8017, appendix C); the last number follows.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// 1.2.840.10045.4, ECDSA signatures (RFC 5758, section 3.2).
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];

/// The hash, or `None` where the certificate's signature has no hash function of its own.
pub(crate) fn hash(certificate: &[u8]) -> Option<Vec<u8>> {
    let algorithm = hash_algorithm(signature_algorithm(certificate)?)?;
    Some(digest(algorithm, certificate).as_ref().to_vec())
}

fn hash_algorithm(identifier: &[u8]) -> Option<&'static Algorithm> {
    if let Some(kind) = identifier.strip_prefix(RSA) {
        return match kind {
            [4 | 5 | 11] => Some(&SHA256),
            [12] => Some(&SHA384),
            [13] => Some(&SHA512),
            [14] => Some(&SHA224),
            _ => None,
        };
    }
    match identifier.strip_prefix(ECDSA)? {
        [1] | [3, 2] => Some(&SHA256),
        [3, 1] => Some(&SHA224),
        [3, 3] => Some(&SHA384),
        [3, 4] => Some(&SHA512),
        _ => None,
    }
}

/// `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { algorithm OID, … }, … }`
/// (RFC 5280, section 4.1).
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (body, _) = element(certificate, SEQUENCE)?;
    let (_, after_content) = element(body, SEQUENCE)?;
    let (algorithm, _) = element(after_content, SEQUENCE)?;
    element(algorithm, OBJECT_IDENTIFIER).map(|(identifier, _)| identifier)
}

/// One DER element with that tag: its content, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(*first) {
        short @ 0..=0x7f => (short, rest),
        // Certificates are far below 16 MiB; indefinite length (0x80) is not DER.
        long @ 0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(long & 0x7f)?;
            (
                digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)),
                rest,
            )
        }
        _ => return None,
    };
    (*found == tag).then(|| rest.split_at_checked(length)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The skeleton of a certificate whose signature has this algorithm.
    fn certificate(identifier: &[u8]) -> Vec<u8> {
        let wrap = |tag: u8, content: &[u8]| {
            let mut element = vec![
                tag,
                0x82,
                u8::try_from(content.len() >> 8).unwrap(),
                (content.len() & 0xff) as u8,
            ];
            element.extend_from_slice(content);
            element
        };
        let content = wrap(SEQUENCE, &[7; 300]);
        let algorithm = wrap(SEQUENCE, &wrap(OBJECT_IDENTIFIER, identifier));
        wrap(SEQUENCE, &[content, algorithm, vec![3, 1, 0]].concat())
    }

    fn check(prefix: &[u8], kind: &[u8], expected_bytes: Option<usize>) {
        let found = hash(&certificate(&[prefix, kind].concat()));
        assert_eq!(found.map(|hash| hash.len()), expected_bytes, "{kind:?}");
    }

    #[test]
    fn the_hash_function_is_the_signatures_and_never_weaker_than_sha_256() {
        check(RSA, &[5], Some(32));
        check(RSA, &[11], Some(32));
        check(RSA, &[12], Some(48));
        check(RSA, &[13], Some(64));
        check(ECDSA, &[3, 2], Some(32));
        check(ECDSA, &[3, 3], Some(48));
        check(RSA, &[10], None);
        check(&[0x2b, 0x65], &[0x70], None);
    }

    #[test]
    fn a_truncated_certificate_has_no_hash() {
        let whole = certificate(&[RSA, &[11]].concat());
        for length in 0..whole.len() {
            assert_eq!(hash(whole.get(..length).unwrap()), None, "{length} bytes");
        }
    }
}
