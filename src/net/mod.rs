//! Bytes to and from a server: addresses, TLS, and one stream type over them. Knows no mail
//! protocol, so that IMAP and POP3 share what is dangerous here.

pub mod connect;
mod deflate;
pub mod endpoint;
pub mod stream;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod tls;

pub use connect::connect;
pub use endpoint::{Endpoint, Security, Timeouts};
pub use stream::{Stream, Transport};
