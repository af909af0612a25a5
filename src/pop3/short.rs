//! Whether a message came shorter than it is. Pure. LIST counts what it likes: LF alone, a line more
//! or less that the server keeps to itself, an estimate. But where most of a text is missing, or all
//! that stands below its header, it was cut: GNU mailutils 3.15 answers RETR with the header alone
//! where TOP of that message came before it in the same session (seen 2026-11).

use crate::model::identity::Digest;

/// Lines that a server counts and does not send (an mbox's `From `, `Status`, `X-UID`) come to less
/// than so many bytes.
const LINES: u64 = 512;

/// Whether LIST said clearly more than what came, of which every line end counts as two bytes. By a
/// fifth it may be wrong: Exchange estimates. `listed` of 0: it said nothing.
pub fn is_short(listed: u64, came: &Digest) -> bool {
    let spare = if came.has_body { LINES.max(listed / 5) } else { 0 };
    listed.saturating_sub(came.wire_size) > spare
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::identity::Digester;

    fn short(listed: u64, text: &[u8]) -> bool {
        is_short(listed, &Digester::whole(text).0)
    }

    #[test]
    fn a_size_may_be_counted_otherwise_or_be_wrong_by_a_fifth() {
        let text = [b"Subject: x\r\n\r\n".to_vec(), b"text\r\n".repeat(1000)].concat();
        let size = text.len() as u64;
        for listed in [0, size / 2, size, size + 3, size + 500, size * 6 / 5] {
            assert!(!short(listed, &text), "{listed}");
        }
        // LF here, CRLF in LIST
        let bare = String::from_utf8(text.clone()).unwrap().replace('\r', "");
        assert!(!short(size, bare.as_bytes()));
        for listed in [size * 4 / 3, size * 2, u64::MAX] {
            assert!(short(listed, &text), "{listed}");
        }
        // a little of little
        assert!(!short(300, b"Subject: x\r\n\r\ntext\r\n") && short(900, b"A: b\r\n\r\ntext\r\n"));
    }

    #[test]
    fn a_header_alone_is_a_message_only_if_its_size_says_so() {
        for text in [&b"Subject: x\r\n\r\n"[..], b"Subject: x\r\n", b"Subject: x\r\n\r\n\r\n", b""]
        {
            let size = text.len() as u64;
            assert!(!short(size, text) && !short(0, text));
            assert!(short(size + 4, text), "{text:?}");
        }
    }
}
