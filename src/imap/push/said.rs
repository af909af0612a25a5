//! What an unasked response says about changes. Pure.

use std::borrow::Cow;

use super::super::code::Code;
use super::super::response::Untagged;
use crate::model::{ModSeq, Uid, UidValidity};

/// What the server said of a folder along with a hint, as far as it did. Two hints become one with
/// the later values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// MESSAGES or EXISTS.
    pub messages: Option<u32>,
    /// UIDNEXT.
    pub uidnext: Option<Uid>,
    /// UIDVALIDITY.
    pub uidvalidity: Option<UidValidity>,
    /// HIGHESTMODSEQ.
    pub modseq: Option<ModSeq>,
}

impl Said {
    /// This, and then that.
    pub fn and(&mut self, later: Self) {
        self.messages = later.messages.or(self.messages);
        self.uidnext = later.uidnext.or(self.uidnext);
        self.uidvalidity = later.uidvalidity.or(self.uidvalidity);
        self.modseq = later.modseq.or(self.modseq);
    }
}

/// What a response means to who listens.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// Nothing.
    Nothing,
    /// Something changed in the folder that is spelled so.
    Folder(Cow<'a, [u8]>, Said),
    /// Something changed in the selected folder.
    Here(Said),
    /// Something changed somewhere.
    Everything,
    /// NOTIFY is off, and changes were missed (RFC 5465 5.8).
    Overflow,
}

/// Reads one.
pub(super) fn meaning<'a>(data: &Untagged<'a>) -> Meaning<'a> {
    match data {
        Untagged::FolderStatus(s) => Meaning::Folder(
            s.name.clone(),
            Said {
                messages: s.messages,
                uidnext: s.uidnext,
                uidvalidity: s.uidvalidity,
                modseq: s.modseq,
            },
        ),
        Untagged::Exists(n) => Meaning::Here(Said { messages: Some(*n), ..Said::default() }),
        Untagged::Expunge(_) | Untagged::Vanished { .. } => Meaning::Here(Said::default()),
        Untagged::Fetch(f) => Meaning::Here(Said { modseq: f.modseq, ..Said::default() }),
        // MailboxName (RFC 5465 5.4): made, renamed, removed
        Untagged::List(_) => Meaning::Everything,
        Untagged::Status(a) if a.code == Some(Code::NotificationOverflow) => Meaning::Overflow,
        // it may have been any of these
        Untagged::Unreadable(_) => Meaning::Everything,
        _ => Meaning::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::response::{Response, parse};
    use super::*;

    fn of(line: &str) -> Meaning<'_> {
        match parse(line.as_bytes()) {
            Response::Untagged(data) => meaning(&data),
            other => panic!("{other:?}"),
        }
    }

    fn here(messages: Option<u32>) -> Meaning<'static> {
        Meaning::Here(Said { messages, ..Said::default() })
    }

    #[test]
    fn what_dovecot_says_under_notify() {
        let Meaning::Folder(name, said) =
            of("* STATUS \"a b\" (MESSAGES 2 UIDNEXT 3 UNSEEN 2 HIGHESTMODSEQ 9)\r\n")
        else {
            panic!("a folder")
        };
        assert_eq!((name.as_ref(), said.messages), (&b"a b"[..], Some(2)));
        assert_eq!((said.uidnext, said.uidvalidity), (Uid::new(3), None));
        assert_eq!(said.modseq, ModSeq::new(9));
        let flags = of("* STATUS w (UNSEEN 1 HIGHESTMODSEQ 4)\r\n");
        let said = Said { modseq: ModSeq::new(4), ..Said::default() };
        assert_eq!(flags, Meaning::Folder(b"w"[..].into(), said));
        assert_eq!(of("* LIST (\\NonExistent) \"/\" zz/y\r\n"), Meaning::Everything);
        let overflow = "* OK [NOTIFICATIONOVERFLOW] ...too many\r\n";
        assert_eq!(of(overflow), Meaning::Overflow);
    }

    #[test]
    fn what_comes_under_idle() {
        assert_eq!(of("* 4 EXISTS\r\n"), here(Some(4)));
        assert_eq!(of("* 1 EXPUNGE\r\n"), here(None));
        assert_eq!(of("* VANISHED 5:7\r\n"), here(None));
        assert_eq!(of("* 2 FETCH (FLAGS (\\Seen))\r\n"), here(None));
        for nothing in ["* OK Still here\r\n", "* 1 RECENT\r\n", "* CAPABILITY IMAP4rev1\r\n"] {
            assert_eq!(of(nothing), Meaning::Nothing, "{nothing}");
        }
    }

    #[test]
    fn what_cannot_be_read_may_have_been_anything() {
        assert_eq!(of("* STATUS (MESSAGES 2)\r\n"), Meaning::Everything);
        assert_eq!(of("* VANISHED x\r\n"), Meaning::Everything);
    }

    #[test]
    fn later_words_count() {
        let mut said = Said { messages: Some(1), uidnext: Uid::new(5), ..Said::default() };
        said.and(Said { messages: Some(2), modseq: ModSeq::new(7), ..Said::default() });
        assert_eq!((said.messages, said.uidnext), (Some(2), Uid::new(5)));
        assert_eq!(said.modseq, ModSeq::new(7));
    }
}
