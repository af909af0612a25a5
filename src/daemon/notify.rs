//! What systemd is told (sd_notify(3)): a datagram with a few lines. Without systemd nothing is said.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The service manager, where there is one.
pub struct Manager {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Manager {
    /// As the environment names it.
    pub fn from_environment() -> Self {
        let value = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let to = value("NOTIFY_SOCKET").and_then(|name| open(&name));
        let for_us = value("WATCHDOG_PID").is_none_or(|p| p == std::process::id().to_string());
        let watchdog = value("WATCHDOG_USEC")
            .filter(|_| for_us)
            .and_then(|v| v.parse().ok())
            .filter(|n| *n > 0)
            .map(Duration::from_micros);
        Self { to, watchdog }
    }

    /// How long it waits for a sign of life; `None`: it does not.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The configuration is valid and the workers run.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The configuration is being read again; [`Manager::ready`] follows.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The end has begun.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Every worker made progress.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// A line for `systemctl status`.
    pub fn status(&self, text: &str) {
        self.tell(&format!("STATUS={}", text.replace(['\n', '\r'], " ")));
    }

    fn tell(&self, text: &str) {
        if let Some((socket, to)) = &self.to
            && let Err(e) = socket.send_to_addr(text.as_bytes(), to)
        {
            tracing::debug!("cannot tell the service manager: {e}");
        }
    }
}

fn open(name: &str) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.strip_prefix('@') {
        Some(hidden) => SocketAddr::from_abstract_name(hidden),
        None => SocketAddr::from_pathname(Path::new(name)),
    };
    let opened = address.and_then(|a| {
        let socket = UnixDatagram::unbound()?;
        // whoever does not read must not stop us
        socket.set_nonblocking(true)?;
        Ok((socket, a))
    });
    opened.inspect_err(|e| tracing::warn!("NOTIFY_SOCKET {name:?} cannot be used: {e}")).ok()
}
