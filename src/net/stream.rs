//! One stream type over TCP, TLS and DEFLATE, upgraded in place.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use super::deflate::Deflate;
use super::{Endpoint, tls};
use crate::error::{Error, Kind, Result};

/// What a [`Stream`] can run over: a TCP socket, or a pipe in tests.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A connection to a server, plain or secured, compressed or not.
pub struct Stream {
    layer: Layer,
    deflate: Option<Box<Deflate>>,
    peer: Option<SocketAddr>,
}

impl Stream {
    /// A stream without TLS over any transport.
    pub fn plain(transport: impl Transport + 'static, peer: Option<SocketAddr>) -> Self {
        Self { layer: Layer::Plain(Box::new(transport)), deflate: None, peer }
    }

    /// Shakes hands in place. The caller must have read everything the server said before, and
    /// passes what is left over, which has to be nothing: bytes sent in the clear must never be
    /// taken for the secured server's (RFC 3207 §4.2 gives the reason, CVE-2011-0411 the attack).
    pub async fn start_tls(
        &mut self,
        endpoint: &Endpoint,
        left_over: &[u8],
        within: Duration,
    ) -> Result<()> {
        if !left_over.is_empty() {
            return Err(Error::account(
                Kind::Tls,
                format!("{endpoint} sent {} bytes in the clear after it agreed to start TLS", left_over.len()),
            )
            .next("something between here and the server may be tampering with the connection; use tls = \"implicit\" if the server offers it"));
        }
        if self.deflate.is_some() {
            return Err(Error::account(Kind::Internal, "TLS was to start inside of compression"));
        }
        match std::mem::replace(&mut self.layer, Layer::Closed) {
            Layer::Plain(io) => {
                let tls = tls::handshake(io, endpoint, within).await?;
                self.layer = Layer::Tls(Box::new(tls));
                Ok(())
            }
            _ => Err(Error::account(
                Kind::Internal,
                "TLS was to start on a stream that is not plain",
            )),
        }
    }

    /// Compresses both directions from here on (RFC 4978, RFC 1951 without a header). What was
    /// read past the server's OK is compressed already, and passed in.
    pub fn start_deflate(&mut self, left_over: &[u8]) {
        self.deflate = Some(Box::new(Deflate::new(left_over)));
    }

    /// Whether TLS is on.
    pub fn is_tls(&self) -> bool {
        matches!(self.layer, Layer::Tls(_))
    }

    /// Whether the other end is this machine.
    pub fn is_loopback(&self) -> bool {
        self.peer.is_some_and(|p| p.ip().to_canonical().is_loopback())
    }

    /// The address at the other end, where it has one.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match &mut this.deflate {
            Some(deflate) => deflate.poll_read(&mut this.layer, cx, buf),
            None => Pin::new(&mut this.layer).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match &mut this.deflate {
            Some(deflate) => deflate.poll_write(&mut this.layer, cx, data),
            None => Pin::new(&mut this.layer).poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match &mut this.deflate {
            Some(deflate) => deflate.poll_flush(&mut this.layer, cx),
            None => Pin::new(&mut this.layer).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.get_mut().layer).poll_shutdown(cx)
    }
}

/// What is under the compression.
pub(super) enum Layer {
    Plain(Box<dyn Transport>),
    Tls(Box<TlsStream<Box<dyn Transport>>>),
    /// Between plain and TLS, and after a handshake that failed: there is no way back to plain.
    Closed,
}

impl AsyncRead for Layer {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_read(cx, buf),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncWrite for Layer {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, data),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_write(cx, data),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_flush(cx),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_shutdown(cx),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }
}
