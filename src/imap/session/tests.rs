use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;
use crate::net::Stream;

async fn session() -> (Session, DuplexStream) {
    let (here, there) = duplex(1 << 20);
    let conn = Connection::new(Stream::plain(here, None), "mail.example:143", &Timeouts::default());
    (Session::over(conn, "mail.example", vec!["IMAP4rev1".into()]).await.unwrap(), there)
}

/// Says `line` every 15 s, so many times, and then OK to the command, if that is still waited for.
async fn linger(mut server: DuplexStream, line: &str, times: u32) -> DuplexStream {
    for _ in 0..times {
        tokio::time::sleep(Duration::from_secs(15)).await;
        server.write_all(line.as_bytes()).await.unwrap();
    }
    server.write_all(b"M1 OK done\r\n").await.unwrap();
    server
}

#[tokio::test(start_paused = true)]
async fn a_command_may_take_long_but_not_for_ever() {
    const STILL: &str = "* OK Hang in there..\r\n";
    for (line, minutes, ends) in [
        (STILL, 29, true),
        (STILL, 31, false),
        ("* 1 EXISTS\r\n", 31, false),
        // something happens
        ("* 1 FETCH (UID 1 FLAGS ())\r\n", 300, true),
    ] {
        let (mut s, server) = session().await;
        let begun = Instant::now();
        let (done, _server) = tokio::join!(s.noop(), linger(server, line, minutes * 4));
        assert_eq!(done.is_ok(), ends, "{line} for {minutes} minutes: {done:?}");
        if let Err(e) = done {
            assert_eq!((e.scope, e.kind), (Scope::Account, Kind::Connection));
            assert!(e.what.contains("30 minutes"), "{e}");
            assert!(begun.elapsed() < Duration::from_secs(32 * 60));
            assert!(s.noop().await.is_err(), "the session is over");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_is_progress_too() {
    let (mut s, mut server) = session().await;
    let tag = s.send(b"NOOP");
    for _ in 0..10 {
        server.write_all(b"* OK still here\r\n").await.unwrap();
        s.next().await.unwrap();
        tokio::time::sleep(Duration::from_secs(20 * 60)).await;
        s.conn.queue_raw(b" "); // as the next piece of a literal
        s.conn.flush().await.unwrap();
    }
    let mut got = [0; 1024];
    assert!(server.read(&mut got).await.unwrap() > 0);
    server.write_all(b"M1 OK done\r\n").await.unwrap();
    assert!(matches!(s.next().await.unwrap(), Event::Done(t, _) if t == tag));
}
