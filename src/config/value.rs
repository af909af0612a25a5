//! The values of the configuration: text → what it means, or what is wrong with it. Pure.

use std::net::IpAddr;
use std::time::Duration;

use super::Keep;
use crate::model::FolderName;

/// What an account may be called: letters and digits of any script, `-`, `_`, `.`, `@` and `+`, at
/// most 64 bytes, and no `-` or `.` in front.
///
/// The name is a word on the command line (a leading `-` would be an option), a word in the
/// maildir's marker file and in a hook's environment (so no white space), and a file name in
/// `state_dir` (so no `/`, no leading dot, and short even with everything escaped).
pub fn account_name(s: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_alphanumeric() || "-_.@+".contains(c);
    if s.is_empty() {
        return Err("an account needs a name".into());
    }
    if let Some(c) = s.chars().find(|c| !allowed(*c)) {
        return Err(format!(
            "an account's name has letters, digits, -, _, ., @ and +, and no {c:?}"
        ));
    }
    if s.starts_with(['-', '.']) {
        return Err("an account's name does not start with - or .".into());
    }
    if s.len() > 64 {
        return Err("an account's name is at most 64 bytes long".into());
    }
    Ok(())
}

/// A host name or an address, IPv6 with or without brackets.
pub(super) fn host(s: &str) -> Result<String, String> {
    let inner = s.strip_prefix('[').and_then(|s| s.strip_suffix(']')).unwrap_or(s);
    if inner.parse::<IpAddr>().is_ok() {
        return Ok(inner.to_owned());
    }
    if s.is_empty() {
        return Err("must not be empty".into());
    }
    if let Some((scheme, rest)) = s.split_once("://") {
        let rest = rest.split(['/', ':']).next().unwrap_or_default();
        return Err(format!("must be a host name such as {rest:?}, without {scheme}://"));
    }
    if let Some((_, port)) = s.rsplit_once(':') {
        return Err(if port.parse::<u16>().is_ok() {
            format!("must be a host name alone; write port = {port} on a line of its own")
        } else {
            "must be a host name or an address".into()
        });
    }
    if !s.is_ascii() {
        return Err("must be written in ASCII (the form that starts with xn--)".into());
    }
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let name = s.strip_suffix('.').unwrap_or(s);
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(format!("{s:?} is no host name"));
    }
    Ok(s.to_owned())
}

/// Whether what is sent there stays on this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => {
            // RFC 6761 section 6.3
            let h = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
            h == "localhost" || h.ends_with(".localhost")
        }
    }
}

/// One line of text that ends up in a protocol or a shell.
pub(super) fn line(s: &str) -> Result<String, String> {
    if s.trim().is_empty() {
        return Err("must not be empty".into());
    }
    if s.chars().any(|c| matches!(c, '\r' | '\n' | '\0')) {
        return Err("must be one line".into());
    }
    Ok(s.to_owned())
}

/// A command for the shell: any text without NUL.
pub(super) fn command(s: &str) -> Result<String, String> {
    if s.trim().is_empty() {
        return Err("must not be empty".into());
    }
    if s.contains('\0') {
        return Err("must not hold a NUL".into());
    }
    Ok(s.to_owned())
}

/// The name of an environment variable.
pub(super) fn variable(s: &str) -> Result<String, String> {
    if s.is_empty() || s.contains(['=', '\0']) {
        return Err("must be the name of an environment variable, without $ and =".into());
    }
    if let Some(bare) = s.strip_prefix('$') {
        return Err(format!("must be the name alone: {bare:?}"));
    }
    Ok(s.to_owned())
}

/// The name of a systemd credential, which is a file name.
pub(super) fn credential(s: &str) -> Result<String, String> {
    if s.is_empty() || s.contains(['/', '\0']) || s == "." || s == ".." {
        return Err("must be the name of a credential (LoadCredential=NAME:…), without /".into());
    }
    Ok(s.to_owned())
}

/// `5m`, `90s`, `1h30m`, `30d`: whole numbers, each with its unit, the larger unit first.
pub fn parse_duration(s: &str) -> Result<Duration, String> {
    let bad = || {
        format!("{s:?} is no duration; write whole numbers with d, h, m or s: \"90s\", \"1h30m\"")
    };
    let mut rest = s;
    let mut total: u64 = 0;
    let mut last = u64::MAX;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits).ok_or_else(bad)?;
        let mut chars = tail.chars();
        let unit: u64 = match chars.next() {
            Some('d') => 86_400,
            Some('h') => 3_600,
            Some('m') => 60,
            Some('s') => 1,
            _ => return Err(bad()),
        };
        if unit >= last {
            return Err(bad());
        }
        last = unit;
        let n: u64 = number.parse().map_err(|_| bad())?;
        total = n.checked_mul(unit).and_then(|n| total.checked_add(n)).ok_or_else(bad)?;
        rest = chars.as_str();
    }
    Ok(Duration::from_secs(total))
}

/// The shortest text that [`parse_duration`] reads as this duration, to the second.
pub fn duration_text(d: Duration) -> String {
    let mut seconds = d.as_secs();
    let mut out = String::new();
    for (unit, letter) in [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')] {
        if seconds >= unit {
            out.push_str(&format!("{}{letter}", seconds / unit));
            seconds %= unit;
        }
    }
    if out.is_empty() { "0s".into() } else { out }
}

/// A duration of at least a second and at most `most`.
pub(super) fn duration_up_to(s: &str, most: Duration) -> Result<Duration, String> {
    let d = parse_duration(s)?;
    if d < Duration::from_secs(1) || d > most {
        return Err(format!("must be from 1s to {}, not {s:?}", duration_text(most)));
    }
    Ok(d)
}

/// `sha256:` and 64 hexadecimal digits, with or without colons between the bytes.
pub(super) fn fingerprint(s: &str) -> Result<[u8; 32], String> {
    let what = "must be \"sha256:\" and the 64 hexadecimal digits of the certificate's SHA-256";
    let Some((kind, hex)) = s.split_once(':') else { return Err(what.into()) };
    if !kind.eq_ignore_ascii_case("sha256") {
        return Err(what.into());
    }
    // colons stand between bytes, or nowhere
    let pairs: Vec<&str> = if hex.contains(':') {
        hex.split(':').collect()
    } else {
        (0..hex.len()).step_by(2).filter_map(|i| hex.get(i..i + 2)).collect()
    };
    let digits = hex.bytes().filter(|b| *b != b':').count();
    let bytes: Option<Vec<u8>> = pairs
        .iter()
        .map(|p| {
            let two = p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit());
            two.then(|| u8::from_str_radix(p, 16).ok()).flatten()
        })
        .collect();
    match bytes.and_then(|b| <[u8; 32]>::try_from(b).ok()) {
        Some(f) if digits == 64 => Ok(f),
        _ => Err(format!("{what}; here are {digits}")),
    }
}

/// `forever`, `delete`, `delete-after:30d`.
pub(super) fn keep(s: &str) -> Result<Keep, String> {
    match (s, s.split_once(':')) {
        ("forever", _) => Ok(Keep::Forever),
        ("delete", _) => Ok(Keep::Delete),
        (_, Some(("delete-after", time))) => {
            duration_up_to(time, Duration::from_secs(36_500 * 86_400)).map(Keep::DeleteAfter)
        }
        _ => Err(format!("must be \"forever\", \"delete\" or \"delete-after:30d\", not {s:?}")),
    }
}

/// One folder by its name, `/` between the components.
pub(super) fn folder(s: &str) -> Result<FolderName, String> {
    if s.starts_with('\\') {
        return Err(format!("must be a folder's name, not a special use such as {s:?}"));
    }
    if s.chars().any(char::is_control) || s.split('/').any(str::is_empty) {
        return Err(format!("{s:?} is no folder's name; write \"a/b\" for folder b in folder a"));
    }
    FolderName::from_text(s).ok_or_else(|| "must not be empty".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        let secs = |s| parse_duration(s).map(|d| d.as_secs());
        assert_eq!(secs("5m"), Ok(300));
        assert_eq!(secs("90s"), Ok(90));
        assert_eq!(secs("1h30m"), Ok(5400));
        assert_eq!(secs("30d"), Ok(2_592_000));
        for bad in
            ["", "5", "m", "5 m", "1m1h", "1m1m", "-5m", "5min", "1.5h", "999999999999999999d"]
        {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_and_back(n in 0u64..10_000_000) {
            let d = Duration::from_secs(n);
            prop_assert_eq!(parse_duration(&duration_text(d)), Ok(d));
        }

        #[test]
        fn no_value_panics(s in "\\PC{0,80}") {
            let _ = (host(&s), fingerprint(&s), keep(&s), folder(&s), account_name(&s));
            let _ = fingerprint(&format!("sha256:{s}"));
        }
    }

    #[test]
    fn a_fingerprint_with_or_without_colons() {
        let plain = format!("sha256:{}", "aB".repeat(32));
        let colons = format!("SHA256:{}", vec!["Ab"; 32].join(":"));
        assert_eq!(fingerprint(&plain), Ok([0xab; 32]));
        assert_eq!(fingerprint(&colons), Ok([0xab; 32]));
        for bad in [
            "sha256:ab".into(),
            format!("sha1:{}", "ab".repeat(32)),
            format!("sha256:{}a", "ab".repeat(32)),
            format!("sha256:{}", "ü".repeat(32)),
            format!("sha256:{}", vec!["a"; 64].join(":")),
            format!("sha256:+{}", "1".repeat(63)),
        ] {
            assert!(fingerprint(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts() {
        for good in ["imap.example.org", "localhost", "127.0.0.1", "::1", "[::1]", "a_b.example."] {
            assert!(host(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "imaps://x.org", "x.org:993", "münchen.de", "-x.org", "a..b", "[x]"]
        {
            assert!(host(bad).is_err(), "{bad}");
        }
        assert_eq!(host("[::1]").as_deref(), Ok("::1"));
        for here in ["localhost", "LOCALHOST.", "127.3.2.1", "::1", "::ffff:127.0.0.1"] {
            assert!(is_loopback(here), "{here}");
        }
        for there in ["localhost.example.org", "10.0.0.1", "example.org"] {
            assert!(!is_loopback(there), "{there}");
        }
    }

    #[test]
    fn account_names() {
        for good in ["work", "me@example.org", "arbeit-ü", "a.b_c+d"] {
            assert!(account_name(good).is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in ["", "a b", "a/b", "-v", ".x", "a\nb", long.as_str()] {
            assert!(account_name(bad).is_err(), "{bad:?}");
        }
    }
}
