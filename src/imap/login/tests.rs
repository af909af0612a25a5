use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio_rustls::server::TlsStream;

use super::*;
use crate::net::testing::{Identity, endpoint};
use crate::net::{Stream, Transport};
use crate::sasl::Method;

const PASSWORD: &str = "hunter2-secret";

/// What the scripted server does next.
#[derive(Debug, Clone)]
enum Do {
    /// Sends these bytes.
    Say(Vec<u8>),
    /// Expects exactly these bytes.
    Hear(Vec<u8>),
    /// Hangs up.
    Hang,
}

fn say(text: impl AsRef<str>) -> Do {
    Do::Say(format!("{}\r\n", text.as_ref()).into_bytes())
}

fn hear(text: impl AsRef<str>) -> Do {
    Do::Hear(format!("{}\r\n", text.as_ref()).into_bytes())
}

/// Plays the script, then returns everything else that the client sends.
async fn play(io: impl Transport, script: &[Do]) -> Vec<u8> {
    let mut io = BufReader::new(io);
    for step in script {
        match step {
            Do::Say(bytes) => {
                // A client that gave up early is the client's business.
                let _ = io.write_all(bytes).await;
                let _ = io.flush().await;
            }
            Do::Hear(expected) => {
                let mut got = vec![0; expected.len()];
                let read = io.read_exact(&mut got).await;
                assert!(
                    read.is_ok() && got == *expected,
                    "expected {} and got {}",
                    expected.escape_ascii(),
                    got.escape_ascii()
                );
            }
            Do::Hang => return Vec::new(),
        }
    }
    let mut rest = Vec::new();
    let _ = io.read_to_end(&mut rest).await;
    rest
}

fn spec() -> LoginSpec {
    LoginSpec {
        user: "me".into(),
        auth: Method::Auto,
        secret: PASSWORD.into(),
        token: false,
        plaintext_ok: true,
    }
}

fn in_the_clear() -> Endpoint {
    Endpoint { security: Security::None, port: 143, ..endpoint() }
}

/// Logs in to a scripted server; nothing may be left unread on its side.
async fn log_in(login: &LoginSpec, script: &[Do]) -> Result<Vec<String>> {
    let (here, there) = duplex(1 << 16);
    let (done, rest) = tokio::join!(
        async {
            let stream = Stream::plain(here, None);
            let endpoint = in_the_clear();
            open_over(stream, &endpoint, login, &Timeouts::default()).await.map(|(_, caps)| caps)
        },
        play(there, script)
    );
    assert_eq!(rest, b"", "sent unasked: {}", rest.escape_ascii());
    if let Err(e) = &done {
        assert!(!e.to_string().contains(PASSWORD), "{e}");
    }
    done
}

fn b64(text: &str) -> String {
    STANDARD.encode(text)
}

fn plain_message() -> String {
    b64(&format!("\0me\0{PASSWORD}"))
}

#[tokio::test]
async fn plain_with_and_without_an_initial_response() {
    let caps = log_in(
        &spec(),
        &[
            say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi"),
            hear(format!("M1 AUTHENTICATE PLAIN {}", plain_message())),
            say("M1 OK [CAPABILITY IMAP4rev1 IDLE] in"),
        ],
    )
    .await;
    assert_eq!(caps.unwrap(), ["IMAP4rev1", "IDLE"]);

    // Capabilities are asked for where the server does not tell, before and after.
    let caps = log_in(
        &spec(),
        &[
            say("* OK hi"),
            hear("M1 CAPABILITY"),
            say("* CAPABILITY IMAP4rev1 AUTH=PLAIN"),
            say("M1 OK"),
            hear("M2 AUTHENTICATE PLAIN"),
            say("+ go on, please!"),
            hear(plain_message()),
            say("M2 OK in"),
            hear("M3 CAPABILITY"),
            say("* CAPABILITY IMAP4rev1 UIDPLUS"),
            say("M3 OK"),
        ],
    )
    .await;
    assert_eq!(caps.unwrap(), ["IMAP4rev1", "UIDPLUS"]);
}

#[tokio::test]
async fn untagged_capabilities_with_the_login_count() {
    let caps = log_in(
        &spec(),
        &[
            say("* OK [CAPABILITY IMAP4rev1] hi"),
            hear(format!("M1 LOGIN \"me\" \"{PASSWORD}\"")),
            say("* 3 EXISTS"),
            say("* CAPABILITY IMAP4rev1 MOVE"),
            say("M1 OK in"),
        ],
    )
    .await;
    assert_eq!(caps.unwrap(), ["IMAP4rev1", "MOVE"]);
}

#[tokio::test]
async fn the_login_mechanism() {
    let caps = log_in(
        &spec(),
        &[
            say("* OK [CAPABILITY IMAP4rev1 AUTH=LOGIN LOGINDISABLED SASL-IR] hi"),
            hear("M1 AUTHENTICATE LOGIN"),
            say("+ VXNlcm5hbWU6"),
            hear(b64("me")),
            say("+ Password:"),
            hear(b64(PASSWORD)),
            say("M1 OK [CAPABILITY X] in"),
        ],
    )
    .await;
    assert_eq!(caps.unwrap(), ["X"]);
}

#[tokio::test]
async fn odd_passwords_in_the_login_command() {
    let with = |secret: &str| LoginSpec { secret: secret.into(), ..spec() };
    log_in(
        &with("a\"b\\c {3}"),
        &[
            say("* OK [CAPABILITY IMAP4rev1] hi"),
            hear("M1 LOGIN \"me\" \"a\\\"b\\\\c {3}\""),
            say("M1 OK [CAPABILITY X] in"),
        ],
    )
    .await
    .unwrap();
    // 8-bit: a literal, waited for or not.
    for (offered, first) in [
        ("LITERAL+", Do::Hear("M1 LOGIN \"me\" {4+}\r\npä1\r\n".into())),
        ("LITERAL-", Do::Hear("M1 LOGIN \"me\" {4+}\r\npä1\r\n".into())),
        ("IDLE", hear("M1 LOGIN \"me\" {4}")),
    ] {
        let mut script = vec![say(format!("* OK [CAPABILITY IMAP4rev1 {offered}] hi")), first];
        if offered == "IDLE" {
            script.extend([say("+ ok"), hear("pä1")]);
        }
        script.push(say("M1 OK [CAPABILITY X] in"));
        log_in(&with("pä1"), &script).await.unwrap();
    }
    // What no quoting can save is not sent at all.
    for bad in ["a\r\nM2 DELETE INBOX", "a\nb", "a\0b"] {
        let e = log_in(&with(bad), &[say("* OK [CAPABILITY IMAP4rev1] hi")]).await.unwrap_err();
        assert_eq!(e.kind, Kind::Config);
    }
}

#[tokio::test]
async fn a_literal_refused_is_a_refusal() {
    let e = log_in(
        &LoginSpec { secret: "pä1".into(), ..spec() },
        &[
            say("* OK [CAPABILITY IMAP4rev1] hi"),
            hear("M1 LOGIN \"me\" {4}"),
            say("M1 NO [AUTHENTICATIONFAILED] not like this"),
        ],
    )
    .await;
    assert_eq!(e.unwrap_err().kind, Kind::Credentials);
}

#[tokio::test]
async fn oauth_errors_are_answered_and_shown() {
    let login = LoginSpec { token: true, ..spec() };
    let message = b64(&format!("user=me\x01auth=Bearer {PASSWORD}\x01\x01"));
    let e = log_in(
        &login,
        &[
            say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2 AUTH=PLAIN] hi"),
            hear(format!("M1 AUTHENTICATE XOAUTH2 {message}")),
            say(format!("+ {}", b64(&format!("{{\"status\":\"400\",\"got\":\"{PASSWORD}\"}}")))),
            hear(""),
            say(format!("M1 NO SASL authentication failed for {message}")),
        ],
    )
    .await
    .unwrap_err();
    assert_eq!(e.kind, Kind::Credentials);
    assert!(e.what.contains(r#"{"status":"400","got":"***"}"#), "{e}");
    assert!(!e.what.contains(&message[..20]), "{e}");
    assert!(e.next.contains("token_command"));
}

#[tokio::test]
async fn a_long_token_echoed_is_not_shown_in_part() {
    let token = "0123456789abcdef".repeat(100);
    let login = LoginSpec { token: true, secret: token.as_str().into(), ..spec() };
    let e = log_in(
        &login,
        &[
            say("* OK [CAPABILITY IMAP4rev1 AUTH=OAUTHBEARER] hi"),
            hear("M1 AUTHENTICATE OAUTHBEARER"),
            say("+"),
            hear(b64(&format!(
                "n,a=me,\x01host=mail.example\x01port=143\x01auth=Bearer {token}\x01\x01"
            ))),
            say(format!("M1 NO bad token {token}")),
        ],
    )
    .await
    .unwrap_err();
    assert!(e.what.ends_with("bad token ***"), "{e}");
}

#[tokio::test]
async fn a_wrong_password_is_tried_once() {
    for (answer, shown) in [
        (
            "NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)",
            "Invalid credentials (Failure)",
        ),
        ("NO [ALERT] Application-specific password required", "Application-specific password"),
        ("NO no such user hunter2-secret", "no such user ***"),
        ("BAD huh?", "huh?"),
        ("NO [AUTHENTICATIONFAILED] temporary password wrong", "temporary"),
    ] {
        let e = log_in(
            &spec(),
            &[
                say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=LOGIN] hi"),
                hear(format!("M1 AUTHENTICATE PLAIN {}", plain_message())),
                say(format!("M1 {answer}")),
            ],
        )
        .await
        .unwrap_err();
        assert_eq!(e.kind, Kind::Credentials, "{answer}");
        assert!(e.what.contains(shown) && !e.next.is_empty(), "{e}");
    }
}

#[tokio::test]
async fn a_way_that_was_chosen_for_the_user_may_be_what_is_wrong() {
    for (auth, told) in [(Method::Auto, true), (Method::ScramSha256, false)] {
        let spec = LoginSpec { auth, ..spec() };
        let steps = [
            say("* OK [CAPABILITY IMAP4rev1 AUTH=SCRAM-SHA-256 AUTH=PLAIN] hi"),
            hear("M1 AUTHENTICATE SCRAM-SHA-256"),
            say("M1 NO [AUTHENTICATIONFAILED] no"),
        ];
        let e = log_in(&spec, &steps).await.unwrap_err();
        assert_eq!(e.kind, Kind::Credentials);
        assert_eq!(e.next.contains("auth = \"plain\""), told, "{e}");
    }
}

#[tokio::test]
async fn a_passing_trouble_does_not_park_the_account() {
    for answer in [
        "NO [UNAVAILABLE] Temporary authentication failure.",
        "NO [ALERT] Too many simultaneous connections. (Failure)",
        "NO [INUSE] locked",
        "BAD User is authenticated but not connected.",
    ] {
        let e = log_in(
            &spec(),
            &[
                say("* OK [CAPABILITY IMAP4rev1] hi"),
                hear(format!("M1 LOGIN \"me\" \"{PASSWORD}\"")),
                say(format!("M1 {answer}")),
            ],
        )
        .await
        .unwrap_err();
        assert_eq!(e.kind, Kind::Connection, "{answer}");
    }
}

#[tokio::test]
async fn scram_needs_the_server_s_proof() {
    // A server that does not know the password just says OK.
    let (here, there) = duplex(1 << 16);
    let (done, ()) = tokio::join!(
        async {
            let stream = Stream::plain(here, None);
            open_over(stream, &in_the_clear(), &spec(), &Timeouts::default()).await.map(|_| ())
        },
        async {
            let mut io = BufReader::new(there);
            let caps = "* OK [CAPABILITY IMAP4rev1 AUTH=SCRAM-SHA-256 AUTH=PLAIN] hi\r\n";
            io.write_all(caps.as_bytes()).await.unwrap();
            let mut line = String::new();
            io.read_line(&mut line).await.unwrap();
            assert_eq!(line, "M1 AUTHENTICATE SCRAM-SHA-256\r\n");
            io.write_all(b"+ \r\n").await.unwrap();
            line.clear();
            io.read_line(&mut line).await.unwrap();
            let first = String::from_utf8(STANDARD.decode(line.trim()).unwrap()).unwrap();
            let nonce = first.strip_prefix("n,,n=me,r=").unwrap();
            let challenge = b64(&format!("r={nonce}xyz,s=c2FsdA==,i=4096"));
            io.write_all(format!("+ {challenge}\r\n").as_bytes()).await.unwrap();
            line.clear();
            io.read_line(&mut line).await.unwrap();
            io.write_all(b"M1 OK welcome\r\n").await.unwrap();
        }
    );
    let e = done.unwrap_err();
    assert!(e.kind == Kind::Protocol && e.what.contains("without proving"), "{e}");
}

#[tokio::test]
async fn greetings_that_are_none() {
    for (greeting, kind, shown) in [
        ("* BYE [ALERT] too many connections", Kind::Connection, "too many connections"),
        ("+OK POP3 ready", Kind::Protocol, "does not speak IMAP"),
        ("220 mail.example ESMTP", Kind::Protocol, "does not speak IMAP"),
        ("HTTP/1.1 400 Bad Request", Kind::Protocol, "does not speak IMAP"),
        ("* NO thanks", Kind::Protocol, "out of place"),
        ("M1 OK logged in", Kind::Protocol, "does not speak IMAP"),
    ] {
        let e = log_in(&spec(), &[say(greeting)]).await.unwrap_err();
        assert_eq!(e.kind, kind, "{greeting}");
        assert!(e.what.contains(shown), "{e}");
    }
    let e = log_in(&spec(), &[Do::Hang]).await.unwrap_err();
    assert!(e.kind == Kind::Connection && e.next.contains("port"), "{e}");
    let e = log_in(&spec(), &[Do::Say(vec![b'*'; 1 << 20])]).await.unwrap_err();
    assert_eq!(e.kind, Kind::Protocol);
}

#[tokio::test]
async fn preauth_needs_no_credentials() {
    let caps = log_in(&spec(), &[say("* PREAUTH [CAPABILITY IMAP4rev1 IDLE] hello")]).await;
    assert_eq!(caps.unwrap(), ["IMAP4rev1", "IDLE"]);
}

#[tokio::test]
async fn no_password_over_plaintext_unasked() {
    let login = LoginSpec { plaintext_ok: false, ..spec() };
    let e = log_in(&login, &[say("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi")]).await;
    assert_eq!(e.unwrap_err().kind, Kind::Tls);
}

#[tokio::test]
async fn a_server_that_says_goodbye_told_why() {
    let e = log_in(
        &spec(),
        &[
            say("* OK [CAPABILITY IMAP4rev1] hi"),
            hear(format!("M1 LOGIN \"me\" \"{PASSWORD}\"")),
            say("* BYE going down, hunter2-secret"),
            Do::Hang,
        ],
    )
    .await
    .unwrap_err();
    assert_eq!(e.kind, Kind::Connection);
    assert!(e.what.contains("going down, ***"), "{e}");
}

#[tokio::test]
async fn responses_out_of_place_end_the_login() {
    let greeting = say("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi");
    let flood = Do::Say("* 1 EXISTS\r\n".repeat(MOST_RESPONSES + 1).into_bytes());
    for answer in [say("M9 OK someone else's"), say("garbage"), flood, say("M2 OK early")] {
        let script = [greeting.clone(), hear("M1 AUTHENTICATE PLAIN"), answer.clone()];
        let e = log_in(&spec(), &script).await.unwrap_err();
        assert_eq!(e.kind, Kind::Protocol, "{answer:?}");
    }
    // A second question that PLAIN has no answer to.
    let script = [
        greeting.clone(),
        hear("M1 AUTHENTICATE PLAIN"),
        say("+ "),
        hear(plain_message()),
        say("+ "),
    ];
    assert_eq!(log_in(&spec(), &script).await.unwrap_err().kind, Kind::Protocol);
    // Success before a word was said.
    let script = [greeting, hear("M1 AUTHENTICATE PLAIN"), say("M1 OK [CAPABILITY X] in")];
    assert_eq!(log_in(&spec(), &script).await.unwrap_err().kind, Kind::Protocol);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_greet_is_given_up() {
    let (here, _there) = duplex(64);
    let begun = tokio::time::Instant::now();
    let stream = Stream::plain(here, None);
    let e = open_over(stream, &in_the_clear(), &spec(), &Timeouts::default()).await;
    let e = e.err().unwrap();
    assert!(e.kind == Kind::Connection && e.what.contains("greet within 30 s"), "{e}");
    assert!(e.next.contains("993"));
    assert_eq!(begun.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_drags_on_is_given_up() {
    let (here, mut there) = duplex(64);
    let stream = Stream::plain(here, None);
    let begun = tokio::time::Instant::now();
    let endpoint = in_the_clear();
    let login = spec();
    let timeouts = Timeouts::default();
    let (e, ()) = tokio::join!(open_over(stream, &endpoint, &login, &timeouts), async {
        there.write_all(b"* OK hi\r\n").await.unwrap();
        while there.write_all(b"* 1 EXISTS\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
    });
    assert_eq!(e.err().unwrap().kind, Kind::Connection);
    assert!(begun.elapsed().as_secs() <= 290, "{:?}", begun.elapsed());
}

// STARTTLS

/// A client that demands STARTTLS with a pinned certificate; the server's side is given.
async fn start_tls(
    server: &Identity,
    before: &[Do],
    after: Option<&[Do]>,
) -> (Result<Vec<String>>, Vec<u8>) {
    let (here, mut there) = duplex(1 << 16);
    let endpoint = Endpoint {
        security: Security::StartTls,
        fingerprint: Some(server.fingerprint()),
        ..in_the_clear()
    };
    // Allowing plaintext must not matter once STARTTLS is asked for.
    let login = spec();
    tokio::join!(
        async {
            let stream = Stream::plain(here, None);
            let opened = open_over(stream, &endpoint, &login, &Timeouts::default()).await;
            opened.map(|(connection, caps)| {
                assert!(connection.is_tls());
                caps
            })
        },
        async {
            let Some(after) = after else { return play(there, before).await };
            // No read-ahead here: the handshake follows at once.
            for step in before {
                match step {
                    Do::Say(bytes) => there.write_all(bytes).await.unwrap(),
                    Do::Hear(expected) => {
                        let mut got = vec![0; expected.len()];
                        there.read_exact(&mut got).await.unwrap();
                        assert_eq!(got, *expected);
                    }
                    Do::Hang => return Vec::new(),
                }
            }
            let tls: TlsStream<DuplexStream> = server.accept(there).await.unwrap();
            play(tls, after).await
        }
    )
}

#[tokio::test]
async fn starttls_forgets_what_was_said_before() {
    let server = Identity::self_signed("mail.example", false);
    let (caps, rest) = start_tls(
        &server,
        &[
            say("* OK [CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN SASL-IR] hi"),
            hear("M1 STARTTLS"),
            say("M1 OK begin"),
        ],
        Some(&[
            hear("M2 CAPABILITY"),
            say("* CAPABILITY IMAP4rev1 AUTH=PLAIN"),
            say("M2 OK"),
            hear("M3 AUTHENTICATE PLAIN"),
            say("+ "),
            hear(plain_message()),
            say("M3 OK [CAPABILITY IMAP4rev1 QRESYNC] in"),
        ]),
    )
    .await;
    assert_eq!(caps.unwrap(), ["IMAP4rev1", "QRESYNC"]);
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn starttls_missing_refused_or_tampered_with_ends_before_credentials() {
    let server = Identity::self_signed("mail.example", false);
    let offered = say("* OK [CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN] hi");
    let stripped: [Vec<Do>; 6] = [
        vec![
            say("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi"),
            hear("M1 CAPABILITY"),
            say("* CAPABILITY IMAP4rev1 AUTH=PLAIN"),
            say("M1 OK"),
        ],
        vec![say("* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] welcome")],
        vec![offered.clone(), hear("M1 STARTTLS"), say("M1 NO not today")],
        vec![offered.clone(), hear("M1 STARTTLS"), say("M1 BAD what")],
        vec![
            offered.clone(),
            hear("M1 STARTTLS"),
            Do::Say(b"M1 OK begin\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n".to_vec()),
        ],
        vec![
            offered.clone(),
            hear("M1 STARTTLS"),
            Do::Say(b"M1 OK begin\r\nM2 OK [CAPABILITY IMAP4rev1] in\r\n".to_vec()),
        ],
    ];
    for script in stripped {
        let (e, rest) = start_tls(&server, &script, None).await;
        let e = e.unwrap_err();
        assert_eq!(e.kind, Kind::Tls, "{script:?}");
        assert_eq!(rest, b"", "not one byte after {script:?}");
    }
    // In a later segment, injected text is taken for a broken handshake.
    let script = [offered, hear("M1 STARTTLS"), say("M1 OK begin")];
    let other = Identity::self_signed("mail.example", false);
    let (here, there) = duplex(1 << 16);
    let endpoint = Endpoint {
        security: Security::StartTls,
        fingerprint: Some(other.fingerprint()),
        ..in_the_clear()
    };
    let (login, timeouts) = (spec(), Timeouts::default());
    let (e, rest) =
        tokio::join!(open_over(Stream::plain(here, None), &endpoint, &login, &timeouts), async {
            let mut io = BufReader::new(there);
            for step in &script {
                if let Do::Say(bytes) = step {
                    io.write_all(bytes).await.unwrap();
                } else {
                    io.read_line(&mut String::new()).await.unwrap();
                }
            }
            let hello = io.read_u8().await.unwrap();
            io.write_all(b"* CAPABILITY IMAP4rev1\r\n").await.unwrap();
            let mut rest = vec![hello];
            io.read_to_end(&mut rest).await.unwrap();
            rest
        });
    assert_eq!(e.err().unwrap().kind, Kind::Tls);
    let leaked = rest.windows(PASSWORD.len()).any(|w| w == PASSWORD.as_bytes());
    assert!(rest.first() == Some(&0x16) && !leaked, "a ClientHello and no more");
}

// The log

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_reaches_the_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    // The cache of callsites may remember a time without this subscriber.
    tracing::callsite::rebuild_interest_cache();

    let echo = say(format!("* OK [ALERT] you sent {PASSWORD} and {}", b64(PASSWORD)));
    let ok = say("M1 OK [CAPABILITY X] in");
    for (offer, token, exchange) in [
        ("X", false, vec![hear(format!("M1 LOGIN \"me\" \"{PASSWORD}\""))]),
        (
            "AUTH=PLAIN SASL-IR",
            false,
            vec![hear(format!("M1 AUTHENTICATE PLAIN {}", plain_message()))],
        ),
        (
            "AUTH=LOGIN LOGINDISABLED",
            false,
            vec![
                hear("M1 AUTHENTICATE LOGIN"),
                say("+ "),
                hear(b64("me")),
                say("+ "),
                hear(b64(PASSWORD)),
            ],
        ),
        (
            "AUTH=XOAUTH2",
            true,
            vec![
                hear("M1 AUTHENTICATE XOAUTH2"),
                say("+ "),
                hear(b64(&format!("user=me\x01auth=Bearer {PASSWORD}\x01\x01"))),
            ],
        ),
    ] {
        let mut script = vec![say(format!("* OK [CAPABILITY IMAP4rev1 {offer}] hi"))];
        script.extend(exchange);
        script.extend([echo.clone(), ok.clone()]);
        log_in(&LoginSpec { token, ..spec() }, &script).await.unwrap();
    }

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("LOGIN ***") && log.contains("AUTHENTICATE ***"), "{log}");
    assert!(log.contains("you sent *** and ***"), "the alert is shown: {log}");
    let message = plain_message();
    for secret in [PASSWORD, &b64(PASSWORD), &message, &b64(PASSWORD)[..8], &message[8..]] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}
