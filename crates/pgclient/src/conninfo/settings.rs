//! From keywords and their texts to a checked [`Conninfo`].

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;

use super::{
    CONNECT_TIMEOUT_DEFAULT, ChannelBinding, Conninfo, Environment, Host, PORT_DEFAULT, SOCKET_DIRECTORIES, SslMode,
    SslNegotiation, SslRoot, TargetSession,
    account::{home_directory, os_user},
    choices::{CHANNEL_BINDINGS, SSL_MODES, SSL_NEGOTIATIONS, TARGETS},
    keywords::{Keyword, Use, wrong},
};
use crate::Result;

/// What has been said so far; what was said first stays.
#[derive(Default)]
pub(super) struct Merged {
    values: BTreeMap<&'static str, String>,
    password: Option<SecretString>,
}

impl Merged {
    /// Adds what is not said yet. Within one source the last one counts, as in libpq.
    pub(super) fn fill(&mut self, pairs: impl IntoIterator<Item = (&'static Keyword, String)>) {
        let mut source = BTreeMap::new();
        let mut password = None;
        for (keyword, value) in pairs {
            match keyword.name {
                "password" => password = Some(SecretString::from(value)),
                name if keyword.usage == Use::Full => drop(source.insert(name, value)),
                _ => {}
            }
        }
        for (name, value) in source {
            self.values.entry(name).or_insert(value);
        }
        if self.password.is_none() {
            self.password = password;
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// One of the listed words, or the default.
    fn word<T: Copy>(&self, name: &str, words: &[(&str, T)], default: T) -> Result<T> {
        let Some(value) = self.get(name) else {
            return Ok(default);
        };
        words
            .iter()
            .find(|(word, _)| *word == value)
            .map(|(_, meaning)| *meaning)
            .ok_or_else(|| {
                let allowed: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                wrong(format!(
                    "{name} is \"{value}\"; it must be one of {}",
                    allowed.join(", ")
                ))
            })
    }

    /// Checks everything and fills in the defaults.
    pub(super) fn into_conninfo(mut self, environment: &Environment<'_>) -> Result<Conninfo> {
        let home = home_directory(environment);
        let in_home = |file: &str| home.as_ref().map(|home| home.join(file));
        let existing = |file: &str| in_home(file).filter(|path| path.exists());
        let ssl_root = match self.get("sslrootcert") {
            Some("system") => SslRoot::System,
            Some(path) => SslRoot::File(path.into()),
            None => existing(".postgresql/root.crt").map_or(SslRoot::None, SslRoot::File),
        };
        // libpq: whoever trusts the world's authorities must at least check the name.
        let system = ssl_root == SslRoot::System;
        let default_mode = if system { SslMode::VerifyFull } else { SslMode::Prefer };
        let ssl_mode = self.word("sslmode", SSL_MODES, default_mode)?;
        if system && ssl_mode != SslMode::VerifyFull {
            return Err(wrong("sslrootcert=system needs sslmode=verify-full"));
        }
        let ssl_negotiation = self.word("sslnegotiation", SSL_NEGOTIATIONS, SslNegotiation::Postgres)?;
        if ssl_negotiation == SslNegotiation::Direct && ssl_mode < SslMode::Require {
            return Err(wrong("sslnegotiation=direct needs sslmode=require or stronger"));
        }
        let certificate = self
            .get("sslcert")
            .map(PathBuf::from)
            .or_else(|| existing(".postgresql/postgresql.crt"));
        let key = self
            .get("sslkey")
            .map(PathBuf::from)
            .or_else(|| in_home(".postgresql/postgresql.key"));
        let ssl_client = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (Some(_), None) => return Err(wrong("sslcert is given without sslkey")),
            (None, _) => None,
        };
        let channel_binding = self.word("channel_binding", CHANNEL_BINDINGS, ChannelBinding::Prefer)?;
        let target = self.word("target_session_attrs", TARGETS, TargetSession::Any)?;
        let user = match self.get("user") {
            Some(user) => user.to_owned(),
            None => os_user(environment)
                .ok_or_else(|| wrong("no user is given and the operating system's user has no name"))?,
        };
        let dbname = self.get("dbname").unwrap_or(&user).to_owned();
        let connect_timeout = match self.get("connect_timeout").map(|text| (text, text.parse::<i64>())) {
            None | Some((_, Ok(0))) => CONNECT_TIMEOUT_DEFAULT,
            // libpq: less than two seconds cannot be told from none.
            Some((_, Ok(seconds))) if seconds > 0 => Duration::from_secs(seconds.unsigned_abs().max(2)),
            Some((text, _)) => {
                return Err(wrong(format!(
                    "connect_timeout is \"{text}\"; it must be whole seconds"
                )));
            }
        };
        let hosts = self.hosts()?;
        self.values.insert("user", user.clone());
        self.values.insert("dbname", dbname.clone());
        // Their content has been read; keeping their names would read it a second time, then perhaps changed.
        self.values
            .retain(|name, value| !name.starts_with("service") && !value.is_empty());
        Ok(Conninfo {
            hosts,
            user,
            dbname,
            password: self.password.take(),
            passfile: self.get("passfile").map(PathBuf::from).or_else(|| in_home(".pgpass")),
            ssl_mode,
            ssl_negotiation,
            ssl_root,
            ssl_client,
            channel_binding,
            connect_timeout,
            application_name: self.get("application_name").unwrap_or("lastgood").to_owned(),
            options: self.get("options").map(str::to_owned),
            target,
            said: self.values,
        })
    }

    /// Hosts, addresses and ports, matched up by position; a single port serves all.
    fn hosts(&self) -> Result<Vec<Host>> {
        let split =
            |name: &str| -> Vec<&str> { self.get(name).map(|text| text.split(',').collect()).unwrap_or_default() };
        let (names, addresses, ports) = (split("host"), split("hostaddr"), split("port"));
        let count = names.len().max(addresses.len());
        if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
            return Err(wrong(format!(
                "{} values in host, {} in hostaddr",
                names.len(),
                addresses.len()
            )));
        }
        if ports.len() > 1 && ports.len() != count {
            return Err(wrong(format!("{} values in port for {count} hosts", ports.len())));
        }
        let port = |at: usize| -> Result<u16> {
            match ports
                .get(at)
                .or(ports.first().filter(|_| ports.len() == 1))
                .filter(|text| !text.is_empty())
            {
                None => Ok(PORT_DEFAULT),
                Some(text) => text
                    .trim()
                    .parse()
                    .ok()
                    .filter(|port| *port != 0)
                    .ok_or_else(|| wrong(format!("port is \"{text}\"; it must be a number from 1 to 65535"))),
            }
        };
        let mut hosts = Vec::new();
        for at in 0..count.max(1) {
            let address = match addresses.get(at).filter(|text| !text.is_empty()) {
                None => None,
                Some(text) => Some(
                    text.parse::<IpAddr>()
                        .map_err(|_| wrong(format!("hostaddr \"{text}\" is not an address")))?,
                ),
            };
            let port = port(at)?;
            match (names.get(at).filter(|name| !name.is_empty()), address) {
                (Some(name), address) => hosts.push(Host {
                    name: (*name).to_owned(),
                    address,
                    port,
                }),
                (None, Some(address)) => hosts.push(Host {
                    name: address.to_string(),
                    address: Some(address),
                    port,
                }),
                (None, None) => hosts.extend(SOCKET_DIRECTORIES.map(|directory| Host {
                    name: directory.to_owned(),
                    address: None,
                    port,
                })),
            }
        }
        Ok(hosts)
    }
}
