//! A server, a proxy before it, a Maildir, and a daemon that keeps both in step.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::common::process::wait_for;
use crate::common::proxy::Faults;
use crate::common::*;

/// How long anything may take before a test fails. Other tests run beside.
pub const SOON: Duration = Duration::from_secs(30);

pub struct World {
    pub server: Dovecot,
    pub proxy: Proxy,
    pub mk: Mailkeep,
    pub mint: Mint,
}

/// A running daemon.
pub struct Daemon {
    running: Option<Running>,
}

impl World {
    /// INBOX with ten messages, and Work with five; both sides alike.
    pub fn new(options: Options) -> Self {
        let server = Dovecot::with(options);
        let mint = Mint::new(7);
        server.seed("INBOX", &mint.letters(0..10));
        server.seed("Work", &mint.letters(10..15));
        let proxy = Proxy::with(server.port(), Faults::default());
        let mut mk = Mailkeep::to_port(proxy.port());
        mk.deletes("mirror", "mirror");
        Self { server, proxy, mk, mint }
    }

    pub fn full() -> Self {
        Self::new(Options::default())
    }

    /// Starts the daemon, and waits until both sides are alike and it waits for changes.
    #[track_caller]
    pub fn daemon(&self) -> Daemon {
        let daemon = Daemon::start(&self.mk);
        daemon.wait_calm(&self.mk);
        assert_same(&self.server, self.mk.maildir());
        daemon
    }

    /// Waits until both sides hold the same.
    #[track_caller]
    pub fn wait_same(&self) {
        let end = Instant::now() + SOON;
        while !differences(&self.server, self.mk.maildir()).is_empty() {
            if Instant::now() > end {
                assert_same(&self.server, self.mk.maildir());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn local(&self, folder: &str) -> Vec<LocalMessage> {
        let dir = self.mk.folder(folder);
        // what is not there yet is empty
        if dir.join("cur").is_dir() && dir.join("new").is_dir() {
            read_folder(&dir)
        } else {
            Vec::new()
        }
    }

    pub fn remote(&self, folder: &str) -> Vec<RemoteMessage> {
        self.server.imap().fetch_all(folder)
    }
}

impl Daemon {
    pub fn start(mk: &Mailkeep) -> Self {
        Self::over(mk.start(&["run"]))
    }

    /// One that was started.
    pub fn over(running: Running) -> Self {
        Self { running: Some(running) }
    }

    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("running").pid()
    }

    pub fn is_running(&mut self) -> bool {
        self.running.as_mut().expect("running").is_running()
    }

    /// Waits until a pass has ended well, push listens, and nothing is under way.
    #[track_caller]
    pub fn wait_calm(&self, mk: &Mailkeep) {
        wait_for("the daemon is calm", SOON, || {
            let (account, _) = live(mk)?;
            let calm = account["state"] == "waiting" && account["passes"].as_u64()? >= 2;
            calm.then_some(())
        });
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a pid")).expect("a pid");
        kill_process(pid, signal).expect("kill");
    }

    /// SIGTERM. It has to end by itself, well, and in time.
    #[track_caller]
    pub fn stop(mut self) -> Outcome {
        let begun = Instant::now();
        self.signal(Signal::TERM);
        let running = self.running.take().expect("running");
        let timeout = running.age() + SOON;
        let done = running.wait(timeout).expect(0);
        assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
        done
    }

    pub fn kill(mut self) {
        self.running.take().expect("running").kill();
    }
}

/// What the daemon says of the account `test`, and of all; nothing while none answers.
pub fn live(mk: &Mailkeep) -> Option<(Value, Value)> {
    let said = ask(mk, br#"{"do":"status"}"#)?;
    let all: Value = serde_json::from_slice(&said).ok()?;
    Some((all["accounts"]["test"].clone(), all))
}

/// Waits until there was no pass for this time; how many there were.
#[track_caller]
pub fn settle(mk: &Mailkeep, quiet: Duration) -> u64 {
    let passes = || live(mk).and_then(|l| l.0["passes"].as_u64());
    let mut last = (passes(), Instant::now());
    wait_for("an end of its passes", SOON, || {
        let now = passes();
        if now != last.0 {
            last = (now, Instant::now());
        }
        last.0.filter(|_| last.1.elapsed() >= quiet)
    })
}

/// Waits until the account is in this state.
#[track_caller]
pub fn wait_state(mk: &Mailkeep, state: &str) -> Value {
    wait_for(state, SOON, || live(mk).map(|l| l.0).filter(|a| a["state"] == state))
}

/// Sends a line to the control socket, and reads the answer to its end.
pub fn ask(mk: &Mailkeep, line: &[u8]) -> Option<Vec<u8>> {
    let mut stream = UnixStream::connect(mk.dir().join("runtime/control")).ok()?;
    stream.write_all(line).ok()?;
    stream.write_all(b"\n").ok()?;
    let mut out = Vec::new();
    stream.read_to_end(&mut out).ok()?;
    Some(out)
}
