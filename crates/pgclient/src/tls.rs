//! TLS as `sslmode` and `sslrootcert` ask for it.
//!
//! As in libpq a root certificate that is given is always checked: then `require` means `verify-ca`,
//! and without one `verify-ca` and `verify-full` are errors, not silently weaker.

pub(crate) mod end_point;
mod verify;

use std::{fs, path::Path, sync::Arc};

use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

use self::verify::{Check, Verifier};
use crate::{
    Error, Result,
    conninfo::{Conninfo, Host, SslMode, SslNegotiation, SslRoot},
};

/// The protocol name that direct TLS must announce (PostgreSQL 17, "SSL Session Encryption").
const DIRECT_PROTOCOL: &[u8] = b"postgresql";

/// The client's side of a handshake with one host.
pub(crate) fn client_config(conninfo: &Conninfo) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let check = match (conninfo.ssl_mode(), conninfo.ssl_root()) {
        (SslMode::VerifyFull, _) => Check::ChainAndName,
        (SslMode::VerifyCa, _) => Check::Chain,
        (_, SslRoot::None) => Check::Nothing,
        (_, SslRoot::System | SslRoot::File(_)) => Check::Chain,
    };
    let roots = match conninfo.ssl_root() {
        SslRoot::None if check == Check::Nothing => Vec::new(),
        SslRoot::None => {
            return Err(wrong(
                "sslmode verify-ca and verify-full need sslrootcert (a file of certificates, or \"system\")",
            ));
        }
        SslRoot::System => system_roots()?,
        SslRoot::File(path) => certificates(path, "sslrootcert")?,
    };
    let verifier = Verifier::new(check, roots, &provider).map_err(wrong)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(format!("TLS cannot be set up: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match conninfo.ssl_client() {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate, "sslcert")?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| {
                wrong(format!(
                    "sslkey {} cannot be used (an encrypted key is not supported): {error}",
                    key.display()
                ))
            })?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| wrong(format!("sslcert and sslkey cannot be used: {error}")))?
        }
    };
    if conninfo.ssl_negotiation() == SslNegotiation::Direct {
        config.alpn_protocols = vec![DIRECT_PROTOCOL.to_vec()];
    }
    Ok(Arc::new(config))
}

/// The name that the certificate must be for.
pub(crate) fn server_name(host: &Host) -> Result<ServerName<'static>> {
    ServerName::try_from(host.name.clone()).map_err(|_| {
        wrong(format!(
            "\"{}\" is not a host name that a certificate can be for",
            host.name
        ))
    })
}

fn system_roots() -> Result<Vec<CertificateDer<'static>>> {
    let loaded = rustls_native_certs::load_native_certs();
    if loaded.certs.is_empty() {
        return Err(wrong(
            "sslrootcert=system, but this machine has no certificates of authorities",
        ));
    }
    Ok(loaded.certs)
}

fn certificates(path: &Path, keyword: &str) -> Result<Vec<CertificateDer<'static>>> {
    let unusable = |what: String| wrong(format!("{keyword} {} cannot be used: {what}", path.display()));
    let text = fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(error.to_string()))?;
    if found.is_empty() {
        return Err(unusable("it holds no certificate in PEM form".to_owned()));
    }
    Ok(found)
}

fn wrong(what: impl Into<String>) -> Error {
    Error::Conninfo { what: what.into() }
}
