use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::TcpListener;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use super::testing::{Authority, Identity, endpoint};
use super::tls::show_fingerprint;
use super::*;
use crate::error::{Error, Kind, Result};

const LONG: Duration = Duration::from_secs(20);

fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// A handshake with that server; where it works, a byte goes each way.
async fn shake(endpoint: &Endpoint, server: &Identity) -> Result<()> {
    let (here, there) = duplex(1 << 16);
    let mut stream = Stream::plain(here, None);
    let (client, _) = tokio::join!(
        async {
            stream.start_tls(endpoint, &[], LONG).await?;
            assert!(stream.is_tls());
            stream.write_all(b"?").await.unwrap();
            stream.flush().await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'!');
            Ok(())
        },
        async {
            let mut tls = server.accept(there).await?;
            assert_eq!(tls.read_u8().await?, b'?');
            tls.write_all(b"!").await?;
            tls.flush().await
        }
    );
    client
}

async fn refused(endpoint: &Endpoint, server: &Identity) -> Error {
    let e = shake(endpoint, server).await.unwrap_err();
    assert_eq!(e.kind, Kind::Tls, "{e}");
    assert!(e.what.starts_with("mail.example:993 "), "{e}");
    e
}

#[tokio::test]
async fn an_extra_authority_is_trusted_beside_the_platform_s() {
    let authority = Authority::new();
    let good = authority.issue("mail.example", 2020, 2999);
    let ca = file(&authority.pem);
    shake(&Endpoint { ca_file: Some(ca.path().into()), ..endpoint() }, &good).await.unwrap();
    // A self-signed leaf may be its own anchor.
    let own = Identity::self_signed("mail.example", false);
    let ca = file(&own.pem);
    shake(&Endpoint { ca_file: Some(ca.path().into()), ..endpoint() }, &own).await.unwrap();
}

#[tokio::test]
async fn each_bad_certificate_has_its_own_error() {
    let authority = Authority::new();
    let ca = file(&authority.pem);
    let trusting = Endpoint { ca_file: Some(ca.path().into()), ..endpoint() };

    let e = refused(&trusting, &authority.issue("mail.example", 2001, 2002)).await;
    assert!(e.what.contains("expired on 2002-01-01"), "{e}");
    let e = refused(&trusting, &authority.issue("mail.example", 2998, 2999)).await;
    assert!(e.what.contains("not valid before 2998-01-01") && e.next.contains("clock"), "{e}");

    let other = authority.issue("other.example", 2020, 2999);
    let e = refused(&trusting, &other).await;
    assert!(e.what.contains("other.example") && e.next.contains("host"), "{e}");

    for stranger in [
        Authority::new().issue("mail.example", 2020, 2999),
        Identity::self_signed("mail.example", false),
        Identity::self_signed("mail.example", true),
    ] {
        let e = refused(&trusting, &stranger).await;
        assert!(e.next.contains(&show_fingerprint(&stranger.fingerprint())), "{e}");
        assert!(e.next.contains("tls_fingerprint"), "{e}");
    }
}

#[tokio::test]
async fn a_pin_stands_in_place_of_the_chain() {
    for pinned in [
        Identity::self_signed("other.example", true),
        Authority::new().issue("mail.example", 2001, 2002),
    ] {
        let pin = Some(pinned.fingerprint());
        shake(&Endpoint { fingerprint: pin, ..endpoint() }, &pinned).await.unwrap();
    }
}

#[tokio::test]
async fn a_pin_excludes_even_good_certificates() {
    let authority = Authority::new();
    let ca = file(&authority.pem);
    let pinned =
        Endpoint { ca_file: Some(ca.path().into()), fingerprint: Some([7; 32]), ..endpoint() };
    let good = authority.issue("mail.example", 2020, 2999);
    let e = refused(&pinned, &good).await;
    assert!(e.what.contains("pinned") && e.what.contains(&show_fingerprint(&good.fingerprint())));
}

#[tokio::test]
async fn a_pinned_certificate_without_its_key_is_refused() {
    let real = Identity::self_signed("mail.example", false);
    let thief = real.with_key_of(&Identity::self_signed("mail.example", false));
    let pinned = Endpoint { fingerprint: Some(real.fingerprint()), ..endpoint() };
    for versions in [&[&TLS12], &[&TLS13]] {
        let (here, there) = duplex(1 << 16);
        let mut stream = Stream::plain(here, None);
        let (e, _) =
            tokio::join!(stream.start_tls(&pinned, &[], LONG), thief.accept_with(there, versions));
        assert_eq!(e.unwrap_err().kind, Kind::Tls);
        // And there is no way on in the clear.
        assert!(stream.write_all(b"password").await.is_err());
        assert!(stream.read_u8().await.is_err());
    }
}

#[tokio::test]
async fn tls_1_2_is_enough() {
    let own = Identity::self_signed("mail.example", false);
    let pinned = Endpoint { fingerprint: Some(own.fingerprint()), ..endpoint() };
    let (here, there) = duplex(1 << 16);
    let mut stream = Stream::plain(here, None);
    let old = [&TLS12];
    let (client, server) =
        tokio::join!(stream.start_tls(&pinned, &[], LONG), own.accept_with(there, &old));
    client.unwrap();
    server.unwrap();
}

#[tokio::test]
async fn bytes_before_the_handshake_are_an_error() {
    let (here, mut there) = duplex(1024);
    let mut stream = Stream::plain(here, None);
    let e = stream.start_tls(&endpoint(), b"* CAPABILITY\r\n", LONG).await.unwrap_err();
    assert_eq!((e.kind, e.what.contains("14 bytes in the clear")), (Kind::Tls, true));
    drop(stream);
    let mut sent = Vec::new();
    there.read_to_end(&mut sent).await.unwrap();
    assert_eq!(sent, b"", "no handshake was begun");
}

#[tokio::test]
async fn what_is_not_tls_is_told() {
    let (here, mut there) = duplex(1024);
    there.write_all(b"* OK IMAP4rev1 ready\r\n").await.unwrap();
    let e = Stream::plain(here, None).start_tls(&endpoint(), &[], LONG).await.unwrap_err();
    assert!(e.kind == Kind::Tls && e.what.contains("does not speak TLS"), "{e}");
    assert!(e.next.contains("starttls"));

    let (here, there) = duplex(1024);
    drop(there);
    let e = Stream::plain(here, None).start_tls(&endpoint(), &[], LONG).await.unwrap_err();
    assert_eq!(e.kind, Kind::Connection);
}

#[tokio::test(start_paused = true)]
async fn a_silent_handshake_ends() {
    let (here, _there) = duplex(1024);
    let e = Stream::plain(here, None).start_tls(&endpoint(), &[], LONG).await.unwrap_err();
    assert!(e.kind == Kind::Connection && e.what.contains("within 20 s"), "{e}");
}

#[tokio::test]
async fn the_extra_authority_has_to_be_one() {
    let (here, _there) = duplex(1024);
    let mut stream = Stream::plain(here, None);
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for text in ["", "no certificate", junk] {
        let ca = file(text);
        let endpoint = Endpoint { ca_file: Some(ca.path().into()), ..endpoint() };
        let e = stream.start_tls(&endpoint, &[], LONG).await.unwrap_err();
        assert!(e.kind == Kind::Config && e.what.contains("tls_ca_file"), "{e}");
        stream = Stream::plain(duplex(16).0, None);
    }
    let endpoint = Endpoint { ca_file: Some("/nonexistent/ca.pem".into()), ..endpoint() };
    let e = stream.start_tls(&endpoint, &[], LONG).await.unwrap_err();
    assert!(e.kind == Kind::Io && e.what.contains("/nonexistent/ca.pem"), "{e}");
}

fn plain(host: &str, port: u16) -> Endpoint {
    Endpoint { host: host.into(), port, security: Security::None, ..endpoint() }
}

#[tokio::test]
async fn connects_over_any_address_that_works() {
    // "localhost" may be ::1 as well, where nobody listens.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let timeouts = Timeouts::default();
    let here = plain("localhost", port);
    let (stream, served) = tokio::join!(connect(&here, &timeouts), listener.accept());
    let (stream, _) = (stream.unwrap(), served.unwrap());
    assert!(stream.is_loopback() && !stream.is_tls());
    assert_eq!(stream.peer().unwrap().port(), port);
}

#[tokio::test]
async fn implicit_tls_is_there_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = Identity::self_signed("localhost", false);
    let here = Endpoint {
        security: Security::Implicit,
        fingerprint: Some(own.fingerprint()),
        ..plain("127.0.0.1", listener.local_addr().unwrap().port())
    };
    let timeouts = Timeouts::default();
    let (stream, _tls) = tokio::join!(connect(&here, &timeouts), async {
        own.accept(listener.accept().await.unwrap().0).await.unwrap()
    });
    assert!(stream.unwrap().is_tls());
}

#[tokio::test]
async fn a_refused_connection_and_an_unknown_name_say_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let e = connect(&plain("127.0.0.1", port), &Timeouts::default()).await.err().unwrap();
    assert_eq!(e.kind, Kind::Connection);
    assert!(e.what.contains("refused") && e.next.contains("port"), "{e}");
    // RFC 6761: .invalid never resolves.
    let e = connect(&plain("mail.invalid", 143), &Timeouts::default()).await.err().unwrap();
    assert!(e.what.contains("does not resolve") && e.next.contains("host"), "{e}");
}
