//! One connection that listens, and makes sure from time to time that there is somebody to listen
//! to: a connection that a router forgot is silent for ever, and so is a quiet mailbox.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::super::response::{Condition, Untagged};
use super::super::session::{Event, Session, line, protocol, quoted};
use super::super::wire::Tag;
use super::heard::Heard;
use super::said::{Meaning, meaning};
use super::{Pace, Watched};
use crate::error::{Error, Kind, Result};
use crate::model::FolderName;

/// After so many responses the server has to answer something: what it says between two answers
/// is bounded, and a busy mailbox is no attack.
const BUSY: u32 = 1000;

/// How often NOTIFY is turned on again before the server has answered for a while.
const OVERFLOWS: u32 = 3;

/// What every folder is watched for.
const MESSAGES: &str = "MessageNew MessageExpunge FlagChange";

/// A connection.
pub(super) struct Ear {
    session: Session,
    heard: Arc<Heard>,
    pace: Pace,
    how: How,
    /// IDLE is under way.
    idling: Option<Tag>,
    /// NOTIFY was turned off by the server, which could not keep up.
    overflowed: bool,
}

enum How {
    Deaf,
    /// The command that turned it on.
    Notify(Vec<u8>),
    /// In this folder.
    Idle(FolderName),
}

/// What ended, or goes on.
enum End {
    /// A command, in OK or not.
    Answer(Tag, bool),
    /// The server waits for more.
    Continue,
}

/// Why the waiting ended.
enum Waited {
    /// Something came.
    Heard,
    /// Nothing came for long.
    Quiet,
    /// We are to say goodbye.
    Closing,
}

impl Ear {
    pub fn new(session: Session, heard: Arc<Heard>, pace: Pace) -> Self {
        Self { session, heard, pace, how: How::Deaf, idling: None, overflowed: false }
    }

    /// What the quirk table says.
    pub fn most_connections(&self) -> Option<u32> {
        self.session.caps().most_connections
    }

    pub fn can_idle(&self) -> bool {
        self.session.caps().idle
    }

    pub async fn logout(self) {
        self.session.logout().await;
    }

    /// Turns NOTIFY on. False where the server does not have it, or refuses.
    pub async fn notify(&mut self, folders: &[Watched]) -> Result<bool> {
        if !self.session.caps().notify {
            return Ok(false);
        }
        // a server that does not tell of names says [BADEVENT]
        for events in [&format!("{MESSAGES} MailboxName"), MESSAGES] {
            let command = notify_command(folders, events)?;
            if self.asked(&command).await? {
                self.how = How::Notify(command);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Opens the folder and begins to IDLE. False where the server does not have it, or refuses.
    pub async fn idle(&mut self, folder: &Watched) -> Result<bool> {
        if !self.can_idle() {
            return Ok(false);
        }
        // EXAMINE takes \Recent from nobody
        let opened = match self.session.select(&folder.wire, false, None).await {
            Ok(_) => self.begin_idle().await?,
            Err(e) if e.kind == Kind::Refused => {
                tracing::info!(folder = %folder.name, "not watched: {e}");
                false
            }
            Err(e) => return Err(e),
        };
        if opened {
            self.how = How::Idle(folder.name.clone());
        }
        Ok(opened)
    }

    /// Listens until the connection is lost, which is told, or until `closing`.
    pub async fn listen(mut self, mut closing: watch::Receiver<bool>) {
        match self.go_on(&mut closing).await {
            Ok(()) => {
                if self.idling.is_some() {
                    self.session.conn.queue_raw(b"DONE\r\n");
                }
                self.session.logout().await;
            }
            Err(e) => self.heard.failed(e),
        }
    }

    async fn go_on(&mut self, closing: &mut watch::Receiver<bool>) -> Result<()> {
        loop {
            let until = Instant::now() + self.pace.renew;
            let mut overflows = 0;
            for _ in 0..BUSY {
                if self.overflowed {
                    overflows += 1;
                    self.notify_again(overflows).await?;
                }
                match self.wait(until, closing).await? {
                    Waited::Heard => {
                        if self.take().await?.is_some() {
                            let what = "the server stopped pushing by itself";
                            return Err(self.session.fail(protocol(what)));
                        }
                    }
                    Waited::Quiet => break,
                    Waited::Closing => return Ok(()),
                }
            }
            self.renew().await?;
        }
    }

    async fn wait(
        &mut self,
        until: Instant,
        closing: &mut watch::Receiver<bool>,
    ) -> Result<Waited> {
        let rest = until.saturating_duration_since(Instant::now());
        let ready = tokio::select! {
            // a sender that is gone says the same
            _ = closing.wait_for(|c| *c) => return Ok(Waited::Closing),
            ready = self.session.conn.ready(rest) => ready,
        };
        match ready {
            Ok(true) => Ok(Waited::Heard),
            Ok(false) => Ok(Waited::Quiet),
            Err(e) => Err(self.session.fail(e)),
        }
    }

    /// Has the server answer, within bounds.
    async fn renew(&mut self) -> Result<()> {
        let (what, tag) = match self.idling.take() {
            Some(tag) => {
                self.session.conn.queue_raw(b"DONE\r\n");
                ("IDLE", tag)
            }
            None => ("NOOP", self.session.send(b"NOOP")),
        };
        if !self.answered(tag).await? {
            return Err(self.refused(what));
        }
        if matches!(self.how, How::Idle(_)) && !self.begin_idle().await? {
            return Err(self.refused("IDLE"));
        }
        Ok(())
    }

    /// Sends IDLE, and waits until the server listens; false if it refuses.
    async fn begin_idle(&mut self) -> Result<bool> {
        let (tag, within) = (self.session.send(b"IDLE"), self.pace.answer);
        let waiting = async {
            loop {
                match self.take().await? {
                    Some(End::Continue) => return Ok(true),
                    // an end before DONE is none, whatever it says
                    Some(End::Answer(t, _)) if t == tag => return Ok(false),
                    _ => {}
                }
            }
        };
        let began = match timeout(within, waiting).await {
            Ok(began) => began?,
            Err(_) => return Err(self.silent()),
        };
        self.idling = began.then_some(tag);
        Ok(began)
    }

    /// Turns NOTIFY on again (RFC 5465 5.8).
    async fn notify_again(&mut self, times: u32) -> Result<()> {
        self.overflowed = false;
        let How::Notify(command) = &self.how else { return Ok(()) };
        let command = command.clone();
        if times > OVERFLOWS || !self.asked(&command).await? {
            return Err(self.refused("NOTIFY"));
        }
        Ok(())
    }

    /// Sends a command; whether the server said OK to it.
    async fn asked(&mut self, command: &[u8]) -> Result<bool> {
        let tag = self.session.send(command);
        self.answered(tag).await
    }

    /// Waits for the end of a command, and hears what comes meanwhile.
    async fn answered(&mut self, tag: Tag) -> Result<bool> {
        let within = self.pace.answer;
        let waiting = async {
            loop {
                if let Some(End::Answer(t, ok)) = self.take().await?
                    && t == tag
                {
                    return Ok(ok);
                }
            }
        };
        match timeout(within, waiting).await {
            Ok(answered) => answered,
            Err(_) => Err(self.silent()),
        }
    }

    /// Reads one response and tells what it says.
    async fn take(&mut self) -> Result<Option<End>> {
        let Self { session, heard, how, overflowed, .. } = self;
        Ok(match session.next().await? {
            Event::Continue => Some(End::Continue),
            Event::Done(tag, answer) => {
                let ok = answer.condition == Condition::Ok;
                if !ok {
                    tracing::debug!(text = %answer.text, "the server refuses to push");
                }
                Some(End::Answer(tag, ok))
            }
            Event::Data(data) => {
                *overflowed |= tell(heard, how, &data);
                None
            }
        })
    }

    /// The server does not answer what every server answers.
    fn silent(&mut self) -> Error {
        let within = self.pace.answer.as_secs_f32();
        let what = format!("the server did not answer within {within} s where it should push");
        let next = "the connection is made anew by itself";
        self.session.fail(Error::account(Kind::Connection, what).next(next))
    }

    fn refused(&mut self, what: &str) -> Error {
        let what = format!("the server refused {what}, which it took before");
        let next = "the connection is made anew by itself";
        self.session.fail(Error::account(Kind::Connection, what).next(next))
    }
}

/// Tells what a response says. True for an overflow.
fn tell(heard: &Heard, how: &How, data: &Untagged<'_>) -> bool {
    let meaning = meaning(data);
    match (meaning, how) {
        (Meaning::Nothing, _) => {}
        (Meaning::Folder(wire, said), _) => heard.spelled(&wire, said),
        (Meaning::Here(said), How::Idle(folder)) => heard.folder(folder, said),
        // nothing is selected, or not yet
        (Meaning::Here(_), _) => {}
        (Meaning::Everything, _) => heard.everything(),
        (Meaning::Overflow, _) => {
            heard.everything();
            return true;
        }
    }
    false
}

/// `NOTIFY SET` for the user's own folders, now and later, and for the others by name.
fn notify_command(folders: &[Watched], events: &str) -> Result<Vec<u8>> {
    let mut command = format!("NOTIFY SET (personal ({events}))").into_bytes();
    let others: Result<Vec<Vec<u8>>> =
        folders.iter().filter(|f| f.mirrored && !f.personal).map(|f| quoted(&f.wire)).collect();
    let others = others?;
    if !others.is_empty() {
        let names: Vec<&[u8]> = others.iter().map(Vec::as_slice).collect();
        command.extend_from_slice(b" (mailboxes (");
        command.extend(line(&names));
        command.extend(format!(") ({MESSAGES}))").into_bytes());
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_others_are_named() {
        let watched = |wire: &str, personal, mirrored| Watched {
            name: FolderName::from_text(wire).unwrap(),
            wire: wire.into(),
            personal,
            mirrored,
        };
        let mut folders = vec![watched("INBOX", true, true), watched("a", true, false)];
        let own = "NOTIFY SET (personal (MessageNew MessageExpunge FlagChange MailboxName))";
        let of = |folders: &[Watched]| {
            let events = format!("{MESSAGES} MailboxName");
            String::from_utf8(notify_command(folders, &events).unwrap()).unwrap()
        };
        assert_eq!(of(&folders), own);
        folders.push(watched("user/x \\y", false, true));
        folders.push(watched("user/z", false, false));
        folders.push(watched("user/w", false, true));
        let others =
            r#" (mailboxes ("user/x \\y" "user/w") (MessageNew MessageExpunge FlagChange))"#;
        assert_eq!(of(&folders), format!("{own}{others}"));
    }
}
