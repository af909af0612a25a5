//! The other mail program: a small blocking IMAP client that shares nothing with the one under
//! test. Every failure is a panic, since here the server is trusted.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::letters::{Letter, hash, message_id};
use super::server::{PASSWORD, USER, from_mutf7, to_mutf7};

/// A message as the server shows it.
#[derive(Debug, Clone)]
pub struct RemoteMessage {
    pub uid: u32,
    /// Without \Recent.
    pub flags: BTreeSet<String>,
    pub date: i64,
    /// Of the content with CRLF as LF.
    pub hash: blake3::Hash,
    pub size: usize,
    pub message_id: String,
}

/// A connection, logged in. Folder names are UTF-8 with `/`, without the server's prefix.
pub struct TestImap {
    stream: BufReader<TcpStream>,
    tag: u32,
    separator: char,
    prefix: String,
    /// What the server can do, as it says after the login.
    pub capabilities: BTreeSet<String>,
    selected: Option<String>,
}

/// One untagged response: its text, with every literal replaced by `{}`, and the literals.
struct Untagged {
    text: String,
    literals: Vec<Vec<u8>>,
}

impl TestImap {
    pub fn connect(port: u16, separator: char, prefix: &str) -> Self {
        Self::connect_as(PASSWORD, port, separator, prefix)
    }

    /// The same with another password.
    pub fn connect_as(password: &str, port: u16, separator: char, prefix: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("timeout");
        stream.set_nodelay(true).expect("nodelay");
        let mut c = Self {
            stream: BufReader::with_capacity(1 << 16, stream),
            tag: 0,
            separator,
            prefix: prefix.to_owned(),
            capabilities: BTreeSet::new(),
            selected: None,
        };
        let greeting = c.read_line();
        assert!(greeting.starts_with(b"* OK"), "greeting: {}", String::from_utf8_lossy(&greeting));
        c.command(&format!("LOGIN {USER} \"{password}\""));
        let caps = c.command("CAPABILITY");
        let line = caps.iter().find_map(|u| u.text.strip_prefix("* CAPABILITY ")).expect("caps");
        c.capabilities = line.split_whitespace().map(str::to_owned).collect();
        c
    }

    /// How long it waits for the server to say something.
    pub fn patience(&mut self, time: Duration) {
        self.stream.get_ref().set_read_timeout(Some(time)).expect("timeout");
    }

    /// Every folder that holds messages.
    pub fn list(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        for u in self.command("LIST \"\" \"*\"") {
            let Some(rest) = u.text.strip_prefix("* LIST (") else { continue };
            let (attributes, rest) = rest.split_once(") ").expect("attributes");
            let attributes = attributes.to_ascii_lowercase();
            if attributes.contains("\\noselect") || attributes.contains("\\nonexistent") {
                continue;
            }
            let (_, name) = rest.split_once(' ').expect("separator");
            let wire = match u.literals.first() {
                Some(l) => String::from_utf8_lossy(l).into_owned(),
                None => name
                    .strip_prefix('"')
                    .and_then(|n| n.strip_suffix('"'))
                    .map(|n| n.replace("\\\"", "\"").replace("\\\\", "\\"))
                    .unwrap_or_else(|| name.to_owned()),
            };
            let name = from_mutf7(&wire);
            let name = name.strip_prefix(&self.prefix).unwrap_or(&name);
            out.push(name.replace(self.separator, "/"));
        }
        out.sort();
        out
    }

    pub fn create(&mut self, folder: &str) {
        let name = self.wire(folder);
        self.command(&format!("CREATE {name}"));
    }

    pub fn delete(&mut self, folder: &str) {
        self.unselect(folder);
        let name = self.wire(folder);
        self.command(&format!("DELETE {name}"));
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        self.unselect(from);
        let (from, to) = (self.wire(from), self.wire(to));
        self.command(&format!("RENAME {from} {to}"));
    }

    /// Opens a folder for writing, and says how many messages it has.
    pub fn select(&mut self, folder: &str) -> u32 {
        let name = self.wire(folder);
        let said = self.command(&format!("SELECT {name}"));
        self.selected = Some(folder.to_owned());
        number(&said, "* ", " EXISTS").expect("EXISTS")
    }

    pub fn uidvalidity(&mut self, folder: &str) -> u32 {
        let name = self.wire(folder);
        let said = self.command(&format!("STATUS {name} (UIDVALIDITY)"));
        number(&said, "UIDVALIDITY ", ")").expect("UIDVALIDITY")
    }

    pub fn count(&mut self, folder: &str) -> u32 {
        let name = self.wire(folder);
        let said = self.command(&format!("STATUS {name} (MESSAGES)"));
        number(&said, "MESSAGES ", ")").expect("MESSAGES")
    }

    /// Every message of the folder, by ascending UID.
    pub fn fetch_all(&mut self, folder: &str) -> Vec<RemoteMessage> {
        self.fetch(folder, |uid, flags, date, body| RemoteMessage {
            uid,
            flags,
            date,
            hash: hash(&body),
            size: body.len(),
            message_id: message_id(&body),
        })
    }

    /// Every message's UID and bytes.
    pub fn bodies(&mut self, folder: &str) -> Vec<(u32, Vec<u8>)> {
        self.fetch(folder, |uid, _, _, body| (uid, body))
    }

    /// The UIDs of the messages with this Message-ID.
    pub fn find(&mut self, folder: &str, id: &str) -> Vec<u32> {
        let all = self.fetch_all(folder);
        all.iter().filter(|m| m.message_id == id).map(|m| m.uid).collect()
    }

    /// The UIDs that a search finds (`UNSEEN`, `HEADER Message-ID "<1@x>"`). Opens the folder.
    pub fn search(&mut self, folder: &str, what: &str) -> Vec<u32> {
        self.select(folder);
        let said = self.raw(&format!("UID SEARCH {what}"));
        let found = said.iter().find_map(|l| l.strip_prefix("* SEARCH")).expect("SEARCH");
        found.split_whitespace().map(|n| n.parse().expect("a UID")).collect()
    }

    pub fn append(&mut self, folder: &str, letter: &Letter) {
        self.append_all(folder, std::slice::from_ref(letter));
    }

    /// Appends to a folder, which is made if it does not exist.
    pub fn append_all(&mut self, folder: &str, letters: &[Letter]) {
        if folder != "INBOX" && !self.list().iter().any(|f| f == folder) {
            self.create(folder);
        }
        let name = self.wire(folder);
        // Several on their way at once where the server takes literals unasked.
        let at_once = self.capabilities.contains("LITERAL+");
        for chunk in letters.chunks(if at_once { 32 } else { 1 }) {
            let mut tags = Vec::new();
            for l in chunk {
                let flags: Vec<&str> = l.flags.iter().map(String::as_str).collect();
                let plus = if at_once { "+" } else { "" };
                let rest = format!(
                    "APPEND {name} ({}) \"{}\" {{{}{plus}}}",
                    flags.join(" "),
                    internal_date(l.date),
                    l.body.len()
                );
                tags.push(self.send(&rest));
                if !at_once {
                    let line = self.read_line();
                    assert!(line.starts_with(b"+"), "{}", String::from_utf8_lossy(&line));
                }
                let mut wire = self.stream.get_ref();
                wire.write_all(&l.body).and_then(|()| wire.write_all(b"\r\n")).expect("write");
            }
            for tag in tags {
                self.finish(&tag, "APPEND");
            }
        }
    }

    /// `op` is `+FLAGS`, `-FLAGS` or `FLAGS`.
    pub fn store(&mut self, folder: &str, uids: &[u32], op: &str, flags: &[&str]) {
        self.select(folder);
        self.command(&format!("UID STORE {} {op} ({})", set(uids), flags.join(" ")));
    }

    pub fn copy(&mut self, folder: &str, uids: &[u32], to: &str) {
        self.select(folder);
        let to = self.wire(to);
        self.command(&format!("UID COPY {} {to}", set(uids)));
    }

    /// By MOVE, or where the server lacks it, by COPY and expunge.
    pub fn move_to(&mut self, folder: &str, uids: &[u32], to: &str) {
        if self.capabilities.contains("MOVE") {
            self.select(folder);
            let to = self.wire(to);
            self.command(&format!("UID MOVE {} {to}", set(uids)));
        } else {
            self.copy(folder, uids, to);
            self.expunge(folder, uids);
        }
    }

    /// Marks these messages as deleted, and expunges everything that is so marked.
    pub fn expunge(&mut self, folder: &str, uids: &[u32]) {
        self.store(folder, uids, "+FLAGS.SILENT", &["\\Deleted"]);
        self.command("EXPUNGE");
    }

    /// Any other command; the text of its untagged responses.
    pub fn raw(&mut self, command: &str) -> Vec<String> {
        self.command(command).into_iter().map(|u| u.text).collect()
    }

    /// Ends the session, and waits until the server has closed it: its files are at rest then.
    pub fn logout(mut self) {
        self.stream.get_ref().write_all(b"bye LOGOUT\r\n").expect("write");
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("read");
    }

    /// The name as the server spells it, quoted.
    pub fn wire(&self, folder: &str) -> String {
        let name = if folder == "INBOX" {
            folder.to_owned()
        } else {
            format!("{}{}", self.prefix, folder.replace('/', &self.separator.to_string()))
        };
        format!("\"{}\"", to_mutf7(&name).replace('\\', "\\\\").replace('"', "\\\""))
    }

    fn fetch<T>(
        &mut self,
        folder: &str,
        make: impl Fn(u32, BTreeSet<String>, i64, Vec<u8>) -> T,
    ) -> Vec<T> {
        let name = self.wire(folder);
        let said = self.command(&format!("EXAMINE {name}"));
        self.selected = Some(folder.to_owned());
        if number(&said, "* ", " EXISTS") == Some(0) {
            return Vec::new();
        }
        let tag = self.send("UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])");
        let mut out = Vec::new();
        // One at a time, so that a large folder is never in memory as a whole.
        while let Some(u) = self.read_untagged(&tag, "UID FETCH") {
            let Some(uid) = between(&u.text, "UID ", &[' ', ')']) else { continue };
            let flags = between(&u.text, "FLAGS (", &[')']).unwrap_or_default();
            let flags = flags.split_whitespace().filter(|f| !f.eq_ignore_ascii_case("\\Recent"));
            let date = between(&u.text, "INTERNALDATE \"", &['"']).expect("INTERNALDATE");
            let body = match u.literals.into_iter().next() {
                Some(l) => l,
                None => between(&u.text, "BODY[] \"", &['"']).unwrap_or_default().into(),
            };
            let uid = uid.parse().expect("a UID");
            let flags = flags.map(str::to_owned).collect();
            out.push((uid, make(uid, flags, parse_internal_date(&date), body)));
        }
        out.sort_by_key(|(uid, _)| *uid);
        out.into_iter().map(|(_, m)| m).collect()
    }

    /// Courier and Cyrus refuse to delete or rename what is selected.
    fn unselect(&mut self, folder: &str) {
        if self.selected.take().is_some_and(|s| s == folder) {
            self.command("EXAMINE INBOX");
        }
    }

    fn send(&mut self, command: &str) -> String {
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        let line = format!("{tag} {command}\r\n");
        self.stream.get_ref().write_all(line.as_bytes()).expect("write");
        tag
    }

    fn command(&mut self, command: &str) -> Vec<Untagged> {
        let tag = self.send(command);
        self.finish(&tag, command)
    }

    fn finish(&mut self, tag: &str, command: &str) -> Vec<Untagged> {
        let mut out = Vec::new();
        while let Some(u) = self.read_untagged(tag, command) {
            out.push(u);
        }
        out
    }

    /// The next untagged response; nothing after the tagged OK.
    fn read_untagged(&mut self, tag: &str, command: &str) -> Option<Untagged> {
        let mut text = String::new();
        let mut literals = Vec::new();
        loop {
            let line = self.read_line();
            let line_text = String::from_utf8_lossy(&line).into_owned();
            let status = line_text.strip_prefix(tag).and_then(|s| s.strip_prefix(' '));
            if let (true, Some(status)) = (text.is_empty(), status) {
                assert!(status.starts_with("OK"), "{command}: {status}");
                return None;
            }
            let announced = line_text
                .strip_suffix('}')
                .and_then(|s| s.rsplit_once('{'))
                .and_then(|(head, n)| Some((head.to_owned(), n.parse::<usize>().ok()?)));
            let Some((head, n)) = announced else {
                text.push_str(&line_text);
                return Some(Untagged { text, literals });
            };
            text.push_str(&head);
            text.push_str("{}");
            let mut literal = vec![0; n];
            self.stream.read_exact(&mut literal).expect("literal");
            literals.push(literal);
        }
    }

    fn read_line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).expect("read");
        assert!(line.ends_with(b"\n"), "the server closed the connection");
        while line.last().is_some_and(|b| b"\r\n".contains(b)) {
            line.pop();
        }
        line
    }
}

impl Drop for TestImap {
    fn drop(&mut self) {
        let _ = self.stream.get_ref().write_all(b"bye LOGOUT\r\n");
    }
}

fn set(uids: &[u32]) -> String {
    assert!(!uids.is_empty(), "no message is meant");
    let uids: Vec<String> = uids.iter().map(u32::to_string).collect();
    uids.join(",")
}

fn between(text: &str, start: &str, ends: &[char]) -> Option<String> {
    let from = text.find(start)? + start.len();
    let rest = &text[from..];
    Some(rest[..rest.find(ends)?].to_owned())
}

fn number(said: &[Untagged], before: &str, after: &str) -> Option<u32> {
    said.iter().find_map(|u| {
        let end = u.text.find(after)?;
        let start = u.text[..end].rfind(before)? + before.len();
        u.text[start..end].parse().ok()
    })
}

/// Unix time as IMAP has it, in UTC.
pub fn internal_date(t: i64) -> String {
    jiff::Timestamp::from_second(t)
        .expect("in range")
        .to_zoned(jiff::tz::TimeZone::UTC)
        .strftime("%e-%b-%Y %H:%M:%S +0000")
        .to_string()
}

/// The inverse, in any zone.
pub fn parse_internal_date(s: &str) -> i64 {
    jiff::fmt::strtime::parse("%d-%b-%Y %H:%M:%S %z", s.trim())
        .and_then(|t| t.to_timestamp())
        .unwrap_or_else(|e| panic!("{s}: {e}"))
        .as_second()
}
