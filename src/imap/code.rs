//! Response codes: what stands in brackets before the text of a status response. Pure.

use super::token::{Cursor, number, uid_ranges, uid_set};
use crate::error::Refusal;
use crate::model::{ModSeq, Uid, UidSet, UidValidity};

/// A response code (RFC 9051 7.1, RFC 5530, RFC 7162, RFC 8474, RFC 7889, RFC 5465). A number that
/// is no number is `None`: said, but unreadable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code<'a> {
    /// CAPABILITY, its words.
    Capability(Vec<&'a [u8]>),
    /// PERMANENTFLAGS, its words.
    PermanentFlags(Vec<&'a [u8]>),
    /// UIDVALIDITY.
    UidValidity(Option<UidValidity>),
    /// UIDNEXT.
    UidNext(Option<Uid>),
    /// HIGHESTMODSEQ; `None` for 0 as well.
    HighestModSeq(Option<ModSeq>),
    /// NOMODSEQ.
    NoModSeq,
    /// MAILBOXID.
    MailboxId(&'a [u8]),
    /// READ-ONLY.
    ReadOnly,
    /// READ-WRITE.
    ReadWrite,
    /// UIDNOTSTICKY: UIDs do not last.
    UidNotSticky,
    /// CLOSED: what follows is about the folder being opened.
    Closed,
    /// APPENDUID; `None` where it is malformed.
    AppendUid(Option<(UidValidity, Vec<Uid>)>),
    /// COPYUID: epoch, UIDs here, UIDs there, as many; `None` where it is malformed.
    CopyUid(Option<CopyPairs>),
    /// MODIFIED: these were not stored.
    Modified(UidSet),
    /// NOTIFICATIONOVERFLOW: NOTIFY is off.
    NotificationOverflow,
    /// ALERT: the text is for the user.
    Alert,
    /// A reason for a refusal.
    Refusal(Refusal),
    /// Credentials: AUTHENTICATIONFAILED, AUTHORIZATIONFAILED, EXPIRED, PRIVACYREQUIRED.
    Credentials,
    /// Anything else: its name.
    Other(&'a [u8]),
}

/// The target's epoch, and (UID here, UID there).
pub type CopyPairs = (UidValidity, Vec<(Uid, Uid)>);

/// More pairs than this in one COPYUID or APPENDUID are taken as malformed: we never send so many.
const MOST_PAIRS: u64 = 1_000_000;

impl<'a> Code<'a> {
    /// From what stands between the brackets.
    pub fn parse(inside: &'a [u8]) -> Self {
        let mut c = Cursor::new(inside);
        let name = c.atom().unwrap_or_default();
        c.spaces();
        let args = c.rest();
        let nz32 = || number(args.trim_ascii()).and_then(|n| u32::try_from(n).ok());
        match name.to_ascii_uppercase().as_slice() {
            b"CAPABILITY" => {
                Self::Capability(args.split(|b| *b == b' ').filter(|w| !w.is_empty()).collect())
            }
            b"PERMANENTFLAGS" => Self::PermanentFlags(c.atoms().unwrap_or_default()),
            b"UIDVALIDITY" => Self::UidValidity(nz32().and_then(UidValidity::new)),
            b"UIDNEXT" => Self::UidNext(nz32().and_then(Uid::new)),
            b"HIGHESTMODSEQ" => {
                Self::HighestModSeq(number(args.trim_ascii()).and_then(ModSeq::new))
            }
            b"NOMODSEQ" => Self::NoModSeq,
            b"MAILBOXID" => {
                c.eat(b'(');
                Self::MailboxId(c.atom().unwrap_or_default())
            }
            b"READ-ONLY" => Self::ReadOnly,
            b"READ-WRITE" => Self::ReadWrite,
            b"UIDNOTSTICKY" => Self::UidNotSticky,
            b"CLOSED" => Self::Closed,
            b"APPENDUID" => Self::AppendUid(append_uid(c)),
            b"COPYUID" => Self::CopyUid(copy_uid(c)),
            b"MODIFIED" => Self::Modified(uid_set(args.trim_ascii()).unwrap_or_default()),
            b"NOTIFICATIONOVERFLOW" => Self::NotificationOverflow,
            b"ALERT" => Self::Alert,
            b"NONEXISTENT" => Self::Refusal(Refusal::NonExistent),
            b"ALREADYEXISTS" => Self::Refusal(Refusal::AlreadyExists),
            b"TRYCREATE" => Self::Refusal(Refusal::TryCreate),
            b"OVERQUOTA" => Self::Refusal(Refusal::OverQuota),
            b"LIMIT" => Self::Refusal(Refusal::Limit),
            b"NOPERM" | b"ACL" => Self::Refusal(Refusal::NoPerm),
            b"INUSE" => Self::Refusal(Refusal::InUse),
            // whatever was asked, it is in trouble itself (RFC 5530 3)
            b"UNAVAILABLE" | b"SERVERBUG" | b"CORRUPTION" | b"CONTACTADMIN" => {
                Self::Refusal(Refusal::Unavailable)
            }
            b"EXPUNGEISSUED" => Self::Refusal(Refusal::ExpungeIssued),
            b"TOOBIG" => Self::Refusal(Refusal::TooBig),
            b"CANNOT" => Self::Refusal(Refusal::Cannot),
            b"AUTHENTICATIONFAILED" | b"AUTHORIZATIONFAILED" | b"EXPIRED" | b"PRIVACYREQUIRED" => {
                Self::Credentials
            }
            _ => Self::Other(name),
        }
    }

    /// Why the server refused, as far as the code says.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Refusal(r) => *r,
            _ => Refusal::Unsaid,
        }
    }
}

/// `uidvalidity uid-set`, the set with more than one UID after MULTIAPPEND (RFC 4315).
fn append_uid(mut c: Cursor<'_>) -> Option<(UidValidity, Vec<Uid>)> {
    let v = validity(&mut c)?;
    let uids = expand(c.atom()?)?;
    Some((v, uids))
}

fn copy_uid(mut c: Cursor<'_>) -> Option<CopyPairs> {
    let v = validity(&mut c)?;
    let from = expand(c.atom()?)?;
    c.spaces();
    let to = expand(c.atom()?)?;
    (from.len() == to.len()).then(|| (v, from.into_iter().zip(to).collect()))
}

fn validity(c: &mut Cursor<'_>) -> Option<UidValidity> {
    let v = u32::try_from(c.number()?).ok().and_then(UidValidity::new)?;
    c.spaces();
    Some(v)
}

/// The UIDs in the order given: the n-th here is the n-th there.
fn expand(set: &[u8]) -> Option<Vec<Uid>> {
    let ranges = uid_ranges(set)?;
    let n: u64 = ranges.iter().map(|(a, b)| u64::from(b.get() - a.get()) + 1).sum();
    if n > MOST_PAIRS {
        return None;
    }
    Some(ranges.iter().flat_map(|(a, b)| (a.get()..=b.get()).filter_map(Uid::new)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn uid(n: u32) -> Uid {
        Uid::new(n).unwrap()
    }

    #[test]
    fn copyuid_keeps_the_order_given() {
        let Code::CopyUid(Some((v, pairs))) =
            Code::parse(b"COPYUID 38505 304,319:320 3956,3950:3951")
        else {
            panic!()
        };
        assert_eq!(v.get(), 38505);
        let want = [(304, 3956), (319, 3950), (320, 3951)];
        assert_eq!(pairs, want.map(|(a, b)| (uid(a), uid(b))));
    }

    #[test]
    fn malformed_copyuid_and_appenduid_are_said_to_be() {
        for bad in [
            "COPYUID",
            "COPYUID 1",
            "COPYUID 1 2",
            "COPYUID 1 2 3:4",
            "COPYUID 0 1 1",
            "COPYUID 1  ",
            "COPYUID 1 1:4294967295 1:4294967295",
            "COPYUID 99999999999 1 1",
            "copyuid 1 * 3",
        ] {
            assert_eq!(Code::parse(bad.as_bytes()), Code::CopyUid(None), "{bad}");
        }
        for bad in ["APPENDUID", "APPENDUID 1", "APPENDUID 1 0", "APPENDUID -1 2"] {
            assert_eq!(Code::parse(bad.as_bytes()), Code::AppendUid(None), "{bad}");
        }
    }

    #[test]
    fn numbers_that_are_none() {
        assert_eq!(Code::parse(b"HIGHESTMODSEQ 0"), Code::HighestModSeq(None));
        assert_eq!(Code::parse(b"UIDNEXT 4294967296"), Code::UidNext(None));
        assert_eq!(Code::parse(b"UIDVALIDITY"), Code::UidValidity(None));
        assert_eq!(Code::parse(b""), Code::Other(b""));
    }

    proptest! {
        #[test]
        fn any_bytes(name in "(COPYUID|APPENDUID|MODIFIED|PERMANENTFLAGS|MAILBOXID|X) ?",
                     b in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut v = name.into_bytes();
            v.extend(b);
            let _ = Code::parse(&v);
        }
    }
}
