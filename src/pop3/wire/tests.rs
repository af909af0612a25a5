use std::future::Future;

use tokio::io::{DuplexStream, duplex};
use tokio::time::sleep;

use super::*;
use crate::net::Security;

/// A connection and its server's end; so many bytes fit on the way.
fn pair(capacity: usize) -> (Wire, DuplexStream) {
    let (here, there) = duplex(capacity);
    let endpoint =
        Endpoint { security: Security::None, port: 110, ..crate::net::testing::endpoint() };
    let timeouts = Timeouts { silence: Duration::from_secs(60), ..Timeouts::default() };
    (Wire::new(Stream::plain(here, None), &endpoint, &timeouts), there)
}

async fn both<A, B>(
    seconds: u64,
    a: impl Future<Output = A>,
    b: impl Future<Output = B>,
) -> (A, B) {
    let both = async { tokio::join!(a, b) };
    timeout(Duration::from_secs(seconds), both).await.expect("a deadlock")
}

#[tokio::test]
async fn a_server_that_writes_before_it_reads_is_no_deadlock() {
    let (mut wire, mut server) = pair(64);
    for n in 0..1000 {
        wire.send(format!("RETR {n}").as_bytes(), Expected::Message(1 << 20));
    }
    wire.send(b"NOOP", Expected::Answer);
    let message = format!("+OK\r\n{}.\r\n", "a line\r\n".repeat(50));
    let (messages, got) = both(
        60,
        async {
            let mut messages = 0;
            loop {
                match wire.event().await.unwrap() {
                    Event::End => messages += 1,
                    Event::Answer(_) => break,
                    _ => {}
                }
            }
            messages
        },
        async {
            for _ in 0..1000 {
                server.write_all(message.as_bytes()).await.unwrap();
            }
            let mut got = vec![0; (0..1000).map(|n| format!("RETR {n}\r\n").len()).sum()];
            server.read_exact(&mut got).await.unwrap();
            server.write_all(b"+OK\r\n").await.unwrap();
            got
        },
    )
    .await;
    assert_eq!(messages, 1000);
    assert!(got.ends_with(b"RETR 998\r\nRETR 999\r\n"));
}

#[tokio::test]
async fn memory_is_constant_whatever_comes() {
    let (mut wire, mut server) = pair(1 << 20);
    wire.send(b"RETR 1", Expected::Message(1 << 30));
    let line = [&[b'x'; 998][..], b"\r\n"].concat();
    both(
        60,
        async {
            while wire.event().await.unwrap() != Event::End {
                assert!(wire.buf.capacity() <= 2 * CHUNK, "{}", wire.buf.capacity());
            }
        },
        async {
            server.write_all(b"+OK\r\n").await.unwrap();
            for _ in 0..30_000 {
                server.write_all(&line).await.unwrap();
            }
            server.write_all(b".\r\n").await.unwrap();
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn silence_is_an_error() {
    let (mut wire, _server) = pair(64);
    wire.send(b"STAT", Expected::Stat);
    let e = wire.event().await.unwrap_err();
    assert_eq!(e.kind, Kind::Connection);
    assert!(e.what.contains("silent for 60 s"), "{e}");
    assert_eq!(wire.event().await.unwrap_err(), e);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_drips_is_given_up() {
    let (mut wire, mut server) = pair(64);
    wire.send(b"UIDL", Expected::Uidls);
    let begun = Instant::now();
    let dripping = async {
        server.write_all(b"+OK\r\n1 ").await.unwrap();
        loop {
            sleep(Duration::from_secs(50)).await;
            server.write_all(b"x").await.unwrap();
        }
    };
    let e = tokio::select! {
        e = wire.event() => e.unwrap_err(),
        () = dripping => unreachable!("it drips for ever"),
    };
    assert_eq!(e.kind, Kind::Connection);
    assert!(e.what.contains("bytes of a reply"), "{e}");
    assert!(begun.elapsed() < Duration::from_secs(400), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_long_reply_may_take_its_time() {
    let (mut wire, mut server) = pair(1 << 16);
    wire.send(b"RETR 1", Expected::Message(1 << 30));
    both(7200, async { while wire.event().await.unwrap() != Event::End {} }, async {
        server.write_all(b"+OK\r\n").await.unwrap();
        // an hour at 1,000 bytes a second
        for _ in 0..72 {
            server
                .write_all(&b"50 bytes in a line, and so on, and so on, and.\r\n\r\n".repeat(1000))
                .await
                .unwrap();
            sleep(Duration::from_secs(50)).await;
        }
        server.write_all(b".\r\n").await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_the_server_said_before_it_hung_up_is_read() {
    let (mut wire, mut server) = pair(64);
    server.write_all(b"-ERR shutting down\r\n").await.unwrap();
    drop(server);
    wire.send(b"STAT", Expected::Stat);
    wire.send(b"UIDL", Expected::Uidls);
    let Event::Answer(answer) = wire.event().await.unwrap() else { panic!() };
    assert_eq!(answer.text, b"shutting down");
    assert_eq!(wire.event().await.unwrap_err().kind, Kind::Connection);
}
