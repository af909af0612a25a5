//! Where a test may kill the program: whatever lasts, or others can see, is a step.
//!
//! With debug assertions, `MAILKEEP_STEPS=FILE` writes a line for every step that was done, and
//! `MAILKEEP_KILL_AT=N` aborts before the N-th, whichever thread comes to it. Without them there is
//! nothing here: no environment is read, and an effect is just done.

#[cfg(debug_assertions)]
pub use on::{path_of, step};

/// Does an effect.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn step<T, E>(
    _what: impl FnOnce() -> String,
    effect: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    effect()
}

/// A moment between effects that happen elsewhere: on the server.
pub fn moment(what: impl FnOnce() -> String) {
    let _: Result<(), std::convert::Infallible> = step(what, || Ok(()));
}

/// The line of an effect on paths.
pub fn line(effect: &str, paths: &[&std::path::Path]) -> String {
    paths.iter().fold(effect.to_owned(), |l, p| format!("{l}\t{}", p.display()))
}

#[cfg(debug_assertions)]
mod on {
    use std::fs::File;
    use std::io::Write as _;
    use std::os::fd::{AsFd, AsRawFd};
    use std::path::PathBuf;
    use std::sync::{Mutex, OnceLock};

    struct Steps {
        log: Option<File>,
        kill_at: Option<u64>,
        done: u64,
    }

    fn steps() -> Option<&'static Mutex<Steps>> {
        static STEPS: OnceLock<Option<Mutex<Steps>>> = OnceLock::new();
        let from_environment = || {
            let log = std::env::var_os("MAILKEEP_STEPS");
            let kill_at = std::env::var("MAILKEEP_KILL_AT").ok();
            if log.is_none() && kill_at.is_none() {
                return None;
            }
            // A test that asks for what cannot be had must not pass.
            let log = log.map(|path| {
                let file = File::options().append(true).create(true).open(path);
                file.unwrap_or_else(|_| std::process::abort())
            });
            let kill_at = kill_at.map(|n| n.parse().unwrap_or_else(|_| std::process::abort()));
            Some(Mutex::new(Steps { log, kill_at, done: 0 }))
        };
        STEPS.get_or_init(from_environment).as_ref()
    }

    /// Does an effect as one step. Steps of several threads come one after the other, so that what
    /// is written down is exactly what was done when the program dies.
    pub fn step<T, E>(
        what: impl FnOnce() -> String,
        effect: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let Some(Ok(mut steps)) = steps().map(Mutex::lock) else { return effect() };
        steps.done += 1;
        if steps.kill_at == Some(steps.done) {
            std::process::abort();
        }
        let done = effect();
        if let Some(log) = &mut steps.log {
            let failed = if done.is_ok() { "" } else { "failed\t" };
            if log.write_all(format!("{failed}{}\n", what()).as_bytes()).is_err() {
                std::process::abort();
            }
        }
        done
    }

    /// What is open there.
    pub fn path_of(fd: impl AsFd) -> PathBuf {
        let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
        std::fs::read_link(link).unwrap_or_default()
    }
}

/// What is open there; only a test wants to know.
#[cfg(not(debug_assertions))]
pub fn path_of(_: impl std::os::fd::AsFd) -> std::path::PathBuf {
    std::path::PathBuf::new()
}
