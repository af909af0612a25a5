//! Making the TCP connection: every address gets its try, and a failure says what to do.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Endpoint, Security, Stream, Timeouts};
use crate::error::{Error, Kind, Result};

/// Connects, and shakes hands at once where TLS is implicit. With [`Security::StartTls`] the
/// stream is still plain, and the protocol has to upgrade it before anything else.
pub async fn connect(endpoint: &Endpoint, timeouts: &Timeouts) -> Result<Stream> {
    let deadline = Instant::now() + timeouts.connect;
    let lookup = timeout_at(deadline, lookup_host((endpoint.host.as_str(), endpoint.port)));
    let addresses: Vec<SocketAddr> = match lookup.await {
        Ok(Ok(found)) => found.take(MOST_ADDRESSES).collect(),
        Ok(Err(e)) => return Err(unresolved(endpoint, &e.to_string())),
        Err(_) => return Err(unresolved(endpoint, "the resolver does not answer")),
    };
    let (tcp, peer) = match timeout_at(deadline, race(alternate(addresses))).await {
        Ok(Ok(connected)) => connected,
        Ok(Err(e)) => return Err(unconnected(endpoint, e)),
        Err(_) => {
            return Err(Error::account(
                Kind::Connection,
                format!("{endpoint} did not answer within {} s", timeouts.connect.as_secs()),
            )
            .next("check `host` and `port`; a firewall here or there may drop the connection"));
        }
    };
    // These only make things better; a socket that refuses them still works.
    let _ = tcp.set_nodelay(true);
    let _ = keep_alive(&tcp);
    let mut stream = Stream::plain(Prompt(tcp), Some(peer));
    if endpoint.security == Security::Implicit {
        let left = deadline.saturating_duration_since(Instant::now());
        // However slow the network was so far, the handshake gets a fair share.
        stream.start_tls(endpoint, &[], left.max(timeouts.connect / 2)).await?;
    }
    Ok(stream)
}

/// Addresses tried; nobody's mail server needs more.
const MOST_ADDRESSES: usize = 16;
/// The head start of each address over the next (RFC 8305 §5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Tries the addresses, each one a little later than the one before or as soon as that failed;
/// the first connection wins. If none comes about, the first address's error is returned.
async fn race(
    addresses: Vec<SocketAddr>,
) -> std::result::Result<(TcpStream, SocketAddr), (Option<SocketAddr>, io::Error)> {
    let mut waiting = addresses.into_iter().enumerate();
    let mut tries = JoinSet::new();
    let mut first_error: Option<(usize, SocketAddr, io::Error)> = None;
    loop {
        if let Some((rank, address)) = waiting.next() {
            tries.spawn(async move { (rank, address, TcpStream::connect(address).await) });
        }
        let done = tokio::select! {
            done = tries.join_next() => done,
            () = sleep(HEAD_START), if waiting.len() > 0 => continue,
        };
        match done {
            Some(Ok((_, address, Ok(tcp)))) => return Ok((tcp, address)),
            Some(Ok((rank, address, Err(e)))) => {
                if first_error.as_ref().is_none_or(|(r, ..)| rank < *r) {
                    first_error = Some((rank, address, e));
                }
            }
            Some(Err(e)) => return Err((None, io::Error::other(e))),
            None if waiting.len() > 0 => {}
            None => {
                return Err(match first_error {
                    Some((_, address, e)) => (Some(address), e),
                    None => (None, io::ErrorKind::NotFound.into()),
                });
            }
        }
        // A try that ended makes way for the next at once, the loop's beginning; others that
        // still run keep running.
    }
}

/// IPv6 and IPv4 in turn, the resolver's first choice first (RFC 8305 §4): a host whose one
/// family leads nowhere is reached by the second try.
fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut out = Vec::new();
    loop {
        match (first.next(), second.next()) {
            (None, None) => return out,
            (a, b) => out.extend(a.into_iter().chain(b)),
        }
    }
}

/// A socket that acknowledges what it read at once. A server that writes in small pieces waits for
/// that (RFC 896), and the kernel would put it off for 40 ms.
struct Prompt(TcpStream);

impl AsyncRead for Prompt {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let tcp = &mut self.get_mut().0;
        let before = buf.filled().len();
        let read = Pin::new(&mut *tcp).poll_read(cx, buf);
        if buf.filled().len() > before {
            // the kernel forgets it again; where it refuses, reading is only slower
            let _ = rustix::net::sockopt::set_tcp_quickack(&*tcp, true);
        }
        read
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, data)
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write_vectored(cx, data)
    }
    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

/// So that a peer that vanished (suspend, NAT) is noticed within minutes, even while idle.
fn keep_alive(tcp: &TcpStream) -> rustix::io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(tcp, true)?;
    sockopt::set_tcp_keepidle(tcp, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(tcp, Duration::from_secs(15))?;
    sockopt::set_tcp_keepcnt(tcp, 4)
}

fn unresolved(endpoint: &Endpoint, why: &str) -> Error {
    Error::account(
        Kind::Connection,
        format!("the host name {:?} does not resolve: {why}", endpoint.host),
    )
    .next("check `host` for a typing error, then this machine's network and DNS")
}

fn unconnected(endpoint: &Endpoint, (address, e): (Option<SocketAddr>, io::Error)) -> Error {
    use io::ErrorKind as K;
    let at = address.map(|a| format!(" ({a})")).unwrap_or_default();
    let (what, next) = match e.kind() {
        K::ConnectionRefused => (
            format!("{endpoint}{at} refused the connection"),
            "check `port`, and that the server is running",
        ),
        K::HostUnreachable | K::NetworkUnreachable | K::NetworkDown => (
            format!("{endpoint}{at} cannot be reached: {e}"),
            "check this machine's network; it is tried again by itself",
        ),
        K::TimedOut => (
            format!("{endpoint}{at} did not answer"),
            "check `host` and `port`; a firewall here or there may drop the connection",
        ),
        _ => (
            format!("cannot connect to {endpoint}{at}: {e}"),
            "check this machine's network; it is tried again by itself",
        ),
    };
    Error::account(Kind::Connection, what).next(next)
}
