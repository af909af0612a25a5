use proptest::prelude::*;

use super::*;

fn scan_all(mut bytes: &[u8], limits: &Limits) -> Result<Vec<Vec<u8>>> {
    let mut scanner = Scanner::default();
    let mut frames = Vec::new();
    while let Step::Frame(length) = scanner.scan(bytes, limits)? {
        let (frame, rest) = bytes.split_at(length);
        frames.push(frame.to_vec());
        bytes = rest;
    }
    Ok(frames)
}

fn small() -> Limits {
    Limits { line: 100, literal: 50, literals: 3, frame: 200 }
}

#[test]
fn a_line_with_literals_is_one_frame() {
    let frames = [
        &b"* 1 FETCH (UID 7 BODY[] {5}\r\na\r\n)\n X ~{0}\r\n Y {2}\r\n\r\n)\r\n"[..],
        b"* LIST () \"/\" {3}\r\n{9}\r\n",
        b"M1 OK done\r\n",
    ];
    assert_eq!(scan_all(&frames.concat(), &Limits::default()).unwrap(), frames);
}

#[test]
fn a_text_may_end_like_a_literal() {
    for text in ["M1 OK see {5}\r\n", "* NO {5}\r\n", "* bye {5}\r\n", "+ {5}\r\n", "+{5}\r\n"] {
        let both = format!("{text}* 1 EXISTS\r\n");
        assert_eq!(scan_all(both.as_bytes(), &small()).unwrap().len(), 2, "{text}");
    }
    // What looks like a status further on is data.
    let data = b"* LIST () NIL {2}\r\nOK\r\n";
    assert_eq!(scan_all(data, &small()).unwrap(), [data]);
}

#[test]
fn only_a_line_s_own_crlf_ends_it() {
    let odd = b"* X a\nb\r c {2}\r\n1\r\n\r\n";
    assert_eq!(scan_all(odd, &small()).unwrap(), [odd]);
    for not_a_literal in
        ["* X {}\r\n", "* X {1x}\r\n", "* X {-1}\r\n", "* X 5}\r\n", "* X {1+}\r\n"]
    {
        assert_eq!(scan_all(not_a_literal.as_bytes(), &small()).unwrap().len(), 1);
    }
}

#[test]
fn bounds_hold_before_the_bytes_come() {
    let refused = [
        "* X {51}\r\n".to_owned(),
        "* X {4294967296}\r\n".to_owned(),
        "* X {99999999999999999999999}\r\n".to_owned(),
        "* X {18446744073709551615}\r\n".to_owned(),
        format!("* {}", "x".repeat(99)),
        format!("* {}\r\n", "x".repeat(99)),
        "* {0}\r\n{0}\r\n{0}\r\n{0}\r\n".to_owned(),
        format!(
            "* X {{50}}\r\n{a} {{50}}\r\n{a} {{50}}\r\n{a}{b}",
            a = "a".repeat(50),
            b = "b".repeat(40)
        ),
        // The pieces of line add up.
        format!("* {a}{{1}}\r\nx{a}{{1}}\r\nx", a = "x".repeat(45)),
    ];
    for bytes in refused {
        let e = scan_all(bytes.as_bytes(), &small()).unwrap_err();
        assert_eq!(e.kind, Kind::Protocol, "{bytes}");
    }
    assert_eq!(scan_all(b"* X {50}\r\n", &small()).unwrap(), Vec::<Vec<u8>>::new());
}

#[test]
fn says_how_much_is_needed() {
    let mut scanner = Scanner::default();
    assert_eq!(scanner.scan(b"* X {40}\r\nab", &small()).unwrap(), Step::Need(52));
    assert_eq!(scanner.scan(b"", &small()).unwrap(), Step::Need(52));
}

#[test]
fn the_log_has_sizes_for_literals() {
    let shown = for_log(b"* 1 FETCH (BODY[] {6}\r\nsecret UID 7)\r\n");
    assert_eq!(shown, "* 1 FETCH (BODY[] {6} UID 7)");
    assert_eq!(for_log(b"* NO {6}\r\n"), "* NO {6}");
    assert!(for_log(&[b'x'; 5000]).len() < 1100);
    assert!(for_log(&[&[b'\xff'; 5000][..], b"\r\n"].concat()).len() < 1100);
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[ -z]{0,12}".prop_map(String::into_bytes),
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\r\n".to_vec()),
        (0usize..9).prop_map(|n| format!(" {{{n}}}\r\n").into_bytes()),
        prop::collection::vec(any::<u8>(), 0..6),
    ]
}

proptest! {
    /// However the bytes are cut into reads, the frames are the same, and they are the input.
    #[test]
    fn cuts_do_not_matter(
        pieces in prop::collection::vec(piece(), 0..24),
        cuts in prop::collection::vec(1usize..7, 1..40),
    ) {
        let bytes = pieces.concat();
        let whole = scan_all(&bytes, &Limits::default());
        let mut scanner = Scanner::default();
        let mut frames = Vec::new();
        let (mut start, mut end, mut cut) = (0, 0, cuts.iter().cycle());
        let cut_up = loop {
            match scanner.scan(&bytes[start..end], &Limits::default()) {
                Err(e) => break Err(e),
                Ok(Step::Frame(length)) => {
                    frames.push(bytes[start..start + length].to_vec());
                    start += length;
                }
                Ok(Step::Need(need)) => {
                    prop_assert!(need > end - start);
                    if end == bytes.len() {
                        break Ok(frames);
                    }
                    end = (end + cut.next().unwrap()).min(bytes.len());
                }
            }
        };
        if let Ok(frames) = &cut_up {
            prop_assert!(bytes.starts_with(&frames.concat()));
            for frame in frames {
                prop_assert!(frame.ends_with(b"\r\n"));
            }
        }
        prop_assert_eq!(whole, cut_up);
    }
}
