//! The URI form of a connection string: `postgresql://user:password@host:port,host:port/dbname?keyword=value`.
//!
//! Own parser because URIs with several hosts or a socket directory as host are no URLs.
//! Messages never show user, password or what may be a part of them.

use super::keywords::{Keyword, find, wrong};
use crate::{Error, Result};

/// The text after the scheme, if it is such a URI at all.
pub(super) fn strip_scheme(text: &str) -> Option<&str> {
    text.strip_prefix("postgresql://")
        .or_else(|| text.strip_prefix("postgres://"))
}

/// Splits what follows the scheme into keywords and values.
pub(super) fn parse(rest: &str) -> Result<Vec<(&'static Keyword, String)>> {
    let mut pairs = Vec::new();
    let mut push = |name: &str, value: String| -> Result<()> {
        pairs.push((find(name, "connection URI")?, value));
        Ok(())
    };
    let (before_query, query) = rest
        .split_once('?')
        .map_or((rest, None), |(before, query)| (before, Some(query)));
    let (authority, path) = before_query
        .split_once('/')
        .map_or((before_query, None), |(before, path)| (before, Some(path)));
    // A password with an unescaped "/" or "?" ends the authority too early; its rest, "@" included, is here.
    if path.is_some_and(|path| path.contains('@')) || (query.is_some_and(|query| query.contains('@'))) {
        return Err(wrong(
            "connection URI: \"@\" after the host; write \"/\", \"?\" and \"@\" in user and password as %2F, %3F and %40",
        ));
    }

    let (credentials, hosts) = authority
        .rsplit_once('@')
        .map_or((None, authority), |(c, hosts)| (Some(c), hosts));
    if let Some(credentials) = credentials {
        let (user, password) = credentials
            .split_once(':')
            .map_or((credentials, None), |(u, p)| (u, Some(p)));
        if !user.is_empty() {
            push("user", decode(user, "user")?)?;
        }
        if let Some(password) = password {
            push("password", decode(password, "password")?)?;
        }
    }
    let (names, ports) = split_hosts(hosts)?;
    if !names.is_empty() {
        push("host", names)?;
    }
    if !ports.is_empty() {
        push("port", ports)?;
    }
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        push("dbname", decode(path, "dbname")?)?;
    }
    for pair in query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .filter(|pair| !pair.is_empty())
    {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| wrong("connection URI: a parameter after \"?\" has no \"=\""))?;
        let name = decode(name, "parameter name")?;
        // JDBC's spelling, which libpq accepts too.
        if name == "ssl" && value == "true" {
            push("sslmode", "require".to_owned())?;
        } else {
            push(&name, decode(value, &name)?)?;
        }
    }
    Ok(pairs)
}

/// Comma-separated hosts and ports, as the keywords `host` and `port` have them.
fn split_hosts(text: &str) -> Result<(String, String)> {
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in text.split(',') {
        let (name, port) = match host.strip_prefix('[') {
            Some(bracketed) => {
                let (address, tail) = bracketed
                    .split_once(']')
                    .ok_or_else(|| wrong("connection URI: \"[\" in a host without \"]\""))?;
                let port = match tail.strip_prefix(':') {
                    Some(port) => port,
                    None if tail.is_empty() => "",
                    None => return Err(wrong("connection URI: after \"]\" only \":port\" may follow")),
                };
                (address, port)
            }
            None => host.split_once(':').unwrap_or((host, "")),
        };
        if !port.chars().all(|c| c.is_ascii_digit()) {
            return Err(wrong("connection URI: a port is not a number"));
        }
        names.push(decode(name, "host")?);
        ports.push(port.to_owned());
    }
    let joined = |parts: Vec<String>| {
        if parts.iter().all(String::is_empty) {
            String::new()
        } else {
            parts.join(",")
        }
    };
    Ok((joined(names), joined(ports)))
}

/// Percent-decoding; `+` stays as it is, as in libpq.
fn decode(text: &str, part: &str) -> Result<String> {
    let broken = || -> Error { wrong(format!("connection URI: the {part} has a wrong percent-encoding")) };
    let mut bytes = Vec::with_capacity(text.len());
    let mut input = text.bytes();
    while let Some(byte) = input.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).ok_or_else(broken);
        let value = digit(input.next())? * 16 + digit(input.next())?;
        match u8::try_from(value) {
            Ok(value) if value != 0 => bytes.push(value),
            _ => return Err(broken()),
        }
    }
    String::from_utf8(bytes).map_err(|_| broken())
}
