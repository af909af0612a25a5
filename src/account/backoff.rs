//! When to try again after a failure: exponentially later, with jitter, and never sooner than the
//! server asked for. Wrong credentials are tried twice and then never again, since servers lock
//! accounts. Pure.

use std::time::Duration;

use crate::error::{Error, Kind};

/// What a failure means for the next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Nobody answers: this machine may be offline, the server may be restarting.
    Unreachable,
    /// The server answers, and wants to be left alone for now.
    TurnedAway,
    /// The server refused the credentials.
    Credentials,
    /// Something here is in the way: a full disk, a missing maildir, another process.
    Here,
    /// Anything else.
    Other,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Try again after this time.
    Wait(Duration),
    /// Do not try again before a person asks for it.
    Park,
}

/// The failures since the last success.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
    refusals: u32,
}

/// So many refused logins park an account.
const MOST_REFUSALS: u32 = 2;

/// Nobody waits longer than this, whatever a server asks for.
const LONGEST: Duration = Duration::from_secs(3600);

/// An unreachable server is tried this often for [`SHORT_TRIES`] tries: an attempt that nobody
/// answers costs nobody anything, and a network that is back is to be noticed within 5 s.
const SHORT: Duration = Duration::from_secs(4);
const SHORT_TRIES: u32 = 150;

impl Cause {
    /// What an error means.
    pub fn of(e: &Error) -> Self {
        match e.kind {
            Kind::Connection if e.refusal.is_some() => Self::TurnedAway,
            Kind::Connection => Self::Unreachable,
            Kind::Credentials => Self::Credentials,
            Kind::Io | Kind::DiskFull | Kind::Maildir | Kind::Locked => Self::Here,
            _ => Self::Other,
        }
    }

    /// The first wait, and the longest.
    fn bounds(self) -> (Duration, Duration) {
        let (first, most) = match self {
            Self::Unreachable => (1, 60),
            Self::TurnedAway => (10, 900),
            Self::Credentials => (20, 900),
            Self::Here => (2, 30),
            Self::Other => (5, 900),
        };
        (Duration::from_secs(first), Duration::from_secs(most))
    }
}

impl Backoff {
    /// Whatever it was, it works again; or a person wants it tried.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Whether a login was refused: what a person may have mended.
    pub fn is_refused(&self) -> bool {
        self.refusals > 0
    }

    /// Another failure. `hint`: what the server asked for; `dice`: any number, for the jitter.
    pub fn failed(&mut self, cause: Cause, hint: Option<Duration>, dice: u64) -> Then {
        if cause == Cause::Credentials {
            self.refusals += 1;
            if self.refusals >= MOST_REFUSALS {
                return Then::Park;
            }
        }
        let (first, most) = cause.bounds();
        let n = self.failures;
        self.failures = self.failures.saturating_add(1);
        let wait = if cause == Cause::Unreachable && n < SHORT_TRIES {
            first.saturating_mul(1 << n.min(8)).min(SHORT)
        } else {
            let n = if cause == Cause::Unreachable { n - SHORT_TRIES + 3 } else { n };
            first.saturating_mul(1 << n.min(16)).min(most)
        };
        // up to a quarter more: those that failed together do not come back together
        let quarter = u64::try_from(wait.as_millis() / 4).unwrap_or(0);
        let wait = wait + Duration::from_millis(dice % (quarter + 1));
        Then::Wait(wait.max(hint.unwrap_or_default()).min(LONGEST))
    }
}

/// How long the server wants to be left alone, if its words say so: "try again in 5 minutes",
/// "retry after 30 s", "wait 10 seconds". Words like "too many" without a number mean a minute.
pub fn hint(said: &str) -> Option<Duration> {
    let said = said.to_ascii_lowercase();
    let has = |w: &str| said.contains(w);
    let asks = ["again", "retry", "wait", "login-delay", "backoff"].iter().any(|w| has(w));
    let words: Vec<&str> =
        said.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    if asks {
        for (i, word) in words.iter().enumerate() {
            let digits = word.bytes().take_while(u8::is_ascii_digit).count();
            let (number, unit) = word.split_at(digits);
            let Ok(n) = number.parse::<u64>() else { continue };
            let unit = match unit {
                "" => words.get(i + 1).copied().unwrap_or_default(),
                unit => unit,
            };
            if let Some(seconds) = seconds(unit) {
                return Some(Duration::from_secs(n.saturating_mul(seconds)).min(LONGEST));
            }
        }
    }
    let crowded = ["too many", "throttl", "rate limit", "[limit", "limit exceeded", "overload"];
    crowded.iter().any(|w| has(w)).then_some(Duration::from_secs(60))
}

fn seconds(unit: &str) -> Option<u64> {
    match unit {
        "s" | "sec" | "secs" | "second" | "seconds" => Some(1),
        "m" | "min" | "mins" | "minute" | "minutes" => Some(60),
        "h" | "hour" | "hours" => Some(3600),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(cause: Cause, n: usize, dice: u64) -> Vec<u64> {
        let mut b = Backoff::default();
        let wait = |_| match b.failed(cause, None, dice) {
            Then::Wait(d) => d.as_secs(),
            Then::Park => 0,
        };
        (0..n).map(wait).collect()
    }

    #[test]
    fn later_each_time_up_to_a_bound() {
        assert_eq!(waits(Cause::Other, 9, 0), [5, 10, 20, 40, 80, 160, 320, 640, 900]);
        assert_eq!(waits(Cause::TurnedAway, 3, 0), [10, 20, 40]);
        assert_eq!(waits(Cause::Here, 6, 0), [2, 4, 8, 16, 30, 30]);
        assert_eq!(waits(Cause::Other, 100, 0)[99], 900);
        assert_eq!(waits(Cause::Other, 3, u64::MAX)[0], 5);
    }

    #[test]
    fn a_network_that_is_back_is_noticed_within_five_seconds() {
        let w = waits(Cause::Unreachable, 160, 1000);
        assert_eq!(w[..4], [1, 2, 4, 4].map(|s| s + (s == 4) as u64)[..]);
        assert!(w[..150].iter().all(|s| *s <= 5), "{w:?}");
        assert!(w[150] > 5 && w[159] >= 60 && w[159] <= 75, "{w:?}");
    }

    #[test]
    fn a_refused_password_is_tried_twice() {
        let mut b = Backoff::default();
        assert!(matches!(b.failed(Cause::Credentials, None, 0), Then::Wait(_)));
        b.failed(Cause::Unreachable, None, 0);
        assert_eq!(b.failed(Cause::Credentials, None, 0), Then::Park);
        b.reset();
        assert!(matches!(b.failed(Cause::Credentials, None, 0), Then::Wait(_)));
    }

    #[test]
    fn the_server_is_asked_no_sooner_than_it_wants() {
        let mut b = Backoff::default();
        let hour = Duration::from_secs(3600);
        let then = b.failed(Cause::TurnedAway, Some(Duration::from_secs(300)), 0);
        assert_eq!(then, Then::Wait(Duration::from_secs(300)));
        assert_eq!(b.failed(Cause::TurnedAway, Some(hour * 99), 0), Then::Wait(hour));
    }

    #[test]
    fn what_servers_say_is_understood() {
        let secs = |s: &str| hint(s).map(|d| d.as_secs());
        for (said, wait) in [
            ("[UNAVAILABLE] Try again in 5 minutes", Some(300)),
            ("retry after 30s", Some(30)),
            ("please wait 10 seconds before the next login", Some(10)),
            ("[ALERT] Too many simultaneous connections", Some(60)),
            ("Request is throttled. Suggested Backoff Time: 250000 milliseconds", Some(60)),
            ("try again in 99999999999999999999 s", None),
            ("try again in 999999999999 hours", Some(3600)),
            ("disconnected for inactivity", None),
            ("port 143 refused", None),
        ] {
            assert_eq!(secs(said), wait, "{said}");
        }
    }

    #[test]
    fn an_error_says_its_cause() {
        use crate::error::Refusal;
        let e = Error::account(Kind::Connection, "x");
        assert_eq!(Cause::of(&e), Cause::Unreachable);
        let away = Error { refusal: Some(Refusal::Unavailable), ..e };
        assert_eq!(Cause::of(&away), Cause::TurnedAway);
        assert_eq!(Cause::of(&Error::account(Kind::DiskFull, "x")), Cause::Here);
        assert_eq!(Cause::of(&Error::account(Kind::Tls, "x")), Cause::Other);
    }
}
