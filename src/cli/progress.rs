//! The two ways a pass is shown: a bar on a terminal, lines elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use super::screen::Screen;
use crate::model::FolderName;
use crate::progress::Show;

/// A bar with the rate and the time left.
pub(super) struct Bar {
    screen: Screen,
    account: String,
    bars: MultiProgress,
    bar: ProgressBar,
    bytes: Arc<AtomicU64>,
}

impl Bar {
    pub(super) fn new(screen: Screen, bars: &MultiProgress, account: &str) -> Self {
        let bytes = Arc::new(AtomicU64::new(0));
        let shown = Arc::clone(&bytes);
        let template =
            "{prefix} {bar:25} {human_pos}/{human_len} {size} {rate}/s {eta} left {wide_msg}";
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .with_key("size", move |_: &_, w: &mut dyn std::fmt::Write| {
                let _ = write!(w, "{}", HumanBytes(shown.load(Ordering::Relaxed)));
            })
            .with_key("rate", |s: &ProgressState, w: &mut dyn std::fmt::Write| {
                let _ = write!(w, "{:.0}", s.per_sec());
            });
        let bar = ProgressBar::hidden().with_style(style).with_prefix(account.to_owned());
        Self { screen, account: account.to_owned(), bars: bars.clone(), bar, bytes }
    }
}

impl Show for Bar {
    fn begin(&self, messages: u64) {
        // shown only now: a pass that finds nothing to do shows nothing
        if messages > 0 {
            self.bar.set_length(messages);
            self.bar.reset();
            self.bars.add(self.bar.clone());
        }
    }
    fn folder(&self, name: &FolderName) {
        self.bar.set_message(name.to_string());
    }
    fn message(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bar.inc(1);
    }
    fn undone(&self, messages: u64, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.bar.dec(messages);
    }
    fn note(&self, text: &str) {
        self.screen.note(Some(&self.account), text);
    }
    fn finish(&self) {
        self.bar.finish_and_clear();
        self.bars.remove(&self.bar);
    }
}

/// A line a folder.
pub(super) struct LineShow {
    screen: Screen,
    account: String,
    started: Instant,
    lines: Mutex<Lines>,
}

impl LineShow {
    pub(super) fn new(screen: Screen, account: &str) -> Self {
        Self {
            screen,
            account: account.to_owned(),
            started: Instant::now(),
            lines: Mutex::default(),
        }
    }

    fn tell(&self, f: impl FnOnce(&mut Lines, Duration) -> Option<String>) {
        let now = self.started.elapsed();
        let line = f(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner), now);
        if let Some(line) = line {
            self.screen.note(Some(&self.account), &line);
        }
    }
}

impl Show for LineShow {
    fn begin(&self, messages: u64) {
        self.tell(|l, _| l.begin(messages));
    }
    fn folder(&self, name: &FolderName) {
        self.tell(|l, now| l.folder(name.to_string(), now));
    }
    fn message(&self, bytes: u64) {
        self.tell(|l, now| l.message(bytes, now));
    }
    fn undone(&self, messages: u64, bytes: u64) {
        self.tell(|l, _| l.undone(messages, bytes));
    }
    fn note(&self, text: &str) {
        self.screen.note(Some(&self.account), text);
    }
    fn finish(&self) {
        self.tell(|l, now| l.finish(now));
    }
}

/// Between two lines at least.
const PAUSE: Duration = Duration::from_secs(1);
/// A folder that takes longer says in between how far it is.
const LONG: Duration = Duration::from_secs(30);

/// Decides what lines are printed when. Folders that end sooner than [`PAUSE`] after the last line
/// share the next one.
#[derive(Debug, Default)]
struct Lines {
    total: u64,
    done: u64,
    last_line: Option<Duration>,
    folder: String,
    folders: u64,
    messages: u64,
    bytes: u64,
}

impl Lines {
    fn begin(&mut self, messages: u64) -> Option<String> {
        self.total = messages;
        None
    }

    fn folder(&mut self, name: String, now: Duration) -> Option<String> {
        let line = if self.due(now, PAUSE) { self.line(now) } else { None };
        self.folder = name;
        self.folders += 1;
        line
    }

    fn message(&mut self, bytes: u64, now: Duration) -> Option<String> {
        self.done += 1;
        self.messages += 1;
        self.bytes += bytes;
        let long = self.last_line.map_or(now, |l| now.saturating_sub(l)) >= LONG;
        if !long {
            return None;
        }
        let line = self.line(now);
        self.folders = 1;
        line
    }

    fn undone(&mut self, messages: u64, bytes: u64) -> Option<String> {
        let told = messages > self.messages;
        self.done = self.done.saturating_sub(messages);
        self.messages = self.messages.saturating_sub(messages);
        self.bytes = self.bytes.saturating_sub(bytes);
        // a line that was printed is taken back by another
        told.then(|| format!("only {} of {} messages got here", self.done, self.total))
    }

    fn finish(&mut self, now: Duration) -> Option<String> {
        self.line(now)
    }

    fn due(&self, now: Duration, pause: Duration) -> bool {
        self.last_line.is_none_or(|l| now.saturating_sub(l) >= pause)
    }

    /// What was done since the last line; `None` for nothing.
    fn line(&mut self, now: Duration) -> Option<String> {
        let (folders, messages) = (self.folders, self.messages);
        self.folders = 0;
        if messages == 0 {
            return None;
        }
        let plural = if messages == 1 { "" } else { "s" };
        let size = HumanBytes(self.bytes);
        self.messages = 0;
        self.bytes = 0;
        self.last_line = Some(now);
        let place = match folders {
            0 | 1 => self.folder.clone(),
            n => format!("{n} folders up to {}", self.folder),
        };
        let of = if self.total > 0 {
            format!("; {} of {}", self.done, self.total.max(self.done))
        } else {
            String::new()
        };
        Some(format!("{place}: {messages} message{plural}, {size}{of}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_folder_and_at_most_one_a_second() {
        let at = Duration::from_millis;
        let mut l = Lines::default();
        l.begin(8);
        assert_eq!(l.folder("INBOX".into(), at(0)), None);
        assert_eq!(l.message(2048, at(10)), None);
        assert_eq!(
            l.folder("a".into(), at(100)).as_deref(),
            Some("INBOX: 1 message, 2.00 KiB; 1 of 8")
        );
        l.message(1, at(200));
        assert_eq!(l.folder("b".into(), at(300)), None);
        l.message(1, at(400));
        l.message(1, at(500));
        assert_eq!(
            l.folder("c".into(), at(1200)).as_deref(),
            Some("2 folders up to b: 3 messages, 3 B; 4 of 8")
        );
        assert_eq!(l.folder("d".into(), at(9000)), None, "nothing came in c");
        l.message(1, at(9100));
        assert_eq!(l.message(1, at(40_000)).as_deref(), Some("d: 2 messages, 2 B; 6 of 8"));
        assert_eq!(l.message(5, at(40_100)), None);
        assert_eq!(l.finish(at(40_200)).as_deref(), Some("d: 1 message, 5 B; 7 of 8"));
        assert_eq!(l.finish(at(50_000)), None);
    }

    #[test]
    fn what_did_not_get_there_is_not_counted() {
        let at = Duration::from_millis;
        let mut l = Lines::default();
        l.begin(8);
        l.folder("INBOX".into(), at(0));
        for _ in 0..8 {
            l.message(10, at(1));
        }
        l.undone(5, 50);
        assert_eq!(l.folder("a".into(), at(2)).as_deref(), Some("INBOX: 3 messages, 30 B; 3 of 8"));
        assert_eq!(l.undone(1, 10).as_deref(), Some("only 2 of 8 messages got here"));
        assert_eq!(l.finish(at(3)), None);
    }
}
