//! When the machine's surroundings change: the network came, went or is another one (rtnetlink(7)),
//! or the machine was asleep. Both only make the workers look again.

use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::time::{ClockId, clock_gettime};

/// Addresses and routes of IPv4 and IPv6: RTMGRP_IPV4_IFADDR, _ROUTE, RTMGRP_IPV6_IFADDR, _ROUTE.
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;

/// One change comes as many messages.
const SETTLE: Duration = Duration::from_millis(500);

/// Hears of changes of the network.
pub struct Network {
    /// `None`: the kernel does not say (some sandboxes); failed accounts are tried again by time.
    socket: Option<tokio::net::UdpSocket>,
    way_out: WayOut,
}

/// The addresses that this machine would use to reach the rest of the world.
type WayOut = (Option<IpAddr>, Option<IpAddr>);

impl Network {
    /// From now on. Needs a tokio runtime.
    pub fn start() -> Self {
        let socket = listen()
            .inspect_err(|e| tracing::debug!("changes of the network are not heard of: {e}"))
            .ok();
        Self { socket, way_out: way_out() }
    }

    /// Something changed; true if this machine has another way out than before.
    pub async fn changed(&mut self) -> bool {
        let Some(socket) = &self.socket else { return std::future::pending().await };
        if drain(socket).await.is_err() {
            self.socket = None;
            return std::future::pending().await;
        }
        tokio::time::sleep(SETTLE).await;
        let before = std::mem::replace(&mut self.way_out, way_out());
        self.way_out != before
    }
}

/// Notices that the machine was asleep.
pub struct Sleep {
    asleep: Duration,
}

impl Sleep {
    /// From now on.
    pub fn new() -> Self {
        Self { asleep: asleep() }
    }

    /// Whether it slept since the last question.
    pub fn over(&mut self) -> bool {
        let now = asleep();
        let before = std::mem::replace(&mut self.asleep, now);
        now.saturating_sub(before) > Duration::from_secs(2)
    }
}

/// Time spent in suspend since the machine started: one clock counts it, and one does not.
fn asleep() -> Duration {
    let time = |clock| {
        let t = clock_gettime(clock);
        Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
    };
    time(ClockId::Boottime).saturating_sub(time(ClockId::Monotonic))
}

/// To the event loop one socket that datagrams come from is like another; it is only read from.
fn listen() -> std::io::Result<tokio::net::UdpSocket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // NETLINK_ROUTE is the protocol 0
    let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    tokio::net::UdpSocket::from_std(UdpSocket::from(socket))
}

/// Waits for a message, and throws it and all others away.
async fn drain(socket: &tokio::net::UdpSocket) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    let lost =
        |e: &std::io::Error| e.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error());
    match socket.recv(&mut buffer).await {
        Err(e) if !lost(&e) => return Err(e),
        // lost messages are messages
        _ => {}
    }
    loop {
        match socket.try_recv(&mut buffer) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) if !lost(&e) => return Err(e),
            _ => {}
        }
    }
}

/// Asks the routing table. Nothing is sent: the addresses are for documentation (RFC 5737, 3849).
fn way_out() -> WayOut {
    let from = |any: &str, to: &str| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        socket.local_addr().ok().map(|a| a.ip())
    };
    (from("0.0.0.0", "192.0.2.1"), from("::", "2001:db8::1"))
}
