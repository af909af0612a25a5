//! POP3: what the rest of the program asks of a server, over one connection.
//!
//! Reading order: `protocol` (bytes in, typed replies out; pure), `wire` (the connection that
//! feeds it, bounded in time and memory), `login`, `client` (one session and its commands).

mod before;
mod broken;
pub mod client;
mod deliver;
mod describe;
mod fetch;
mod gone;
mod holds;
mod local;
mod login;
pub mod pass;
pub mod protocol;
pub mod recognise;
mod remove;
pub mod retention;
pub mod short;
mod traces;
mod transfer;
mod wire;

pub use client::{Mailbox, Quit, Session};
pub use holds::in_view;
pub use protocol::{Capabilities, Expire, LoginDelay, Number, Stat, Uidl, Uidls};
pub use transfer::{MessageSink, Wanted};

use crate::config::Account;
use crate::error::Result;
use crate::net::{Security, Timeouts};
use crate::sasl::LoginSpec;

/// Resolves the secret, connects and logs in.
pub async fn log_in(account: &Account) -> Result<Session> {
    let secret = crate::secret::resolve(&account.credential, crate::account::SECRET_WITHIN).await?;
    let login = LoginSpec {
        user: account.user.clone(),
        auth: account.auth,
        secret,
        token: account.credential.is_token(),
        // the configuration allows plaintext only for loopback, or where it is told to
        plaintext_ok: matches!(account.endpoint.security, Security::None),
    };
    Session::connect(&account.endpoint, &login, &Timeouts::default()).await
}
