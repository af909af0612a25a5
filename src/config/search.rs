//! Which file is the configuration, and reading it.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Config;
use super::build::{Context, parse};
use super::paths::{Surroundings, tidy};
use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result, Scope};

/// A first configuration.
pub const EXAMPLE: &str = r#"[accounts.work]
protocol = "imap"
host = "imap.example.org"
user = "me@example.org"
password_command = "pass show mail/work"
maildir = "~/Mail/work"

[accounts.work.policy]
remote_delete = "keep"    # what the server deletes stays here
local_delete = "trash"    # what you delete here goes to its trash
"#;

/// No configuration is longer; in bytes.
const LONGEST: u64 = 1 << 20;

/// The configuration of this process: from `explicit`, else from the usual places.
pub fn load(explicit: Option<&Path>) -> Result<Config> {
    load_in(explicit, &Surroundings::of_process())
}

/// The same in other surroundings.
pub fn load_in(explicit: Option<&Path>, around: &Surroundings) -> Result<Config> {
    let places: Vec<PathBuf> = match explicit {
        Some(file) => vec![tidy(&around.directory.join(file))],
        None => around
            .xdg("XDG_CONFIG_HOME")
            .into_iter()
            .chain([PathBuf::from("/etc")])
            .map(|dir| dir.join("mailkeep/config.toml"))
            .collect(),
    };
    for file in &places {
        if let Some((source, mode)) = read(file)? {
            let context = Context {
                base: file.parent().unwrap_or(Path::new("/")),
                around,
                readable_by_others: (mode & 0o044 != 0).then_some(mode),
            };
            return parse(file, &source, &context);
        }
    }
    let looked: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
    let first = looked.first().map(String::as_str).unwrap_or_default();
    Err(refuse(format!("there is no configuration: no {}", looked.join(" and no ")))
        .next(format!("write one to {first}, such as\n\n{EXAMPLE}\nthen run `mailkeep check`")))
}

/// The file's text and mode; `None` if there is no such file. What cannot be read is an error, or
/// another configuration would silently take its place.
fn read(file: &Path) -> Result<Option<(Zeroizing<String>, u32)>> {
    use std::io::ErrorKind as K;
    let failed = |e: &std::io::Error| {
        refuse(format!("cannot read the configuration {}: {e}", file.display()))
            .next("check the file's owner and mode, or name another one with --config")
    };
    let opened = match std::fs::File::open(file) {
        Err(e) if matches!(e.kind(), K::NotFound | K::NotADirectory) => return Ok(None),
        opened => opened.map_err(|e| failed(&e))?,
    };
    let metadata = opened.metadata().map_err(|e| failed(&e))?;
    let mode = metadata.permissions().mode() & 0o7777;
    // room for all of it at once: a password may be in it, and growing would leave copies behind
    let room = usize::try_from(metadata.len().min(LONGEST)).unwrap_or_default() + 64;
    let mut bytes = Vec::with_capacity(room);
    opened.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
    if bytes.len() as u64 > LONGEST {
        return Err(refuse(format!("{} is longer than 1 MiB", file.display()))
            .next("this is no configuration; name another file with --config"));
    }
    match String::from_utf8(bytes) {
        Ok(source) => Ok(Some((Zeroizing::new(source), mode))),
        Err(e) => {
            let good = e.utf8_error().valid_up_to();
            let before = e.as_bytes().get(..good).unwrap_or_default();
            let line = before.iter().filter(|b| **b == b'\n').count() + 1;
            let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
            let text = String::from_utf8_lossy(before.get(start..).unwrap_or_default());
            let column = text.chars().count() + 1;
            Err(refuse(format!("{}:{line}:{column}: is not UTF-8", file.display()))
                .next("save the file as UTF-8, then run `mailkeep check`"))
        }
    }
}

fn refuse(what: String) -> Error {
    Error::new(Scope::Fatal, Kind::Config, what)
}
