//! Paths of the configuration: `~`, environment variables, and what they are relative to. The
//! environment is an argument, so that what a path means does not depend on who asks.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// What of the process's surroundings the configuration depends on.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Environment variables.
    pub variables: BTreeMap<OsString, OsString>,
    /// The home directory.
    pub home: Option<PathBuf>,
    /// Whether this is the superuser.
    pub root: bool,
    /// What a relative `--config` is relative to.
    pub directory: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            home: std::env::home_dir().filter(|h| h.is_absolute()),
            root: rustix::process::geteuid().is_root(),
            directory: std::env::current_dir().unwrap_or_else(|_| "/".into()),
        }
    }

    /// A directory of the XDG base directory specification, which wants relative values ignored.
    pub(super) fn xdg(&self, variable: &str) -> Option<PathBuf> {
        let set = self.variables.get(OsStr::new(variable)).map(PathBuf::from);
        let below_home = |s: &str| self.home.as_ref().map(|h| h.join(s));
        set.filter(|p| p.is_absolute()).or_else(|| match variable {
            "XDG_CONFIG_HOME" => below_home(".config"),
            "XDG_STATE_HOME" => below_home(".local/state"),
            "XDG_DATA_HOME" => below_home(".local/share"),
            "XDG_CACHE_HOME" => below_home(".cache"),
            _ => None,
        })
    }

    fn variable(&self, name: &str) -> Option<OsString> {
        if name.starts_with("XDG_") {
            return self.xdg(name).map(PathBuf::into_os_string);
        }
        if name == "HOME" {
            return self.home.clone().map(PathBuf::into_os_string);
        }
        self.variables.get(OsStr::new(name)).filter(|v| !v.is_empty()).cloned()
    }
}

/// A path as configured → an absolute one. `~` alone or before a `/` in front is the home
/// directory; `$NAME` and `${NAME}` are environment variables, and `$$` is a `$`; a relative path
/// is relative to `base`.
pub(super) fn expand(text: &str, base: &Path, around: &Surroundings) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("must not be empty".into());
    }
    if text.contains('\0') {
        return Err("must not hold a NUL".into());
    }
    let mut out: Vec<u8> = Vec::new();
    let mut rest = text;
    if let Some(tail) = rest.strip_prefix('~') {
        if !tail.is_empty() && !tail.starts_with('/') {
            return Err(
                "only ~ alone or ~/ is understood; write another user's home in full".into()
            );
        }
        let home = around.home.as_ref().ok_or("there is no home directory; set HOME")?;
        out.extend_from_slice(home.as_os_str().as_bytes());
        rest = tail;
    }
    while let Some((before, after)) = rest.split_once('$') {
        out.extend_from_slice(before.as_bytes());
        if let Some(tail) = after.strip_prefix('$') {
            out.push(b'$');
            rest = tail;
            continue;
        }
        let (name, tail) = match after.strip_prefix('{') {
            Some(inner) => inner.split_once('}').ok_or("a ${ without its }")?,
            None => {
                let end = after
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(after.len());
                after.split_at_checked(end).unwrap_or((after, ""))
            }
        };
        if name.is_empty() {
            return Err("a $ without a name; write $$ for a $".into());
        }
        let value = around
            .variable(name)
            .ok_or_else(|| format!("the environment variable {name} is not set"))?;
        out.extend_from_slice(value.as_bytes());
        rest = tail;
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(tidy(&base.join(OsString::from_vec(out))))
}

/// Without `.` and doubled slashes. `..` stays: what it means depends on symlinks.
pub(super) fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|c| *c != Component::CurDir).collect()
}

/// What a path leads to, through symlinks as far as it exists; what does not exist yet is taken
/// as it is written.
pub(super) fn resolve(path: &Path) -> PathBuf {
    let mut existing = path;
    let mut missing: Vec<Component<'_>> = Vec::new();
    loop {
        if let Ok(real) = existing.canonicalize() {
            let mut out = real;
            for c in missing.iter().rev() {
                match c {
                    Component::ParentDir => {
                        out.pop();
                    }
                    c => out.push(c),
                }
            }
            return out;
        }
        let (Some(parent), Some(last)) = (existing.parent(), existing.components().next_back())
        else {
            return path.to_owned();
        };
        missing.push(last);
        existing = parent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around() -> Surroundings {
        Surroundings {
            variables: [("M", "/srv/mail"), ("EMPTY", ""), ("XDG_RUNTIME_DIR", "run/relative")]
                .into_iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
            home: Some("/home/me".into()),
            root: false,
            directory: "/".into(),
        }
    }

    #[test]
    fn paths_are_expanded() {
        let at = |s: &str| expand(s, Path::new("/etc/mk"), &around());
        for (text, want) in [
            ("~", "/home/me"),
            ("~/Mail", "/home/me/Mail"),
            ("$M/x", "/srv/mail/x"),
            ("${M}x", "/srv/mailx"),
            ("$HOME/a//b/./c/", "/home/me/a/b/c"),
            ("$XDG_STATE_HOME/mk", "/home/me/.local/state/mk"),
            ("ca.pem", "/etc/mk/ca.pem"),
            ("a~/$$b", "/etc/mk/a~/$b"),
            ("../x", "/etc/mk/../x"),
        ] {
            assert_eq!(at(text), Ok(want.into()), "{text}");
        }
        for bad in ["", "~you/x", "$", "${M", "$NOT_SET", "$EMPTY/x", "$XDG_RUNTIME_DIR/x", "a\0"] {
            assert!(at(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn symlinks_are_resolved_as_far_as_they_exist() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("a")).unwrap();
        std::os::unix::fs::symlink(real.join("a"), real.join("l")).unwrap();
        assert_eq!(resolve(&real.join("l/new/x")), real.join("a/new/x"));
        assert_eq!(resolve(&real.join("l/new/../x")), real.join("a/x"));
        assert_eq!(resolve(&real.join("a")), real.join("a"));
    }
}
