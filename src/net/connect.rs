//! Making the TCP connection: every address gets its try, and a failure says what to do.

use super::{Endpoint, Security, Stream, Timeouts};
use crate::error::{Error, Kind, Result};

/// Connects, and shakes hands at once where TLS is implicit. With [`Security::StartTls`] the
/// stream is still plain, and the protocol has to upgrade it before anything else.
pub async fn connect(endpoint: &Endpoint, timeouts: &Timeouts) -> Result<Stream> {
    let tcp = tokio::net::TcpStream::connect((endpoint.host.as_str(), endpoint.port))
        .await
        .map_err(|e| Error::account(Kind::Connection, format!("{endpoint}: {e}")))?;
    let peer = tcp.peer_addr().ok();
    let mut stream = Stream::plain(tcp, peer);
    if endpoint.security == Security::Implicit {
        stream.start_tls(endpoint, &[], timeouts.connect).await?;
    }
    Ok(stream)
}
