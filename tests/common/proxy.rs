//! A proxy on loopback that delays, cuts, stalls and counts, and writes down the commands that
//! pass through it in plain text.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::process::wait_for;

/// What it does to the connections. Counted in bytes of one connection.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Added to every round trip, half each way.
    pub round_trip: Duration,
    /// Cut both ends once the server has sent this much.
    pub cut_down: Option<u64>,
    /// Cut both ends once the client has sent this much.
    pub cut_up: Option<u64>,
    /// Cut when the client sends a command that holds this; the command is not passed on.
    pub cut_on: Option<String>,
    /// Cut when the server's answer to the command in `cut_on` begins: it was carried out, and
    /// the client does not learn of it.
    pub cut_answer: bool,
    /// Pass nothing on any more once the server has sent this much, and close nothing.
    pub stall_down: Option<u64>,
    /// Struck out of what the server says (a capability).
    pub hide: String,
    /// What the server says, and what it is made to say in its place.
    pub lies: Vec<(String, String)>,
}

/// A running proxy. Dropped, it closes every connection.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    target: u16,
    faults: Mutex<Faults>,
    up: AtomicU64,
    down: AtomicU64,
    connections: AtomicU64,
    cuts: AtomicU64,
    lines: Mutex<Vec<String>>,
    /// The same with their first words, which in POP3 are no tags.
    whole: Mutex<Vec<String>>,
    open: Mutex<Vec<TcpStream>>,
    /// Connections that said this get no answers any more.
    muted: Mutex<Option<String>>,
    /// A command that holds this is not passed on yet, and how often that happened.
    held: Mutex<(Option<String>, usize)>,
    let_go: Condvar,
    closing: AtomicBool,
}

impl Proxy {
    /// In front of a port, passing everything.
    pub fn to(target: u16) -> Self {
        Self::with(target, Faults::default())
    }

    pub fn with(target: u16, faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        let shared = Arc::new(Shared {
            target,
            faults: Mutex::new(faults),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            lines: Mutex::new(Vec::new()),
            whole: Mutex::new(Vec::new()),
            open: Mutex::new(Vec::new()),
            muted: Mutex::new(None),
            held: Mutex::new((None, 0)),
            let_go: Condvar::new(),
            closing: AtomicBool::new(false),
        });
        let s = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if s.closing.load(Ordering::Relaxed) {
                    return;
                }
                s.accept(client);
            }
        });
        Self { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// For the connections that come from now on.
    pub fn set(&self, faults: Faults) {
        *self.shared.faults.lock().expect("lock") = faults;
    }

    /// From now on, what the server says on connections whose client said this (`NOTIFY`) is
    /// swallowed; they stay open.
    pub fn mute(&self, said: &str) {
        *self.shared.muted.lock().expect("lock") = Some(said.to_owned());
    }

    /// From now on, a command that holds this waits until it is let go.
    pub fn hold(&self, said: &str) {
        *self.shared.held.lock().expect("lock") = (Some(said.to_owned()), 0);
    }

    /// Waits until a command is held.
    pub fn wait_held(&self) {
        let held = || self.shared.held.lock().expect("lock").1 > 0;
        wait_for("the command", Duration::from_secs(60), || held().then_some(()));
    }

    /// Passes on what was held, and holds nothing more.
    pub fn let_go(&self) {
        self.shared.held.lock().expect("lock").0 = None;
        self.shared.let_go.notify_all();
    }

    /// Bytes from the client so far.
    pub fn up(&self) -> u64 {
        self.shared.up.load(Ordering::Relaxed)
    }

    /// Bytes from the server so far.
    pub fn down(&self) -> u64 {
        self.shared.down.load(Ordering::Relaxed)
    }

    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// How many connections it has cut.
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::Relaxed)
    }

    /// The client's lines without their tags and without literals, in order.
    pub fn commands(&self) -> Vec<String> {
        self.shared.lines.lock().expect("lock").clone()
    }

    /// How many of the client's commands begin so (`UID FETCH`, `APPEND`).
    pub fn count(&self, beginning: &str) -> usize {
        let starts = |l: &String| {
            l.get(..beginning.len()).is_some_and(|b| b.eq_ignore_ascii_case(beginning))
        };
        self.commands().iter().filter(|l| starts(l)).count()
    }

    /// How many of a POP3 client's commands begin so.
    pub fn count_pop3(&self, verb: &str) -> usize {
        self.shared.whole.lock().expect("lock").iter().filter(|l| l.starts_with(verb)).count()
    }

    /// How many of the client's commands ask for bodies.
    pub fn body_fetches(&self) -> usize {
        let asks = |l: &String| l.contains("BODY.PEEK[]") || l.contains("BODY[]");
        self.commands().iter().filter(|l| asks(l)).count()
    }

    /// Forgets counters and commands.
    pub fn reset(&self) {
        self.shared.up.store(0, Ordering::Relaxed);
        self.shared.down.store(0, Ordering::Relaxed);
        self.shared.connections.store(0, Ordering::Relaxed);
        self.shared.lines.lock().expect("lock").clear();
        self.shared.whole.lock().expect("lock").clear();
    }

    /// Cuts every connection there is.
    pub fn cut_all(&self) {
        for s in self.shared.open.lock().expect("lock").drain(..) {
            let _ = s.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        self.let_go();
        self.cut_all();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.target)) else {
            return;
        };
        self.connections.fetch_add(1, Ordering::Relaxed);
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let twin = |s: &TcpStream| s.try_clone().expect("dup");
        self.open.lock().expect("lock").extend([twin(&client), twin(&server)]);
        let faults = self.faults.lock().expect("lock").clone();
        let cut = Arc::new(AtomicBool::new(false));
        let said = Arc::new(Mutex::new(String::new()));
        let pump = |up: bool| Pump {
            shared: self.clone(),
            faults: faults.clone(),
            cut: cut.clone(),
            said: said.clone(),
            up,
        };
        let (up, down) = (pump(true), pump(false));
        let (from, to) = (twin(&client), twin(&server));
        std::thread::spawn(move || up.run(from, to));
        std::thread::spawn(move || down.run(server, client));
    }
}

impl Shared {
    /// Waits with these lines, if that is wanted.
    fn hold(&self, lines: &[String]) {
        let wanted = |held: &(Option<String>, usize)| {
            held.0.as_ref().is_some_and(|p| lines.iter().any(|l| l.contains(p.as_str())))
        };
        let mut held = self.held.lock().expect("lock");
        held.1 += usize::from(wanted(&held));
        drop(self.let_go.wait_while(held, |h| wanted(h)));
    }
}

/// One direction of one connection.
struct Pump {
    shared: Arc<Shared>,
    faults: Faults,
    /// Set by the client's direction: the server's next byte cuts.
    cut: Arc<AtomicBool>,
    /// What the client said.
    said: Arc<Mutex<String>>,
    up: bool,
}

impl Pump {
    fn run(self, mut from: TcpStream, to: TcpStream) {
        let (queue, writer) = if self.faults.round_trip.is_zero() {
            (None, None)
        } else {
            let (tx, rx) = sync_channel(512);
            let to = to.try_clone().expect("dup");
            (Some(tx), Some(std::thread::spawn(move || write_later(rx, to))))
        };
        let mut out = Out { to, queue, delay: self.faults.round_trip / 2 };
        let mut log = LineLog::default();
        let mut passed = 0;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = from.read(&mut buffer).unwrap_or(0);
            if n == 0 {
                break;
            }
            let mut data = buffer[..n].to_vec();
            let counter = if self.up { &self.shared.up } else { &self.shared.down };
            counter.fetch_add(n as u64, Ordering::Relaxed);
            if self.up {
                let whole = log.feed(&data);
                let lines: Vec<String> = whole.iter().map(|l| without_tag(l).to_owned()).collect();
                self.shared.whole.lock().expect("lock").extend(whole);
                let hit = self.faults.cut_on.as_ref();
                let hit = hit.is_some_and(|p| lines.iter().any(|l| l.contains(p.as_str())));
                self.said.lock().expect("lock").extend(lines.iter().map(String::as_str));
                self.shared.hold(&lines);
                self.shared.lines.lock().expect("lock").extend(lines);
                if hit && !self.faults.cut_answer {
                    return self.cut(&from, &out.to);
                }
                if hit {
                    self.cut.store(true, Ordering::Relaxed);
                }
            } else {
                if self.cut.load(Ordering::Relaxed) {
                    return self.cut(&from, &out.to);
                }
                let muted = self.shared.muted.lock().expect("lock").clone();
                if muted.is_some_and(|m| self.said.lock().expect("lock").contains(&m)) {
                    continue;
                }
                if !self.faults.hide.is_empty() {
                    data = instead(&data, self.faults.hide.as_bytes(), b"");
                }
                for (truth, lie) in &self.faults.lies {
                    data = instead(&data, truth.as_bytes(), lie.as_bytes());
                }
            }
            let limit = if self.up { self.faults.cut_up } else { self.faults.cut_down };
            if let Some(limit) = limit.filter(|l| passed + data.len() as u64 >= *l) {
                data.truncate((limit - passed) as usize);
                out.write(data);
                return self.cut(&from, &out.to);
            }
            if self.faults.stall_down.is_some_and(|l| !self.up && passed >= l) {
                // Silence until the client or the test goes away.
                while from.read(&mut buffer).unwrap_or(0) > 0 {}
                return;
            }
            passed += data.len() as u64;
            if !out.write(data) {
                break;
            }
        }
        out.queue = None;
        if let Some(w) = writer {
            let _ = w.join();
        }
        let _ = out.to.shutdown(Shutdown::Write);
    }

    fn cut(&self, a: &TcpStream, b: &TcpStream) {
        self.shared.cuts.fetch_add(1, Ordering::Relaxed);
        let _ = a.shutdown(Shutdown::Both);
        let _ = b.shutdown(Shutdown::Both);
    }
}

/// Where a pump writes: at once, or later.
struct Out {
    to: TcpStream,
    queue: Option<SyncSender<(Instant, Vec<u8>)>>,
    delay: Duration,
}

impl Out {
    fn write(&mut self, data: Vec<u8>) -> bool {
        match &self.queue {
            None => self.to.write_all(&data).is_ok(),
            Some(q) => q.send((Instant::now() + self.delay, data)).is_ok(),
        }
    }
}

fn write_later(queue: Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
    for (due, data) in queue {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&data).is_err() {
            return;
        }
    }
}

fn without_tag(line: &str) -> &str {
    line.split_once(' ').map_or(line, |(_, rest)| rest)
}

/// Splits what an IMAP client sends into lines, and leaves out the bytes of literals.
#[derive(Default)]
struct LineLog {
    line: Vec<u8>,
    literal: u64,
}

impl LineLog {
    fn feed(&mut self, mut data: &[u8]) -> Vec<String> {
        let mut out = Vec::new();
        while !data.is_empty() {
            let skip = self.literal.min(data.len() as u64) as usize;
            self.literal -= skip as u64;
            data = &data[skip..];
            let Some(end) = data.iter().position(|b| *b == b'\n') else {
                self.line.extend_from_slice(data);
                break;
            };
            self.line.extend_from_slice(&data[..end]);
            data = &data[end + 1..];
            let text = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
            let text = text.trim_end_matches('\r');
            if let Some((_, n)) = text.strip_suffix('}').and_then(|t| t.rsplit_once('{')) {
                self.literal = n.trim_end_matches(['+', '-']).parse().unwrap_or(0);
            }
            out.push(text.to_owned());
        }
        out
    }
}

fn instead(data: &[u8], what: &[u8], other: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    let mut rest = data;
    while let Some(at) = rest.windows(what.len()).position(|w| w == what) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(other);
        rest = &rest[at + what.len()..];
    }
    out.extend_from_slice(rest);
    out
}
