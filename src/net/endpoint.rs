//! Where a server is, how it is to be secured, and how long to wait for it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How the connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// TLS from the first byte.
    Implicit,
    /// The protocol's own upgrade command (STARTTLS, STLS), which must succeed.
    StartTls,
    /// None at all. The configuration allows it for loopback hosts, or when asked for by name.
    None,
}

/// A server, and what makes its certificate good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A host name or an IP address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// How the connection is secured.
    pub security: Security,
    /// One more trust anchor file (PEM), beside the platform's.
    pub ca_file: Option<PathBuf>,
    /// The SHA-256 of the leaf certificate: it stands in place of chain, name and dates.
    pub fingerprint: Option<[u8; 32]>,
}

/// How long silence may last before it is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Name resolution, TCP and TLS together.
    pub connect: Duration,
    /// The whole greeting.
    pub greeting: Duration,
    /// Without a single byte going either way.
    pub silence: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            greeting: Duration::from_secs(30),
            // whoever waits at a prompt has it back within a minute
            silence: Duration::from_secs(45),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
