use std::future::Future;
use std::io::{Read as _, Write as _};

use tokio::io::{DuplexStream, duplex};

use super::*;

fn pair(buffer: usize) -> (Connection, DuplexStream) {
    let (here, there) = duplex(buffer);
    (Connection::new(Stream::plain(here, None), "mail.example:143", &Timeouts::default()), there)
}

/// Both at once on this thread: the connection's side, and the server's.
async fn both<A, B>(client: impl Future<Output = A>, server: impl Future<Output = B>) -> (A, B) {
    tokio::join!(client, server)
}

#[tokio::test]
async fn commands_go_out_tagged_and_pipelined() {
    let (mut c, mut server) = pair(1024);
    let first = c.queue(b"NOOP");
    let second = c.queue(b"LIST \"\" *");
    assert_eq!((first.to_string(), second.to_string()), ("M1".into(), "M2".into()));
    assert_eq!(c.unsent(), 23);
    c.flush().await.unwrap();
    assert_eq!((c.unsent(), c.sent()), (0, 23));
    let mut got = vec![0; 23];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(got, b"M1 NOOP\r\nM2 LIST \"\" *\r\n");
    assert_eq!(first.strip(b"M1 OK done\r\n"), Some(&b"OK done\r\n"[..]));
    assert_eq!(first.strip(b"M11 OK\r\n"), None);
}

#[tokio::test]
async fn frames_come_one_by_one() {
    let (mut c, mut server) = pair(1024);
    server.write_all(b"* A {3}\r\nx\r\n\r\n* B\r\n* C").await.unwrap();
    assert_eq!(c.frame().await.unwrap(), b"* A {3}\r\nx\r\n\r\n");
    assert_eq!(c.buffered_frame().unwrap(), Some(&b"* B\r\n"[..]));
    assert_eq!(c.buffered_frame().unwrap(), None);
    server.write_all(b"\r\n").await.unwrap();
    assert_eq!(c.frame().await.unwrap(), b"* C\r\n");
    assert_eq!(c.received(), 24);
}

#[tokio::test]
async fn frame_sends_what_is_queued() {
    let (mut c, mut server) = pair(1024);
    c.queue(b"NOOP");
    let (frame, ()) = both(async { c.frame().await.unwrap().to_vec() }, async {
        let mut line = [0; 9];
        server.read_exact(&mut line).await.unwrap();
        server.write_all(b"M1 OK\r\n").await.unwrap();
    })
    .await;
    assert_eq!(frame, b"M1 OK\r\n");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_loses_nothing() {
    let (mut c, mut server) = pair(64);
    server.write_all(b"* A {5}\r\nab").await.unwrap();
    let cut = timeout(Duration::from_millis(10), c.frame()).await;
    assert!(cut.is_err());
    c.queue(&[b'x'; 200]);
    assert!(timeout(Duration::from_millis(10), c.flush()).await.is_err());
    let (frame, sent) = both(
        async {
            c.flush().await.unwrap();
            c.frame().await.unwrap().to_vec()
        },
        async {
            let mut sent = vec![0; 205];
            server.read_exact(&mut sent).await.unwrap();
            server.write_all(b"cde)\r\n").await.unwrap();
            sent
        },
    )
    .await;
    assert_eq!(frame, b"* A {5}\r\nabcde)\r\n");
    assert_eq!(sent, [b"M1 ", &[b'x'; 200][..], b"\r\n"].concat());
}

#[tokio::test]
async fn a_server_that_writes_before_it_reads_is_no_deadlock() {
    let (mut c, mut server) = pair(512);
    let response = [b"* 1 FETCH ", &[b'y'; 1000][..], b"\r\n"].concat();
    let big = vec![b'z'; 300_000];
    c.queue_raw(&big);
    let (frames, got) = both(
        async {
            c.flush().await.unwrap();
            let mut frames = 0;
            while c.frame().await.unwrap() != b"* END\r\n" {
                frames += 1;
            }
            frames
        },
        async {
            for _ in 0..300 {
                server.write_all(&response).await.unwrap();
            }
            let mut got = vec![0; big.len()];
            server.read_exact(&mut got).await.unwrap();
            server.write_all(b"* END\r\n").await.unwrap();
            got
        },
    )
    .await;
    assert_eq!((frames, got == big), (300, true));
}

#[tokio::test(start_paused = true)]
async fn unread_responses_are_bounded_while_writing() {
    let (mut c, mut server) = pair(4096);
    c.queue_raw(&vec![b'z'; 100_000]);
    let (flushed, wrote) = both(async { c.flush().await }, async {
        // Never reads, and writes for as long as anyone takes it.
        let line = [&[b'*'; 4094][..], b"\r\n"].concat();
        let mut wrote = 0;
        while timeout(Duration::from_secs(100), server.write_all(&line)).await.is_ok() {
            wrote += line.len();
        }
        wrote
    })
    .await;
    assert_eq!(flushed.unwrap_err().kind, Kind::Connection);
    assert!((READ_AHEAD..READ_AHEAD + CHUNK + 8192).contains(&wrote), "{wrote}");
}

#[tokio::test(start_paused = true)]
async fn silence_is_an_error_that_says_how_long() {
    let (mut c, mut server) = pair(1024);
    server.write_all(b"* A").await.unwrap();
    let begun = Instant::now();
    let e = c.frame().await.unwrap_err();
    assert_eq!(
        (e.kind, e.what.as_str()),
        (Kind::Connection, "mail.example:143 was silent for 45 s")
    );
    assert_eq!(begun.elapsed().as_secs(), 45);
    // And it stays broken, whatever comes later.
    server.write_all(b"\r\n").await.unwrap();
    assert_eq!(c.frame().await.unwrap_err(), e);
    assert_eq!(c.flush().await, Ok(()), "nothing queued, nothing to fail");
    c.queue(b"NOOP");
    assert_eq!(c.flush().await.unwrap_err(), e);
    assert_eq!(c.buffered_frame().unwrap_err(), e);
}

#[tokio::test(start_paused = true)]
async fn a_byte_in_time_keeps_the_connection_but_a_drip_does_not() {
    let (mut c, mut server) = pair(1024);
    let drip = async {
        let mut bytes = 0;
        while server.write_all(b"x").await.is_ok() {
            bytes += 1;
            tokio::time::sleep(Duration::from_secs(40)).await;
        }
        bytes
    };
    let (e, bytes) = both(
        async {
            let e = c.frame().await.unwrap_err();
            drop(c);
            e
        },
        drip,
    )
    .await;
    assert!(e.what.contains("of a response in"), "{e}");
    assert!((5..10).contains(&bytes), "{bytes}");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_news_is_not_silence() {
    let (mut c, mut server) = pair(1024);
    assert!(!c.ready(Duration::from_secs(1700)).await.unwrap());
    server.write_all(b"* 1 EXISTS\r\n").await.unwrap();
    assert!(c.ready(Duration::from_secs(1700)).await.unwrap());
    assert!(c.ready(Duration::ZERO).await.unwrap(), "asking does not take it");
    assert_eq!(c.frame().await.unwrap(), b"* 1 EXISTS\r\n");
}

#[tokio::test]
async fn an_endless_line_ends_at_the_bound() {
    let (mut c, mut server) = pair(1 << 16);
    let (e, wrote) = both(
        async {
            let e = c.frame().await.unwrap_err();
            let capacity = c.buf.capacity();
            drop(c);
            (e, capacity)
        },
        async {
            let mut wrote = 0;
            while server.write_all(&[b'x'; 4096]).await.is_ok() {
                wrote += 4096;
            }
            wrote
        },
    )
    .await;
    assert_eq!(e.0.kind, Kind::Protocol);
    assert!(e.0.what.starts_with("mail.example:143: "), "{}", e.0);
    assert!(wrote < 2 << 20 && e.1 <= 3 << 20, "{wrote} {}", e.1);
}

#[tokio::test]
async fn a_huge_literal_costs_nothing() {
    let (mut c, mut server) = pair(1024);
    c.set_limits(Limits::default().with_literal(8 << 20));
    server.write_all(b"* 1 FETCH (BODY[] {4294967296}\r\n").await.unwrap();
    assert_eq!(c.frame().await.unwrap_err().kind, Kind::Protocol);
    // One within the bound is believed as it comes.
    let (mut c, mut server) = pair(1024);
    c.set_limits(Limits::default().with_literal(8 << 20));
    server.write_all(b"* 1 FETCH (BODY[] {8388608}\r\nabc").await.unwrap();
    assert!(!c.ready(Duration::from_millis(20)).await.unwrap());
    assert!(c.buf.capacity() <= 2 * IDLE, "{}", c.buf.capacity());
}

#[tokio::test(start_paused = true)]
async fn the_buffer_shrinks_again() {
    let (mut c, mut server) = pair(1 << 16);
    c.set_limits(Limits::default().with_literal(8 << 20));
    let body = vec![b'b'; 8 << 20];
    let head = b"* 1 FETCH (BODY[] {8388608}\r\n";
    let (length, ()) = both(async { c.frame().await.unwrap().len() }, async {
        server.write_all(head).await.unwrap();
        server.write_all(&body).await.unwrap();
        server.write_all(b")\r\n* 2 EXISTS\r\n").await.unwrap();
    })
    .await;
    assert_eq!(length, head.len() + body.len() + 3);
    assert!(c.buf.capacity() < 10 << 20, "{}", c.buf.capacity());
    assert_eq!(c.frame().await.unwrap(), b"* 2 EXISTS\r\n");
    assert!(c.buf.capacity() <= CHUNK, "{}", c.buf.capacity());
    assert!(!c.ready(Duration::from_secs(5)).await.unwrap());
    assert!(c.buf.capacity() <= 64 << 10, "{}", c.buf.capacity());
}

#[tokio::test]
async fn the_end_of_the_connection_says_what_the_server_said() {
    let (mut c, mut server) = pair(1024);
    server.write_all(b"* 1 EXISTS\r\n* BYE shutting down\r\n").await.unwrap();
    drop(server);
    c.queue(b"NOOP");
    let e = c.flush().await.unwrap_err();
    assert_eq!(e.kind, Kind::Connection);
    assert_eq!(e.what, "mail.example:143 closed the connection: shutting down");

    let (mut c, mut server) = pair(1024);
    server.write_all(b"* 1 EXISTS\r\nM1 OK cut he").await.unwrap();
    drop(server);
    assert_eq!(c.frame().await.unwrap(), b"* 1 EXISTS\r\n");
    let e = c.frame().await.unwrap_err();
    assert_eq!(e.what, "mail.example:143 closed the connection");
}

#[tokio::test]
async fn compression_starts_with_what_was_read_already() {
    let (mut c, mut server) = pair(1 << 20);
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    let lines: Vec<u8> =
        (0..20_000).flat_map(|n| format!("* {n} EXISTS\r\n").into_bytes()).collect();
    deflate.write_all(&lines).unwrap();
    deflate.flush().unwrap();
    let compressed = deflate.get_ref().clone();
    let (early, late) = compressed.split_at(10);
    server.write_all(b"M1 OK deflating\r\n").await.unwrap();
    server.write_all(early).await.unwrap();
    assert_eq!(c.frame().await.unwrap(), b"M1 OK deflating\r\n");
    c.start_deflate().await.unwrap();
    server.write_all(late).await.unwrap();
    for n in 0..20_000 {
        assert_eq!(c.frame().await.unwrap(), format!("* {n} EXISTS\r\n").as_bytes());
    }
    assert!(!c.ready(Duration::from_millis(5)).await.unwrap());

    // And out: each flush makes everything so far readable at the other end.
    let mut all = Vec::new();
    let mut expected = Vec::new();
    for n in 0..50 {
        let noise: Vec<u8> =
            (0..n * 700).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        c.queue_raw(&noise);
        c.flush().await.unwrap();
        expected.extend_from_slice(&noise);
        let mut piece = vec![0; 1 << 20];
        if !noise.is_empty() {
            let n = server.read(&mut piece).await.unwrap();
            all.extend_from_slice(&piece[..n]);
        }
    }
    let mut plain = vec![0; expected.len()];
    flate2::read::DeflateDecoder::new(all.as_slice()).read_exact(&mut plain).unwrap();
    assert!(plain == expected);
}

#[tokio::test]
async fn a_broken_compressed_stream_is_an_error() {
    let (mut c, mut server) = pair(1024);
    c.start_deflate().await.unwrap();
    server.write_all(&[0xff; 64]).await.unwrap();
    assert_eq!(c.frame().await.unwrap_err().kind, Kind::Connection);
}

#[test]
fn the_log_keeps_secrets() {
    let (c, _server) = pair(16);
    assert_eq!(c.command_for_log(b"login me hunter2"), "login ***");
    assert_eq!(c.command_for_log(b"AUTHENTICATE PLAIN AGE="), "AUTHENTICATE ***");
    assert_eq!(c.command_for_log(b"LIST \"\" \"*\""), "LIST \\\"\\\" \\\"*\\\"");
    assert_eq!(c.command_for_log(b"APPEND x {6}\r\nsecret"), "APPEND x {6}…");
}
