//! Dovecot as a child process: in full, or with capabilities struck out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::certs::{Certs, Pair};
use super::letters::{Letter, to_lf};
use super::process::{Group, User, command, find_program, free_port, is_root, make_dir, temp_dir};
use super::rng::Rng;
use super::server::{PASSWORD, SPECIAL_USE, Server, USER, to_mutf7};

/// How much of IMAP it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// QRESYNC and all the rest.
    Full,
    /// CONDSTORE, UIDPLUS, MOVE and LITERAL+, like Gmail; no QRESYNC, no LIST-STATUS.
    Condstore,
    /// Bare IMAP4rev1.
    Plain,
}

impl Mode {
    pub const ALL: [Self; 3] = [Self::Full, Self::Condstore, Self::Plain];

    fn capability(self) -> Option<&'static str> {
        match self {
            Self::Full => None,
            Self::Condstore => Some(
                "IMAP4rev1 SASL-IR ID ENABLE IDLE LITERAL+ UNSELECT NAMESPACE CHILDREN UIDPLUS \
                 MOVE SPECIAL-USE CONDSTORE",
            ),
            Self::Plain => Some("IMAP4rev1 NAMESPACE CHILDREN"),
        }
    }
}

/// What a test may want of it.
#[derive(Debug, Clone)]
pub struct Options {
    pub mode: Mode,
    /// What it announces, in place of the mode's list.
    pub capability: Option<String>,
    /// Speak POP3, too.
    pub pop3: bool,
    /// Offer COMPRESS=DEFLATE.
    pub compress: bool,
    /// Make Trash, Sent, Drafts, Junk and Archive, each marked with its use.
    pub special_use: bool,
    pub separator: char,
    pub prefix: String,
    /// Which certificate the TLS port and STARTTLS show; none: no TLS.
    pub certificate: Option<Pair>,
    /// Any password opens an account of its own, in a home that is named after it. The user is
    /// the same, so that one account can be copied and the copy be taken for it.
    pub homes_by_password: bool,
    /// More lines for the configuration.
    pub extra: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::Full,
            capability: None,
            pop3: false,
            compress: false,
            special_use: true,
            separator: '/',
            prefix: String::new(),
            certificate: None,
            homes_by_password: false,
            extra: String::new(),
        }
    }
}

impl Options {
    /// With a plugin of Dovecot's for IMAP, and its settings, a line each.
    pub fn plugin(self, name: &str, settings: &[&str]) -> Self {
        let load = format!("mail_plugins = zlib {name}\n");
        let settings = settings.join("\n ");
        let extra = format!("{load}protocol imap {{\n {load}}}\nplugin {{\n {settings}\n}}\n");
        Self { extra, ..self }
    }
}

/// A running Dovecot with one user.
pub struct Dovecot {
    options: Options,
    port: u16,
    tls_port: u16,
    pop3_port: u16,
    pop3_tls_port: u16,
    user: User,
    process: Option<Group>,
    /// After `process`: the processes go before their files do.
    dir: tempfile::TempDir,
}

impl Dovecot {
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    pub fn in_mode(mode: Mode) -> Self {
        Self::with(Options { mode, ..Options::default() })
    }

    pub fn with(options: Options) -> Self {
        let dir = temp_dir("dovecot");
        let user = User::for_mail();
        for sub in ["run", "state"] {
            fs::create_dir(dir.path().join(sub)).expect("mkdir");
        }
        for sub in ["home", "home/alice"] {
            make_dir(&dir.path().join(sub), &user);
        }
        let users = dir.path().join("users");
        fs::write(&users, format!("{USER}:{{PLAIN}}{PASSWORD}::::::\n")).expect("write");
        let (port, tls_port, pop3_port, pop3_tls_port) = (0, 0, 0, 0);
        let mut server =
            Self { options, port, tls_port, pop3_port, pop3_tls_port, user, process: None, dir };
        // Another process may take a free port first.
        for attempt in 0.. {
            server.port = free_port();
            server.tls_port = free_port();
            server.pop3_port = free_port();
            server.pop3_tls_port = free_port();
            match server.launch() {
                Ok(()) => break,
                Err(e) => assert!(attempt < 5, "Dovecot does not start: {e}"),
            }
        }
        server
    }

    /// The port of implicit TLS.
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// The port of POP3, with STLS where there is a certificate.
    pub fn pop3_port(&self) -> u16 {
        assert!(self.options.pop3, "a Dovecot without POP3");
        self.pop3_port
    }

    /// The port of POP3 over implicit TLS.
    pub fn pop3_tls_port(&self) -> u16 {
        self.pop3_tls_port
    }

    /// The server's own Maildir.
    pub fn mail_root(&self) -> PathBuf {
        self.dir.path().join("home").join(USER).join("Maildir")
    }

    /// The home of the account that this password opens, under `homes_by_password`.
    pub fn home(&self, password: &str) -> PathBuf {
        let home = self.dir.path().join("home").join(password);
        make_dir(&home, &self.user);
        home
    }

    /// The directory of a folder in the server's own Maildir.
    pub fn folder_dir(&self, folder: &str) -> PathBuf {
        if folder == "INBOX" {
            return self.mail_root();
        }
        self.mail_root().join(format!(".{}", to_mutf7(folder).replace('/', ".")))
    }

    pub fn log(&self) -> String {
        let path = self.dir.path().join("dovecot.log");
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    /// Logins that were refused so far.
    pub fn refused_logins(&self) -> usize {
        let log = self.log();
        log.matches("Password mismatch").count() + log.matches("unknown user").count()
    }

    /// Stops it; nothing listens on its port then.
    pub fn stop(&mut self) {
        if let Some(mut p) = self.process.take() {
            p.stop(Duration::from_secs(5));
        }
    }

    fn config(&self) -> String {
        let (o, u, dir) = (&self.options, &self.user, self.dir.path().display());
        let tls = match &o.certificate {
            None => "ssl = no\n".to_owned(),
            Some(p) => format!(
                "ssl = yes\nssl_cert = <{}\nssl_key = <{}\n",
                p.certificate.display(),
                p.key.display()
            ),
        };
        let tls_listener = match &o.certificate {
            None => "inet_listener imaps {\n port = 0\n}".to_owned(),
            Some(_) => {
                format!("inet_listener imaps {{\n port = {}\n ssl = yes\n}}", self.tls_port)
            }
        };
        // An ordinary user can change neither user nor root directory.
        let (own, chroot) = if is_root() {
            (String::new(), "")
        } else {
            let (n, g) = (&u.name, &u.group);
            let own = format!(
                "default_internal_user = {n}\ndefault_internal_group = {g}\n\
                 default_login_user = {n}\n"
            );
            (own, "chroot =")
        };
        let pop3 = if o.pop3 { self.pop3_config(chroot) } else { String::new() };
        let mut boxes = String::new();
        if o.special_use {
            for (name, attribute) in SPECIAL_USE {
                let _ = writeln!(boxes, "mailbox {name} {{\n special_use = {attribute}");
                boxes.push_str(" auto = subscribe\n}\n");
            }
        }
        let accounts = if o.homes_by_password {
            format!(
                "passdb {{\n driver = static\n args = nopassword=y userdb_uid={} userdb_gid={} \
                 userdb_home={dir}/home/%w\n}}\nuserdb {{\n driver = prefetch\n}}\n",
                u.uid, u.gid,
            )
        } else {
            format!(
                "passdb {{\n driver = passwd-file\n args = username_format=%u {dir}/users\n}}\n"
            )
        };
        let capability = o.capability.as_deref().or(o.mode.capability());
        let capability = capability.map(|c| format!("imap_capability = {c}")).unwrap_or_default();
        format!(
            "base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/dovecot.log
auth_verbose = yes
protocols = imap {pop3_too}
listen = 127.0.0.1
instance_name = mk-{port}
default_process_limit = 200
{own}{tls}
auth_mechanisms = plain login
auth_failure_delay = 0
disable_plaintext_auth = no
first_valid_uid = 1
mail_location = maildir:~/Maildir
mail_plugins = zlib
mail_fsync = never
mail_max_keyword_length = 60
mail_max_userip_connections = 200
maildir_very_dirty_syncs = no
{accounts}userdb {{
  driver = static
  args = uid={uid} gid={gid} home={dir}/home/%u
}}
namespace inbox {{
  inbox = yes
  separator = {separator}
  prefix = {prefix}
{boxes}}}
protocol imap {{
  mail_plugins = zlib {deflate}
  {capability}
}}
service anvil {{
  {chroot}
}}
service stats {{
  {chroot}
}}
service imap-login {{
  {chroot}
  process_min_avail = 1
  service_count = 0
  inet_listener imap {{
    port = {port}
  }}
  {tls_listener}
}}
{pop3}{extra}
",
            port = self.port,
            uid = u.uid,
            gid = u.gid,
            separator = o.separator,
            prefix = o.prefix,
            pop3_too = if o.pop3 { "pop3" } else { "" },
            deflate = if o.compress { "imap_zlib" } else { "" },
            extra = o.extra,
        )
    }

    fn pop3_config(&self, chroot: &str) -> String {
        let tls = match &self.options.certificate {
            None => "port = 0".to_owned(),
            Some(_) => format!("port = {}\n ssl = yes", self.pop3_tls_port),
        };
        format!(
            "service pop3-login {{\n {chroot}\n process_min_avail = 1\n service_count = 0\n \
             inet_listener pop3 {{\n port = {}\n}}\n inet_listener pop3s {{\n {tls}\n}}\n}}\n",
            self.pop3_port
        )
    }

    fn launch(&mut self) -> Result<(), String> {
        let program = find_program("dovecot", "apt-get install dovecot-imapd");
        let pop3_there = Path::new("/usr/lib/dovecot/pop3").is_file();
        assert!(
            pop3_there || !self.options.pop3,
            "Dovecot's POP3 is not installed: apt-get install dovecot-pop3d"
        );
        let config = self.dir.path().join("dovecot.conf");
        fs::write(&config, self.config()).expect("write");
        let output = fs::File::create(self.dir.path().join("master.log")).expect("create");
        let mut command = command(program, None);
        command.arg("-F").arg("-c").arg(config).stdin(Stdio::null());
        command.stderr(output.try_clone().expect("dup")).stdout(output);
        let mut process = Group::spawn(&mut command).map_err(|e| e.to_string())?;
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if process.ended().is_some() {
                let said = fs::read_to_string(self.dir.path().join("master.log"));
                return Err(said.unwrap_or_default() + &self.log());
            }
            let listens = |port: u16| TcpStream::connect(("127.0.0.1", port)).is_ok();
            if listens(self.port) && (!self.options.pop3 || listens(self.pop3_port)) {
                self.process = Some(process);
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("nothing listens on {}: {}", self.port, self.log()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Server for Dovecot {
    fn port(&self) -> u16 {
        self.port
    }

    fn separator(&self) -> char {
        self.options.separator
    }

    fn prefix(&self) -> &str {
        &self.options.prefix
    }

    fn has_move(&self) -> bool {
        self.options.mode != Mode::Plain
    }

    fn has_uidplus(&self) -> bool {
        self.options.mode != Mode::Plain
    }

    /// Straight into its Maildir: thousands take a moment.
    fn seed(&self, folder: &str, letters: &[Letter]) {
        let dir = self.folder_dir(folder);
        if !dir.is_dir() && folder != "INBOX" {
            self.imap().create(folder);
        }
        for sub in ["", "cur", "new", "tmp"] {
            if !dir.join(sub).is_dir() {
                make_dir(&dir.join(sub), &self.user);
            }
        }
        let keywords_file = dir.join("dovecot-keywords");
        let mut keywords: BTreeMap<String, u8> = BTreeMap::new();
        for line in fs::read_to_string(&keywords_file).unwrap_or_default().lines() {
            let (index, word) = line.split_once(' ').expect("index and keyword");
            keywords.insert(word.to_owned(), index.parse().expect("index"));
        }
        let known = keywords.len();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("clock");
        for (i, letter) in letters.iter().enumerate() {
            let body = to_lf(&letter.body);
            let mut info: Vec<char> = Vec::new();
            for flag in &letter.flags {
                let next = keywords.len() as u8;
                info.push(match flag.as_str() {
                    "\\Seen" => 'S',
                    "\\Answered" => 'R',
                    "\\Flagged" => 'F',
                    "\\Draft" => 'D',
                    "\\Deleted" => 'T',
                    word => char::from(b'a' + *keywords.entry(word.to_owned()).or_insert(next)),
                });
            }
            info.sort_unstable();
            let name = format!(
                "{}.M{:09}P{i}.seed,S={},W={}:2,{}",
                now.as_secs(),
                now.subsec_nanos(),
                body.len(),
                body.len() + body.iter().filter(|b| **b == b'\n').count(),
                info.into_iter().collect::<String>()
            );
            // Straight into `cur`: the server must not look at a half-written one, so it is
            // given its size in its name and renamed only when it is whole.
            let (part, whole) = (dir.join("tmp").join(&name), dir.join("cur").join(&name));
            fs::write(&part, body).expect("write");
            let time = UNIX_EPOCH + Duration::from_secs(letter.date as u64);
            let file = fs::File::options().write(true).open(&part).expect("open");
            file.set_modified(time).expect("mtime");
            self.user.own(&part);
            fs::rename(part, whole).expect("rename");
        }
        if keywords.len() > known {
            let mut lines: Vec<_> = keywords.iter().map(|(w, i)| (*i, w)).collect();
            lines.sort_unstable();
            let text: String = lines.iter().map(|(i, w)| format!("{i} {w}\n")).collect();
            fs::write(&keywords_file, text).expect("write");
            self.user.own(&keywords_file);
        }
    }

    fn reset_uidvalidity(&mut self, folder: &str) {
        let old = self.imap().uidvalidity(folder);
        self.stop();
        let dir = self.folder_dir(folder);
        for entry in fs::read_dir(&dir).expect("read").map(|e| e.expect("read")) {
            let name = entry.file_name().into_string().expect("UTF-8");
            if name.starts_with("dovecot.index") || name == "dovecot-uidlist" {
                fs::remove_file(entry.path()).expect("unlink");
            }
        }
        // UIDs are given in the order of names: other names, another order.
        let mut files: Vec<PathBuf> =
            fs::read_dir(dir.join("cur")).expect("read").map(|e| e.expect("read").path()).collect();
        files.sort();
        Rng::labelled(5, "uidvalidity").shuffle(&mut files);
        for (i, file) in files.iter().enumerate() {
            let name = file.file_name().expect("a name").to_str().expect("UTF-8");
            let (base, info) = name.split_once(":2,").unwrap_or((name, ""));
            let sizes = base.split_once(',').map(|(_, s)| format!(",{s}")).unwrap_or_default();
            let new = format!("{}.M{i:06}P2.moved{sizes}:2,{info}", 1_700_000_000 + i);
            fs::rename(file, dir.join("cur").join(new)).expect("rename");
        }
        let root = self.mail_root();
        for entry in fs::read_dir(&root).expect("read").map(|e| e.expect("read")) {
            if entry.file_name().to_string_lossy().starts_with("dovecot-uidvalidity") {
                fs::remove_file(entry.path()).expect("unlink");
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("clock").as_secs() as u32;
        let new = format!("{:08x}", old.max(now) + 17);
        for (name, text) in [
            ("dovecot-uidvalidity".to_owned(), new.as_str()),
            (format!("dovecot-uidvalidity.{new}"), ""),
        ] {
            fs::write(root.join(&name), text).expect("write");
            self.user.own(&root.join(&name));
        }
        self.restart();
        assert_ne!(self.imap().uidvalidity(folder), old, "UIDVALIDITY did not change");
    }

    fn restart(&mut self) {
        self.stop();
        if let Err(e) = self.launch() {
            panic!("Dovecot does not start again: {e}");
        }
    }
}

/// A Dovecot with TLS, and the certificates it and others may show.
pub fn with_tls(
    options: Options,
    choose: impl Fn(&Certs) -> &Pair,
) -> (Dovecot, Certs, tempfile::TempDir) {
    let dir = temp_dir("certs");
    let certs = Certs::make(dir.path());
    let certificate = Some(choose(&certs).clone());
    (Dovecot::with(Options { certificate, ..options }), certs, dir)
}
