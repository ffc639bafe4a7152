//! A byte stream to one server: Unix socket, TCP, or TLS over TCP.
//!
//! SQL and replication connections are opened here alike, so that `sslmode` has one meaning.

use std::{
    io,
    os::{linux::net::SocketAddrExt, unix::net::SocketAddr as UnixAddress},
    path::Path,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpStream, UnixStream, lookup_host},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    Error, Result,
    conninfo::{Conninfo, Host, SslMode, SslNegotiation},
    tls,
};

/// A silent peer is asked whether it lives after a minute, then every 10 seconds, and given up after 6
/// questions: two minutes, well below what firewalls forget idle connections after.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(10), 6);

/// What was sent and is not acknowledged for that long counts as lost: keepalive asks nothing while data is under way,
/// and the kernel alone would go on sending for a quarter of an hour. Milliseconds.
const UNACKNOWLEDGED_MS: u32 = 120_000;

/// `SSLRequest`: length 8, code 1234·2^16+5679 (protocol, "Message Formats").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// One way to try a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    Plain,
    /// TLS; without it if the server has none.
    TlsIfOffered,
    Tls,
}

/// What to try for a host, in order, by libpq's table of `sslmode`.
pub(crate) fn attempts(host: &Host, mode: SslMode) -> &'static [Security] {
    match mode {
        _ if host.is_unix() => &[Security::Plain],
        SslMode::Disable => &[Security::Plain],
        SslMode::Allow => &[Security::Plain, Security::Tls],
        SslMode::Prefer => &[Security::TlsIfOffered, Security::Plain],
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Security::Tls],
    }
}

/// The stream itself.
pub(crate) enum Transport {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Connects, and encrypts if that is wanted. Bounded by the caller.
    pub(crate) async fn open(conninfo: &Conninfo, host: &Host, security: Security) -> Result<Transport> {
        let unreachable = |source: io::Error| Error::Unreachable {
            server: host.to_string(),
            source: source.into(),
        };
        if host.is_unix() {
            return unix_socket(host).await.map(Transport::Unix).map_err(unreachable);
        }
        let mut tcp = tcp_socket(host).await.map_err(unreachable)?;
        if security == Security::Plain {
            return Ok(Transport::Tcp(tcp));
        }
        let failed = |source: io::Error| Error::Tls {
            server: host.to_string(),
            source: source.into(),
        };
        if conninfo.ssl_negotiation() == SslNegotiation::Postgres {
            tcp.write_all(&SSL_REQUEST).await.map_err(unreachable)?;
            // Read one byte and not more: bytes behind it, sent before the handshake, would be an
            // attacker's (CVE-2021-23222). They fail the handshake instead.
            match tcp.read_u8().await.map_err(unreachable)? {
                b'S' => {}
                b'N' if security == Security::TlsIfOffered => return Ok(Transport::Tcp(tcp)),
                b'N' => return Err(failed(io::Error::other("the server does not offer TLS (ssl is off)"))),
                _ => {
                    return Err(failed(io::Error::other(
                        "the answer to the request for TLS is not PostgreSQL's",
                    )));
                }
            }
        }
        let connector = TlsConnector::from(tls::client_config(conninfo)?);
        let stream = connector.connect(tls::server_name(host)?, tcp).await.map_err(failed)?;
        Ok(Transport::Tls(Box::new(stream)))
    }

    /// Whether a password may be sent as it is: nobody between us and the server can read along.
    pub(crate) fn is_private(&self) -> bool {
        !matches!(self, Transport::Tcp(_))
    }

    /// Whether TLS is used.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Transport::Tls(_))
    }

    /// What SCRAM can be bound to.
    pub(crate) fn end_point(&self) -> Option<Vec<u8>> {
        match self {
            Transport::Tls(stream) => tls::end_point::hash(stream.get_ref().1.peer_certificates()?.first()?),
            _ => None,
        }
    }
}

async fn unix_socket(host: &Host) -> io::Result<UnixStream> {
    let file = format!(".s.PGSQL.{}", host.port);
    match host.name.strip_prefix('@') {
        None => UnixStream::connect(Path::new(&host.name).join(file)).await,
        Some(name) => {
            let address = UnixAddress::from_abstract_name(format!("{name}/{file}"))?;
            let stream = std::os::unix::net::UnixStream::connect_addr(&address)?;
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        }
    }
}

async fn tcp_socket(host: &Host) -> io::Result<TcpStream> {
    let stream = match host.address {
        Some(address) => TcpStream::connect((address, host.port)).await?,
        None => {
            // A name may have several addresses; the last one's error stands for all.
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
            let mut connected = None;
            for address in lookup_host((host.name.as_str(), host.port)).await? {
                match TcpStream::connect(address).await {
                    Ok(stream) => {
                        connected = Some(stream);
                        break;
                    }
                    Err(error) => last = error,
                }
            }
            connected.ok_or(last)?
        }
    };
    stream.set_nodelay(true)?;
    let (idle, interval, probes) = KEEPALIVE;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, idle)?;
    sockopt::set_tcp_keepintvl(&stream, interval)?;
    sockopt::set_tcp_keepcnt(&stream, probes)?;
    sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MS)?;
    Ok(stream)
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Unix(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }
}
