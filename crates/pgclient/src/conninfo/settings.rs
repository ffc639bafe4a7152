//! From keywords and their texts to a checked [`Conninfo`].

use std::{collections::BTreeMap, fs, net::IpAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;

use super::{
    CONNECT_TIMEOUT_DEFAULT, Conninfo, Environment, Host, PORT_DEFAULT, SOCKET_DIRECTORIES,
    keywords::{Keyword, Use, wrong},
};
use crate::Result;

/// `sslmode`, with libpq's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS only if the server does not want us without.
    Allow,
    /// TLS if the server has it.
    Prefer,
    /// TLS always; who the server is is not checked, unless a root certificate is given.
    Require,
    /// TLS, and the certificate comes from a trusted authority.
    VerifyCa,
    /// TLS, a trusted certificate, and it is for the host's name.
    VerifyFull,
}

/// `sslnegotiation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslNegotiation {
    /// Ask first (every version).
    Postgres,
    /// Begin with TLS at once (17 and newer).
    Direct,
}

/// Whom to trust for certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SslRoot {
    /// Nobody was named.
    None,
    /// The authorities that this machine trusts (`sslrootcert=system`).
    System,
    /// A file of certificates in PEM form.
    File(PathBuf),
}

/// `channel_binding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server offers it over TLS.
    Prefer,
    /// Always; anything else is refused, also a server that asks for no password.
    Require,
}

/// `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetSession {
    /// Any server.
    Any,
    /// One that is not in recovery and lets transactions write.
    ReadWrite,
    /// One where transactions cannot write by default.
    ReadOnly,
    /// One that is not in recovery.
    Primary,
    /// One that is in recovery.
    Standby,
}

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
        let ssl_negotiation = self.word(
            "sslnegotiation",
            &[
                ("postgres", SslNegotiation::Postgres),
                ("direct", SslNegotiation::Direct),
            ],
            SslNegotiation::Postgres,
        )?;
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
        let channel_binding = self.word(
            "channel_binding",
            &[
                ("disable", ChannelBinding::Disable),
                ("prefer", ChannelBinding::Prefer),
                ("require", ChannelBinding::Require),
            ],
            ChannelBinding::Prefer,
        )?;
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

const SSL_MODES: &[(&str, SslMode)] = &[
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];
const TARGETS: &[(&str, TargetSession)] = &[
    ("any", TargetSession::Any),
    ("read-write", TargetSession::ReadWrite),
    ("read-only", TargetSession::ReadOnly),
    ("primary", TargetSession::Primary),
    ("standby", TargetSession::Standby),
];

/// Where services may be defined: the user's file first, then the system's.
pub(super) fn service_files(merged: &Merged, environment: &Environment<'_>) -> Vec<PathBuf> {
    let named = merged
        .get("servicefile")
        .map(str::to_owned)
        .or_else(|| environment("PGSERVICEFILE"));
    let own = named
        .map(PathBuf::from)
        .or_else(|| Some(home_directory(environment)?.join(".pg_service.conf")));
    let system = environment("PGSYSCONFDIR").unwrap_or_else(|| "/etc/postgresql-common".to_owned());
    own.into_iter()
        .chain([PathBuf::from(system).join("pg_service.conf")])
        .collect()
}

fn home_directory(environment: &Environment<'_>) -> Option<PathBuf> {
    environment("HOME")
        .filter(|home| !home.is_empty())
        .or_else(|| account_field(5))
        .map(PathBuf::from)
}

/// The name of the user that runs this process: the account's, else what the environment says
/// (accounts from a directory service are not in `/etc/passwd`).
fn os_user(environment: &Environment<'_>) -> Option<String> {
    account_field(0)
        .or_else(|| environment("USER"))
        .or_else(|| environment("LOGNAME"))
}

/// One field of this process's line in `/etc/passwd` (0 name, 5 home).
fn account_field(field: usize) -> Option<String> {
    let user_id = rustix::process::geteuid().as_raw().to_string();
    let accounts = fs::read_to_string("/etc/passwd").ok()?;
    let account = accounts.lines().find(|line| line.split(':').nth(2) == Some(&user_id))?;
    account
        .split(':')
        .nth(field)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}
