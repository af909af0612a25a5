//! The least a client can do: one socket, one command, nothing durable, no state.

use std::fs;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::Letter;
use crate::common::imap::internal_date;
use crate::common::letters::to_lf;
use crate::common::server::{PASSWORD, USER};

/// Drains one UID FETCH of INBOX and writes a file a message, without fsync.
pub fn pull(port: u16, inbox: &Path) {
    for sub in ["cur", "new", "tmp"] {
        fs::create_dir_all(inbox.join(sub)).unwrap();
    }
    let mut server = connect(port);
    server
        .get_ref()
        .write_all(
            format!(
                "a LOGIN {USER} \"{PASSWORD}\"\r\nb EXAMINE INBOX\r\n\
                 c UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])\r\n"
            )
            .as_bytes(),
        )
        .unwrap();
    let mut line = Vec::new();
    let mut body = Vec::new();
    let mut n = 0;
    loop {
        line.clear();
        assert!(server.read_until(b'\n', &mut line).unwrap() > 0, "the server hung up");
        if line.starts_with(b"c ") {
            assert!(line.starts_with(b"c OK"));
            return;
        }
        if let Some(size) = literal_size(&line) {
            body.resize(size, 0);
            server.read_exact(&mut body).unwrap();
            n += 1;
            fs::write(inbox.join(format!("cur/{n}.bare:2,S")), to_lf(&body)).unwrap();
        }
    }
}

/// Sends all messages in one MULTIAPPEND, from memory.
pub fn multiappend(port: u16, letters: &[Letter]) -> Duration {
    let start = Instant::now();
    let mut server = connect(port);
    let mut out = BufWriter::with_capacity(1 << 18, server.get_ref().try_clone().unwrap());
    write!(out, "a LOGIN {USER} \"{PASSWORD}\"\r\nb APPEND INBOX").unwrap();
    for l in letters {
        let date = internal_date(l.date);
        write!(out, " (\\Seen) \"{date}\" {{{}+}}\r\n", l.body.len()).unwrap();
        out.write_all(&l.body).unwrap();
    }
    out.write_all(b"\r\n").unwrap();
    out.flush().unwrap();
    let mut line = Vec::new();
    while !line.starts_with(b"b ") {
        line.clear();
        assert!(server.read_until(b'\n', &mut line).unwrap() > 0, "the server hung up");
    }
    assert!(line.starts_with(b"b OK"), "{}", String::from_utf8_lossy(&line));
    start.elapsed()
}

fn connect(port: u16) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    BufReader::with_capacity(1 << 18, stream)
}

fn literal_size(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"}\r\n")?;
    let open = line.iter().rposition(|b| *b == b'{')?;
    std::str::from_utf8(&line[open + 1..]).ok()?.parse().ok()
}
