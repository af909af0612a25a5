//! Where words go: data to stdout, messages for people to stderr, and neither through a progress
//! bar. A closed stdout is no failure: whoever read it has had enough.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::MultiProgress;
use tracing_subscriber::fmt::MakeWriter;

use super::LogFormat;
use super::progress::{Bar, LineShow};
use super::table::cell;
use crate::error::{Error, Kind, Result, Scope};
use crate::progress::Progress;

/// The process's two outputs. Clones are the same screen.
#[derive(Clone)]
pub struct Screen {
    bars: MultiProgress,
    format: LogFormat,
    quiet: bool,
    terminal: bool,
    closed: Arc<AtomicBool>,
}

impl Screen {
    /// `quiet` leaves out what is neither data nor an error.
    pub fn new(format: LogFormat, quiet: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        Self { bars: MultiProgress::new(), format, quiet, terminal, closed: Arc::default() }
    }

    /// Whether stderr is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether only data and errors are wanted.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether nobody reads stdout any more.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Data, to stdout, with a line feed after it.
    pub fn data(&self, text: impl Display) -> Result<()> {
        if self.is_closed() {
            return Ok(());
        }
        let text = format!("{text}\n");
        let written = self.aside(|| {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        });
        match written {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                self.closed.store(true, Ordering::Relaxed);
                Ok(())
            }
            written => written.map_err(|e| {
                Error::new(Scope::Fatal, Kind::Io, format!("cannot write to stdout: {e}"))
                    .next("see where the output goes")
            }),
        }
    }

    /// A failure: `mailkeep: work: what (next step)`.
    pub fn failed(&self, account: Option<&str>, e: &Error) {
        match self.format {
            LogFormat::Text => self.err(&text_of(account, e)),
            LogFormat::Json => {
                let mut object = serde_json::json!({
                    "timestamp": now(),
                    "level": "ERROR",
                    "message": e.what,
                });
                if let Some(map) = object.as_object_mut() {
                    if let Some(account) = account {
                        map.insert("account".into(), account.into());
                    }
                    if !e.next.is_empty() {
                        map.insert("next".into(), e.next.as_str().into());
                    }
                }
                self.err(&object.to_string());
            }
        }
    }

    /// A message for people, to stderr.
    pub fn note(&self, account: Option<&str>, text: &str) {
        if self.quiet {
            return;
        }
        match (self.format, account) {
            (LogFormat::Text, Some(account)) => self.err(&format!("{account}: {}", cell(text))),
            (LogFormat::Text, None) => self.err(text),
            (LogFormat::Json, account) => self.err(
                &serde_json::json!({
                    "timestamp": now(), "level": "INFO", "account": account, "message": text,
                })
                .to_string(),
            ),
        }
    }

    /// What an account's pass reports to: a bar on a terminal, lines elsewhere.
    pub fn progress(&self, account: &str) -> Progress {
        if self.quiet {
            Progress::silent()
        } else if self.terminal && self.format == LogFormat::Text {
            Progress::shown_by(Bar::new(self.clone(), &self.bars, account))
        } else {
            Progress::shown_by(LineShow::new(self.clone(), account))
        }
    }

    fn err(&self, line: &str) {
        let text = format!("{line}\n");
        // nothing can be said about a closed stderr
        let _ = self.aside(|| io::stderr().lock().write_all(text.as_bytes()));
    }

    /// Runs it while no bar is on the terminal.
    fn aside<T>(&self, f: impl FnOnce() -> T) -> T {
        if self.terminal { self.bars.suspend(f) } else { f() }
    }
}

fn now() -> String {
    format!("{:.0}", jiff::Timestamp::now())
}

/// The last line of what happened is ours to say; those before it begin with a file's name, so
/// that editors find the place. A next step of several lines stands below.
fn text_of(account: Option<&str>, e: &Error) -> String {
    let (before, last) = match e.what.rsplit_once('\n') {
        // only what we say ourselves, of no account, has lines: a file's name must not make one
        Some((before, last)) if account.is_none() => (format!("{before}\n"), cell(last)),
        _ => (String::new(), cell(&e.what)),
    };
    let account = account.map(|a| format!("{a}: ")).unwrap_or_default();
    let next = match e.next.as_str() {
        "" => String::new(),
        next if next.contains('\n') => {
            next.lines().map(|line| format!("\n{}", cell(line))).collect()
        }
        next => format!(" ({})", cell(next)),
    };
    format!("{before}mailkeep: {account}{last}{next}")
}

/// Log lines go to stderr, past the bars.
pub struct LogLine(Screen);

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        let line = format!("{}\n", cell(line.trim_end_matches('\n')));
        self.0.aside(|| io::stderr().lock().write_all(line.as_bytes()))?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = LogLine;
    fn make_writer(&'a self) -> LogLine {
        LogLine(self.clone())
    }
}
