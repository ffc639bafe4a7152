//! `tablespace_map`: where a backup's tablespaces lay.
//!
//! Format: `access/transam/xlog.c` (`do_pg_backup_start`) and `xlogrecovery.c` (`read_tablespace_map`).
//! One line for each, `oid SPACE path`; in the path a backslash stands before each line feed, carriage
//! return and backslash. At start the server makes `pg_tblspc/<oid>` a link to the path.

use crate::bytes::decimal;
use crate::error::{Error, Result};

/// One tablespace outside the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tablespace {
    /// Its object id, the name of its link in `pg_tblspc`.
    pub oid: u32,
    /// Its directory; any bytes but zero.
    pub path: Vec<u8>,
}

/// Reads the file. Empty lines are passed over, as the server does.
pub fn parse(content: &[u8]) -> Result<Vec<Tablespace>> {
    let mut tablespaces = Vec::new();
    let mut line = Vec::new();
    let mut escaped = false;
    for byte in content {
        match byte {
            _ if escaped => {
                line.push(*byte);
                escaped = false;
            }
            b'\\' => escaped = true,
            b'\n' | b'\r' => {
                tablespaces.extend(parse_line(&line)?);
                line.clear();
            }
            _ => line.push(*byte),
        }
    }
    if line.is_empty() && !escaped {
        Ok(tablespaces)
    } else {
        Err(damaged("its last line has no end"))
    }
}

/// The file as a server would write it.
pub fn print(tablespaces: &[Tablespace]) -> Vec<u8> {
    let mut content = Vec::new();
    for tablespace in tablespaces {
        content.extend_from_slice(format!("{} ", tablespace.oid).as_bytes());
        for byte in &tablespace.path {
            if matches!(byte, b'\n' | b'\r' | b'\\') {
                content.push(b'\\');
            }
            content.push(*byte);
        }
        content.push(b'\n');
    }
    content
}

fn parse_line(line: &[u8]) -> Result<Option<Tablespace>> {
    if line.is_empty() {
        return Ok(None);
    }
    let space = line
        .iter()
        .position(|byte| *byte == b' ')
        .ok_or_else(|| damaged("a line has no path"))?;
    let (oid, path) = line.split_at(space);
    let oid = std::str::from_utf8(oid).ok().and_then(decimal).filter(|oid| *oid > 0);
    let oid = oid.ok_or_else(|| damaged("a line begins with no object id"))?;
    match path.get(1..) {
        Some(path) if !path.is_empty() && !path.contains(&0) => Ok(Some(Tablespace {
            oid,
            path: path.to_vec(),
        })),
        _ => Err(damaged("a line has no path")),
    }
}

fn damaged(cause: &str) -> Error {
    Error::damaged("tablespace_map", cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(content: &str, expect: &[(u32, &str)]) {
        let expect: Vec<Tablespace> = expect
            .iter()
            .map(|(oid, path)| Tablespace {
                oid: *oid,
                path: path.as_bytes().to_vec(),
            })
            .collect();
        assert_eq!(parse(content.as_bytes()), Ok(expect), "{content:?}");
    }

    #[test]
    fn a_map_is_read_as_the_server_reads_it() {
        check("", &[]);
        check(
            "16400 /srv/fast\n16401 /srv/slow disk\n",
            &[(16400, "/srv/fast"), (16401, "/srv/slow disk")],
        );
        check("16400 /srv/a\\\nb\\\\c\\\rd\n", &[(16400, "/srv/a\nb\\c\rd")]);
        check("\n16400 /srv\r\n", &[(16400, "/srv")]);
    }

    #[test]
    fn a_map_cut_short_is_damaged() {
        for wrong in [
            "16400 /srv",
            "16400 /srv\\",
            "16400\n",
            "16400 \n",
            "x /srv\n",
            " /srv\n",
            "0 /srv\n",
            "1 a\0b\n",
        ] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(content: Vec<u8>) {
            let _ = parse(&content);
        }

        #[test]
        fn what_is_printed_is_read_back(list in proptest::collection::vec((1u32.., "[/\\\\\n\r a-zé]{1,20}"), 0..5)) {
            let list: Vec<Tablespace> =
                list.into_iter().map(|(oid, path)| Tablespace { oid, path: path.into_bytes() }).collect();
            prop_assert_eq!(parse(&print(&list)), Ok(list));
        }
    }
}
