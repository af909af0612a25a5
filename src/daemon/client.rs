//! The other end of the control socket: how a command asks a daemon that runs.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use super::control::path;
use super::protocol::{Reply, Request, Status};
use crate::account::{PassOptions, PassReport};
use crate::config::{Account, Config};
use crate::error::{Error, Kind, Result, Scope};

/// No answer is longer, in bytes.
const LONGEST_REPLY: u64 = 64 << 20;

/// What the daemon says; `None` if none runs. Waits as long as it takes.
pub fn ask(config: &Config, request: &Request) -> Result<Option<Reply>> {
    let path = path(&config.runtime_dir);
    let fail = |e: std::io::Error| {
        Error::new(
            Scope::Fatal,
            Kind::Io,
            format!("cannot ask the daemon at {}: {e}", path.display()),
        )
        .next("does it run as this user? If it hangs, stop it and start it again")
    };
    let mut stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(e) => return Err(fail(e)),
    };
    let mut line = serde_json::to_vec(request).map_err(|e| fail(e.into()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(fail)?;
    let mut said = Vec::new();
    stream.take(LONGEST_REPLY).read_to_end(&mut said).map_err(fail)?;
    if said.is_empty() {
        let e = std::io::Error::other("it ended before it answered");
        return Err(fail(e));
    }
    serde_json::from_slice(&said).map(Some).map_err(|e| fail(e.into()))
}

/// How the daemon's accounts stand; `None` if none runs.
pub fn status(config: &Config) -> Result<Option<Status>> {
    match ask(config, &Request::Status)? {
        Some(Reply::Status(status)) => Ok(Some(status)),
        Some(Reply::Failed(e)) => Err(e),
        Some(_) => Err(confused()),
        None => Ok(None),
    }
}

/// A pass by the daemon; `None` if none runs that serves this account.
pub fn sync(
    account: &Account,
    config: &Config,
    options: &PassOptions,
) -> Result<Option<PassReport>> {
    let request = Request::Sync {
        account: account.name.clone(),
        folders: options.folders.iter().map(ToString::to_string).collect(),
        take_over: options.take_over,
    };
    match ask(config, &request)? {
        Some(Reply::Pass(report)) => Ok(Some(report)),
        Some(Reply::Failed(e)) => Err(e),
        Some(Reply::UnknownAccount) | None => Ok(None),
        Some(_) => Err(confused()),
    }
}

/// Has something done, and gives back what is to be said of it; `None` as above.
pub fn order(config: &Config, request: &Request) -> Result<Option<String>> {
    match ask(config, request)? {
        Some(Reply::Done { note }) => Ok(Some(note)),
        Some(Reply::Failed(e)) => Err(e),
        Some(Reply::UnknownAccount) | None => Ok(None),
        Some(_) => Err(confused()),
    }
}

fn confused() -> Error {
    Error::new(Scope::Fatal, Kind::Protocol, "the daemon answered something else")
        .next("restart it: it is of another version")
}
