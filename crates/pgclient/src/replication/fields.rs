//! The bodies of messages: errors, rows, parameters. Every length is checked against what is there.

use bytes::Bytes;

/// The fields of an ErrorResponse that matter (documentation, "Error and Notice Message Fields").
#[derive(Debug, Default)]
pub(super) struct ErrorFields {
    pub(super) sqlstate: String,
    pub(super) message: String,
}

impl ErrorFields {
    /// Takes what can be read; a damaged report is still the report of an error.
    pub(super) fn parse(mut body: &[u8]) -> Self {
        let mut fields = ErrorFields::default();
        while let Some((&kind, rest)) = body.split_first() {
            let Some((text, rest)) = cstring(rest) else { break };
            match kind {
                b'C' => fields.sqlstate = text,
                b'M' => fields.message = text,
                _ => {}
            }
            body = rest;
        }
        fields
    }
}

/// The parameter's name and value of a ParameterStatus.
pub(super) fn parameter(body: &[u8]) -> Option<(String, String)> {
    let (name, rest) = cstring(body)?;
    let (value, _) = cstring(rest)?;
    Some((name, value))
}

/// The mechanisms of an AuthenticationSASL: strings up to an empty one.
pub(super) fn strings(mut body: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let Some((text, rest)) = cstring(body) {
        if text.is_empty() {
            break;
        }
        found.push(text);
        body = rest;
    }
    found
}

/// The values of a DataRow; `None` in it is NULL. `None` as a whole: not a DataRow.
pub(super) fn data_row(body: &Bytes) -> Option<Vec<Option<Bytes>>> {
    let (count, mut at) = (usize::from(u16::from_be_bytes(*body.first_chunk()?)), 2_usize);
    // Two bytes per column at the very least, so that a count alone reserves little.
    let mut values = Vec::with_capacity(count.min(body.len()));
    for _ in 0..count {
        let length = i32::from_be_bytes(*body.get(at..)?.first_chunk()?);
        at = at.checked_add(4)?;
        if length == -1 {
            values.push(None);
            continue;
        }
        let end = at.checked_add(usize::try_from(length).ok()?)?;
        if end > body.len() {
            return None;
        }
        values.push(Some(body.slice(at..end)));
        at = end;
    }
    (at == body.len()).then_some(values)
}

fn cstring(bytes: &[u8]) -> Option<(String, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let (text, rest) = bytes.split_at_checked(end)?;
    Some((String::from_utf8_lossy(text).into_owned(), rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_cut_short_or_too_long_is_no_row() {
        let whole = Bytes::from_static(&[0, 3, 0, 0, 0, 2, b'a', b'b', 255, 255, 255, 255, 0, 0, 0, 0]);
        let row = data_row(&whole).unwrap();
        assert_eq!(row, [Some(Bytes::from_static(b"ab")), None, Some(Bytes::new())]);
        for length in 0..whole.len() {
            assert_eq!(data_row(&whole.slice(..length)), None, "{length} bytes");
        }
        assert_eq!(data_row(&Bytes::from_static(&[0, 1, 0x7f, 255, 255, 255])), None);
        assert_eq!(data_row(&Bytes::from_static(&[0, 1, 255, 255, 255, 254])), None);
        assert_eq!(data_row(&Bytes::from_static(&[0, 0, 1])), None);
    }

    #[test]
    fn an_error_report_is_read_as_far_as_it_goes() {
        let fields = ErrorFields::parse(b"SERROR\0C58P01\0Mgone\0\0");
        assert_eq!((fields.sqlstate.as_str(), fields.message.as_str()), ("58P01", "gone"));
        let fields = ErrorFields::parse(b"C58P01\0Mgon");
        assert_eq!((fields.sqlstate.as_str(), fields.message.as_str()), ("58P01", ""));
        assert_eq!(ErrorFields::parse(b"").sqlstate, "");
    }

    #[test]
    fn mechanisms_end_at_the_empty_string() {
        assert_eq!(strings(b"A\0B\0\0C\0"), ["A", "B"]);
        assert_eq!(strings(b"A\0B"), ["A"]);
    }
}
