//! Raw DEFLATE in both directions (RFC 4978 §3), as poll functions over the layer below.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Compressed bytes read at once.
const INPUT: usize = 16 * 1024;
/// Plain bytes handed out, or taken in, at once.
const PIECE: usize = 32 * 1024;
/// Compressed bytes that may wait for the layer below before writing blocks.
const BACKLOG: usize = 64 * 1024;

/// The state of both directions.
pub(super) struct Deflate {
    inflate: Decompress,
    input: Vec<u8>,
    eaten: usize,
    ended: bool,
    deflate: Compress,
    output: Vec<u8>,
    sent: usize,
    unflushed: bool,
}

impl Deflate {
    /// Starts with compressed bytes that were read already.
    pub(super) fn new(left_over: &[u8]) -> Self {
        Self {
            inflate: Decompress::new(false),
            input: left_over.to_vec(),
            eaten: 0,
            ended: false,
            // Commands are short and messages mostly base64: more effort buys little here.
            deflate: Compress::new(Compression::fast(), false),
            output: Vec::new(),
            sent: 0,
            unflushed: false,
        }
    }

    pub(super) fn poll_read<L: AsyncRead + Unpin>(
        &mut self,
        layer: &mut L,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.ended || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            // The inflater may hold output that did not fit last time: ask it before the layer.
            let room = buf.initialize_unfilled_to(buf.remaining().min(PIECE));
            let (in_before, out_before) = (self.inflate.total_in(), self.inflate.total_out());
            let fresh = self.input.get(self.eaten..).unwrap_or_default();
            let status = self
                .inflate
                .decompress(fresh, room, FlushDecompress::None)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            self.eaten += (self.inflate.total_in() - in_before) as usize;
            let produced = (self.inflate.total_out() - out_before) as usize;
            self.ended = status == Status::StreamEnd;
            if produced > 0 {
                buf.advance(produced);
                return Poll::Ready(Ok(()));
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if self.eaten < self.input.len() && self.inflate.total_in() > in_before {
                continue;
            }
            // An inflater that takes nothing although it has input and room is stuck for good.
            if self.eaten < self.input.len() {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the compressed stream does not go on",
                )));
            }
            self.eaten = 0;
            self.input.resize(INPUT, 0);
            let mut fill = ReadBuf::new(&mut self.input);
            let polled = Pin::new(&mut *layer).poll_read(cx, &mut fill);
            let got = fill.filled().len();
            self.input.truncate(got);
            ready!(polled)?;
            if got == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    pub(super) fn poll_write<L: AsyncWrite + Unpin>(
        &mut self,
        layer: &mut L,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.output.len() - self.sent >= BACKLOG {
            ready!(self.poll_drain(layer, cx))?;
        }
        let piece = data.get(..data.len().min(PIECE)).unwrap_or_default();
        let taken = self.compress(piece, FlushCompress::None)?;
        self.unflushed = true;
        Poll::Ready(Ok(taken))
    }

    pub(super) fn poll_flush<L: AsyncWrite + Unpin>(
        &mut self,
        layer: &mut L,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            self.compress(&[], FlushCompress::Sync)?;
            self.unflushed = false;
        }
        ready!(self.poll_drain(layer, cx))?;
        Pin::new(layer).poll_flush(cx)
    }

    /// Compresses all of `data` into the output, and with `Sync` everything still inside too.
    fn compress(&mut self, data: &[u8], flush: FlushCompress) -> io::Result<usize> {
        let start = self.deflate.total_in();
        loop {
            let done = (self.deflate.total_in() - start) as usize;
            let rest = data.get(done..).unwrap_or_default();
            self.output.reserve(rest.len() / 2 + 512);
            self.deflate
                .compress_vec(rest, &mut self.output, flush)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
            let done = (self.deflate.total_in() - start) as usize;
            // Room left over means that the compressor had nothing more to say.
            if done == data.len() && self.output.len() < self.output.capacity() {
                return Ok(done);
            }
        }
    }

    fn poll_drain<L: AsyncWrite + Unpin>(
        &mut self,
        layer: &mut L,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.sent < self.output.len() {
            let rest = self.output.get(self.sent..).unwrap_or_default();
            match ready!(Pin::new(&mut *layer).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.sent += n,
            }
        }
        self.output.clear();
        self.output.shrink_to(4096);
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}
