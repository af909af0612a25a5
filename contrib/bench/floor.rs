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
use crate::tools::Sample;

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

/// A point in INBOX's history.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    uidvalidity: u64,
    modseq: u64,
}

/// The latest one.
pub fn moment(port: u16) -> Moment {
    let mut server = connect(port);
    let status = "STATUS INBOX (UIDVALIDITY HIGHESTMODSEQ)";
    let (said, _) = ask(&mut server, &format!("a LOGIN {USER} \"{PASSWORD}\"\r\nb {status}\r\n"));
    let number = |name: &str| {
        let (_, rest) = said.split_once(name).expect(name);
        let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    };
    Moment { uidvalidity: number("(UIDVALIDITY"), modseq: number("HIGHESTMODSEQ") }
}

/// Asks what changed in INBOX since, and does nothing about it.
pub fn changes(port: u16, since: Moment) -> Sample {
    let start = Instant::now();
    let mut server = connect(port);
    let Moment { uidvalidity, modseq } = since;
    let (said, received) = ask(
        &mut server,
        &format!(
            "a LOGIN {USER} \"{PASSWORD}\"\r\nc ENABLE QRESYNC\r\n\
             b SELECT INBOX (QRESYNC ({uidvalidity} {modseq}))\r\n"
        ),
    );
    assert!(said.matches(" FETCH (").count() > 50, "{said}");
    Sample { time: start.elapsed(), memory: 0, received: Some(received) }
}

/// What the server says to commands, of which the last is `b`, and how much that is.
fn ask(server: &mut BufReader<TcpStream>, commands: &str) -> (String, u64) {
    server.get_ref().write_all(commands.as_bytes()).unwrap();
    let mut said = Vec::new();
    let mut line = 0;
    while !said.get(line..).is_some_and(|l| l.starts_with(b"b ")) {
        line = said.len();
        assert!(server.read_until(b'\n', &mut said).unwrap() > 0, "the server hung up");
    }
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("\nb OK"), "{said}");
    let received = said.len() as u64;
    (said, received)
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
