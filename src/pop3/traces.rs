//! Whether a file that another program delivered is a message of the server. Such programs put
//! lines before the message (getmail's Return-Path, Delivered-To and Received, fetchmail's and
//! mpop's Received), and some change a header; the text below it they leave alone.

use std::io::Read as _;
use std::path::Path;

use crate::error::{Error, Result, Scope};
use crate::maildir;
use crate::model::ContentHash;

/// Such lines come to less than so many bytes.
pub const MOST: u64 = 8 << 10;

/// A hash of what stands below a file's header.
pub fn body_of(path: &Path) -> Result<ContentHash> {
    let mut hasher = blake3::Hasher::new();
    let (mut in_header, mut line_empty) = (true, true);
    read_lf(path, |bytes| {
        let mut rest = bytes;
        while in_header && let Some((b, more)) = rest.split_first() {
            in_header = !(line_empty && *b == b'\n');
            line_empty = *b == b'\n';
            rest = more;
        }
        hasher.update(rest);
    })?;
    Ok(ContentHash(*hasher.finalize().as_bytes()))
}

/// Whether a file ends with the whole of another one's text.
pub fn ends_with(file: &Path, message: &Path) -> Result<bool> {
    let (have, want) = (length(file)?, length(message)?);
    Ok(have >= want && want > 0 && hash_from(file, have - want)? == hash_from(message, 0)?)
}

fn length(path: &Path) -> Result<u64> {
    let mut n = 0;
    read_lf(path, |bytes| n += bytes.len() as u64)?;
    Ok(n)
}

fn hash_from(path: &Path, mut skip: u64) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    read_lf(path, |bytes| {
        let n = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
        skip -= n as u64;
        hasher.update(bytes.get(n..).unwrap_or_default());
    })?;
    Ok(hasher.finalize())
}

/// Reads a file with CRLF as LF, and without the line ends at its end, of which POP3 adds one.
fn read_lf(path: &Path, mut each: impl FnMut(&[u8])) -> Result<()> {
    let (mut file, _) = maildir::open_message(path)?;
    let mut buffer = vec![0; 64 << 10];
    let mut out = Vec::with_capacity(buffer.len() + 1);
    let (mut cr, mut line_ends) = (false, 0);
    loop {
        let n = file.read(&mut buffer).map_err(|e| Error::io(Scope::Message, "read", path, &e))?;
        if n == 0 {
            return Ok(());
        }
        for b in buffer.get(..n).unwrap_or_default() {
            // a CR is a part of the line end that follows, or a byte like others
            let was_cr = std::mem::replace(&mut cr, *b == b'\r');
            if *b == b'\n' {
                line_ends += 1;
                continue;
            }
            if was_cr || !cr {
                out.resize(out.len() + std::mem::take(&mut line_ends), b'\n');
            }
            if was_cr {
                out.push(b'\r');
            }
            if !cr {
                out.push(*b);
            }
        }
        each(&out);
        out.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = "A: b\n\none\n\n\rtwo\r\r\nthree\n";

    fn file(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn a_body_is_the_same_whatever_stands_above_and_however_lines_end() {
        let dir = tempfile::tempdir().unwrap();
        let body = |text: &str| body_of(&file(dir.path(), "m", text)).unwrap();
        let one = body(MESSAGE);
        for same in [
            "X: y\nA: b\n\none\n\n\rtwo\r\r\nthree\n",
            "A: b\r\n\r\none\r\n\r\n\rtwo\r\r\nthree\r\n",
            "A: b\n\none\n\n\rtwo\r\r\nthree",
            "A: b\n\none\n\n\rtwo\r\r\nthree\r\n\r\n",
        ] {
            assert!(body(same) == one, "{same:?}");
        }
        for other in [
            "A: b\n\none\n\rtwo\r\r\nthree\n",
            "A: b\n\none\n\ntwo\r\r\nthree\n",
            "A: b\n\none\n\n\rtwo\r\nthree\n",
            "A: b\n\n\none\n\n\rtwo\r\r\nthree\n",
            "A: b\n\none\n\n\rtwo\r\r\nthree\nfour\n",
            "A: b\n",
        ] {
            assert!(body(other) != one, "{other:?}");
        }
        // over the end of what is read at once
        let long = format!("A: b\n\n{}", "x\r\n".repeat(50_000));
        assert!(body(&long) == body(&long.replace('\r', "")));
    }

    #[test]
    fn a_file_ends_with_a_message_or_not() {
        let text = "A: b\n\none\n\ntwo\n";
        let dir = tempfile::tempdir().unwrap();
        let message = file(dir.path(), "message", &text.replace('\n', "\r\n"));
        let ends = |text: &str| ends_with(&file(dir.path(), "file", text), &message).unwrap();
        assert!(ends(text));
        assert!(ends(&format!("Received: x\n by y\n{text}")));
        assert!(!ends(&format!("{text}more\n")));
        assert!(!ends(&text.replace("A: b", "A: c")));
        assert!(!ends(&text[1..]));
        assert!(!ends(""));
        // nothing is the end of everything, and no message
        let empty = file(dir.path(), "empty", "\r\n");
        assert!(!ends_with(&message, &empty).unwrap());
    }
}
