//! What servers say, as captured or as the RFCs show it; what no server should say; and the same
//! answers as `imap_proto` for what both can read.

use proptest::prelude::*;

use super::*;
use crate::error::Refusal;

fn data(s: &str) -> Untagged<'_> {
    match parse(s.as_bytes()) {
        Response::Untagged(u) => u,
        other => panic!("{other:?}"),
    }
}

fn fetched(s: &str) -> Fetch<'_> {
    match data(s) {
        Untagged::Fetch(f) => f,
        other => panic!("{other:?}"),
    }
}

fn uid(n: u32) -> Option<Uid> {
    Uid::new(n)
}

#[test]
fn tagged_answers_with_codes() {
    let Response::Tagged { tag, answer } = parse(b"M7 NO [OVERQUOTA] Over quota (5 MB)\r\n") else {
        panic!()
    };
    assert_eq!(tag, b"M7");
    assert_eq!(answer.condition, Condition::No);
    assert_eq!(answer.code, Some(Code::Refusal(Refusal::OverQuota)));
    assert_eq!(answer.text, "Over quota (5 MB)");

    let Response::Tagged { answer, .. } = parse(b"M8 ok\r\n") else { panic!() };
    assert_eq!((answer.condition, answer.code), (Condition::Ok, None));

    // a bracket that does not close is text
    let Response::Tagged { answer, .. } = parse(b"M9 BAD [oops\r\n") else { panic!() };
    assert_eq!(answer.text, "[oops");

    assert_eq!(parse(b"M10 MAYBE\r\n"), Response::Untagged(Untagged::Unreadable(Looks::Other)));
    assert_eq!(parse(b"+ idling\r\n"), Response::Continuation(b"idling"));
    assert_eq!(parse(b"+\r\n"), Response::Continuation(b""));
}

#[test]
fn what_exchange_sends_without_the_star_is_no_answer() {
    // https://github.com/ruby/net-imap/issues/250
    assert_eq!(
        parse(b"[COPYUID 52 86 1146]\r\n"),
        Response::Untagged(Untagged::Unreadable(Looks::Other))
    );
    // https://github.com/jstedfast/MailKit/issues/555
    let Untagged::Status(a) = data("* OK [COPYUID 14  ]\r\n") else { panic!() };
    assert_eq!(a.code, Some(Code::CopyUid(None)));
}

#[test]
fn fetch_with_everything_asked_for() {
    let f = fetched(
        "* 12 FETCH (FLAGS (\\Seen \\Recent $Label1) UID 7 INTERNALDATE \" 1-Feb-2021 10:00:00 \
         +0000\" RFC822.SIZE 44827 EMAILID (M6d99ac3275bb4e) MODSEQ (65402) X-GM-MSGID 1278455344 \
         BODY[] {5}\r\n)\r\nA( BODY[HEADER.FIELDS (\"DATE\" \"X]Y\")] NIL)\r\n",
    );
    assert_eq!(f.seq, 12);
    assert_eq!(f.uid, uid(7));
    let flags = f.flags.unwrap();
    assert_eq!(flags.to_text(), "\\Seen $Label1");
    assert_eq!(f.internal_date, Some(Some(1_612_173_600)));
    assert_eq!(f.size, Some(44827));
    assert_eq!(f.email_id, Some(&b"M6d99ac3275bb4e"[..]));
    assert_eq!(f.gm_msgid, Some(&b"1278455344"[..]));
    assert_eq!(f.modseq, ModSeq::new(65402));
    let body = f.body.unwrap();
    assert_eq!(body.origin, None);
    assert_eq!(body.data.as_deref(), Some(&b")\r\nA("[..]));
}

#[test]
fn fetch_in_pieces_headers_and_nothing() {
    let f = fetched("* 1 FETCH (UID 2 BODY[]<8388608> \"a\\\"b\")\r\n");
    let b = f.body.unwrap();
    assert_eq!((b.origin, b.data.as_deref()), (Some(8_388_608), Some(&b"a\"b"[..])));
    // https://github.com/twisted/twisted/issues/5613
    assert_eq!(fetched("* 1 FETCH (BODY[]<0.100> \"\")").body.unwrap().origin, Some(0));
    assert_eq!(fetched("* 1 FETCH (UID 2 BODY[] NIL)").body.unwrap().data, None);
    let f =
        fetched("* 1 FETCH (UID 2 BODY[HEADER.FIELDS (MESSAGE-ID \"]\" DATE)] {4}\r\nA: b)\r\n");
    assert_eq!(f.header.flatten().as_deref(), Some(&b"A: b"[..]));
    // other sections, structures and items nobody knows are passed over
    let f = fetched(
        "* 1 FETCH (BODY[1.MIME] \"x\" BODYSTRUCTURE ((\"a\" (\"b\" \"c)\") NIL 3) \"mixed\") \
         X-NEW (1 (2 \"(\")) UID 9)",
    );
    assert_eq!((f.uid, f.body, f.header), (uid(9), None, None));
    // nonsense as a date is said to be there, and to be nonsense
    assert_eq!(fetched("* 1 FETCH (INTERNALDATE \"yesterday\")").internal_date, Some(None));
}

#[test]
fn fetch_that_is_none() {
    for bad in [
        "* 1 FETCH (UID 0)",
        "* 1 FETCH (UID 4294967296)",
        "* 1 FETCH (UID -1)",
        "* 4294967296 FETCH (UID 1)",
        "* 1 FETCH UID 1",
        "* 1 FETCH (UID 1",
        "* 1 FETCH (FLAGS \\Seen)",
        "* 1 FETCH (BODY[] {99}\r\nshort)",
        "* 1 FETCH (BODY[ \"x\")",
        "* 1 FETCH (BODY[]<x> \"\")",
        "* 99999999999 EXISTS",
        "* 1EXISTS",
    ] {
        let u = data(bad);
        assert!(matches!(u, Untagged::Unreadable(_) | Untagged::Ignored), "{bad}: {u:?}");
    }
}

#[test]
fn status_with_items_nobody_knows() {
    let Untagged::FolderStatus(s) = data(
        "* STATUS \"a b\" (MESSAGES 231 UIDNEXT 44292 SIZE 18446744073709551616 DELETED (1 2) \
         MAILBOXID (F2212ea87-6097-4256-9d51-71338625) HIGHESTMODSEQ 0 UIDVALIDITY 99999999999)",
    ) else {
        panic!()
    };
    assert_eq!(s.name.as_ref(), b"a b");
    assert_eq!(s.messages, Some(231));
    assert_eq!(s.uidnext, uid(44292));
    assert_eq!(s.uidvalidity, None);
    assert_eq!(s.modseq, None);
    assert_eq!(s.mailbox_id, Some(&b"F2212ea87-6097-4256-9d51-71338625"[..]));

    let Untagged::FolderStatus(s) = data("* STATUS INBOX ()") else { panic!() };
    assert_eq!(s.messages, None);
    // a name as a literal, with a line end in it
    let Untagged::FolderStatus(s) = data("* STATUS {3}\r\na\r\n (MESSAGES 1 )\r\n") else {
        panic!()
    };
    assert_eq!(s.name.as_ref(), b"a\r\n");
}

#[test]
fn status_of_a_name_that_should_have_been_quoted() {
    for (line, name) in [
        // GNU imap4d 3.15, Twisted 26
        ("* STATUS Sent Mail (MESSAGES 3 UIDNEXT 4)", "Sent Mail"),
        ("* STATUS a b (c) (MESSAGES 3 UIDNEXT 4)", "a b (c)"),
        ("* STATUS a  (MESSAGES 3 UIDNEXT 4)", "a"),
        ("* STATUS \"a b\" (MESSAGES 3 UIDNEXT 4)", "a b"),
    ] {
        let Untagged::FolderStatus(s) = data(line) else { panic!("{line}") };
        assert_eq!(s.name.as_ref(), name.as_bytes());
        assert_eq!((s.messages, s.uidnext), (Some(3), uid(4)), "{line}");
    }
    for bad in ["* STATUS a b", "* STATUS", "* STATUS \"a\" b (MESSAGES 3)", "* STATUS ("] {
        assert_eq!(data(bad), Untagged::Unreadable(Looks::Other), "{bad}");
    }
}

#[test]
fn an_email_id_that_is_none_spoils_nothing() {
    // pymap 0.36 with a Maildir
    for (id, read) in [("((M1))", None), ("()", None), ("NIL", None), ("M1", Some(&b"M1"[..]))] {
        let line = format!("* 1 FETCH (UID 2 EMAILID {id} RFC822.SIZE 3)");
        let f = fetched(&line);
        assert_eq!((f.uid, f.email_id, f.size), (uid(2), read, Some(3)), "{id}");
    }
}

#[test]
fn status_keeps_what_stands_before_the_unreadable() {
    for after in [
        "MAILBOXID (\0\x01)",
        "MAILBOXID (a\"b",
        "MAILBOXID \0) UIDVALIDITY 9)",
        "UIDVALIDITY 9\0 HIGHESTMODSEQ 4)",
        "UIDVALIDITY 9\"1\" HIGHESTMODSEQ 4)",
        "UIDVALIDITY 9",
        "",
    ] {
        let line = format!("* STATUS a (MESSAGES 2 UIDNEXT 3 {after}\r\n");
        let Untagged::FolderStatus(s) = data(&line) else { panic!("{line}") };
        assert_eq!((s.messages, s.uidnext), (Some(2), uid(3)), "{line}");
        // perhaps the beginning of another number, or of what is nobody's
        assert_eq!((s.uidvalidity, s.modseq, s.mailbox_id), (None, None, None), "{line}");
    }
}

#[test]
fn more_keywords_than_any_message_has_are_unreadable() {
    let line = |n: usize| {
        let all: Vec<String> = (0..n).map(|i| format!("k{i}")).collect();
        format!("* 1 FETCH (UID 1 FLAGS ({}))", all.join(" "))
    };
    assert!(matches!(data(&line(1000)), Untagged::Fetch(_)));
    assert_eq!(data(&line(1001)), Untagged::Unreadable(Looks::Fetch));
}

#[test]
fn list_of_every_kind() {
    let l = |s| match data(s) {
        Untagged::List(l) => l,
        other => panic!("{other:?}"),
    };
    let x =
        l("* LIST (\\HasNoChildren \\Sent) \"/\" \"a\\\\b\\\"c\" (\"CHILDINFO\" (\"SUBSCRIBED\"))");
    assert_eq!(x.attributes, [&b"\\HasNoChildren"[..], b"\\Sent"]);
    assert_eq!((x.separator, x.name.as_ref()), (Some(b'/'), &b"a\\b\"c"[..]));
    let x = l("* LIST () NIL inbox");
    assert_eq!((x.separator, x.name.as_ref()), (None, &b"inbox"[..]));
    let x = l("* LIST (\\Noselect) \"\\\\\" {5}\r\nEntw\u{1}");
    assert_eq!((x.separator, x.name.as_ref()), (Some(b'\\'), &b"Entw\x01"[..]));
    match parse(b"* LIST () \".\" Entw\xfcrfe\r\n") {
        Response::Untagged(Untagged::List(l)) => assert_eq!(l.name.as_ref(), b"Entw\xfcrfe"),
        other => panic!("{other:?}"),
    }
    let x = l("* LIST () \"/\" \"\"");
    assert_eq!(x.name.as_ref(), b"");
}

#[test]
fn searches_and_vanishings() {
    assert_eq!(data("* SEARCH"), Untagged::Search(UidSet::new()));
    let Untagged::Search(s) = data("* SEARCH 5 3 4 (MODSEQ 917162500)\r\n") else { panic!() };
    assert_eq!(s.to_string(), "3:5");
    assert_eq!(data("* SEARCH 0"), Untagged::Unreadable(Looks::Search));

    let Untagged::Esearch { tag, all } =
        data("* ESEARCH (TAG \"M5\") UID COUNT 4 X-NEW (a b) ALL 4:18,21,28 MODSEQ 5")
    else {
        panic!()
    };
    assert_eq!(tag.as_deref(), Some(&b"M5"[..]));
    assert_eq!(all.to_string(), "4:18,21,28");
    // nothing found, and it says so
    let Untagged::Esearch { all, .. } = data("* ESEARCH (TAG \"M5\") UID") else { panic!() };
    assert!(all.is_empty());
    // sequence numbers
    assert_eq!(data("* ESEARCH (TAG \"M5\") ALL 1:3"), Untagged::Unreadable(Looks::Search));
    assert_eq!(data("* ESEARCH (TAG \"M5\") UID ALL 1:*"), Untagged::Unreadable(Looks::Search));

    let Untagged::Vanished { earlier, uids } = data("* VANISHED (EARLIER) 41,43:116,118\r\n")
    else {
        panic!()
    };
    assert!(earlier);
    assert_eq!(uids.to_string(), "41,43:116,118");
    let Untagged::Vanished { earlier, .. } = data("* vanished 405") else { panic!() };
    assert!(!earlier);
    for bad in ["* VANISHED", "* VANISHED (EARLIER)", "* VANISHED 1:*", "* VANISHED (EARLIER 3"] {
        assert_eq!(data(bad), Untagged::Unreadable(Looks::Other), "{bad}");
    }
}

#[test]
fn namespaces_and_id() {
    let Untagged::Namespace(n) = data(
        "* NAMESPACE ((\"INBOX.\" \".\")(\"#mh/\" \"/\" \"X-PARAM\" (\"a\" \"b\"))) NIL \
         ((\"shared.\" \".\"))",
    ) else {
        panic!()
    };
    assert_eq!(n.personal.len(), 2);
    assert_eq!(n.personal[0].prefix, b"INBOX.");
    assert_eq!(n.personal[1].separator, Some(b'/'));
    assert!(n.others.is_empty());
    assert_eq!(n.shared[0].prefix, b"shared.");
    assert_eq!(data("* NAMESPACE NIL"), Untagged::Unreadable(Looks::Other));

    let Untagged::Id(id) = data("* ID (\"name\" \"Dovecot\" \"os\" NIL)") else { panic!() };
    assert_eq!(id, [("name".to_owned(), "Dovecot".to_owned()), ("os".to_owned(), String::new())]);
    assert_eq!(data("* ID NIL"), Untagged::Id(vec![]));
}

#[test]
fn the_unreadable_is_known_by_its_kind() {
    assert_eq!(data("* 3 fetch (UID 0)"), Untagged::Unreadable(Looks::Fetch));
    assert_eq!(data("* LIST x"), Untagged::Unreadable(Looks::List));
}

#[test]
fn what_nobody_needs_is_passed_over() {
    for s in ["* 3 RECENT", "* FLAGS (\\Seen)", "* LSUB () \"/\" x", "* QUOTAROOT a b", "* X-NEW"] {
        assert_eq!(data(s), Untagged::Ignored, "{s}");
    }
    assert_eq!(data("* "), Untagged::Unreadable(Looks::Other));
    assert_eq!(parse(b""), Response::Untagged(Untagged::Unreadable(Looks::Other)));
}

/// Pieces that responses are made of, so that random ones come near to real ones.
fn token() -> impl Strategy<Value = Vec<u8>> {
    let pieces: &[&[u8]] = &[
        b"* ",
        b"M1 ",
        b"OK",
        b"NO ",
        b"FETCH",
        b"(",
        b")",
        b" ",
        b"\"",
        b"\\",
        b"[",
        b"]",
        b"{3}\r\n",
        b"{",
        b"UID",
        b"FLAGS",
        b"BODY[]",
        b"<0>",
        b"BODY[HEADER.FIELDS (",
        b"1",
        b"4294967295",
        b":",
        b",",
        b"*",
        b"NIL",
        b"STATUS",
        b"LIST",
        b"ESEARCH",
        b"VANISHED",
        b"(EARLIER)",
        b"SEARCH",
        b"NAMESPACE",
        b"ID",
        b"COPYUID",
        b"\xff",
        b"\0",
        b"\r\n",
        b"EMAILID",
        b"INTERNALDATE",
    ];
    prop_oneof![
        9 => prop::sample::select(pieces).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ]
}

/// Flags in an order and a form that does not matter.
fn sorted(names: &[std::borrow::Cow<'_, str>]) -> String {
    Flags::from_imap(names.iter().map(AsRef::as_ref)).to_text()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_are_a_panic(tokens in prop::collection::vec(token(), 0..30)) {
        let _ = parse(&tokens.concat());
    }

    /// For a FETCH that both can read, both read the same.
    #[test]
    fn the_same_as_imap_proto(
        seq in 1u32..5000, u in 1u32..u32::MAX, size in any::<u32>(),
        flags in prop::collection::btree_set("(\\\\Seen|\\\\Flagged|\\$Forwarded|[a-z]{1,5})", 0..5),
        body in prop::collection::vec(any::<u8>(), 0..40), origin in prop::option::of(0u32..100),
    ) {
        let at = origin.map(|o| format!("<{o}>")).unwrap_or_default();
        let flags: Vec<String> = flags.into_iter().collect();
        let mut line = format!(
            "* {seq} FETCH (UID {u} FLAGS ({}) RFC822.SIZE {size} BODY[]{at} {{{}}}\r\n",
            flags.join(" "), body.len()).into_bytes();
        line.extend_from_slice(&body);
        line.extend_from_slice(b")\r\n");
        let Response::Untagged(Untagged::Fetch(ours)) = parse(&line) else {
            return Err(TestCaseError::fail("not a FETCH"));
        };
        let Ok((_, imap_proto::Response::Fetch(n, attributes))) =
            imap_proto::parser::parse_response(&line) else {
            return Err(TestCaseError::fail("imap_proto cannot read it"));
        };
        prop_assert_eq!(ours.seq, n);
        for a in attributes {
            match a {
                imap_proto::AttributeValue::Uid(theirs) => prop_assert_eq!(ours.uid, uid(theirs)),
                imap_proto::AttributeValue::Flags(theirs) => {
                    prop_assert_eq!(ours.flags.as_ref().unwrap().to_text(), sorted(&theirs));
                }
                imap_proto::AttributeValue::Rfc822Size(theirs) => {
                    prop_assert_eq!(ours.size, Some(u64::from(theirs)));
                }
                imap_proto::AttributeValue::BodySection { index, data, .. } => {
                    let b = ours.body.as_ref().unwrap();
                    prop_assert_eq!(b.origin, index.map(u64::from));
                    prop_assert_eq!(b.data.as_deref(), data.as_deref());
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    /// For everything that imap_proto can read of random tokens, we read something too, unless it
    /// is what we refuse on purpose.
    #[test]
    fn whatever_imap_proto_reads_is_readable(
        kind in prop::sample::select(&["LIST", "STATUS", "VANISHED", "SEARCH"][..]),
        name in "[a-zA-Z0-9./ ]{1,10}", a in 1u32..1000, b in 1u32..1000,
    ) {
        let line = match kind {
            "LIST" => format!("* LIST (\\HasNoChildren) \"/\" \"{name}\"\r\n"),
            "STATUS" => format!("* STATUS \"{name}\" (MESSAGES {a} UIDNEXT {b})\r\n"),
            "VANISHED" => format!("* VANISHED (EARLIER) {a}:{b}\r\n"),
            _ => format!("* SEARCH {a} {b}\r\n"),
        };
        prop_assert!(imap_proto::parser::parse_response(line.as_bytes()).is_ok());
        let ours = data(&line);
        prop_assert!(!matches!(ours, Untagged::Unreadable(_) | Untagged::Ignored), "{:?}", ours);
    }
}
