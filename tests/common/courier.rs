//! Courier-IMAP: no CONDSTORE, no MOVE, folders below `INBOX.` with `.` between components.
//!
//! Its package cannot be installed beside Dovecot's, so it is only unpacked. The login is played
//! here: the socket goes to the real imapd afterwards, as Courier's own front does it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::process::{Group, User, command, make_dir, temp_dir, wait_for};
use super::rng::Rng;
use super::server::{PASSWORD, Server, USER};

const CAPABILITY: &str = "IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT \
                          THREAD=REFERENCES SORT QUOTA IDLE";

/// Where an unpacked server is: a variable's value, or below `target/`. It fails the test if the
/// program is missing.
pub fn unpacked(variable: &str, name: &str, program: &str) -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-servers").join(name);
    let root = std::env::var_os(variable).map_or_else(own, PathBuf::from);
    assert!(
        root.join(program).is_file(),
        "{name} is not unpacked in {}: run contrib/install {name}, or name another directory \
         with {variable}",
        root.display()
    );
    root
}

/// The search path of the libraries that came with it.
pub fn library_path(root: &Path) -> String {
    let lib = root.join("usr/lib");
    let mut dirs = vec![lib.display().to_string()];
    for entry in fs::read_dir(&lib).expect("read").map(|e| e.expect("read").path()) {
        if entry.to_string_lossy().ends_with("-linux-gnu") {
            dirs.push(entry.display().to_string());
        }
    }
    dirs.join(":")
}

/// A running Courier with one user.
pub struct Courier {
    front: Arc<Front>,
    port: u16,
    user: User,
    dir: tempfile::TempDir,
}

struct Front {
    root: PathBuf,
    home: PathBuf,
    user: User,
    /// What it says it can.
    capability: String,
    /// imapd, one a connection. Each dies with this list, not with the thread that starts it.
    sessions: Mutex<Vec<Group>>,
    stopped: Mutex<bool>,
}

impl Courier {
    pub fn start() -> Self {
        Self::offering("")
    }

    /// It says that it can this, too, and cannot.
    pub fn offering(more: &str) -> Self {
        let root = unpacked("MAILKEEP_TEST_COURIER", "courier", "usr/bin/imapd");
        let dir = temp_dir("courier");
        let user = User::for_mail();
        let home = dir.path().join("home");
        for sub in ["", "Maildir", "Maildir/cur", "Maildir/new", "Maildir/tmp"] {
            make_dir(&home.join(sub), &user);
        }
        let front = Arc::new(Front {
            root,
            home,
            user: user.clone(),
            capability: format!("{CAPABILITY} {more}").trim_end().to_owned(),
            sessions: Mutex::new(Vec::new()),
            stopped: Mutex::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        let f = front.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let f = f.clone();
                // A client that goes away in the middle ends its own thread only.
                std::thread::spawn(move || f.log_in(client));
            }
        });
        let me = Self { front, port, user, dir };
        for (name, _) in super::server::SPECIAL_USE {
            me.imap().create(name);
        }
        me
    }

    /// The directory of a folder in the server's own Maildir. On disk names are UTF-8.
    pub fn folder_dir(&self, folder: &str) -> PathBuf {
        let root = self.front.home.join("Maildir");
        if folder == "INBOX" {
            return root;
        }
        root.join(format!(".{}", folder.replace('/', ".")))
    }

    fn stop(&self) {
        *self.front.stopped.lock().expect("lock") = true;
        self.front.sessions.lock().expect("lock").clear();
    }
}

impl Server for Courier {
    fn port(&self) -> u16 {
        self.port
    }

    fn separator(&self) -> char {
        '.'
    }

    fn prefix(&self) -> &str {
        "INBOX."
    }

    fn has_move(&self) -> bool {
        false
    }

    fn reset_uidvalidity(&mut self, folder: &str) {
        let old = self.imap().uidvalidity(folder);
        let was = self.imap().fetch_all(folder);
        self.stop();
        let dir = self.folder_dir(folder);
        for name in ["courierimapuiddb", "courierimapkeywords"] {
            let path = dir.join(name);
            if path.is_file() {
                fs::remove_file(path).expect("unlink");
            }
        }
        let mut files: Vec<PathBuf> =
            fs::read_dir(dir.join("cur")).expect("read").map(|e| e.expect("read").path()).collect();
        files.sort();
        Rng::labelled(5, "uidvalidity").shuffle(&mut files);
        for (i, file) in files.iter().enumerate() {
            let name = file.file_name().expect("a name").to_str().expect("UTF-8");
            let info = name.split_once(":2,").map_or("", |(_, i)| i);
            let new = format!("{}.M{i:06}P2.moved:2,{info}", 1_700_000_000 + i);
            fs::rename(file, dir.join("cur").join(new)).expect("rename");
        }
        // The new one is the time of day, in seconds.
        wait_for("another second", Duration::from_secs(3), || {
            let now = std::time::SystemTime::now();
            let now = now.duration_since(std::time::UNIX_EPOCH).expect("clock").as_secs();
            (now > u64::from(old)).then_some(())
        });
        self.restart();
        let mut imap = self.imap();
        assert_ne!(imap.uidvalidity(folder), old, "UIDVALIDITY did not change");
        // Courier keeps keywords by file name. Contents are told apart by hash here.
        for now in imap.fetch_all(folder) {
            let then = was.iter().find(|m| m.hash == now.hash).expect("the same messages");
            let lost: Vec<&str> = then.flags.difference(&now.flags).map(String::as_str).collect();
            if !lost.is_empty() {
                imap.store(folder, &[now.uid], "+FLAGS.SILENT", &lost);
            }
        }
    }

    fn restart(&mut self) {
        self.stop();
        *self.front.stopped.lock().expect("lock") = false;
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Front {
    fn log_in(&self, mut client: TcpStream) {
        if self.speak(&mut client).is_none() {
            let _ = client.shutdown(std::net::Shutdown::Both);
        }
    }

    /// None: the client is not logged in, and goes.
    fn speak(&self, client: &mut TcpStream) -> Option<()> {
        client.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
        let can = &self.capability;
        let greeting = format!("* OK [CAPABILITY {can} AUTH=PLAIN] Courier-IMAP ready.\r\n");
        client.write_all(greeting.as_bytes()).ok()?;
        loop {
            let line = read_line(client)?;
            let mut words = line.splitn(3, ' ');
            let (tag, verb) = (words.next()?.to_owned(), words.next()?.to_ascii_uppercase());
            let rest = words.next().unwrap_or_default();
            let given = match verb.as_str() {
                "CAPABILITY" => {
                    let said = format!("* CAPABILITY {can} AUTH=PLAIN\r\n{tag} OK done\r\n");
                    client.write_all(said.as_bytes()).ok()?;
                    continue;
                }
                "LOGIN" => login_words(rest, client)?,
                "AUTHENTICATE" => plain_words(rest, client)?,
                "LOGOUT" => {
                    let _ = client.write_all(format!("* BYE\r\n{tag} OK bye\r\n").as_bytes());
                    return None;
                }
                _ => {
                    client.write_all(format!("{tag} NO log in first\r\n").as_bytes()).ok()?;
                    continue;
                }
            };
            if given != (USER.to_owned(), PASSWORD.to_owned()) {
                client.write_all(format!("{tag} NO Login failed.\r\n").as_bytes()).ok()?;
                continue;
            }
            return self.hand_over(client, &tag);
        }
    }

    fn hand_over(&self, client: &TcpStream, tag: &str) -> Option<()> {
        let stopped = self.stopped.lock().expect("lock");
        if *stopped {
            return None;
        }
        client.set_read_timeout(None).ok()?;
        let mut imapd = std::process::Command::new("setpriv");
        if super::process::is_root() {
            imapd.arg(format!("--reuid={}", self.user.uid));
            imapd.arg(format!("--regid={}", self.user.gid)).arg("--clear-groups");
        } else {
            imapd.arg("--no-new-privs");
        }
        // No death signal: the thread that starts it ends now. Closing its socket ends it.
        imapd.arg("--").arg(self.root.join("usr/bin/imapd")).arg("Maildir");
        imapd.env_clear().current_dir(&self.home);
        imapd.env("PATH", "/usr/bin:/bin").env("LD_LIBRARY_PATH", library_path(&self.root));
        imapd.env("IMAPLOGINTAG", tag).env("AUTHENTICATED", USER).env("AUTHADDR", USER);
        imapd.env("PROTOCOL", "imap").env("HOME", &self.home).env("TCPREMOTEIP", "127.0.0.1");
        imapd.env("TCPREMOTEPORT", "1").env("IMAP_KEYWORDS", "1").env("IMAP_IDLE_TIMEOUT", "60");
        imapd.env("IMAP_CAPABILITY", &self.capability).env("MAILDIR", self.home.join("Maildir"));
        let socket = |c: &TcpStream| Some(OwnedFd::from(c.try_clone().ok()?));
        imapd.stdin(socket(client)?).stdout(socket(client)?).stderr(std::process::Stdio::null());
        let group = Group::spawn(&mut imapd).expect("imapd");
        let mut sessions = self.sessions.lock().expect("lock");
        sessions.retain_mut(|s| s.ended().is_none());
        sessions.push(group);
        Some(())
    }
}

/// One line and not a byte more: what follows belongs to imapd.
fn read_line(client: &mut TcpStream) -> Option<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\n") {
        client.read_exact(&mut byte).ok()?;
        line.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// User and password of LOGIN: atoms, quoted, or literals.
fn login_words(rest: &str, client: &mut TcpStream) -> Option<(String, String)> {
    let mut rest = rest.to_owned();
    let mut words = Vec::new();
    while words.len() < 2 {
        rest = rest.trim_start().to_owned();
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut word = String::new();
            let mut chars = quoted.char_indices();
            let end = loop {
                match chars.next()? {
                    (i, '"') => break i,
                    (_, '\\') => word.push(chars.next()?.1),
                    (_, c) => word.push(c),
                }
            };
            words.push(word);
            rest = quoted[end + 1..].to_owned();
        } else if let Some(n) = rest.strip_prefix('{').and_then(|r| r.strip_suffix('}')) {
            if !n.ends_with(['+', '-']) {
                client.write_all(b"+ OK\r\n").ok()?;
            }
            let mut literal = vec![0; n.trim_end_matches(['+', '-']).parse().ok()?];
            client.read_exact(&mut literal).ok()?;
            words.push(String::from_utf8(literal).ok()?);
            rest = read_line(client)?;
        } else {
            let (word, tail) = rest.split_once(' ').unwrap_or((&rest, ""));
            if word.is_empty() {
                return None;
            }
            words.push(word.to_owned());
            rest = tail.to_owned();
        }
    }
    let password = words.pop()?;
    Some((words.pop()?, password))
}

/// User and password of AUTHENTICATE PLAIN, with or without an initial response.
fn plain_words(rest: &str, client: &mut TcpStream) -> Option<(String, String)> {
    use base64::Engine as _;
    let (mechanism, initial) = rest.split_once(' ').unwrap_or((rest, ""));
    if !mechanism.eq_ignore_ascii_case("PLAIN") {
        return None;
    }
    let text = if initial.is_empty() {
        client.write_all(b"+ \r\n").ok()?;
        read_line(client)?
    } else {
        initial.to_owned()
    };
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let mut fields = text.split('\0').skip(1);
    Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
}
