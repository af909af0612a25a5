//! The whole file's text → a [`Config`], or all that is wrong with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::paths::{Surroundings, expand};
use super::read::{Reader, Section};
use super::search::EXAMPLE;
use super::{Config, Hooks, account, overlap, value};
use crate::error::{Error, Kind, Result, Scope};

/// What the meaning of a value depends on, beside its text.
pub(super) struct Context<'c> {
    /// The directory of the configuration file, which relative paths are relative to.
    pub base: &'c Path,
    /// Environment, home, user.
    pub around: &'c Surroundings,
    /// The configuration file's mode, if others can read it.
    pub readable_by_others: Option<u32>,
}

impl Context<'_> {
    /// A path as configured → an absolute one.
    pub(super) fn path(&self, text: &str) -> std::result::Result<PathBuf, String> {
        expand(text, self.base, self.around)
    }
}

/// Reads the text of `file`.
pub(super) fn parse(file: &Path, source: &str, context: &Context<'_>) -> Result<Config> {
    let shown = file.display().to_string();
    let reader = Reader::new(&shown, source);
    let (document, syntax) = DeTable::parse_recoverable(source);
    for e in &syntax {
        let span = e.span().unwrap_or_default();
        let mut text = e.message().trim_end().replace('\n', "; ");
        // of all that the parser complains about, only a key is safe to show: no value, no password
        if text == "duplicate key" {
            text.push_str(&format!(" {:?}", source.get(span.clone()).unwrap_or_default()));
        }
        reader.error(span.start, text);
    }
    // what the parser makes of broken text is not what the user wrote
    let config =
        if syntax.is_empty() { read(file, &reader, document.get_ref(), context) } else { None };
    let errors = reader.errors();
    match config {
        Some(config) if errors.is_empty() => Ok(Config { warnings: reader.warnings(), ..config }),
        _ => Err(refuse(errors)),
    }
}

/// `[hooks]` or `[accounts.NAME.hooks]`, laid over others. What is wrong is reported; the caller
/// finishes the section.
pub(super) fn hooks(section: &Section<'_, '_>, under: &Hooks) -> Hooks {
    let one = |key, under: &Option<String>| {
        section.get(key).map_or_else(|| under.clone(), |i| i.parse(value::command))
    };
    Hooks {
        new_mail: one("new_mail", &under.new_mail),
        held: one("held", &under.held),
        failed: one("failed", &under.failed),
    }
}

/// One error for all of them; the last line counts.
fn refuse(mut lines: Vec<String>) -> Error {
    let count = match lines.len() {
        1 => "an error".to_owned(),
        n => format!("{n} errors"),
    };
    lines.push(format!("{count} in the configuration; nothing was done"));
    Error::new(Scope::Fatal, Kind::Config, lines.join("\n"))
        .next("correct the file, then run `mailkeep check`")
}

fn read<'s>(
    file: &Path,
    reader: &Reader<'s>,
    document: &DeTable<'s>,
    context: &Context<'_>,
) -> Option<Config> {
    let root = Section::root(reader, document);
    let state_dir = match root.get("state_dir") {
        Some(item) => item.parse(|s| context.path(s)),
        None => default_state_dir(file, context, reader),
    };
    let runtime_dir = match root.get("runtime_dir") {
        Some(item) => item.parse(|s| context.path(s)),
        None => {
            default_runtime_dir(file, context).or_else(|| state_dir.as_ref().map(|s| s.join("run")))
        }
    };
    let hooks_section = root.section("hooks");
    let hooks = hooks(&hooks_section, &Hooks::default());
    hooks_section.finish(&[]);

    let accounts_item = root.get("accounts");
    let accounts_section = accounts_item.as_ref().and_then(|i| i.section());
    let items = accounts_section.as_ref().map(Section::items).unwrap_or_default();
    if items.is_empty() && (accounts_item.is_none() || accounts_section.is_some()) {
        let at = accounts_item.as_ref().map_or(0, |i| i.at());
        reader.error(at, format!("there is no account; add one, such as\n\n{EXAMPLE}"));
    }
    let read: Vec<_> = items
        .iter()
        .map(|(name, item)| (item, account::read(name, item, &hooks, context)))
        .collect();
    let maildirs: Vec<_> =
        read.iter().filter_map(|(item, account)| Some((*item, account.as_ref()?))).collect();
    overlap::check(reader, &maildirs);
    root.finish(&[]);
    let complete = read.iter().all(|(_, account)| account.is_some());
    let accounts: BTreeMap<_, _> =
        read.into_iter().filter_map(|(_, a)| a).map(|a| (a.name.clone(), a)).collect();
    complete.then_some(())?;
    Some(Config {
        file: file.to_owned(),
        state_dir: state_dir?,
        runtime_dir: runtime_dir?,
        accounts,
        hooks,
        warnings: Vec::new(),
    })
}

/// Whether this is the machine's mail keeper rather than somebody's.
fn is_system(file: &Path, context: &Context<'_>) -> bool {
    context.around.root && file.starts_with("/etc")
}

fn default_state_dir(file: &Path, context: &Context<'_>, reader: &Reader<'_>) -> Option<PathBuf> {
    if is_system(file, context) {
        return Some("/var/lib/mailkeep".into());
    }
    let dir = context.around.xdg("XDG_STATE_HOME");
    if dir.is_none() {
        reader.error(0, "state_dir: missing: there is no home directory to put the ledgers in");
    }
    Some(dir?.join("mailkeep"))
}

fn default_runtime_dir(file: &Path, context: &Context<'_>) -> Option<PathBuf> {
    if is_system(file, context) {
        return Some("/run/mailkeep".into());
    }
    Some(context.around.xdg("XDG_RUNTIME_DIR")?.join("mailkeep"))
}
