//! Messages at which a session broke, and when they are tried again. Pure.

use super::recognise::Listed;
use crate::error::{Error, Kind};

/// Those of this pass.
#[derive(Default)]
pub struct Broken {
    /// In the session that ended just now.
    pub now: Vec<(Listed, Error)>,
    /// They come last: it may have been the network.
    pub last: Vec<Listed>,
    /// They are left to the next pass: they broke two sessions, or what they are broke one.
    pub left: Vec<Listed>,
}

impl Broken {
    /// Whether the session ended within a message.
    pub fn is_by_message(&self, e: &Error) -> bool {
        !self.now.is_empty() && matches!(e.kind, Kind::Protocol | Kind::Connection)
    }

    /// Decides what becomes of those of the session that ended. The errors of what is left.
    pub fn set_aside(&mut self) -> Vec<Error> {
        let mut errors = Vec::new();
        for (listed, e) in std::mem::take(&mut self.now) {
            if e.kind == Kind::Connection && !has(&self.last, &listed) {
                self.last.push(listed);
            } else {
                self.left.push(listed);
                errors.push(e);
            }
        }
        errors
    }
}

/// Whether a message of another session of this pass is among them.
pub fn has(among: &[Listed], l: &Listed) -> bool {
    let same = |x: &&Listed| x.uidl == l.uidl && x.size == l.size;
    among.iter().filter(same).any(|x| x.uidl.is_some() || x.number == l.number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pop3::Number;

    fn listed(n: u32, uidl: &str, size: u64) -> Listed {
        let uidl = (!uidl.is_empty()).then(|| uidl.as_bytes().into());
        Listed { number: Number::new(n).unwrap(), uidl, size }
    }

    #[test]
    fn a_cut_is_forgiven_once_and_nonsense_never() {
        let mut b = Broken::default();
        let cut = || Error::message(Kind::Connection, "cut");
        let nonsense = || Error::message(Kind::Protocol, "what?");
        assert!(!b.is_by_message(&cut()), "it was between messages");
        b.now.push((listed(3, "a", 1), cut()));
        assert!(b.is_by_message(&cut()) && !b.is_by_message(&Error::account(Kind::DiskFull, "x")));
        assert_eq!(b.set_aside(), []);
        // numbers are another session's, UIDLs are not
        b.now.push((listed(2, "a", 1), cut()));
        b.now.push((listed(5, "b", 2), nonsense()));
        assert_eq!(b.set_aside(), [cut(), nonsense()]);
        assert!(has(&b.left, &listed(1, "a", 1)) && has(&b.left, &listed(1, "b", 2)));
        assert!(!has(&b.left, &listed(3, "a", 9)) && !has(&b.left, &listed(3, "c", 1)));
        // without UIDL the number has to say
        assert!(has(&[listed(3, "", 1)], &listed(3, "", 1)));
        assert!(!has(&[listed(3, "", 1)], &listed(4, "", 1)));
    }
}
