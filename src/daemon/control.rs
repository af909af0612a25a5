//! The control socket: one daemon a runtime directory, and whoever may talk to it. A request is a
//! line, bounded in size and time; a client that sends garbage, nothing, or too much harms nobody. A
//! socket that somebody removed is made again.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::FlockOperation;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::protocol::{LONGEST_REQUEST, Reply, Request, parse};
use crate::error::{Error, Kind, Result, Scope};

/// How long a client may take to say what it wants, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Clients that are answered at a time; others wait.
const MOST_ANSWERED: usize = 64;

/// Clients that have not said what they want. One more, and the one that is silent for longest is
/// hung up on: whoever means it says it at once, and must not wait for those who do not.
const MOST_SILENT: usize = 64;

/// The longest path of a Unix socket, in bytes (unix(7)).
const LONGEST_PATH: usize = 107;

/// The socket's path.
pub fn path(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("control")
}

/// The socket, and the lock that makes it ours. Both go with it.
pub struct Control {
    runtime_dir: PathBuf,
    path: PathBuf,
    held: Mutex<Held>,
    /// There is a new listener.
    anew: Notify,
}

struct Held {
    listener: Arc<UnixListener>,
    lock: File,
    /// Why it could not be made again; said once.
    failed: Option<Error>,
}

impl Control {
    /// Makes the runtime directory and the socket in it. Another daemon there is an error that says
    /// who it is. Needs a tokio runtime.
    pub fn open(runtime_dir: &Path) -> Result<Self> {
        make_dir(runtime_dir)?;
        let lock = lock(&lock_path(runtime_dir))?;
        let path = path(runtime_dir);
        if path.as_os_str().as_bytes().len() > LONGEST_PATH {
            let what = format!("the path of the control socket is too long: {}", path.display());
            return Err(Error::new(Scope::Fatal, Kind::Config, what)
                .next("set runtime_dir to a shorter one"));
        }
        match std::fs::remove_file(&path) {
            // one that a killed daemon left
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(Scope::Fatal, "remove", &path, &e)),
        }
        let listener = Arc::new(bind(&path)?);
        let held = Mutex::new(Held { listener, lock, failed: None });
        Ok(Self { runtime_dir: runtime_dir.to_owned(), path, held, anew: Notify::new() })
    }

    /// Makes the socket again if it is gone: what clears away old files, or the end of a login,
    /// takes it along, and the runtime directory too. To be called now and then.
    pub fn mend(&self) {
        let gone = |e: std::io::Error| e.kind() == ErrorKind::NotFound;
        if !std::fs::symlink_metadata(&self.path).is_err_and(gone) {
            return;
        }
        let mut held = self.held();
        match self.make_again(&mut held) {
            Ok(()) => {
                held.failed = None;
                tracing::info!("the control socket was gone, and is there again");
                self.anew.notify_one();
            }
            Err(e) => {
                if held.failed.as_ref() != Some(&e) {
                    tracing::warn!("the control socket is gone: {e}");
                }
                held.failed = Some(e);
            }
        }
    }

    fn make_again(&self, held: &mut Held) -> Result<()> {
        make_dir(&self.runtime_dir)?;
        let lock_path = lock_path(&self.runtime_dir);
        let inode = |m: std::fs::Metadata| (m.dev(), m.ino());
        let ours = held.lock.metadata().map(inode).ok();
        if ours.is_none() || std::fs::metadata(&lock_path).map(inode).ok() != ours {
            // it went too; another daemon may have come meanwhile
            held.lock = lock(&lock_path)?;
        }
        held.listener = Arc::new(bind(&self.path)?);
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // nothing in here panics halfway
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers clients for ever. `answer` may take its time: it is a task a client.
    pub async fn serve<F, A>(&self, answer: F)
    where
        F: Fn(Request) -> A + Send + Sync + 'static,
        A: Future<Output = Reply> + Send,
    {
        let answer = Arc::new(answer);
        let places = Arc::new(Semaphore::new(MOST_ANSWERED));
        let silent = Arc::new(Silent::default());
        loop {
            let listener = self.held().listener.clone();
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.anew.notified() => continue,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (answer, places) = (answer.clone(), places.clone());
                    silent.clone().listen(stream, move |stream, heard| async move {
                        let Ok(_place) = places.acquire().await else { return };
                        if let Err(e) = reply(stream, heard, &*answer).await {
                            tracing::debug!("a client of the control socket: {e}");
                        }
                    });
                }
                Err(e) => {
                    // out of descriptors, perhaps: not for long, or for all of us
                    tracing::warn!("the control socket: {e}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // the next daemon would remove it as well
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What a client said: a line, unless none came in time or it is not ours to hear.
type Heard = std::result::Result<Vec<u8>, &'static str>;

/// The clients that have not said what they want, in the order in which they came.
#[derive(Default)]
struct Silent(Mutex<(u64, BTreeMap<u64, AbortHandle>)>);

impl Silent {
    /// Hears a client out, in a task of its own, and goes on with `then`.
    fn listen<T, D>(self: Arc<Self>, mut stream: UnixStream, then: T)
    where
        T: FnOnce(UnixStream, Heard) -> D + Send + 'static,
        D: Future<Output = ()> + Send,
    {
        let silent = self.clone();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.1.len() >= MOST_SILENT
            && let Some((_, longest)) = all.1.pop_first()
        {
            longest.abort();
        }
        all.0 += 1;
        let number = all.0;
        // it cannot take itself out before it is in: that is locked
        let task = tokio::spawn(async move {
            let heard = heard(&mut stream).await;
            silent.0.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&number);
            match heard {
                Ok(heard) => then(stream, heard).await,
                Err(e) => tracing::debug!("a client of the control socket: {e}"),
            }
        });
        all.1.insert(number, task.abort_handle());
    }
}

async fn heard(stream: &mut UnixStream) -> std::io::Result<Heard> {
    let peer = stream.peer_cred()?.uid();
    let us = rustix::process::geteuid().as_raw();
    if peer != us && peer != 0 {
        // without a word of what was asked
        return Ok(Err("this daemon belongs to another user"));
    }
    match timeout(PATIENCE, line(stream)).await {
        Ok(line) => Ok(Ok(line?)),
        Err(_) => Ok(Err("no request came")),
    }
}

async fn reply<F, A>(mut stream: UnixStream, heard: Heard, answer: &F) -> std::io::Result<()>
where
    F: Fn(Request) -> A,
    A: Future<Output = Reply>,
{
    let request = heard.map_err(str::to_owned).and_then(|line| parse(&line));
    let reply = match request {
        Ok(request) => answer(request).await,
        Err(what) => Reply::Failed(
            Error::new(Scope::Fatal, Kind::Config, what).next("use mailkeep of the same version"),
        ),
    };
    let mut text = serde_json::to_vec(&reply)?;
    text.push(b'\n');
    timeout(PATIENCE, async {
        stream.write_all(&text).await?;
        stream.shutdown().await
    })
    .await?
}

/// Up to the first line end, or what there is when the client has said all.
async fn line(stream: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let n = stream.read(&mut buffer).await?;
        let new = buffer.get(..n).unwrap_or_default();
        if let Some(end) = memchr::memchr(b'\n', new) {
            out.extend_from_slice(new.get(..end).unwrap_or_default());
            return Ok(out);
        }
        out.extend_from_slice(new);
        if n == 0 {
            return Ok(out);
        }
        if out.len() > LONGEST_REQUEST {
            // what cannot be parsed is answered as such
            out.clear();
            return Ok(out);
        }
    }
}

fn lock_path(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("daemon.lock")
}

fn make_dir(runtime_dir: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(runtime_dir)
        .map_err(|e| Error::io(Scope::Fatal, "create", runtime_dir, &e))
}

fn bind(path: &Path) -> Result<UnixListener> {
    let fail = |e| Error::io(Scope::Fatal, "open", path, &e);
    let listener = UnixListener::bind(path).map_err(fail)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(fail)?;
    Ok(listener)
}

fn lock(path: &Path) -> Result<File> {
    let fail = |e: std::io::Error| Error::io(Scope::Fatal, "lock", path, &e);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(fail)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let _ = file.take(20).read_to_string(&mut pid);
            let what = format!("a daemon runs already: process {}", pid.trim().escape_debug());
            return Err(Error::new(Scope::Fatal, Kind::Locked, what)
                .next("see `mailkeep status`; `mailkeep reload` makes it read its configuration"));
        }
        Err(e) => return Err(fail(e.into())),
    }
    file.set_len(0).map_err(fail)?;
    writeln!(file, "{}", std::process::id()).map_err(fail)?;
    Ok(file)
}
