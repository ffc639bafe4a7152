//! Proves who we are, and with SCRAM that the server knows us too.
//!
//! Invariants: a password goes out as it is only where nobody can read along; with
//! `channel_binding=require` nothing but SCRAM-SHA-256-PLUS gets through; and no server is believed to have
//! accepted us before it has proven itself where the method can.

use bytes::Bytes;
use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{ChannelBinding as Binding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256},
    },
    message::frontend,
};
use secrecy::{ExposeSecret, SecretString};

use super::{fields, wire::Wire};
use crate::{
    Error, Result,
    classify::{Purpose, Reported, no_password, while_connecting},
    conninfo::{ChannelBinding, Conninfo, Host, passfile::Lookup},
};

const DOING: &str = "authenticate";

// AuthenticationXXX codes (documentation, "Message Formats").
const OK: u32 = 0;
const CLEARTEXT: u32 = 3;
const MD5: u32 = 5;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

/// Answers what the server asks until it is content.
pub(super) async fn authenticate(wire: &mut Wire, conninfo: &Conninfo, host: &Host) -> Result<()> {
    let refused = |wire: &Wire, what: &str| Error::Authentication {
        server: wire.server.clone(),
        user: conninfo.user().to_owned(),
        what: what.to_owned(),
        sqlstate: None,
    };
    let (code, body) = request(wire, conninfo).await?;
    if conninfo.channel_binding() == ChannelBinding::Require && code != SASL {
        return Err(refused(
            wire,
            "channel binding is required, and the server did not ask for SCRAM",
        ));
    }
    match code {
        OK => return Ok(()),
        CLEARTEXT if !wire.transport().is_private() => {
            return Err(refused(
                wire,
                "it wants the password in clear text over a connection that is not encrypted",
            ));
        }
        CLEARTEXT => {
            let password = password(wire, conninfo, host)?;
            wire.enqueue(|out| frontend::password_message(password.expose_secret().as_bytes(), out))?;
        }
        MD5 => {
            let salt = *body
                .first_chunk::<4>()
                .ok_or_else(|| wire.protocol("an MD5 request without salt"))?;
            let password = password(wire, conninfo, host)?;
            let hash = md5_hash(conninfo.user().as_bytes(), password.expose_secret().as_bytes(), salt);
            wire.enqueue(|out| frontend::password_message(hash.as_bytes(), out))?;
        }
        SASL => {
            let password = password(wire, conninfo, host)?;
            let (mechanism, binding) =
                choose(wire, conninfo, &fields::strings(&body)).map_err(|what| refused(wire, what))?;
            scram(wire, conninfo, &password, mechanism, binding)
                .await?
                .map_err(|error| refused(wire, &format!("SCRAM failed: {error}")))?;
        }
        other => {
            return Err(refused(
                wire,
                &format!("it wants an authentication method (code {other}) that lastgood does not have"),
            ));
        }
    }
    match request(wire, conninfo).await? {
        (OK, _) => Ok(()),
        (other, _) => Err(wire.protocol(format!("authentication code {other} where it should have ended"))),
    }
}

/// The SCRAM exchange. The inner error is one of the exchange itself: a wrong answer of the server.
async fn scram(
    wire: &mut Wire,
    conninfo: &Conninfo,
    password: &SecretString,
    mechanism: &str,
    binding: Binding,
) -> Result<Result<(), std::io::Error>> {
    let mut scram = ScramSha256::new(password.expose_secret().as_bytes(), binding);
    wire.enqueue(|out| frontend::sasl_initial_response(mechanism, scram.message(), out))?;
    let body = expect(wire, conninfo, SASL_CONTINUE).await?;
    if let Err(error) = scram.update(&body) {
        return Ok(Err(error));
    }
    wire.enqueue(|out| frontend::sasl_response(scram.message(), out))?;
    let body = expect(wire, conninfo, SASL_FINAL).await?;
    Ok(scram.finish(&body))
}

/// The mechanism, and what it says about channel binding (RFC 5802, section 6).
fn choose(wire: &Wire, conninfo: &Conninfo, offered: &[String]) -> Result<(&'static str, Binding), &'static str> {
    let offers = |mechanism: &str| offered.iter().any(|name| name == mechanism);
    let end_point = match conninfo.channel_binding() {
        ChannelBinding::Disable => None,
        ChannelBinding::Prefer | ChannelBinding::Require => wire.transport().end_point(),
    };
    match end_point {
        Some(hash) if offers(SCRAM_SHA_256_PLUS) => Ok((SCRAM_SHA_256_PLUS, Binding::tls_server_end_point(hash))),
        _ if conninfo.channel_binding() == ChannelBinding::Require => {
            Err("channel binding is required, and it is not possible here (no TLS, or not offered)")
        }
        // "We could, you did not offer": the server notices if somebody removed its offer on the way.
        Some(_) if offers(SCRAM_SHA_256) => Ok((SCRAM_SHA_256, Binding::unrequested())),
        None if offers(SCRAM_SHA_256) => Ok((SCRAM_SHA_256, Binding::unsupported())),
        _ => Err("it offers no SASL mechanism that lastgood has"),
    }
}

fn password(wire: &Wire, conninfo: &Conninfo, host: &Host) -> Result<SecretString> {
    // For replication the password file says "replication" in the database's place; many name the database.
    let note = match conninfo.password_for(host, &["replication", conninfo.dbname()]) {
        Lookup::Found(password) => return Ok(password),
        Lookup::Absent => String::new(),
        Lookup::Ignored(reason) => reason,
    };
    Err(Error::Authentication {
        server: wire.server.clone(),
        user: conninfo.user().to_owned(),
        what: no_password(&note),
        sqlstate: None,
    })
}

async fn expect(wire: &mut Wire, conninfo: &Conninfo, wanted: u32) -> Result<Bytes> {
    match request(wire, conninfo).await? {
        (code, body) if code == wanted => Ok(body),
        (code, _) => Err(wire.protocol(format!("authentication code {code} instead of {wanted}"))),
    }
}

/// The next authentication message: its code and the rest.
async fn request(wire: &mut Wire, conninfo: &Conninfo) -> Result<(u32, Bytes)> {
    let message = wire.next(DOING).await?;
    match message.tag {
        b'R' => {
            let mut body = message.body;
            let code = body.first_chunk::<4>().map(|code| u32::from_be_bytes(*code));
            let code = code.ok_or_else(|| wire.protocol("an authentication message without code"))?;
            Ok((code, body.split_off(4)))
        }
        b'E' => {
            let error = fields::ErrorFields::parse(&message.body);
            let reported = Reported {
                purpose: Purpose::Replication,
                sqlstate: &error.sqlstate,
                message: &error.message,
            };
            Err(while_connecting(&wire.server, conninfo, &reported))
        }
        // NegotiateProtocolVersion: the server knows less than 3.0 with our parameters; nothing of ours is optional.
        b'v' => Err(wire.protocol("it does not speak protocol 3.0")),
        _ => Err(wire.unexpected(DOING, &message)),
    }
}
