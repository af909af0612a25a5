//! TLS: who is trusted, and that no password goes out before.

use crate::common::dovecot::with_tls;
use crate::common::proxy::Faults;
use crate::common::scripted::{Script, send};
use crate::common::server::PASSWORD;
use crate::common::*;

/// The program, pointed at the server's TLS port.
fn to_tls(server: &Dovecot, certs: &Certs) -> Mailkeep {
    let mut mk = Mailkeep::to_port(server.tls_port());
    mk.set("tls", "implicit").set("tls_ca_file", certs.ca.to_str().unwrap());
    mk
}

/// It refuses, says why, and has not logged in.
#[track_caller]
fn assert_refused(server: &Dovecot, mk: &Mailkeep) -> String {
    let said = mk.sync().expect(1);
    assert!(!server.log().contains("Login: user="), "{}", server.log());
    assert!(!said.text().contains(PASSWORD));
    said.text().to_lowercase()
}

#[test]
fn a_certificate_of_the_named_ca() {
    let (server, certs, _dir) = with_tls(Options::default(), |c| &c.good);
    server.seed("INBOX", &Mint::new(1).letters(0..5));
    let mk = to_tls(&server, &certs);
    mk.sync_ok();
    assert_same(&server, mk.maildir());
    let said = mk.run(&["check", "--connect"]).expect(0);
    assert!(said.text().contains("QRESYNC"), "{}", said.text());
}

#[test]
fn not_one_of_another_ca_or_none() {
    let (server, certs, _dir) = with_tls(Options::default(), |c| &c.good);
    let mut mk = to_tls(&server, &certs);
    mk.set("tls_ca_file", certs.other_ca.to_str().unwrap());
    assert!(assert_refused(&server, &mk).contains("certificate"));
    mk.unset("tls_ca_file");
    assert!(assert_refused(&server, &mk).contains("certificate"));
}

#[test]
fn not_a_self_signed_one() {
    let (server, certs, _dir) = with_tls(Options::default(), |c| &c.self_signed);
    assert!(assert_refused(&server, &to_tls(&server, &certs)).contains("certificate"));
}

#[test]
fn not_one_for_another_host() {
    let (server, certs, _dir) = with_tls(Options::default(), |c| &c.wrong_host);
    let said = assert_refused(&server, &to_tls(&server, &certs));
    assert!(said.contains("localhost"), "which name was asked for: {said}");
}

#[test]
fn not_an_expired_one() {
    let (server, certs, _dir) = with_tls(Options::default(), |c| &c.expired);
    let said = assert_refused(&server, &to_tls(&server, &certs));
    assert!(said.contains("expire"), "{said}");
}

#[test]
fn a_pin_accepts_exactly_that_one() {
    let (server, certs, _dir) = with_tls(Options::default(), |c| &c.self_signed);
    let mut mk = to_tls(&server, &certs);
    mk.unset("tls_ca_file");
    mk.set("tls_fingerprint", &format!("sha256:{}", certs.good.fingerprint));
    assert_refused(&server, &mk);
    mk.set("tls_fingerprint", &format!("sha256:{}", certs.self_signed.fingerprint));
    mk.sync_ok();
}

#[test]
fn starttls() {
    let (server, certs, _dir) = with_tls(Options::default(), |c| &c.good);
    server.seed("INBOX", &Mint::new(1).letters(0..5));
    let proxy = Proxy::to(server.port());
    let mut mk = Mailkeep::to_port(proxy.port());
    mk.set("tls", "starttls").set("tls_ca_file", certs.ca.to_str().unwrap());
    mk.sync_ok();
    assert_same(&server, mk.maildir());
    assert_eq!(proxy.count("LOGIN") + proxy.count("AUTHENTICATE"), 0, "{:?}", proxy.commands());
}

#[test]
fn starttls_that_someone_strikes_out() {
    let (server, certs, _dir) = with_tls(Options::default(), |c| &c.good);
    let hide = " STARTTLS".to_owned();
    let proxy = Proxy::with(server.port(), Faults { hide, ..Faults::default() });
    let mut mk = Mailkeep::to_port(proxy.port());
    mk.set("tls", "starttls").set("tls_ca_file", certs.ca.to_str().unwrap());
    assert_refused(&server, &mk);
    assert_eq!(proxy.count("LOGIN") + proxy.count("AUTHENTICATE"), 0, "{:?}", proxy.commands());
}

#[test]
fn what_comes_before_the_handshake_is_an_error() {
    let capability = "* CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN\r\n{tag} OK done\r\n";
    let injected = "{tag} OK begin\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n";
    let scripts = [
        ("injected", Script::greeting([send("* OK hello\r\n")]).on("STARTTLS", [send(injected)])),
        (
            "refused",
            Script::greeting([send("* OK hello\r\n")]).on("STARTTLS", [send("{tag} NO\r\n")]),
        ),
        ("preauth", Script::greeting([send("* PREAUTH welcome\r\n")])),
    ];
    for (name, script) in scripts {
        let script = script.on("CAPABILITY", [send(capability)]).on("", [send("{tag} OK\r\n")]);
        let server = Scripted::start(script);
        let mut mk = Mailkeep::to_port(server.port());
        mk.set("tls", "starttls");
        mk.sync().expect(1);
        let told = server.lines().join("\n").to_uppercase();
        assert!(!told.contains("LOGIN") && !told.contains("AUTHENTICATE"), "{name}: {told}");
    }
}

#[test]
fn no_plaintext_beyond_this_machine() {
    let mut mk = Mailkeep::to_port(143);
    mk.set("host", "imap.example.org");
    let said = mk.run(&["check"]).expect(2);
    assert!(said.text().contains("tls"), "{}", said.text());
}
