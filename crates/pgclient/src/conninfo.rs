//! How to reach a PostgreSQL server, by libpq's conventions.
//!
//! Order of precedence, as in libpq: the connection string, the service file, the environment, defaults.
//! Everything outside the string comes in through a function, so that what is read is what is tested.
//!
//! Invariant: the password is in one field only, and no text that this module makes contains it.

mod account;
mod choices;
mod keywords;
pub(crate) mod passfile;
mod render;
mod service;
mod settings;
mod uri;

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;

pub use self::choices::{ChannelBinding, SslMode, SslNegotiation, SslRoot, TargetSession};
use self::{keywords::KEYWORDS, settings::Merged};
use crate::Result;

/// Where environment variables are looked up: in production `|name| std::env::var(name).ok()`.
pub type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// libpq waits for ever by default; a program that must not hang does not.
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// PostgreSQL's default port.
const PORT_DEFAULT: u16 = 5432;
/// Debian's and Red Hat's socket directory, then the one PostgreSQL is built with by default.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// One place where the server may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Host name or address, or the directory of a Unix socket (begins with `/`, or `@` if abstract).
    pub name: String,
    /// `hostaddr`: connect here and use `name` only for certificates and the password file.
    pub address: Option<IpAddr>,
    /// TCP port, also a part of the socket's name.
    pub port: u16,
}

impl Host {
    /// Whether this is a Unix socket.
    pub fn is_unix(&self) -> bool {
        self.address.is_none() && self.name.starts_with(['/', '@'])
    }
}

impl fmt::Display for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_unix() {
            write!(out, "{}/.s.PGSQL.{}", self.name, self.port)
        } else if self.name.contains(':') {
            write!(out, "[{}]:{}", self.name, self.port)
        } else {
            write!(out, "{}:{}", self.name, self.port)
        }
    }
}

/// Everything needed to connect, checked. `Debug` and `Display` do not show the password.
#[derive(Clone)]
pub struct Conninfo {
    hosts: Vec<Host>,
    user: String,
    dbname: String,
    password: Option<SecretString>,
    passfile: Option<PathBuf>,
    ssl_mode: SslMode,
    ssl_negotiation: SslNegotiation,
    ssl_root: SslRoot,
    ssl_client: Option<(PathBuf, PathBuf)>,
    channel_binding: ChannelBinding,
    connect_timeout: Duration,
    application_name: String,
    options: Option<String>,
    target: TargetSession,
    /// What was said explicitly anywhere, without the password: what [`Self::to_string_without_password`] writes.
    said: BTreeMap<&'static str, String>,
}

impl Conninfo {
    /// Reads a URI, `key=value` pairs, or nothing at all (`""`: environment and defaults).
    ///
    /// # Errors
    /// [`crate::Error::Conninfo`] for unknown or unsupported keywords, for values that make no sense and
    /// for combinations that contradict each other. The message never contains the password.
    pub fn parse(text: &str, environment: &Environment<'_>) -> Result<Conninfo> {
        let text = text.trim();
        let pairs = match uri::strip_scheme(text) {
            Some(rest) => uri::parse(rest)?,
            None => keywords::parse_pairs(text)?,
        };
        let mut merged = Merged::default();
        merged.fill(pairs);
        if let Some(service) = merged
            .get("service")
            .map(str::to_owned)
            .or_else(|| environment("PGSERVICE"))
        {
            merged.fill(service::load(&service, &account::service_files(&merged, environment))?);
        }
        for keyword in KEYWORDS {
            // An empty variable counts as unset, as in libpq.
            if let Some(value) = keyword.variable.and_then(environment).filter(|value| !value.is_empty()) {
                merged.fill([(keyword, value)]);
            }
        }
        merged.into_conninfo(environment)
    }

    /// Places to try, in this order; never empty.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }
    /// The role.
    pub fn user(&self) -> &str {
        &self.user
    }
    /// The database.
    pub fn dbname(&self) -> &str {
        &self.dbname
    }
    /// How much TLS is wanted.
    pub fn ssl_mode(&self) -> SslMode {
        self.ssl_mode
    }
    /// How TLS begins.
    pub fn ssl_negotiation(&self) -> SslNegotiation {
        self.ssl_negotiation
    }
    /// Whom to trust.
    pub fn ssl_root(&self) -> &SslRoot {
        &self.ssl_root
    }
    /// Client certificate and its key.
    pub fn ssl_client(&self) -> Option<(&PathBuf, &PathBuf)> {
        self.ssl_client.as_ref().map(|(certificate, key)| (certificate, key))
    }
    /// Whether SCRAM must be bound to the TLS connection.
    pub fn channel_binding(&self) -> ChannelBinding {
        self.channel_binding
    }
    /// How long one host may take, from its name to a session. Never unbounded.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }
    /// `application_name`.
    pub fn application_name(&self) -> &str {
        &self.application_name
    }
    /// The same with these command-line options for the server's process, instead of its own.
    pub fn with_options(mut self, options: &str) -> Conninfo {
        self.options = Some(options.to_owned());
        self
    }

    /// Command-line options for the server's process.
    pub fn options(&self) -> Option<&str> {
        self.options.as_deref()
    }
    /// Which kind of server is acceptable.
    pub fn target(&self) -> TargetSession {
        self.target
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_dbname(mut self, dbname: &str) -> Conninfo {
        dbname.clone_into(&mut self.dbname);
        self.said.insert("dbname", dbname.to_owned());
        self
    }

    /// The same server, another role; a password given for the former role is forgotten.
    #[must_use]
    pub fn with_user(mut self, user: &str) -> Conninfo {
        user.clone_into(&mut self.user);
        self.said.insert("user", user.to_owned());
        self.password = None;
        self
    }

    /// The same with a password taken from elsewhere, for example a file named in a configuration.
    #[must_use]
    pub fn with_password(mut self, password: SecretString) -> Conninfo {
        self.password = Some(password);
        self
    }

    /// The same, restricted to one of its hosts.
    #[must_use]
    pub fn with_host(mut self, host: &Host) -> Conninfo {
        self.hosts = vec![host.clone()];
        self.said.insert("host", host.name.clone());
        self.said.insert("port", host.port.to_string());
        match host.address {
            Some(address) => self.said.insert("hostaddr", address.to_string()),
            None => self.said.remove("hostaddr"),
        };
        self
    }

    /// The password for one host: the given one, else the password file's. `databases` are tried in order.
    pub(crate) fn password_for(&self, host: &Host, databases: &[&str]) -> passfile::Lookup {
        if let Some(password) = &self.password {
            return passfile::Lookup::Found(password.clone());
        }
        let Some(path) = &self.passfile else {
            return passfile::Lookup::Absent;
        };
        // In the file, the default socket directory is written "localhost" (libpq's rule).
        let name = if SOCKET_DIRECTORIES.contains(&host.name.as_str()) {
            "localhost"
        } else {
            &host.name
        };
        databases
            .iter()
            .map(|dbname| passfile::lookup(path, name, host.port, dbname, &self.user))
            .find(|lookup| !matches!(lookup, passfile::Lookup::Absent))
            .unwrap_or(passfile::Lookup::Absent)
    }
}
