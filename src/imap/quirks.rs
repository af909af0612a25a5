//! Where servers differ from what they say of themselves: the one table. Pure.
//!
//! A quirk corrects the [`Capabilities`]; the code that uses them knows no server by name. What is
//! harmless to do for every server is no quirk and stands where it is done: `BODY.PEEK[]` always
//! (iCloud answers nothing to RFC822), a malformed COPYUID is none (Exchange), HIGHESTMODSEQ 0 is
//! none (Purelymail, https://github.com/Purelymail/purelymail-issues/issues/446), UIDs are never
//! asked about as `1:*` (Cyrus takes `*` for the last message still there, and leaves out those
//! that vanished above it: https://github.com/cyrusimap/cyrus-imapd/issues/6071), and what NOTIFY
//! tells is known by its name in UTF-8 as well (Dovecot 2.3.19 spells STATUS so there, and nowhere
//! else: our own observation, 2026-11-26).
//!
//! As we observed on 2026-11-27: PERMANENTFLAGS with `\*` alone leaves out none of the system flags
//! (go-imap v1 names only keywords there); STATUS is read though its name has a space and no quotes
//! (GNU imap4d 3.15, Twisted 26.10); an EMAILID that is none is no id, and a folder is removed though
//! it could not be left before (pymap 0.36); where MOVE is refused COPY is asked for (go-imap v1's
//! memory store); BAD can say that a folder is gone (hoodiecrow).

use super::capabilities::Capabilities;

/// What is known of the server.
#[derive(Debug, Clone, Copy, Default)]
pub struct Server<'a> {
    /// The name it was connected to by.
    pub host: &'a str,
    /// The text of its greeting.
    pub greeting: &'a str,
    /// The words of its CAPABILITY, after login.
    pub capabilities: &'a [String],
    /// What it answered to ID, if it was asked yet.
    pub id: &'a [(String, String)],
}

impl Server<'_> {
    fn host_in(&self, domains: &[&str]) -> bool {
        let host = self.host.trim_end_matches('.').to_ascii_lowercase();
        domains.iter().any(|d| {
            host.strip_suffix(d).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }

    fn offers(&self, word: &str) -> bool {
        self.capabilities.iter().any(|w| w.eq_ignore_ascii_case(word))
    }

    fn greets(&self, words: &str) -> bool {
        self.greeting.to_ascii_lowercase().contains(&words.to_ascii_lowercase())
    }

    fn is_named(&self, name: &str) -> bool {
        self.id.iter().any(|(k, v)| {
            k.eq_ignore_ascii_case("name")
                && v.to_ascii_lowercase().starts_with(&name.to_ascii_lowercase())
        })
    }
}

/// One oddity.
pub struct Quirk {
    /// A short name, for `check` and the log.
    pub name: &'static str,
    /// When it was last seen, or its source last read.
    pub seen: &'static str,
    /// Who says so.
    pub source: &'static str,
    /// Whether this server has it.
    pub applies: fn(&Server<'_>) -> bool,
    /// What follows.
    pub correct: fn(&mut Capabilities),
}

/// All of them.
pub const TABLE: &[Quirk] = &[
    // VANISHED comes malformed, ENABLED not at all, and deletions are lost or invented.
    Quirk {
        name: "icloud-no-qresync",
        seen: "2026-01-21",
        source: "https://github.com/Foundry376/Mailspring-Sync/pull/91, \
                 https://developer.apple.com/forums/thread/694251",
        applies: |s| {
            // offered before the login only
            s.host_in(&["mail.me.com", "icloud.com"]) || s.greets("AUTH=ATOKEN")
        },
        correct: |c| c.qresync = false,
    },
    // A folder shows its 10,000 newest messages; older ones are there and not listed.
    Quirk {
        name: "yahoo-window",
        seen: "2026-05-25",
        source: "https://help.yahoo.com/kb/SLN28681.html, \
                 https://github.com/rustmailer/bichon/issues/271",
        applies: |s| {
            let yahoo = s.host_in(&["mail.yahoo.com", "mail.yahoo.co.jp", "aol.com"])
                || s.offers("XYMHIGHESTMODSEQ");
            // the export host shows everything
            yahoo && !s.host_in(&["export.imap.mail.yahoo.com"])
        },
        correct: |c| c.window = Some(10_000),
    },
    // RFC822.SIZE is the space the message takes in the store.
    Quirk {
        name: "exchange-sizes",
        seen: "2026-06-26",
        source: "https://msdn.microsoft.com/en-us/library/ee624465(v=exchg.80).aspx, \
                 https://github.com/stalwartlabs/vandelay/issues/12",
        applies: |s| {
            s.greets("Microsoft Exchange")
                || s.host_in(&["outlook.office365.com", "outlook.com", "office365.us"])
        },
        correct: |c| c.sizes_lie = true,
    },
    // "SELECT Unsafe Login. Please contact kefu@188.com for help" without an ID before.
    Quirk {
        name: "netease-id-first",
        seen: "2026-03-20",
        source: "https://github.com/pimalaya/himalaya/issues/651",
        applies: |s| {
            s.host_in(&["163.com", "126.com", "yeah.net", "188.com", "netease.com"])
                || s.greets("Coremail")
        },
        // it does not always offer what it demands
        correct: |c| {
            c.id = true;
            c.id_first = true;
        },
    },
    // Folders are labels; 15 connections at a time.
    Quirk {
        name: "gmail-labels",
        seen: "2026-11-22",
        source: "https://developers.google.com/workspace/gmail/imap/imap-extensions, \
                 https://support.google.com/mail/answer/7126229",
        applies: |s| s.offers("X-GM-EXT-1"),
        correct: |c| {
            c.labels = true;
            c.qresync = false;
            c.most_connections = Some(15);
        },
    },
    // The default of mail_max_userip_connections, of one user from one address.
    Quirk {
        name: "dovecot-connections",
        seen: "2026-11-22",
        source: "https://doc.dovecot.org/main/core/summaries/settings.html\
                 #mail_max_userip_connections",
        applies: |s| s.is_named("Dovecot") || s.greets("Dovecot"),
        correct: |c| c.most_connections = Some(10),
    },
    // A folder that was deleted goes on being listed, and not as \NonExistent, while others stand
    // below it; STATUS and SELECT refuse it with this text and without a code.
    Quirk {
        name: "dovecot-ghosts",
        seen: "2026-11-26",
        source: "our own observation of dovecot 2.3.19 as Debian packages it",
        applies: |s| s.is_named("Dovecot") || s.greets("Dovecot"),
        correct: |c| c.absent_text = Some("Mailbox doesn't exist: "),
    },
    // The MAILBOXID in its STATUS is memory that was never written: now right, now bytes that no
    // parser takes, and other bytes the next time. That of SELECT is right.
    Quirk {
        name: "cyrus-status-mailboxid",
        seen: "2026-11-22",
        source: "our own observation of cyrus-imapd 3.6.1 as Debian packages it",
        applies: |s| {
            // before ID is answered: its greeting, or the command that only its replicas use
            s.is_named("Cyrus") || s.greets("Cyrus IMAP") || s.offers("X-REPLICATION")
        },
        correct: |c| c.status_mailbox_id = false,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(host: &str, greeting: &str, words: &[&str], id: &[(&str, &str)]) -> Capabilities {
        let capabilities: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        let id: Vec<(String, String)> =
            id.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Capabilities::new(&Server { host, greeting, capabilities: &capabilities, id: &id })
    }

    #[test]
    fn icloud_has_no_qresync() {
        let words = ["IMAP4rev1", "QRESYNC", "CONDSTORE"];
        let c = caps("imap.mail.me.com", "", &words, &[]);
        assert!(!c.qresync && c.condstore);
        assert_eq!(c.quirks, ["icloud-no-qresync"]);
        assert!(caps("imap.notme.com", "", &words, &[]).qresync);
        assert!(caps("evilmail.me.com.example.org", "", &words, &[]).qresync);
        assert!(!caps("10.0.0.1", "* OK [CAPABILITY AUTH=ATOKEN] hi", &["QRESYNC"], &[]).qresync);
    }

    #[test]
    fn yahoo_shows_a_window_except_for_export() {
        assert_eq!(caps("imap.mail.yahoo.com", "", &[], &[]).window, Some(10_000));
        assert_eq!(caps("export.imap.mail.yahoo.com", "", &[], &[]).window, None);
        assert_eq!(caps("imap.example.org", "", &["XYMHIGHESTMODSEQ"], &[]).window, Some(10_000));
        assert_eq!(caps("imap.example.org", "", &[], &[]).window, None);
    }

    #[test]
    fn exchange_sizes_prove_nothing() {
        let greeting = "The Microsoft Exchange IMAP4 service is ready.";
        assert!(caps("mail.example.org", greeting, &[], &[]).sizes_lie);
        assert!(caps("outlook.office365.com", "", &[], &[]).sizes_lie);
        assert!(!caps("mail.example.org", "ready", &[], &[]).sizes_lie);
    }

    #[test]
    fn netease_wants_id_first() {
        let c = caps("imap.163.com", "", &["IMAP4rev1"], &[]);
        assert!(c.id_first && c.id);
        assert!(!caps("imap.1163.com", "", &["ID"], &[]).id_first);
    }

    #[test]
    fn gmail_has_labels() {
        let c = caps("imap.gmail.com", "Gimap ready", &["X-GM-EXT-1", "CONDSTORE"], &[]);
        assert!(c.labels && c.gmail_ids && !c.qresync);
        assert_eq!(c.most_connections, Some(15));
    }

    #[test]
    fn dovecot_takes_ten_connections() {
        assert_eq!(caps("x", "", &[], &[("name", "Dovecot")]).most_connections, Some(10));
        assert_eq!(caps("x", "", &[], &[]).most_connections, None);
    }

    #[test]
    fn dovecot_says_in_words_that_a_folder_is_not_there() {
        assert!(caps("x", "Dovecot (Debian) ready.", &[], &[]).absent_text.is_some());
        assert_eq!(caps("x", "ready", &[], &[]).absent_text, None);
    }

    #[test]
    fn cyrus_is_not_asked_for_mailboxid_in_status() {
        let words = ["IMAP4rev1", "OBJECTID"];
        let greeting = "* OK [CAPABILITY IMAP4rev1] localhost Cyrus IMAP 3.6.1-4 server ready";
        for c in [
            caps("x", greeting, &words, &[]),
            caps("x", "* OK ready", &words, &[("name", "Cyrus IMAPD")]),
            caps("x", "* OK ready", &["IMAP4rev1", "OBJECTID", "X-REPLICATION"], &[]),
        ] {
            assert!(c.objectid && !c.status_mailbox_id);
            assert_eq!(c.quirks, ["cyrus-status-mailboxid"]);
        }
        assert!(caps("x", "* OK ready", &words, &[]).status_mailbox_id);
        assert!(!caps("x", "* OK ready", &["IMAP4rev1"], &[]).status_mailbox_id);
    }

    #[test]
    fn every_quirk_is_named_dated_and_sourced() {
        for (i, q) in TABLE.iter().enumerate() {
            assert!(!q.name.is_empty() && !q.source.is_empty());
            assert!(q.seen.parse::<jiff::civil::Date>().is_ok(), "{}", q.name);
            assert!(TABLE.iter().skip(i + 1).all(|o| o.name != q.name));
        }
    }
}
