//! The accounts that a command names.

use crate::config::{Account, Config, nearest};
use crate::error::{Error, Kind, Result, Scope};

/// The accounts of these names, each once, in the order of their names; all for none.
pub(super) fn accounts<'c>(config: &'c Config, names: &[String]) -> Result<Vec<&'c Account>> {
    let mut chosen: Vec<&str> = Vec::new();
    for name in names {
        account(config, name)?;
        chosen.push(name);
    }
    let named = |a: &&Account| chosen.is_empty() || chosen.contains(&a.name.as_str());
    Ok(config.accounts.values().filter(named).collect())
}

/// The account of this name.
pub(super) fn account<'c>(config: &'c Config, name: &str) -> Result<&'c Account> {
    config.accounts.get(name).ok_or_else(|| {
        let next = match nearest(name, config.accounts.keys()) {
            Some(near) => format!("did you mean {near}?"),
            None => {
                let known: Vec<&str> = config.accounts.keys().map(String::as_str).collect();
                format!("configured are: {}", known.join(", "))
            }
        };
        let what = format!("there is no account {name:?} in {}", config.file.display());
        Error::new(Scope::Fatal, Kind::Config, what).next(next)
    })
}
