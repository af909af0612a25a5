//! `check --connect`: logs in, and says what the server can do and what that leads to.

use crate::config::{Account, Protocol};
use crate::error::Result;
use crate::pop3::{Expire, Stat, Uidls};
use crate::words;

use super::start::log_in;

/// A line for everything worth knowing.
pub async fn connect(account: &Account) -> Result<Vec<String>> {
    if account.protocol == Protocol::Pop3 {
        return pop3(account).await;
    }
    let mut session = log_in(account).await?;
    let listing = session.list().await?;
    let caps = session.caps();
    let mut lines = Vec::new();
    let server: Vec<String> = session.server_id().iter().map(|(k, v)| format!("{k} {v}")).collect();
    if !server.is_empty() {
        lines.push(format!("server: {}", server.join(", ")));
    }
    let changes = if caps.qresync {
        "QRESYNC: one command a changed folder shows flags and deletions"
    } else if caps.condstore {
        "CONDSTORE: changed flags are asked for; deletions are found by counting"
    } else {
        "neither QRESYNC nor CONDSTORE: all flags of every folder are read in each pass"
    };
    lines.push(format!("changes: {changes}"));
    lines.push(format!(
        "folders: {}",
        if caps.list_status {
            "LIST-STATUS: all in one round trip"
        } else {
            "one STATUS each, pipelined"
        }
    ));
    lines.push(format!(
        "uploads: {}, {}",
        if caps.multiappend { "MULTIAPPEND" } else { "one APPEND each" },
        if caps.literal_plus {
            "LITERAL+"
        } else if caps.literal_minus {
            "LITERAL-"
        } else {
            "waiting for each literal"
        }
    ));
    lines.push(format!(
        "moves: {}; deletions: {}",
        if caps.moves { "MOVE" } else { "COPY and expunge" },
        if caps.uidplus {
            "UIDPLUS: exactly these messages"
        } else {
            "no UIDPLUS: marked \\Deleted, and expunged only where nothing else is marked"
        }
    ));
    if let Some(limit) = caps.append_limit {
        lines.push(format!("messages up to {limit} bytes can be uploaded"));
    }
    if caps.compress_deflate {
        lines.push("compression: DEFLATE".into());
    }
    for quirk in &caps.quirks {
        lines.push(format!("known oddity: {quirk}"));
    }
    for l in listing.folders.iter().filter(|l| l.selectable) {
        let selected = account.policy.selects(&l.name, l.special_use, !l.personal);
        let use_ = l.special_use.map_or("", |u| u.attribute());
        let count = l.status.as_ref().map_or(String::new(), |s| words::messages(s.messages));
        let note = if selected { "" } else { ", not selected" };
        lines.push(format!("folder {} {use_}: {count}{note}", l.name).replace(" :", ":"));
    }
    lines.extend(listing.errors.iter().map(|e| format!("problem: {e}")));
    session.logout().await;
    Ok(lines)
}

async fn pop3(account: &Account) -> Result<Vec<String>> {
    let mut session = crate::pop3::log_in(account).await?;
    let mailbox = session.mailbox().await?;
    let caps = session.caps();
    let mut lines = Vec::new();
    if let Some(server) = &caps.implementation {
        lines.push(format!("server: {server}"));
    }
    lines.push(
        if caps.pipelining {
            "PIPELINING: many messages in one round trip"
        } else {
            "no PIPELINING: a round trip a message"
        }
        .into(),
    );
    lines.push(match &mailbox.uidls {
        Uidls::Known(_) => "UIDL: messages are known again by it".into(),
        Uidls::Unsupported(_) => "no UIDL: messages are known again by their headers and bytes, \
                                  and none is deleted on the server"
            .into(),
    });
    lines.push(if caps.known && !caps.top {
        "no TOP: what is to be deleted there, or looks like another, is fetched whole first".into()
    } else {
        "TOP: headers alone tell messages apart".to_owned()
    });
    if let Some(delay) = &caps.login_delay {
        lines.push(format!("LOGIN-DELAY: not more often than every {} seconds", delay.seconds));
    }
    match &caps.expire {
        Some(Expire::Days { days, .. }) => {
            lines.push(format!("EXPIRE: the server deletes messages after {days} days by itself"));
        }
        Some(Expire::Never) | None => {}
    }
    let Stat { messages, bytes } = mailbox.stat;
    lines.push(format!("mailbox: {}, {bytes} bytes", words::messages(messages)));
    session.leave().await;
    Ok(lines)
}
