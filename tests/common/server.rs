//! What every real server here can do: say where it is, spell folder names, be seeded, restart,
//! and forget its UIDs.

use super::imap::TestImap;
use super::letters::Letter;

/// The one user of every server.
pub const USER: &str = "alice";
/// Distinctive, so that a test can look for it in logs.
pub const PASSWORD: &str = "s3cret-Pa55w0rd";

/// The folders with a special use, where a server has them.
pub const SPECIAL_USE: [(&str, &str); 5] = [
    ("Trash", "\\Trash"),
    ("Sent", "\\Sent"),
    ("Drafts", "\\Drafts"),
    ("Junk", "\\Junk"),
    ("Archive", "\\Archive"),
];

/// A real mail server on loopback.
pub trait Server {
    /// The port of plain IMAP.
    fn port(&self) -> u16;

    /// The hierarchy separator.
    fn separator(&self) -> char {
        '/'
    }

    /// What every personal folder's name but INBOX begins with.
    fn prefix(&self) -> &str {
        ""
    }

    /// Whether it has MOVE.
    fn has_move(&self) -> bool {
        true
    }

    /// Whether it has UIDPLUS.
    fn has_uidplus(&self) -> bool {
        true
    }

    /// What a proxy has to strike out of its answers, so that what follows stays readable.
    fn hide(&self) -> &'static str {
        ""
    }

    /// A connection, logged in.
    fn imap(&self) -> TestImap {
        TestImap::connect(self.port(), self.separator(), self.prefix())
    }

    /// Puts messages into a folder, which is made if it does not exist.
    fn seed(&self, folder: &str, letters: &[Letter]) {
        self.imap().append_all(folder, letters);
    }

    /// Gives the folder another UIDVALIDITY and its messages other UIDs, in another order.
    fn reset_uidvalidity(&mut self, folder: &str);

    /// Ends the processes and starts them again, on the same port.
    fn restart(&mut self);
}

/// Modified UTF-7 (RFC 3501 5.1.3).
pub fn to_mutf7(name: &str) -> String {
    use base64::Engine as _;
    let mut out = String::new();
    let mut wide: Vec<u8> = Vec::new();
    let flush = |wide: &mut Vec<u8>, out: &mut String| {
        if !wide.is_empty() {
            let b = base64::engine::general_purpose::STANDARD_NO_PAD.encode(&*wide);
            out.push('&');
            out.push_str(&b.replace('/', ","));
            out.push('-');
            wide.clear();
        }
    };
    for c in name.chars() {
        if (' '..='~').contains(&c) {
            flush(&mut wide, &mut out);
            out.push(c);
            if c == '&' {
                out.push('-');
            }
        } else {
            wide.extend(c.encode_utf16(&mut [0; 2]).iter().flat_map(|u| u.to_be_bytes()));
        }
    }
    flush(&mut wide, &mut out);
    out
}

/// The inverse of [`to_mutf7`].
pub fn from_mutf7(wire: &str) -> String {
    use base64::Engine as _;
    let mut out = String::new();
    let mut rest = wire;
    while let Some((plain, tail)) = rest.split_once('&') {
        out.push_str(plain);
        let (shifted, tail) = tail.split_once('-').expect("an end of the shift");
        if shifted.is_empty() {
            out.push('&');
        } else {
            let bytes = base64::engine::general_purpose::STANDARD_NO_PAD
                .decode(shifted.replace(',', "/"))
                .expect("base64");
            let units: Vec<u16> =
                bytes.chunks_exact(2).map(|c| u16::from_be_bytes([c[0], c[1]])).collect();
            out.push_str(&String::from_utf16(&units).expect("UTF-16"));
        }
        rest = tail;
    }
    out + rest
}
