//! `mailkeep run`: the daemon, in the foreground. What it says goes to the log.

use std::path::PathBuf;

use super::Exit;
use crate::config::{self, Config};
use crate::daemon;
use crate::error::Result;

/// Runs until SIGTERM or SIGINT. `file`: where `--config` says that the configuration is.
pub(super) fn run(config: Config, file: Option<PathBuf>) -> Result<Exit> {
    // relative to where we stand now, whatever becomes of that
    let file = file.map(|f| std::path::absolute(&f).unwrap_or(f));
    daemon::run(config, Box::new(move || config::load(file.as_deref())))?;
    Ok(Exit::Ok)
}
