//! Keywords whose value is one of a few words.

use std::path::PathBuf;

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

pub(super) const SSL_MODES: &[(&str, SslMode)] = &[
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];
pub(super) const TARGETS: &[(&str, TargetSession)] = &[
    ("any", TargetSession::Any),
    ("read-write", TargetSession::ReadWrite),
    ("read-only", TargetSession::ReadOnly),
    ("primary", TargetSession::Primary),
    ("standby", TargetSession::Standby),
];
pub(super) const SSL_NEGOTIATIONS: &[(&str, SslNegotiation)] = &[
    ("postgres", SslNegotiation::Postgres),
    ("direct", SslNegotiation::Direct),
];
pub(super) const CHANNEL_BINDINGS: &[(&str, ChannelBinding)] = &[
    ("disable", ChannelBinding::Disable),
    ("prefer", ChannelBinding::Prefer),
    ("require", ChannelBinding::Require),
];
