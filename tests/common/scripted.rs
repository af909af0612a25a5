//! A server that knows no protocol: it says exactly the bytes it is told to, in answer to lines
//! that hold what it is told to wait for.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One thing it does when a line matches. `{tag}` in bytes stands for the line's first word.
#[derive(Debug, Clone)]
pub enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes one by one, each in a packet of its own.
    Drip(Vec<u8>),
    /// Sends these bytes over and over, up to so many in all, then is silent.
    Flood(Vec<u8>, u64),
    /// Closes the connection.
    Close,
    /// Says nothing more, and closes nothing.
    Hang,
}

/// Shorthand for [`Step::Send`].
pub fn send(bytes: impl AsRef<[u8]>) -> Step {
    Step::Send(bytes.as_ref().to_vec())
}

/// What it answers: the first rule whose pattern a line holds (whatever the case) is followed.
/// The rule with the pattern `""` is for everything else; the greeting comes unasked.
#[derive(Debug, Clone, Default)]
pub struct Script {
    greeting: Vec<Step>,
    rules: Vec<Rule>,
    single: bool,
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: String,
    steps: Vec<Step>,
    once: bool,
    /// Only behind a line that held this.
    after: String,
}

impl Script {
    pub fn greeting(steps: impl Into<Vec<Step>>) -> Self {
        Self { greeting: steps.into(), ..Self::default() }
    }

    pub fn on(self, pattern: &str, steps: impl Into<Vec<Step>>) -> Self {
        self.rule(pattern, steps.into(), false, "")
    }

    /// The first time only, in each connection.
    pub fn once(self, pattern: &str, steps: impl Into<Vec<Step>>) -> Self {
        self.rule(pattern, steps.into(), true, "")
    }

    /// Once the connection had a line that held `earlier`.
    pub fn after(self, earlier: &str, pattern: &str, steps: impl Into<Vec<Step>>) -> Self {
        self.rule(pattern, steps.into(), false, earlier)
    }

    /// Says nothing more to a client that sends a line before the one before it was answered.
    pub fn single(self) -> Self {
        Self { single: true, ..self }
    }

    fn rule(mut self, pattern: &str, steps: Vec<Step>, once: bool, after: &str) -> Self {
        let [pattern, after] = [pattern, after].map(str::to_ascii_uppercase);
        self.rules.push(Rule { pattern, steps, once, after });
        self
    }

    /// These rules are asked first, then the greeting and the rules of `other`.
    pub fn before(mut self, mut other: Self) -> Self {
        self.rules.append(&mut other.rules);
        Self { greeting: other.greeting, rules: self.rules, single: self.single || other.single }
    }
}

/// A running one. Every connection follows its script from the start.
pub struct Scripted {
    port: u16,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    pub fn start(script: Script) -> Self {
        Self::in_turn(vec![script])
    }

    /// Every connection follows the next of these, and all others the last.
    pub fn in_turn(scripts: Vec<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let log = lines.clone();
        // The threads end with their connections, and at the latest with the test process.
        std::thread::spawn(move || {
            for (n, client) in listener.incoming().map_while(Result::ok).enumerate() {
                let script = scripts[n.min(scripts.len() - 1)].clone();
                let log = log.clone();
                std::thread::spawn(move || serve(&script, client, &log));
            }
        });
        Self { port, lines }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Every line it got, with tags.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("lock").clone()
    }
}

fn serve(script: &Script, client: TcpStream, log: &Mutex<Vec<String>>) {
    let _ = client.set_nodelay(true);
    let mut out = client.try_clone().expect("dup");
    let mut lines = BufReader::new(client);
    if !follow(&script.greeting, "", &mut out) {
        return drain(&mut lines);
    }
    let mut raw = Vec::new();
    let mut rules: Vec<&Rule> = script.rules.iter().collect();
    let mut heard: Vec<String> = Vec::new();
    while lines.read_until(b'\n', &mut raw).is_ok_and(|n| n > 0) {
        let line = String::from_utf8_lossy(&raw).trim_end().to_owned();
        raw.clear();
        log.lock().expect("lock").push(line.clone());
        let upper = line.to_ascii_uppercase();
        let fits = |r: &&Rule| {
            let after = r.after.is_empty() || heard.iter().any(|l| l.contains(&r.after));
            after && upper.contains(&r.pattern)
        };
        let hit = rules.iter().position(fits);
        heard.push(upper);
        let Some(rule) = hit.map(|at| if rules[at].once { rules.remove(at) } else { rules[at] })
        else {
            continue;
        };
        let tag = line.split(' ').next().unwrap_or_default();
        let too_soon = script.single && !lines.buffer().is_empty();
        if too_soon || !follow(&rule.steps, tag, &mut out) {
            return drain(&mut lines);
        }
    }
}

/// False: nothing more is said.
fn follow(steps: &[Step], tag: &str, out: &mut TcpStream) -> bool {
    for step in steps {
        let written = match step {
            Step::Send(bytes) => out.write_all(&tagged(bytes, tag)),
            Step::Drip(bytes) => bytes.iter().try_for_each(|b| out.write_all(&[*b])),
            Step::Flood(bytes, total) => {
                let mut sent = 0;
                while sent < *total && out.write_all(bytes).is_ok() {
                    sent += bytes.len() as u64;
                }
                return false;
            }
            Step::Close => {
                let _ = out.shutdown(std::net::Shutdown::Both);
                return false;
            }
            Step::Hang => return false,
        };
        if written.is_err() {
            return false;
        }
    }
    true
}

/// Keeps the connection open until the client closes it, but not for ever.
fn drain(lines: &mut BufReader<TcpStream>) {
    let _ = lines.get_ref().set_read_timeout(Some(Duration::from_secs(120)));
    let _ = std::io::copy(lines, &mut std::io::sink());
}

fn tagged(bytes: &[u8], tag: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    let mark = b"{tag}";
    while let Some(at) = rest.windows(mark.len()).position(|w| w == mark) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(tag.as_bytes());
        rest = &rest[at + mark.len()..];
    }
    out.extend_from_slice(rest);
    out
}
