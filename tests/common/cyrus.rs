//! Cyrus IMAP: QRESYNC, MOVE, SPECIAL-USE, folders beside INBOX with `/` between components.
//!
//! Its package cannot be installed beside Dovecot's, so it is only unpacked, and runs whole as one
//! unprivileged user. The password check (saslauthd) is played here.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::courier::{library_path, unpacked};
use super::process::{Group, User, command, free_port, is_root, make_dir, temp_dir, wait_for};
use super::rng::Rng;
use super::server::{PASSWORD, SPECIAL_USE, Server, USER, to_mutf7};

/// A running Cyrus with one user.
pub struct Cyrus {
    root: PathBuf,
    port: u16,
    user: User,
    process: Option<Group>,
    dir: tempfile::TempDir,
}

impl Cyrus {
    pub fn start() -> Self {
        let root = unpacked("MAILKEEP_TEST_CYRUS", "cyrus", "usr/lib/cyrus/bin/imapd");
        let dir = temp_dir("cyrus");
        let user = User::for_mail();
        user.own(dir.path());
        for sub in ["conf", "conf/socket", "conf/db", "conf/proc", "conf/lock", "spool"] {
            make_dir(&dir.path().join(sub), &user);
        }
        let socket = dir.path().join("mux");
        let listener = UnixListener::bind(&socket).expect("bind");
        user.own(&socket);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let _ = check_password(client);
            }
        });
        let mut me = Self { root, port: 0, user, process: None, dir };
        for attempt in 0.. {
            me.port = free_port();
            match me.launch() {
                Ok(()) => break,
                Err(e) => assert!(attempt < 5, "Cyrus does not start: {e}"),
            }
        }
        let mut imap = me.imap();
        let have = imap.list();
        for (name, attribute) in SPECIAL_USE {
            if !have.iter().any(|f| f == name) {
                imap.raw(&format!("CREATE {name} (USE ({attribute}))"));
            }
        }
        me
    }

    fn bin(&self, name: &str) -> PathBuf {
        self.root.join("usr/lib/cyrus/bin").join(name)
    }

    fn config(&self) -> String {
        let d = self.dir.path().display();
        let (user, group) = (&self.user.name, &self.user.group);
        format!(
            "configdirectory: {d}/conf
proc_path: {d}/conf/proc
mboxname_lockpath: {d}/conf/lock
defaultpartition: default
partition-default: {d}/spool
cyrus_user: {user}
cyrus_group: {group}
servername: localhost
unixhierarchysep: yes
altnamespace: yes
virtdomains: off
autocreate_quota: 0
allowplaintext: yes
failedloginpause: 0
conversations: no
skiplist_unsafe: yes
idlesocket: {d}/conf/socket/idle
lmtpsocket: {d}/conf/socket/lmtp
notifysocket: {d}/conf/socket/notify
sasl_pwcheck_method: saslauthd
sasl_saslauthd_path: {d}/mux
sasl_mech_list: PLAIN LOGIN
"
        )
    }

    fn services(&self) -> String {
        let (bin, d) = (self.bin("").display().to_string(), self.dir.path().display());
        format!(
            "START {{
  recover cmd=\"{bin}ctl_cyrusdb -C {d}/imapd.conf -r\"
}}
DAEMON {{
  idled cmd=\"{bin}idled -C {d}/imapd.conf\"
}}
SERVICES {{
  imap cmd=\"{bin}imapd -C {d}/imapd.conf\" listen=\"127.0.0.1:{}\" proto=\"tcp4\" prefork=1
}}
EVENTS {{
}}
",
            self.port
        )
    }

    /// One of its programs, as its user.
    fn program(&self, name: &str) -> std::process::Command {
        let mut c = command(self.bin(name), Some(&self.user));
        c.env_clear().env("LD_LIBRARY_PATH", library_path(&self.root));
        c.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", self.dir.path());
        c.current_dir(self.dir.path()).stdin(Stdio::null());
        c
    }

    fn launch(&mut self) -> Result<(), String> {
        let dir = self.dir.path();
        fs::write(dir.join("imapd.conf"), self.config()).expect("write");
        fs::write(dir.join("cyrus.conf"), self.services()).expect("write");
        let log = fs::File::create(dir.join("cyrus.log")).expect("create");
        let mut c = self.program("master");
        c.arg("-D").arg("-C").arg(dir.join("imapd.conf")).arg("-M").arg(dir.join("cyrus.conf"));
        c.arg("-p").arg(dir.join("conf/master.pid"));
        c.stdout(log.try_clone().expect("dup")).stderr(log);
        let mut process = Group::spawn(&mut c).map_err(|e| e.to_string())?;
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let said = || fs::read_to_string(dir.join("cyrus.log")).unwrap_or_default();
            if process.ended().is_some() {
                return Err(said());
            }
            // The port listens before anyone answers on it.
            let greeting = TcpStream::connect(("127.0.0.1", self.port)).and_then(|mut c| {
                c.set_read_timeout(Some(Duration::from_secs(10)))?;
                c.read_exact(&mut [0; 4])
            });
            if greeting.is_ok() {
                self.process = Some(process);
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("nothing listens on {}: {}", self.port, said()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn stop(&mut self) {
        if let Some(mut p) = self.process.take() {
            p.stop(Duration::from_secs(5));
        }
    }

    fn tool(&self, name: &str, args: &[&str]) -> String {
        let mut c = self.program(name);
        let out = c.arg("-C").arg(self.dir.path().join("imapd.conf")).args(args).output();
        let out = out.expect("run");
        assert!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }
}

impl Server for Cyrus {
    fn port(&self) -> u16 {
        self.port
    }

    /// It cannot be told not to offer this, and a log of compressed commands is of no use.
    fn hide(&self) -> &'static str {
        " COMPRESS=DEFLATE"
    }

    /// The files are renamed, and the index is made anew.
    fn reset_uidvalidity(&mut self, folder: &str) {
        let old = self.imap().uidvalidity(folder);
        let was = self.imap().fetch_all(folder);
        let internal = match folder {
            "INBOX" => format!("user/{USER}"),
            other => format!("user/{USER}/{}", to_mutf7(other)),
        };
        let dir = PathBuf::from(self.tool("mbpath", &[&internal]));
        self.stop();
        let mut new: Vec<u32> = was.iter().map(|m| m.uid).collect();
        Rng::labelled(5, "uidvalidity").shuffle(&mut new);
        let files = |beginning: &str| -> Vec<PathBuf> {
            let all = fs::read_dir(&dir).expect("read").map(|e| e.expect("read").path());
            let name = |p: &Path| p.file_name().unwrap_or_default().to_string_lossy().into_owned();
            all.filter(|p| name(p).starts_with(beginning) && name(p).ends_with('.')).collect()
        };
        for file in files("") {
            let name = file.file_name().expect("a name").to_string_lossy().into_owned();
            fs::rename(&file, dir.join(format!("x{name}"))).expect("rename");
        }
        for (m, to) in was.iter().zip(&new) {
            let from = dir.join(format!("x{}.", m.uid));
            fs::rename(from, dir.join(format!("{to}."))).expect("rename");
        }
        for expunged in files("x") {
            fs::remove_file(expunged).expect("unlink");
        }
        for index in ["cyrus.index", "cyrus.cache"] {
            let _ = fs::remove_file(dir.join(index));
        }
        // The new UIDVALIDITY is the time of day, in seconds.
        wait_for("another second", Duration::from_secs(3), || {
            let now = std::time::SystemTime::now();
            let now = now.duration_since(std::time::UNIX_EPOCH).expect("clock").as_secs();
            (now > u64::from(old)).then_some(())
        });
        self.tool("reconstruct", &[&internal]);
        if let Err(e) = self.launch() {
            panic!("Cyrus does not start again: {e}");
        }
        let mut imap = self.imap();
        assert_ne!(imap.uidvalidity(folder), old, "UIDVALIDITY did not change");
        for (m, to) in was.iter().zip(&new) {
            let flags: Vec<&str> = m.flags.iter().map(String::as_str).collect();
            if !flags.is_empty() {
                imap.store(folder, &[*to], "FLAGS.SILENT", &flags);
            }
        }
    }

    fn restart(&mut self) {
        self.stop();
        if let Err(e) = self.launch() {
            panic!("Cyrus does not start again: {e}");
        }
    }
}

/// saslauthd's protocol: four counted fields in (user, password, service, realm), one out.
fn check_password(mut client: UnixStream) -> std::io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut fields = Vec::new();
    for _ in 0..4 {
        let mut length = [0; 2];
        client.read_exact(&mut length)?;
        let mut field = vec![0; usize::from(u16::from_be_bytes(length))];
        client.read_exact(&mut field)?;
        fields.push(field);
    }
    let ok = fields[0] == USER.as_bytes() && fields[1] == PASSWORD.as_bytes();
    client.write_all(if ok { b"\0\x02OK" } else { b"\0\x02NO" })
}
