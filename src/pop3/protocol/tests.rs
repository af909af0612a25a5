use proptest::prelude::*;

use super::*;

/// What a conversation comes to, with the bytes of messages put together.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Event(Event),
    Message(Vec<u8>),
    Unfinished(Vec<u8>),
    Violation(Violation),
}

/// Feeds the bytes in pieces that end at `cuts`, as a connection does.
fn feed(expected: &[Expected], bytes: &[u8], cuts: &[usize]) -> Vec<Told> {
    let mut machine = Machine::default();
    expected.iter().for_each(|e| machine.expect(*e));
    let mut told = Vec::new();
    let mut message: Option<Vec<u8>> = None;
    let (mut start, mut end) = (0, 0);
    let mut cuts: Vec<usize> = cuts.iter().map(|c| c % (bytes.len() + 1)).collect();
    cuts.push(bytes.len());
    cuts.sort_unstable();
    for cut in cuts {
        end = cut.max(end);
        loop {
            if machine.outstanding() == 0 {
                return told;
            }
            let input = &bytes[start..end];
            let step = match machine.step(input) {
                Ok(step) => step,
                Err(v) => {
                    told.push(Told::Violation(v));
                    return told;
                }
            };
            match step.event {
                None if step.used == 0 => {
                    // what waits for the rest is all that a connection has to keep
                    assert!(input.len() <= LONGEST_LINE, "{} bytes are kept", input.len());
                    break;
                }
                None => {}
                Some(Event::Begin) => message = Some(Vec::new()),
                Some(Event::Data(r)) => {
                    assert!(!r.is_empty() && r.end <= step.used);
                    message.as_mut().unwrap().extend_from_slice(&input[r]);
                }
                Some(Event::End) => told.push(Told::Message(message.take().unwrap())),
                Some(event) => told.push(Told::Event(event)),
            }
            start += step.used;
        }
    }
    if let Some(m) = message {
        told.push(Told::Unfinished(m));
    }
    told
}

/// In one piece, and byte by byte.
fn told(expected: &[Expected], bytes: &[u8]) -> Vec<Told> {
    let whole = feed(expected, bytes, &[]);
    let cuts: Vec<usize> = (0..=bytes.len()).collect();
    assert_eq!(feed(expected, bytes, &cuts), whole, "byte by byte");
    whole
}

const WHOLE: Expected = Expected::Message(1 << 30);

fn message(bytes: &[u8]) -> Vec<Told> {
    told(&[WHOLE], bytes)
}

fn answer(line: &str) -> Answer {
    match told(&[Expected::Answer], line.as_bytes()).as_slice() {
        [Told::Event(Event::Answer(a))] => a.clone(),
        other => panic!("{other:?}"),
    }
}

fn capabilities(text: &str) -> Capabilities {
    match told(&[Expected::Capabilities], text.as_bytes()).as_slice() {
        [Told::Event(Event::Capabilities(c))] => c.clone(),
        other => panic!("{other:?}"),
    }
}

fn violation(expected: &[Expected], bytes: &[u8]) -> Violation {
    match feed(expected, bytes, &[]).last() {
        Some(Told::Violation(v)) => v.clone(),
        other => panic!("{other:?}"),
    }
}

fn n(number: u32) -> Number {
    Number::new(number).unwrap()
}

#[test]
fn answers_and_their_codes() {
    let a = answer("+OK ready <1@x>\r\n");
    assert!(a.ok && a.code.is_none());
    assert_eq!(a.text, b"ready <1@x>");
    assert!(answer("+ok\n").ok);
    for (text, code) in [
        ("[IN-USE] locked", Some(Code::InUse)),
        ("[in-use]", Some(Code::InUse)),
        ("[LOGIN-DELAY] 60 s", Some(Code::LoginDelay)),
        ("[SYS/TEMP] later", Some(Code::SysTemp)),
        ("[SYS/TEMP/DISK] later", Some(Code::SysTemp)),
        ("[SYS/PERM] broken", Some(Code::SysPerm)),
        ("[AUTH] no", Some(Code::Auth)),
        ("[XYZ] no", Some(Code::Other)),
        ("no [AUTH]", None),
        ("[AUTH no", None),
        ("", None),
    ] {
        let a = answer(&format!("-ERR {text}\r\n"));
        assert_eq!((a.ok, a.code), (false, code), "{text}");
    }
    // a code is a reason for a refusal, not for success
    assert_eq!(answer("+OK [AUTH] x\r\n").code, None);
}

#[test]
fn what_is_no_answer() {
    for line in ["* OK ready", "+OKAY", "OK", "", "-ERROR", "+", "+ go on", "\0+OK"] {
        let v = violation(&[Expected::Answer], format!("{line}\r\n").as_bytes());
        assert!(matches!(v, Violation::NoAnswer(_)), "{line}: {v:?}");
    }
    let mut machine = Machine::default();
    let v = machine.step(b"+OK\r\n").unwrap_err();
    assert_eq!(v, Violation::Unasked(b"+OK".to_vec()));
}

#[test]
fn lines_are_bounded_to_the_byte() {
    let line = |n: usize| [b"+OK ".to_vec(), vec![b'x'; n - 4], b"\n".to_vec()].concat();
    assert!(matches!(told(&[Expected::Answer], &line(LONGEST_LINE))[..], [Told::Event(_)]));
    let v = told(&[Expected::Answer], &line(LONGEST_LINE + 1));
    assert_eq!(v, [Told::Violation(Violation::LongLine)]);
    let endless = vec![b'+'; LONGEST_LINE + 1];
    assert_eq!(violation(&[Expected::Uidls], &endless), Violation::LongLine);
}

#[test]
fn challenges() {
    let said = |text: &[u8]| told(&[Expected::Auth], text);
    let challenge = |b: &[u8]| vec![Told::Event(Event::Challenge(b.to_vec()))];
    assert_eq!(said(b"+ \r\n"), challenge(b""));
    assert_eq!(said(b"+\r\n"), challenge(b""));
    assert_eq!(said(b"+ eyJ9\r\n"), challenge(b"eyJ9"));
    assert!(matches!(&said(b"+OK in\r\n")[..], [Told::Event(Event::Answer(a))] if a.ok));
    assert!(matches!(&said(b"-ERR no\r\n")[..], [Told::Event(Event::Answer(a))] if !a.ok));
}

#[test]
fn capabilities_whatever_their_case() {
    let c = capabilities(
        "+OK here\r\nTop\r\nuser\r\nSASL plain XOAUTH2\r\nresp-codes\r\nAUTH-RESP-CODE\r\n\
         LOGIN-DELAY 900 USER\r\nPIPELINING\r\nEXPIRE 60 USER\r\nUIDL\r\nSTLS\r\nUTF8 USER\r\n\
         X-STRANGE a b\r\n\r\nIMPLEMENTATION Shlemazle Plotz v302\r\n.\r\n",
    );
    assert!(c.known && c.top && c.user && c.resp_codes && c.auth_resp_code && c.pipelining);
    assert!(c.uidl && c.stls && c.utf8);
    assert_eq!(c.sasl.iter().map(String::as_str).collect::<Vec<_>>(), ["PLAIN", "XOAUTH2"]);
    assert_eq!(c.login_delay, Some(LoginDelay { seconds: 900, per_user: true }));
    assert_eq!(c.expire, Some(Expire::Days { days: 60, per_user: true }));
    assert_eq!(c.implementation.as_deref(), Some("Shlemazle Plotz v302"));

    let c = capabilities("+OK\nEXPIRE NEVER\nLOGIN-DELAY x\nEXPIRE soon\n.\n");
    assert_eq!((c.expire, c.login_delay), (Some(Expire::Never), None));
    assert_eq!(
        capabilities("+OK\r\nEXPIRE 0\r\n.\r\n").expire,
        Some(Expire::Days { days: 0, per_user: false })
    );
    let unknown = told(&[Expected::Capabilities], b"-ERR what\r\n");
    assert!(matches!(&unknown[..], [Told::Event(Event::Answer(a))] if !a.ok));
    let endless = format!("+OK\r\n{}", "X\r\n".repeat(501));
    assert_eq!(violation(&[Expected::Capabilities], endless.as_bytes()), Violation::LongListing);
}

#[test]
fn stat() {
    let said = |text: &str| told(&[Expected::Stat], text.as_bytes());
    let stat = |messages, bytes| vec![Told::Event(Event::Stat(Stat { messages, bytes }))];
    assert_eq!(said("+OK 2 320\r\n"), stat(2, 320));
    assert_eq!(said("+OK 0 0 extra\r\n"), stat(0, 0));
    assert_eq!(said("+OK 1 18446744073709551615\r\n"), stat(1, u64::MAX));
    for bad in ["+OK", "+OK 1", "+OK a b", "+OK -1 3", "+OK 4294967296 1", "+OK +1 3"] {
        let v = violation(&[Expected::Stat], format!("{bad}\r\n").as_bytes());
        assert!(matches!(v, Violation::BadStat(_)), "{bad}");
    }
}

#[test]
fn ids_are_taken_as_they_come() {
    let long = "x".repeat(512);
    let text = format!(
        "+OK\r\n1 a\r\n2 with  spaces \r\n3 \r\n4\r\n5    \r\n6 \u{e4}\r\n7 {long}\r\n8 {long}y\r\n 9 z\r\n.\r\n"
    );
    let got = told(&[Expected::Uidls], text.as_bytes());
    let [Told::Event(Event::Uidls(got))] = &got[..] else { panic!("{got:?}") };
    let got: Vec<(u32, Option<&[u8]>)> =
        got.iter().map(|(n, u)| (n.get(), u.as_ref().map(Uidl::as_bytes))).collect();
    assert_eq!(
        got,
        [
            (1, Some(&b"a"[..])),
            (2, Some(b"with  spaces ")),
            (3, None),
            (4, None),
            (5, None),
            (6, Some("\u{e4}".as_bytes())),
            (7, Some(long.as_bytes())),
            (8, None),
            (9, Some(b"z")),
        ]
    );
}

#[test]
fn listings_out_of_order_are_put_in_order() {
    let got = told(&[Expected::Sizes], b"+OK\r\n3 30\r\n1 10 more\r\n2 0\r\n.\r\n");
    let want = vec![(n(1), 10), (n(2), 0), (n(3), 30)];
    assert_eq!(got, [Told::Event(Event::Sizes(want))]);
    assert_eq!(told(&[Expected::Sizes], b"+OK\r\n.\r\n"), [Told::Event(Event::Sizes(vec![]))]);
}

#[test]
fn a_listing_that_is_wrong_is_an_error() {
    let sizes =
        |text: &str| violation(&[Expected::Sizes], format!("+OK\r\n{text}.\r\n").as_bytes());
    assert_eq!(sizes("1 1\r\n1 2\r\n"), Violation::Twice(n(1)));
    assert_eq!(sizes("2 1\r\n1 2\r\n2 5\r\n"), Violation::Twice(n(2)));
    for bad in ["0 1", "-1 1", "x 1", "1", "1 x", "1 -4", "", "4294967296 1", "+1 1", "1 9.5"] {
        let v = sizes(&format!("{bad}\r\n"));
        assert!(matches!(v, Violation::BadListing(_)), "{bad}: {v:?}");
    }
    // what STAT said bounds what follows, but for what arrived meanwhile
    let both = [Expected::Stat, Expected::Uidls];
    let after = |text: &str| feed(&both, format!("+OK 3 9\r\n+OK\r\n{text}").as_bytes(), &[]);
    assert_eq!(after("104 a\r\n")[1], Told::Violation(Violation::OutOfRange(n(104))));
    assert!(matches!(after("103 a\r\n.\r\n")[1], Told::Event(Event::Uidls(_))));
    let flood: String = (1..200).map(|_| "1 a\r\n").collect();
    assert_eq!(after(&flood)[1], Told::Violation(Violation::LongListing));
}

#[test]
fn a_listing_has_an_end_whatever_stat_says() {
    let mut machine = Machine::default();
    machine.expect(Expected::Stat);
    machine.expect(Expected::Sizes);
    machine.step(b"+OK 4294967295 1\r\n").unwrap();
    machine.step(b"+OK\r\n").unwrap();
    let piece: Vec<u8> = b"1 2\r\n".repeat(10_000);
    let pieces = (0..1_000).take_while(|_| machine.step(&piece).is_ok()).count();
    assert_eq!(pieces, 100);

    let mut machine = Machine::default();
    machine.expect(Expected::Uidls);
    machine.step(b"+OK\r\n").unwrap();
    let line = format!("1 {}\r\n", "u".repeat(8_000));
    let lines = (0..100_000).take_while(|_| machine.step(line.as_bytes()).is_ok()).count();
    assert_eq!(lines, (96 << 20) / 8_002);
}

#[test]
fn a_listing_without_its_end_is_none() {
    assert_eq!(told(&[Expected::Sizes], b"+OK\r\n1 10\r\n"), []);
    assert_eq!(told(&[Expected::Uidls], b"+OK\r\n1 10\r\n."), []);
}

#[test]
fn dots() {
    for (wire, want) in [
        (&b"+OK\r\n.\r\n"[..], &b""[..]),
        (b"+OK\r\na\r\n.\r\n", b"a\r\n"),
        (b"+OK\r\n..\r\n.\r\n", b".\r\n"),
        (b"+OK\r\n...\r\n..a\r\n.\r\n", b"..\r\n.a\r\n"),
        (b"+OK\r\na.\r\n.\r\n", b"a.\r\n"),
        (b"+OK\r\na\r\n\r\n.\r\n", b"a\r\n\r\n"),
        // no dots doubled: kept as they are
        (b"+OK\r\n.a\r\n.\rb\r\n. \r\n.\r\n", b".a\r\n.\rb\r\n. \r\n"),
        // bare LF within a message, and NUL, and bare CR
        (b"+OK\r\na\n..b\n\0\r\n\r.\r\r\n.\r\n", b"a\n.b\n\0\r\n\r.\r\r\n"),
        // only where the server ends its lines so is a dot and LF the end
        (b"+OK\r\na\n.\nb\r\n.\r\n", b"a\n.\nb\r\n"),
        (b"+OK\na\n.\n", b"a\n"),
        (b"+OK\na\n..\n.\r\n", b"a\n.\n"),
        // a message whose last line ends in LF, before an end in CR LF
        (b"+OK\r\na\n.\r\n", b"a\n"),
    ] {
        assert_eq!(message(wire), [Told::Message(want.to_vec())], "{}", wire.escape_ascii());
    }
    for open in [&b"+OK\r\na\r\n"[..], b"+OK\r\na.\r\n", b"+OK\r\na\r\n..\r\n", b"+OK\r\na\r\n.x"] {
        assert!(matches!(message(open)[..], [Told::Unfinished(_)]), "{}", open.escape_ascii());
    }
    // half an end is no data
    assert_eq!(message(b"+OK\r\na\r\n.\r"), [Told::Unfinished(b"a\r\n".to_vec())]);
}

#[test]
fn messages_are_bounded() {
    let wire = b"+OK\r\n0123456789\r\n.\r\n";
    let whole = vec![Told::Message(b"0123456789\r\n".to_vec())];
    assert_eq!(told(&[Expected::Message(12)], wire), whole);
    let long = told(&[Expected::Message(11)], wire);
    assert_eq!(long, [Told::Violation(Violation::LongMessage)]);
}

#[test]
fn replies_answer_the_commands_in_order() {
    let expected = [Expected::Stat, WHOLE, WHOLE, WHOLE, Expected::Answer];
    let wire = b"+OK 3 9\r\n+OK 3\r\na\r\n.\r\n-ERR gone\r\n+OK\r\n..\r\n.\r\n+OK bye\r\n";
    let got = told(&expected, wire);
    assert_eq!(got[1], Told::Message(b"a\r\n".to_vec()));
    assert!(matches!(&got[2], Told::Event(Event::Answer(a)) if !a.ok));
    assert_eq!(got[3], Told::Message(b".\r\n".to_vec()));
    assert_eq!(got.len(), 5);
}

/// As a server that does it right sends a text, which ends in CR LF.
fn stuffed(text: &[u8]) -> Vec<u8> {
    let mut out = b"+OK\r\n".to_vec();
    let mut at_line_start = true;
    for b in text {
        if at_line_start && *b == b'.' {
            out.push(b'.');
        }
        out.push(*b);
        at_line_start = *b == b'\n';
    }
    out.extend_from_slice(b".\r\n");
    out
}

/// Bytes of which dots and line ends are made.
fn dotty() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'.'), Just(b'\r'), Just(b'\n'), Just(b'a'), Just(0u8)];
    prop::collection::vec(byte, 0..60)
}

fn expected() -> impl Strategy<Value = Vec<Expected>> {
    let one = prop_oneof![
        Just(Expected::Answer),
        Just(Expected::Auth),
        Just(Expected::Stat),
        Just(Expected::Capabilities),
        Just(Expected::Uidls),
        Just(Expected::Sizes),
        (0..40u64).prop_map(Expected::Message),
    ];
    prop::collection::vec(one, 1..5)
}

/// Something like what a server says.
fn chatter() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "+OK", "-ERR", " ", "\r\n", "\n", ".\r\n", "..", ".", "1", "2 3", "0", "[IN-USE]", "+ ", "UIDL", "\r", "SASL PLAIN",
        ]).prop_map(|s| s.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|p| p.concat())
}

/// A reply as a server gives it, with what it answers.
fn reply() -> impl Strategy<Value = (Expected, Vec<u8>)> {
    let text = "[ -~]{0,40}";
    let answer = (any::<bool>(), text).prop_map(|(ok, text)| {
        let sign = if ok { "+OK" } else { "-ERR" };
        (Expected::Answer, format!("{sign} {text}\r\n").into_bytes())
    });
    let stat = (0u32..60, 0u64..1 << 40).prop_map(|(messages, bytes)| {
        (Expected::Stat, format!("+OK {messages} {bytes}\r\n").into_bytes())
    });
    let capabilities = prop::collection::vec(
        prop::sample::select(vec![
            "TOP",
            "UIDL",
            "PIPELINING",
            "SASL PLAIN XOAUTH2",
            "EXPIRE NEVER",
            "LOGIN-DELAY 60",
            "X",
        ]),
        0..9,
    )
    .prop_map(|all| {
        let lines: String = all.iter().map(|c| format!("{c}\r\n")).collect();
        (Expected::Capabilities, format!("+OK\r\n{lines}.\r\n").into_bytes())
    });
    let listing = |n: usize| 1..=n;
    let uidls = (0usize..60, "[!-~]{1,70}").prop_map(move |(n, uidl)| {
        let lines: String = listing(n).map(|n| format!("{n} {uidl}{n}\r\n")).collect();
        (Expected::Uidls, format!("+OK\r\n{lines}.\r\n").into_bytes())
    });
    let sizes = (0usize..60, 0u64..1 << 33).prop_map(move |(n, size)| {
        let lines: String = listing(n).map(|n| format!("{n} {size}\r\n")).collect();
        (Expected::Sizes, format!("+OK\r\n{lines}.\r\n").into_bytes())
    });
    let message = dotty().prop_map(|text| (WHOLE, stuffed(&[&text[..], b"\r\n"].concat())));
    prop_oneof![1 => answer, 1 => stat, 1 => capabilities, 1 => uidls, 1 => sizes, 3 => message]
}

/// What may happen to bytes on their way, at a place.
#[derive(Debug, Clone)]
enum Harm {
    Change(u8),
    Insert(Vec<u8>),
    Remove(usize),
    Repeat(usize),
    Cut,
}

fn harm() -> impl Strategy<Value = (usize, Harm)> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..5),
        prop::sample::select(vec!["\r\n", ".\r\n", "\r\n.\r\n", "\n", "\r", "\0", ".", "+OK\r\n"])
            .prop_map(|s| s.as_bytes().to_vec()),
        // more than any line may have
        (any::<u8>(), LONGEST_LINE - 2..LONGEST_LINE + 3).prop_map(|(b, n)| vec![b; n]),
    ];
    let one = prop_oneof![
        4 => any::<u8>().prop_map(Harm::Change),
        4 => bytes.prop_map(Harm::Insert),
        2 => (1usize..20).prop_map(Harm::Remove),
        2 => (1usize..90).prop_map(Harm::Repeat),
        1 => Just(Harm::Cut),
    ];
    (any::<usize>(), one)
}

fn harmed(mut bytes: Vec<u8>, harms: &[(usize, Harm)]) -> Vec<u8> {
    for (at, harm) in harms {
        let at = at % (bytes.len() + 1);
        let end = |n: usize| (at + n).min(bytes.len());
        match harm {
            Harm::Change(b) => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = *b;
                }
            }
            Harm::Insert(more) => drop(bytes.splice(at..at, more.iter().copied())),
            Harm::Remove(n) => drop(bytes.drain(at..end(*n))),
            Harm::Repeat(n) => {
                let again = bytes[at..end(*n)].to_vec();
                bytes.splice(at..at, again);
            }
            Harm::Cut => bytes.truncate(at),
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whole conversations come through, however they are cut into pieces.
    #[test]
    fn a_conversation_comes_through(
        replies in prop::collection::vec(reply(), 1..9),
        cuts in prop::collection::vec(any::<usize>(), 0..30),
    ) {
        // what STAT counts bounds what may be listed after it
        let replies: Vec<_> = replies.into_iter().filter(|(e, _)| *e != Expected::Stat).collect();
        let expected: Vec<Expected> = replies.iter().map(|(e, _)| *e).collect();
        let bytes: Vec<u8> = replies.iter().flat_map(|(_, b)| b.clone()).collect();
        let told = feed(&expected, &bytes, &cuts);
        prop_assert_eq!(told.len(), expected.len());
        let whole = told.iter().all(|t| matches!(t, Told::Event(_) | Told::Message(_)));
        prop_assert!(whole, "{:?}", told);
    }

    /// Whatever becomes of a conversation on its way: nothing panics, nothing is kept beyond a line,
    /// and it makes no difference in which pieces it comes. A message never has bytes that were not
    /// sent.
    #[test]
    fn a_harmed_conversation_is_read_the_same_in_all_pieces(
        replies in prop::collection::vec(reply(), 1..9),
        harms in prop::collection::vec(harm(), 1..6),
        cuts in prop::collection::vec(any::<usize>(), 0..30),
    ) {
        let expected: Vec<Expected> = replies.iter().map(|(e, _)| *e).collect();
        let bytes = harmed(replies.into_iter().flat_map(|(_, b)| b).collect(), &harms);
        let whole = feed(&expected, &bytes, &[]);
        prop_assert_eq!(&feed(&expected, &bytes, &cuts), &whole);
        prop_assert!(whole.len() <= expected.len() + 1);
        let texts: usize = whole.iter().map(|t| match t {
            Told::Message(m) | Told::Unfinished(m) => m.len(),
            _ => 0,
        }).sum();
        prop_assert!(texts <= bytes.len());
    }

    #[test]
    fn what_is_stuffed_comes_back(text in dotty(), cuts in prop::collection::vec(any::<usize>(), 0..9)) {
        let text = [&text[..], b"\r\n"].concat();
        prop_assert_eq!(feed(&[WHOLE], &stuffed(&text), &cuts), vec![Told::Message(text)]);
    }

    #[test]
    fn cuts_make_no_difference(
        expected in expected(),
        bytes in chatter(),
        cuts in prop::collection::vec(any::<usize>(), 0..9),
    ) {
        let whole = feed(&expected, &bytes, &[]);
        prop_assert_eq!(feed(&expected, &bytes, &cuts), whole);
    }
}
