//! What is measured, each behind the same interface: mailkeep and mbsync as processes, the bare
//! socket as a function; and the proxy process in front of the server.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::mailkeep::{Mailkeep, Running};
use crate::common::process::{command, find_program, temp_dir};
use crate::common::server::{PASSWORD, Server, USER};
use crate::floor;

/// One measured run.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub time: Duration,
    /// VmHWM in bytes; 0 where it is not a process of its own.
    pub memory: u64,
    /// Bytes from the server, where a proxy counted.
    pub received: Option<u64>,
}

/// Which tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    Mailkeep,
    Mbsync,
    /// One socket and nothing else: what the server alone takes.
    Bare,
}

/// A tool with a Maildir of its own.
pub struct Client {
    pub tool: Tool,
    mailkeep: Mailkeep,
    /// mbsync's configuration.
    dir: tempfile::TempDir,
}

/// No run takes longer, or something hangs.
const TIMEOUT: Duration = Duration::from_secs(900);

impl Client {
    pub fn new(tool: Tool) -> Self {
        let mut mailkeep = Mailkeep::to_port(0);
        mailkeep.timeout = TIMEOUT;
        // The same rules as mbsync has below.
        mailkeep.deletes("mirror", "mirror");
        Self { tool, mailkeep, dir: temp_dir("bench") }
    }

    pub fn maildir(&self) -> &Path {
        self.mailkeep.maildir()
    }

    pub fn inbox(&self) -> PathBuf {
        self.maildir().join("INBOX")
    }

    /// How many messages INBOX has here.
    pub fn count(&self) -> usize {
        let of = |sub: &str| fs::read_dir(self.inbox().join(sub)).map_or(0, Iterator::count);
        of("cur") + of("new")
    }

    /// One pass against a port.
    pub fn run(&mut self, port: u16) -> Sample {
        if self.tool == Tool::Bare {
            let start = Instant::now();
            floor::pull(port, &self.inbox());
            return Sample { time: start.elapsed(), memory: 0, received: None };
        }
        let done = match self.tool {
            Tool::Mailkeep => self.mailkeep.port(port).sync(),
            _ => self.mbsync(port).wait(TIMEOUT),
        };
        assert_eq!(done.status, Some(0), "{:?}: {}", self.tool, done.text());
        Sample { time: done.elapsed, memory: done.peak_rss, received: None }
    }

    fn mbsync(&self, port: u16) -> Running {
        let root = self.maildir().display();
        let config = format!(
            "IMAPAccount a\nHost localhost\nPort {port}\nUser {USER}\nPass {PASSWORD}\n\
             SSLType None\nAuthMechs LOGIN\n\nIMAPStore far\nAccount a\n\n\
             MaildirStore near\nPath {root}/\nInbox {root}/INBOX\nSubFolders Verbatim\n\n\
             Channel c\nFar :far:\nNear :near:\nPatterns * INBOX\nCreate Both\nExpunge Both\n\
             Sync All\nCopyArrivalDate yes\nSyncState *\n"
        );
        let path = self.dir.path().join("mbsyncrc");
        fs::write(&path, config).unwrap();
        let mut c = command(find_program("mbsync", "apt-get install isync"), None);
        c.arg("-c").arg(path).arg("-a");
        Running::start(c)
    }
}

/// Runs once, straight or through a proxy with this round trip.
pub fn measure(client: &mut Client, server: &dyn Server, round_trip: Option<u64>) -> Sample {
    // What was written before must not be paid for in this run.
    rustix::fs::sync();
    let Some(ms) = round_trip else { return client.run(server.port()) };
    let mut proxy = ProxyProcess::start(server.port(), ms);
    let sample = client.run(proxy.port);
    Sample { received: Some(proxy.received()), ..sample }
}

/// The proxy in a process of its own. Ends with its input.
pub struct ProxyProcess {
    pub port: u16,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl ProxyProcess {
    pub fn start(target: u16, round_trip: u64) -> Self {
        let own = std::env::current_exe().unwrap();
        let mut child = Command::new(own)
            .args(["--proxy", &target.to_string(), &round_trip.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let input = child.stdin.take();
        Self { port: line.trim().parse().unwrap(), child, input, output }
    }

    /// Bytes that went to the client so far.
    pub fn received(&mut self) -> u64 {
        self.ask("count ", 0)
    }

    /// Commands so far that begin so.
    pub fn count(&mut self, beginning: &str) -> u64 {
        self.ask(&format!("count {beginning}"), 1)
    }

    /// Connections from now on see nothing of this capability.
    pub fn hide(&mut self, capability: &str) {
        self.ask(&format!("hide {capability}"), 0);
    }

    fn ask(&mut self, what: &str, field: usize) -> u64 {
        writeln!(self.input.as_mut().unwrap(), "{what}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.split_whitespace().nth(field).unwrap().parse().unwrap()
    }
}

impl Drop for ProxyProcess {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
