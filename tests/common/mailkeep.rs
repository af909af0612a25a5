//! Runs the program under test: its configuration, its output, its exit status; killed where a
//! test wants that.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::process::{Group, command, temp_dir};
use super::server::{PASSWORD, Server, USER};

/// One account named `test`, with a Maildir and a state of its own.
pub struct Mailkeep {
    dir: PathBuf,
    /// Removes `dir` in the end, unless a person named it.
    cleanup: Option<tempfile::TempDir>,
    maildir: PathBuf,
    account: BTreeMap<String, String>,
    policy: BTreeMap<String, String>,
    rules: Vec<String>,
    environment: BTreeMap<String, String>,
    more: String,
    /// How long a run may take before it is killed and the test fails.
    pub timeout: Duration,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// None: killed by a signal.
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub elapsed: Duration,
    /// The most memory it had (VmHWM), in bytes, sampled.
    pub peak_rss: u64,
}

impl Outcome {
    /// All it said.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Fails the test unless it ended with this status.
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "after {:?}:\n{}", self.elapsed, self.text());
        self
    }
}

impl Mailkeep {
    /// For a server's plain port, with the default policy.
    pub fn new(server: &dyn Server) -> Self {
        Self::to_port(server.port())
    }

    /// For a plain port on loopback: a proxy's, or a scripted server's.
    pub fn to_port(port: u16) -> Self {
        let cleanup = temp_dir("run");
        let mut new = Self::in_directory(port, cleanup.path());
        new.cleanup = Some(cleanup);
        new
    }

    /// The same in a directory that stays, with Maildir, state and configuration in it.
    pub fn in_directory(port: u16, dir: &Path) -> Self {
        let dir = &std::path::absolute(dir).expect("absolute");
        let maildir = dir.join("mail");
        fs::create_dir_all(&maildir).expect("mkdir");
        write_private(&dir.join("password"), PASSWORD);
        let mut new = Self {
            maildir,
            dir: dir.clone(),
            cleanup: None,
            account: BTreeMap::new(),
            policy: BTreeMap::new(),
            rules: Vec::new(),
            environment: BTreeMap::new(),
            more: String::new(),
            timeout: Duration::from_secs(60),
        };
        let password = new.dir.join("password");
        new.set("protocol", "imap").set("host", "localhost").set("user", USER);
        new.set("tls", "none").set("password_file", password.to_str().expect("UTF-8"));
        new.port(port);
        new
    }

    /// Connects to this port from now on.
    pub fn port(&mut self, port: u16) -> &mut Self {
        self.set_raw("port", &port.to_string())
    }

    /// A text key of the account.
    pub fn set(&mut self, key: &str, value: &str) -> &mut Self {
        self.set_raw(key, &quoted(value))
    }

    /// A key of the account with its value in TOML.
    pub fn set_raw(&mut self, key: &str, toml: &str) -> &mut Self {
        self.account.insert(key.to_owned(), toml.to_owned());
        self
    }

    /// Leaves a key of the account out.
    pub fn unset(&mut self, key: &str) -> &mut Self {
        self.account.remove(key);
        self
    }

    /// A text key of the policy.
    pub fn policy(&mut self, key: &str, value: &str) -> &mut Self {
        self.policy_raw(key, &quoted(value))
    }

    /// A key of the policy with its value in TOML.
    pub fn policy_raw(&mut self, key: &str, toml: &str) -> &mut Self {
        self.policy.insert(key.to_owned(), toml.to_owned());
        self
    }

    /// `remote_delete` and `local_delete`.
    pub fn deletes(&mut self, remote: &str, local: &str) -> &mut Self {
        self.policy("remote_delete", remote).policy("local_delete", local)
    }

    /// One `[[accounts.test.rule]]`, its lines in TOML.
    pub fn rule(&mut self, lines: &str) -> &mut Self {
        self.rules.push(lines.to_owned());
        self
    }

    /// More of the configuration, in TOML: another account.
    pub fn more(&mut self, toml: &str) -> &mut Self {
        self.more = toml.to_owned();
        self
    }

    /// A variable in the environment of every run from now on, or no more.
    pub fn environment(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(v) => self.environment.insert(name.to_owned(), v.to_owned()),
            None => self.environment.remove(name),
        };
        self
    }

    /// The password that it logs in with.
    pub fn password(&self, password: &str) {
        write_private(&self.dir.join("password"), password);
    }

    /// The Maildir stands elsewhere.
    pub fn set_maildir(&mut self, path: &Path) -> &mut Self {
        self.maildir = path.to_owned();
        self
    }

    pub fn maildir(&self) -> &Path {
        &self.maildir
    }

    /// The directory of a folder in the nested layout.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.maildir.join(name)
    }

    /// Its directory: nothing of a run may appear in it but `mail`, `state` and `runtime`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Leaves everything where it is, and says where.
    pub fn keep(mut self) -> PathBuf {
        if let Some(d) = &mut self.cleanup {
            d.disable_cleanup(true);
        }
        self.dir.clone()
    }

    /// The ledger is lost.
    pub fn lose_ledger(&self) {
        fs::remove_dir_all(self.state_dir()).expect("there was a state");
    }

    pub fn config(&self) -> String {
        let mut s = format!(
            "state_dir = {}\nruntime_dir = {}\n\n[accounts.test]\nmaildir = {}\n",
            quoted(self.state_dir().to_str().expect("UTF-8")),
            quoted(self.dir.join("runtime").to_str().expect("UTF-8")),
            quoted(self.maildir.to_str().expect("UTF-8")),
        );
        for (k, v) in &self.account {
            let _ = writeln!(s, "{k} = {v}");
        }
        s.push_str("\n[accounts.test.policy]\n");
        for (k, v) in &self.policy {
            let _ = writeln!(s, "{k} = {v}");
        }
        for rule in &self.rules {
            let _ = write!(s, "\n[[accounts.test.rule]]\n{rule}\n");
        }
        s.push_str(&self.more);
        s
    }

    /// Where the configuration is; it is written before every run.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    /// One pass.
    pub fn sync(&self) -> Outcome {
        self.run(&["sync"])
    }

    /// One pass that has to end well.
    #[track_caller]
    pub fn sync_ok(&self) -> Outcome {
        self.sync().expect(0)
    }

    /// Any command, to its end.
    pub fn run(&self, args: &[&str]) -> Outcome {
        self.start(args).wait(self.timeout)
    }

    /// `status --json`.
    pub fn status(&self) -> serde_json::Value {
        let said = self.run(&["status", "--json"]);
        serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {}", said.text()))
    }

    /// Any command, not waited for.
    pub fn start(&self, args: &[&str]) -> Running {
        self.start_limited(args, &[])
    }

    /// Any command under limits, as `prlimit` of util-linux takes them (`--fsize=100000`).
    pub fn start_limited(&self, args: &[&str], limits: &[&str]) -> Running {
        let config = self.config_path();
        write_private(&config, &self.config());
        let mut c = if limits.is_empty() {
            command(program(), None)
        } else {
            let mut c = command("prlimit", None);
            c.args(limits).arg(program());
            c
        };
        c.arg("--config").arg(&config).args(args);
        c.env("HOME", &self.dir).env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME");
        c.env_remove("XDG_RUNTIME_DIR").env_remove("RUST_LOG");
        c.envs(&self.environment);
        Running::start(c)
    }
}

/// The binary under test.
pub fn program() -> PathBuf {
    // Cargo names it to integration tests. Examples, which use this too, lie one directory below.
    option_env!("CARGO_BIN_EXE_mailkeep").map(PathBuf::from).unwrap_or_else(|| {
        let own = std::env::current_exe().expect("own path");
        let dir = own.parent().and_then(Path::parent).expect("target directory");
        dir.join("mailkeep")
    })
}

/// A running program whose output is collected.
pub struct Running {
    group: Group,
    started: Instant,
    out: Option<JoinHandle<String>>,
    err: Option<JoinHandle<String>>,
    peak: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
}

impl Running {
    pub fn start(mut command: std::process::Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut group = Group::spawn(&mut command).expect("start");
        let out: ChildStdout = group.child().stdout.take().expect("piped");
        let err: ChildStderr = group.child().stderr.take().expect("piped");
        let (peak, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (pid, seen, ended) = (group.id(), peak.clone(), done.clone());
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                seen.fetch_max(high_water(pid), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(4));
            }
        });
        let (out, err) = (collect(out), collect(err));
        Self { group, started, out: Some(out), err: Some(err), peak, done }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.group.id()
    }

    /// How long ago it was started.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Kills it with SIGKILL, now.
    pub fn kill(mut self) -> Outcome {
        self.group.child().kill().expect("kill");
        let timeout = self.age() + Duration::from_secs(10);
        self.wait(timeout)
    }

    /// Kills it after this time, unless it has ended by then.
    pub fn kill_after(self, time: Duration) -> Outcome {
        let mut me = self;
        let end = me.started + time;
        while Instant::now() < end {
            if me.group.ended().is_some() {
                return me.wait(Duration::from_secs(10));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        me.kill()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.group.ended().is_none()
    }

    /// To its end. Fails the test if that takes longer than `timeout`, counted from its start.
    pub fn wait(mut self, timeout: Duration) -> Outcome {
        let end = self.started + timeout;
        let status = loop {
            if let Some(s) = self.group.ended() {
                break Some(s);
            }
            if Instant::now() > end {
                let _ = self.group.child().kill();
                break None;
            }
            std::thread::sleep(Duration::from_micros(500));
        };
        let elapsed = self.started.elapsed();
        self.done.store(true, Ordering::Relaxed);
        let stdout = self.out.take().expect("once").join().expect("stdout");
        let stderr = self.err.take().expect("once").join().expect("stderr");
        let Some(status) = status else {
            panic!("still running after {timeout:?}:\n{stdout}{stderr}");
        };
        let peak_rss = self.peak.load(Ordering::Relaxed);
        Outcome { status: status.code(), stdout, stderr, elapsed, peak_rss }
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = from.read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    })
}

/// VmHWM in bytes, once the child has become the program it was started for.
fn high_water(pid: u32) -> u64 {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return 0 };
    let name = status.lines().next().unwrap_or_default();
    if name.ends_with("setpriv") || name.ends_with("prlimit") {
        return 0;
    }
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().unwrap_or(0);
    kilobytes * 1024
}

/// Writes a file that nobody else may read: the program warns of others.
pub fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).expect("write");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
}

/// A TOML string.
pub fn quoted(s: &str) -> String {
    format!("\"{}\"", s.replace('\\', "\\\\").replace('"', "\\\""))
}
