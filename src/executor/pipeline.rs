//! From the network to the disk: two threads behind a session, one that writes messages to `tmp`,
//! one that makes batches of them durable and hands them to whoever commits them. The bytes in
//! flight are bounded.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Kind, Result, Scope};
use crate::maildir::{self, Durability, Stage, Staged};
use crate::model::BaseName;

/// Bytes of messages between the network and the disk.
const IN_FLIGHT: usize = 4 << 20;
/// Messages up to this size are written in one piece.
const SMALL: usize = 256 << 10;
/// A batch ends after so many messages if the committing thread waits for one, ...
const BATCH: usize = 256;
/// ... and after so many messages or bytes if it does not: the slower the disk, the larger they are.
const MOST_MESSAGES: usize = 2048;
const MOST_BYTES: u64 = 64 << 20;
/// A slow line's batch ends after so long, so that a cut costs no more than that.
const PATIENCE: Duration = Duration::from_millis(300);
/// Up to so many messages, each is synced by itself.
const FEW: usize = 8;

/// One message on its way.
pub trait Delivery: Send + 'static {
    /// The directory of the folder that it goes to.
    fn dir(&self) -> &Path;
    /// Its name in `tmp`.
    fn base(&self) -> &BaseName;
    /// Its mtime, in Unix time.
    fn date(&self) -> i64;
}

/// A message in `tmp`.
pub struct Landed<J> {
    /// What it is.
    pub job: Box<J>,
    /// Its file.
    pub staged: Staged,
}

enum Write<J> {
    Whole(Box<J>, Vec<u8>),
    Begin(Box<J>),
    Data(Vec<u8>),
    End,
    Abort,
}

/// Bytes on their way to the writer, with their share of what may be in flight.
struct Sent<J>(Write<J>, Option<OwnedSemaphorePermit>);

/// The two threads, and the message that comes in at the moment.
pub struct Pipeline<J> {
    to_writer: Option<mpsc::Sender<Sent<J>>>,
    in_flight: Arc<Semaphore>,
    threads: Vec<JoinHandle<()>>,
    failure: Arc<Mutex<Option<Error>>>,
    small: Option<(Box<J>, Vec<u8>)>,
    big: Option<u64>,
}

impl<J: Delivery> Pipeline<J> {
    /// Starts the threads. `commit` gets messages that are in `tmp`, a batch at a time and in
    /// order; its first error ends the pipeline, and what landed behind that batch is unlinked.
    pub fn start(mut commit: impl FnMut(Vec<Landed<J>>) -> Result<()> + Send + 'static) -> Self {
        let (to_writer, from_network) = mpsc::channel::<Sent<J>>();
        let (to_committer, from_writer) = mpsc::sync_channel::<Vec<Landed<J>>>(0);
        let failure = Arc::new(Mutex::new(None));
        let failed = failure.clone();
        let writer = std::thread::spawn(move || write(&from_network, &to_committer, &failed));
        let failed = failure.clone();
        let committer = std::thread::spawn(move || {
            while let Ok(batch) = from_writer.recv() {
                if let Err(e) = commit(batch) {
                    fail(&failed, e);
                    break;
                }
            }
        });
        Self {
            to_writer: Some(to_writer),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
            threads: vec![writer, committer],
            failure,
            small: None,
            big: None,
        }
    }

    /// A message begins; its size is a hint.
    pub fn begin(&mut self, job: J, size: u64) {
        let room = usize::try_from(size).unwrap_or(SMALL).min(SMALL);
        self.small = Some((Box::new(job), Vec::with_capacity(room)));
        self.big = None;
    }

    /// Its next bytes, as received.
    pub async fn data(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some((_, buffer)) = &mut self.small {
            if buffer.len() + bytes.len() <= SMALL {
                buffer.extend_from_slice(bytes);
                return Ok(());
            }
            if let Some((job, buffer)) = self.small.take() {
                self.send(Write::Begin(job), 0).await?;
                let n = buffer.len();
                self.send(Write::Data(buffer), n).await?;
                self.big = Some(n as u64);
            }
        }
        for piece in bytes.chunks(SMALL) {
            self.big = self.big.map(|n| n + piece.len() as u64);
            self.send(Write::Data(piece.to_vec()), piece.len()).await?;
        }
        Ok(())
    }

    /// Its end. How many bytes it had.
    pub async fn end(&mut self) -> Result<u64> {
        if let Some((job, buffer)) = self.small.take() {
            let n = buffer.len();
            self.send(Write::Whole(job, buffer), n).await?;
            return Ok(n as u64);
        }
        self.send(Write::End, 0).await?;
        Ok(self.big.take().unwrap_or_default())
    }

    /// It does not come to its end: nothing is left of it.
    pub async fn abort(&mut self) -> Result<()> {
        if self.small.take().is_none() && self.big.take().is_some() {
            self.send(Write::Abort, 0).await?;
        }
        Ok(())
    }

    async fn send(&mut self, what: Write<J>, bytes: usize) -> Result<()> {
        self.check()?;
        let share = u32::try_from(bytes.clamp(1, IN_FLIGHT)).unwrap_or(1);
        let permit = self.in_flight.clone().acquire_many_owned(share).await.ok();
        let sent = self.to_writer.as_ref().map(|w| w.send(Sent(what, permit)));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => {
                self.check()?;
                Err(Error::account(Kind::Internal, "the thread that writes messages died"))
            }
        }
    }

    fn check(&self) -> Result<()> {
        match self.failure.lock() {
            Ok(f) => f.clone().map_or(Ok(()), Err),
            Err(_) => Err(died()),
        }
    }

    /// Waits until everything is committed.
    pub fn finish(mut self) -> Result<()> {
        drop(self.to_writer.take());
        let mut whole = true;
        for thread in self.threads.drain(..) {
            whole &= thread.join().is_ok();
        }
        self.check().and(if whole { Ok(()) } else { Err(died()) })
    }
}

/// Makes a batch durable in `tmp`. Where that fails, none of it can be relied on, and nothing of it
/// is left there.
pub fn make_durable<J: Delivery>(batch: &[Landed<J>], durability: &Durability) -> Result<()> {
    let files: Vec<PathBuf> = batch.iter().map(|l| l.staged.path(l.job.dir())).collect();
    let done = match files.len() {
        0..=FEW => files.iter().try_for_each(|file| durability.sync_one(file)),
        _ => durability.sync_bulk(&files),
    };
    if done.is_err() {
        discard(batch);
    }
    done
}

/// Brings a durable batch to its places by `rename`, in order. What got there; the rest is unlinked.
///
/// On a full disk a directory cannot grow for a name, though whole messages wait in `tmp`: the last
/// of these make room for those before them.
pub fn publish<J: Delivery>(
    batch: Vec<Landed<J>>,
    mut rename: impl FnMut(&Landed<J>) -> Result<()>,
) -> (Vec<Landed<J>>, Result<()>) {
    let mut left = VecDeque::from(batch);
    let mut there = Vec::with_capacity(left.len());
    let mut outcome = Ok(());
    while let Some(landed) = left.pop_front() {
        let Err(e) = rename(&landed) else {
            there.push(landed);
            continue;
        };
        let full = e.kind == Kind::DiskFull;
        outcome = outcome.and(Err(e));
        let last = if full { left.pop_back() } else { None };
        left.push_front(landed);
        let Some(last) = last else { break };
        discard([&last]);
        // the blocks of a file are free once its end is durable
        if let Err(e) = maildir::sync_dirs(&[last.job.dir().join("tmp")]) {
            tracing::debug!("{e}");
            break;
        }
    }
    discard(&left);
    (there, outcome)
}

/// Unlinks what goes no further: it takes room, and comes again.
fn discard<'a, J: Delivery>(batch: impl IntoIterator<Item = &'a Landed<J>>) {
    for landed in batch {
        if let Err(e) = maildir::discard(landed.job.dir(), &landed.staged) {
            // it is a leftover in `tmp` then, which the next start clears
            tracing::debug!("{e}");
        }
    }
}

fn died() -> Error {
    Error::account(Kind::Internal, "a thread of the download died")
}

fn fail(failure: &Mutex<Option<Error>>, e: Error) {
    if let Ok(mut f) = failure.lock() {
        f.get_or_insert(e.widen(Scope::Account));
    }
}

fn write<J: Delivery>(
    from: &mpsc::Receiver<Sent<J>>,
    to: &mpsc::SyncSender<Vec<Landed<J>>>,
    failure: &Mutex<Option<Error>>,
) {
    let mut batch: Vec<Landed<J>> = Vec::new();
    let mut bytes = 0;
    let mut big: Option<(Box<J>, Stage)> = None;
    let mut work = |batch: &mut Vec<Landed<J>>, bytes: &mut u64, what: Write<J>| -> Result<()> {
        let landed = match what {
            Write::Whole(job, message) => {
                let base = job.base().clone();
                let staged = maildir::stage_bytes(job.dir(), base, &message, job.date())?;
                Some(Landed { job, staged })
            }
            Write::Begin(job) => {
                let stage = Stage::new(job.dir(), job.base().clone())?;
                big = Some((job, stage));
                None
            }
            Write::Data(piece) => {
                if let Some((_, stage)) = &mut big {
                    stage.write(&piece)?;
                }
                None
            }
            Write::End => match big.take() {
                Some((job, stage)) => {
                    let staged = stage.finish(job.date())?;
                    Some(Landed { job, staged })
                }
                None => None,
            },
            Write::Abort => {
                big = None; // its file goes with it
                None
            }
        };
        if let Some(landed) = landed {
            *bytes += landed.staged.size;
            batch.push(landed);
        }
        Ok(())
    };
    let mut since = Instant::now();
    loop {
        let waits = if batch.is_empty() {
            PATIENCE * 100
        } else {
            PATIENCE.saturating_sub(since.elapsed())
        };
        match from.recv_timeout(waits) {
            Ok(Sent(what, permit)) => {
                if batch.is_empty() {
                    since = Instant::now();
                }
                if let Err(e) = work(&mut batch, &mut bytes, what) {
                    fail(failure, e);
                    break;
                }
                drop(permit);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
        let due = !batch.is_empty() && since.elapsed() >= PATIENCE;
        if batch.len() >= MOST_MESSAGES || bytes >= MOST_BYTES {
            bytes = 0;
            if let Err(mpsc::SendError(back)) = to.send(std::mem::take(&mut batch)) {
                batch = back;
                break;
            }
        } else if due || batch.len() >= BATCH {
            match to.try_send(std::mem::take(&mut batch)) {
                Ok(()) => bytes = 0,
                Err(mpsc::TrySendError::Full(back)) => {
                    batch = back;
                    if due {
                        since = Instant::now();
                    }
                }
                Err(mpsc::TrySendError::Disconnected(back)) => {
                    batch = back;
                    break;
                }
            }
        }
    }
    // what is whole is kept, also after an error of this thread
    if !batch.is_empty()
        && let Err(mpsc::SendError(back)) = to.send(batch)
    {
        discard(&back);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Job {
        dir: PathBuf,
        base: BaseName,
    }

    impl Delivery for Job {
        fn dir(&self) -> &Path {
            &self.dir
        }
        fn base(&self) -> &BaseName {
            &self.base
        }
        fn date(&self) -> i64 {
            0
        }
    }

    fn folder() -> tempfile::TempDir {
        let t = tempfile::tempdir().unwrap();
        fs::create_dir(t.path().join("tmp")).unwrap();
        t
    }

    fn job(dir: &Path, n: u64) -> Job {
        Job { dir: dir.to_owned(), base: BaseName::ours(1, 2, n) }
    }

    fn landed(dir: &Path, n: u64) -> Landed<Job> {
        let job = Box::new(job(dir, n));
        let staged = maildir::stage_bytes(dir, job.base.clone(), b"a\r\n", 0).unwrap();
        Landed { job, staged }
    }

    fn in_tmp(dir: &Path) -> usize {
        fs::read_dir(dir.join("tmp")).unwrap().count()
    }

    fn full() -> Error {
        Error::account(Kind::DiskFull, "no room")
    }

    /// Names that find room as long as so many messages were given up for each ten.
    fn publish_where(room: impl Fn(usize, usize) -> bool) -> (usize, Result<()>, usize) {
        let t = folder();
        let batch: Vec<_> = (0..30).map(|n| landed(t.path(), n)).collect();
        let mut done = 0;
        let (there, outcome) = publish(batch, |l| {
            if !room(done, 30 - done - in_tmp(t.path())) {
                return Err(full());
            }
            assert_eq!(l.job.base, BaseName::ours(1, 2, done as u64), "in order");
            done += 1;
            fs::remove_file(l.staged.path(t.path())).map_err(|_| full())
        });
        assert_eq!(there.len(), done);
        (done, outcome, in_tmp(t.path()))
    }

    #[test]
    fn the_last_make_room_for_the_names_of_those_before_them() {
        assert_eq!(publish_where(|_, _| true), (30, Ok(()), 0));
        assert_eq!(publish_where(|done, given| done < 10 * (given + 1)), (28, Err(full()), 0));
        assert_eq!(publish_where(|done, _| done < 7), (7, Err(full()), 0));
        assert_eq!(publish_where(|_, _| false), (0, Err(full()), 0));
    }

    #[test]
    fn what_cannot_be_made_durable_goes() {
        let t = folder();
        let durability = Durability::open(t.path()).unwrap();
        let batch: Vec<_> = (0..3).map(|n| landed(t.path(), n)).collect();
        make_durable(&batch, &durability).unwrap();
        assert_eq!(in_tmp(t.path()), 3);
        fs::remove_file(batch[1].staged.path(t.path())).unwrap();
        make_durable(&batch, &durability).unwrap_err();
        assert_eq!(in_tmp(t.path()), 0);
    }

    /// The batch is the committer's; what the writer has in hand by then is nobody's.
    #[tokio::test]
    async fn what_landed_behind_a_failure_goes() {
        let t = folder();
        let (met, meets) = mpsc::channel::<()>();
        let (go, goes) = mpsc::channel::<()>();
        let mut pipe = Pipeline::start(move |batch: Vec<Landed<Job>>| {
            met.send(()).unwrap();
            goes.recv().unwrap();
            discard(&batch);
            Err(full())
        });
        let batch = BATCH as u64;
        for n in 0..batch {
            send(&mut pipe, job(t.path(), n)).await;
        }
        meets.recv_timeout(Duration::from_secs(60)).unwrap();
        for n in batch..batch + 5 {
            send(&mut pipe, job(t.path(), n)).await;
        }
        let began = Instant::now();
        while !t.path().join("tmp").join(name(batch + 4)).exists() {
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::yield_now();
        }
        go.send(()).unwrap();
        assert_eq!(pipe.finish(), Err(full()));
        assert_eq!(in_tmp(t.path()), 0);
    }

    async fn send(pipe: &mut Pipeline<Job>, job: Job) {
        pipe.begin(job, 1);
        pipe.data(b"a").await.unwrap();
        pipe.end().await.unwrap();
    }

    fn name(n: u64) -> std::ffi::OsString {
        crate::model::FileName::bare(BaseName::ours(1, 2, n)).to_os_string()
    }
}
