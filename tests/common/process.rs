//! Child processes that cannot outlive the test, free ports, and waiting for a condition.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, getuid, kill_process_group};

use super::rng::Rng;

/// Whose processes the servers' mail processes are: `mail` for root, else whoever runs the tests.
#[derive(Debug, Clone)]
pub struct User {
    pub name: String,
    pub group: String,
    pub uid: u32,
    pub gid: u32,
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    getuid().is_root()
}

impl User {
    pub fn for_mail() -> Self {
        let wanted = getuid().as_raw();
        let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
        let found = passwd.lines().find_map(|line| {
            let f: Vec<&str> = line.split(':').collect();
            let name = *f.first()?;
            let (uid, gid): (u32, u32) = (f.get(2)?.parse().ok()?, f.get(3)?.parse().ok()?);
            let hit = if is_root() { name == "mail" } else { uid == wanted };
            hit.then(|| (name.to_owned(), uid, gid))
        });
        let (name, uid, gid) =
            found.expect("neither a user `mail` nor a name for the present user in /etc/passwd");
        let group = fs::read_to_string("/etc/group").expect("/etc/group");
        let group = group
            .lines()
            .find_map(|line| {
                let f: Vec<&str> = line.split(':').collect();
                (f.get(2)?.parse() == Ok(gid)).then(|| f[0].to_owned())
            })
            .unwrap_or_else(|| gid.to_string());
        Self { name, group, uid, gid }
    }

    /// Gives the file or directory to this user. Only root needs to, and can.
    pub fn own(&self, path: &Path) {
        if is_root() {
            std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid)).expect("chown");
        }
    }
}

/// A program that is terminated when the thread that starts it ends, whatever ends that, and that
/// runs as `user`, if root starts it.
pub fn command(program: impl AsRef<Path>, user: Option<&User>) -> Command {
    let mut c = Command::new("setpriv");
    c.arg("--pdeathsig=TERM");
    if let (Some(u), true) = (user, is_root()) {
        c.arg(format!("--reuid={}", u.uid)).arg(format!("--regid={}", u.gid));
        c.arg("--clear-groups");
    }
    c.arg("--").arg(program.as_ref());
    c
}

/// Where a program is, `sbin` included. A missing one fails the test with the way to get it.
pub fn find_program(name: &str, install: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into(), "/sbin".into()])
        .map(|d| d.join(name))
        .find(|p| p.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: {install}"))
}

/// A child with a process group of its own, which is killed with it.
pub struct Group {
    child: Option<Child>,
}

impl Group {
    pub fn spawn(command: &mut Command) -> std::io::Result<Self> {
        Ok(Self { child: Some(command.process_group(0).spawn()?) })
    }

    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    pub fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("running")
    }

    /// The status, if the child has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("wait")
    }

    /// SIGTERM to all of the group, then SIGKILL to what is left after `grace`.
    pub fn stop(&mut self, grace: Duration) {
        let Some(mut child) = self.child.take() else { return };
        let group = Pid::from_child(&child);
        let _ = kill_process_group(group, Signal::TERM);
        let end = Instant::now() + grace;
        // Children that the first process does not wait for are still in its group.
        while Instant::now() < end {
            let first_ended = child.try_wait().expect("wait").is_some();
            if first_ended && rustix::process::test_kill_process_group(group).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = kill_process_group(group, Signal::KILL);
        let _ = child.wait();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.stop(Duration::from_secs(3));
    }
}

/// A port that was free just now, below the range that outgoing connections take theirs from.
/// Someone else may still get it first: whoever uses it tries again.
pub fn free_port() -> u16 {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("clock").subsec_nanos();
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let mut rng = Rng((u64::from(now) << 32) ^ (u64::from(std::process::id()) << 16) ^ call);
    loop {
        let port = 20_000 + rng.below(12_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Put before a command (see `Mailkeep::start_limited`): root may read a file whatever its mode is,
/// unless it gives that up.
pub fn as_ordinary_user() -> Vec<&'static str> {
    match is_root() {
        true => vec!["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"],
        false => vec!["env"],
    }
}

/// Waits until `ready` gives something. Fails the test after `timeout`.
pub fn wait_for<T>(what: &str, timeout: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + timeout;
    loop {
        if let Some(x) = ready() {
            return x;
        }
        assert!(Instant::now() < end, "{what}: not within {timeout:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A temp dir that other users may enter (the servers' mail processes).
pub fn temp_dir(label: &str) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    // Short: the servers put Unix sockets below it, whose paths end at 107 bytes.
    let dir = tempfile::Builder::new().prefix(&format!("mk-{label}-")).tempdir().expect("temp dir");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    dir
}

/// Makes a directory and gives it to `user`.
pub fn make_dir(path: &Path, user: &User) {
    fs::create_dir_all(path).expect("mkdir");
    user.own(path);
}
