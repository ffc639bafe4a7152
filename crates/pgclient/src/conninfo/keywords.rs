//! The keywords of a connection string, where their values may come from, and the `key=value` form.
//!
//! Source: PostgreSQL's documentation, "Parameter Key Words" and "Environment Variables" of libpq.

use crate::{Error, Result};

/// What becomes of a keyword that libpq knows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It has its libpq meaning here.
    Full,
    /// It only tunes what this program does in its own way; any value is accepted and does nothing.
    Nothing,
    /// To ignore it could weaken what the user asked for, so it is an error.
    Refused,
}

/// A keyword, the environment variable it defaults to, and its use.
pub(super) struct Keyword {
    pub(super) name: &'static str,
    pub(super) variable: Option<&'static str>,
    pub(super) usage: Use,
}

const fn full(name: &'static str, variable: &'static str) -> Keyword {
    Keyword {
        name,
        variable: Some(variable),
        usage: Use::Full,
    }
}
const fn nothing(name: &'static str) -> Keyword {
    Keyword {
        name,
        variable: None,
        usage: Use::Nothing,
    }
}
const fn refused(name: &'static str) -> Keyword {
    Keyword {
        name,
        variable: None,
        usage: Use::Refused,
    }
}

pub(super) const KEYWORDS: &[Keyword] = &[
    full("host", "PGHOST"),
    full("hostaddr", "PGHOSTADDR"),
    full("port", "PGPORT"),
    full("dbname", "PGDATABASE"),
    full("user", "PGUSER"),
    full("password", "PGPASSWORD"),
    full("passfile", "PGPASSFILE"),
    full("service", "PGSERVICE"),
    full("servicefile", "PGSERVICEFILE"),
    full("sslmode", "PGSSLMODE"),
    full("sslnegotiation", "PGSSLNEGOTIATION"),
    full("sslrootcert", "PGSSLROOTCERT"),
    full("sslcert", "PGSSLCERT"),
    full("sslkey", "PGSSLKEY"),
    full("channel_binding", "PGCHANNELBINDING"),
    full("connect_timeout", "PGCONNECT_TIMEOUT"),
    full("application_name", "PGAPPNAME"),
    full("options", "PGOPTIONS"),
    full("target_session_attrs", "PGTARGETSESSIONATTRS"),
    // We always speak UTF-8, keep connections alive and never use GSSAPI or compression of TLS.
    nothing("client_encoding"),
    nothing("fallback_application_name"),
    nothing("keepalives"),
    nothing("keepalives_idle"),
    nothing("keepalives_interval"),
    nothing("keepalives_count"),
    nothing("tcp_user_timeout"),
    nothing("sslcompression"),
    nothing("sslsni"),
    nothing("gssencmode"),
    nothing("krbsrvname"),
    nothing("gsslib"),
    nothing("gssdelegation"),
    nothing("load_balance_hosts"),
    nothing("min_protocol_version"),
    nothing("max_protocol_version"),
    refused("replication"),
    refused("require_auth"),
    refused("requirepeer"),
    refused("requiressl"),
    refused("sslpassword"),
    refused("sslcertmode"),
    refused("sslcrl"),
    refused("sslcrldir"),
    refused("ssl_min_protocol_version"),
    refused("ssl_max_protocol_version"),
    refused("scram_client_key"),
    refused("scram_server_key"),
    refused("sslkeylogfile"),
    refused("oauth_issuer"),
    refused("oauth_client_id"),
    refused("oauth_client_secret"),
    refused("oauth_scope"),
];

/// The keyword of that name. `origin` says where it was read, for the message.
///
/// An unknown keyword is an error that names the nearest known one: a misspelt `sslmode` must not
/// silently mean its default.
pub(super) fn find(name: &str, origin: &str) -> Result<&'static Keyword> {
    match KEYWORDS.iter().find(|keyword| keyword.name == name) {
        Some(Keyword {
            usage: Use::Refused, ..
        }) => Err(wrong(format!(
            "{origin}: lastgood does not support the keyword \"{name}\""
        ))),
        Some(keyword) => Ok(keyword),
        None => {
            let nearest = KEYWORDS
                .iter()
                .filter(|keyword| keyword.usage == Use::Full)
                .max_by(|a, b| strsim::jaro_winkler(a.name, name).total_cmp(&strsim::jaro_winkler(b.name, name)));
            let suggestion = nearest
                .filter(|keyword| strsim::jaro_winkler(keyword.name, name) > 0.75)
                .map(|keyword| format!("; did you mean \"{}\"?", keyword.name))
                .unwrap_or_default();
            Err(wrong(format!("{origin}: unknown keyword \"{name}\"{suggestion}")))
        }
    }
}

pub(super) fn wrong(what: impl Into<String>) -> Error {
    Error::Conninfo { what: what.into() }
}

/// Splits `key=value key='quoted value'` by libpq's rules (`conninfo_parse`).
///
/// Messages never show text that follows `password`: with a quote forgotten, what looks like the
/// next keyword is the rest of the password.
pub(super) fn parse_pairs(text: &str) -> Result<Vec<(&'static Keyword, String)>> {
    let mut pairs: Vec<(&'static Keyword, String)> = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let after_password = pairs.last().is_some_and(|(keyword, _)| keyword.name == "password");
        let unreadable = |what: &str| {
            wrong(match (after_password, pairs.last()) {
                (true, _) => "connection string: the password is followed by something that is not a keyword; put quotes around it (password='...')".to_owned(),
                (false, Some((last, _))) => format!("connection string: {what} after \"{}\"", last.name),
                (false, None) => format!("connection string: {what} at its beginning"),
            })
        };
        let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        let (name, tail) = rest.split_at(end);
        let tail = tail
            .trim_start()
            .strip_prefix('=')
            .ok_or_else(|| unreadable("a keyword without \"=\""))?;
        let keyword = match find(name, "connection string") {
            Err(_) if after_password => return Err(unreadable("")),
            found => found?,
        };
        let (value, tail) = take_value(tail.trim_start())
            .ok_or_else(|| wrong(format!("connection string: the quoted value of \"{name}\" has no end")))?;
        pairs.push((keyword, value));
        rest = tail.trim_start();
    }
    Ok(pairs)
}

/// One value and what follows it; `None` if its closing quote is missing.
fn take_value(text: &str) -> Option<(String, &str)> {
    let (quoted, body) = match text.strip_prefix('\'') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let mut value = String::new();
    let mut characters = body.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\'' if quoted => return Some((value, body.get(at + 1..).unwrap_or(""))),
            _ if !quoted && character.is_whitespace() => return Some((value, body.get(at..).unwrap_or(""))),
            // A backslash at the very end stands for nothing, as in libpq.
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (!quoted).then_some((value, ""))
}

/// Writes a value so that [`parse_pairs`] reads it back.
pub(super) fn quote(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,@%+".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}
