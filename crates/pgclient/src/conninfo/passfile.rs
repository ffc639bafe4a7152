//! The password file, `~/.pgpass`.
//!
//! Source: PostgreSQL's documentation, "The Password File". As in libpq the first matching line
//! counts, and a file that others can read is not used at all.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use secrecy::SecretString;

/// What a password file says about one connection.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// The password of the first matching line.
    Found(SecretString),
    /// No file, or no line that matches.
    Absent,
    /// There is a file that may not be used; the reason, for the message if the server wants a password.
    Ignored(String),
}

/// Group and others must have no access (libpq's check).
const FOREIGN_ACCESS: u32 = 0o077;

/// Asks the file for a password. `host` is `localhost` for the default socket directories.
pub(crate) fn lookup(path: &Path, host: &str, port: u16, dbname: &str, user: &str) -> Lookup {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Lookup::Absent,
        Err(error) => return Lookup::Ignored(format!("{} cannot be read: {error}", path.display())),
    };
    if !metadata.is_file() {
        return Lookup::Ignored(format!("{} is not a plain file", path.display()));
    }
    if metadata.permissions().mode() & FOREIGN_ACCESS != 0 {
        return Lookup::Ignored(format!("{0} is open to others; run: chmod 0600 {0}", path.display()));
    }
    match fs::read_to_string(path) {
        Ok(text) => find(&text, [host, &port.to_string(), dbname, user]).map_or(Lookup::Absent, Lookup::Found),
        Err(error) => Lookup::Ignored(format!("{} cannot be read: {error}", path.display())),
    }
}

/// The password of the first line whose four fields match.
pub(super) fn find(text: &str, wanted: [&str; 4]) -> Option<SecretString> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut rest = line.strip_suffix('\r').unwrap_or(line);
        for want in wanted {
            let (raw, tail) = split_field(rest)?;
            if raw != "*" && unescape(raw) != want {
                return None;
            }
            rest = tail;
        }
        Some(unescape(rest).into())
    })
}

/// One field up to the next colon that no backslash escapes.
fn split_field(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b':' => return Some((text.get(..at)?, text.get(at + 1..)?)),
            _ => {}
        }
    }
    None
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\\' {
            plain.extend(characters.next());
        } else {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn check(file: &str, host: &str, user: &str, expected: Option<&str>) {
        let found = find(file, [host, "5432", "app", user]);
        assert_eq!(found.as_ref().map(|secret| secret.expose_secret()), expected, "{file}");
    }

    #[test]
    fn the_first_matching_line_of_a_password_file_counts() {
        check(
            "other:5432:app:u:no\n*:*:*:u:first\nhost:5432:app:u:second",
            "host",
            "u",
            Some("first"),
        );
        check("#host:5432:app:u:no\nhost:5432:app:u:yes\r", "host", "u", Some("yes"));
        check("host:5433:app:u:no", "host", "u", None);
        check("host:5432:app", "host", "u", None);
        check("", "host", "u", None);
    }

    #[test]
    fn colons_and_backslashes_are_escaped_by_a_backslash() {
        check(r"fe80\:\:1:5432:app:u:a\:b\\c:d", "fe80::1", "u", Some(r"a:b\c:d"));
        check(r"host:5432:app:\*:no", "host", "u", None);
        check(r"host:5432:app:\*:star", "host", "*", Some("star"));
    }
}
