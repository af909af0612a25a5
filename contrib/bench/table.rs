//! Medians and ratios, as a Markdown table.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::time::Duration;

use crate::tools::{Sample, Tool};

/// All samples, by phase in the order of their first run.
#[derive(Default)]
pub struct Table {
    phases: Vec<String>,
    samples: BTreeMap<(usize, Tool), Vec<Sample>>,
}

impl Table {
    pub fn add(&mut self, phase: &str, tool: Tool, sample: Sample) {
        eprintln!(
            "{phase:<48} {:<9} {:>8.3} s {:>4} MB {}",
            format!("{tool:?}").to_lowercase(),
            sample.time.as_secs_f64(),
            sample.memory >> 20,
            sample.received.map(bytes).unwrap_or_default(),
        );
        let known = self.phases.iter().position(|p| p == phase);
        let index = known.unwrap_or_else(|| {
            self.phases.push(phase.to_owned());
            self.phases.len() - 1
        });
        self.samples.entry((index, tool)).or_default().push(sample);
    }

    fn median<T: Ord + Copy>(
        &self,
        at: (usize, Tool),
        f: impl Fn(&Sample) -> Option<T>,
    ) -> Option<T> {
        let mut all: Vec<T> = self.samples.get(&at)?.iter().filter_map(f).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| work | mbsync | bare socket | mailkeep | × mbsync | × bare | memory: mbsync, \
             mailkeep | received: mbsync, mailkeep |\n|---|---|---|---|---|---|---|---|"
        )?;
        for (i, phase) in self.phases.iter().enumerate() {
            let time = |t| self.median((i, t), |s| Some(s.time));
            let most = |t| self.samples.get(&(i, t)).and_then(|s| s.iter().map(|s| s.memory).max());
            let received = |t| self.median((i, t), |s| s.received);
            let (own, other) = (time(Tool::Mailkeep), time(Tool::Mbsync));
            let bare = time(Tool::Bare);
            let both = |a: Option<String>, b: Option<String>| match (a, b) {
                (None, None) => String::new(),
                (a, b) => format!("{}, {}", a.unwrap_or_default(), b.unwrap_or_default()),
            };
            let megabytes = |b: u64| format!("{} MB", b >> 20);
            writeln!(
                f,
                "| {phase} | {} | {} | {} | {} | {} | {} | {} |",
                seconds(other),
                seconds(bare),
                seconds(own),
                ratio(own, other),
                ratio(own, bare),
                both(most(Tool::Mbsync).map(megabytes), most(Tool::Mailkeep).map(megabytes)),
                both(received(Tool::Mbsync).map(bytes), received(Tool::Mailkeep).map(bytes)),
            )?;
        }
        Ok(())
    }
}

fn seconds(time: Option<Duration>) -> String {
    time.map(|t| format!("{:.2} s", t.as_secs_f64())).unwrap_or_default()
}

fn ratio(a: Option<Duration>, b: Option<Duration>) -> String {
    let Some((a, b)) = a.zip(b) else { return String::new() };
    format!("{:.2}", a.as_secs_f64() / b.as_secs_f64())
}

fn bytes(n: u64) -> String {
    match n {
        0..10_000 => format!("{n} B"),
        10_000..1_000_000 => format!("{} kB", n / 1000),
        _ => format!("{:.2} MB", n as f64 / 1e6),
    }
}

/// What it ran on, for the line above the table.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_default().to_owned();
        line.split([':', '=']).nth(1).unwrap_or_default().trim().trim_matches('"').to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!(
        "{}, {cores} cores; Linux {}; {}",
        field(&read("/proc/cpuinfo"), "model name"),
        read("/proc/sys/kernel/osrelease").trim(),
        field(&read("/etc/os-release"), "PRETTY_NAME"),
    )
}
