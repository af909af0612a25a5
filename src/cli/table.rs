//! Text for a terminal: columns, times, words for a shell, and nothing in them that a hostile
//! message or server could use to write elsewhere.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Rows under a heading, each column as wide as it needs; numbers to the right.
pub(super) fn table(indent: &str, heading: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let width = |n: usize| {
        let cells = rows.iter().filter_map(|r| r.get(n)).map(|c| c.chars().count());
        cells.chain(heading.get(n).map(|h| h.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let numeric = |n: usize| {
        !rows.is_empty()
            && rows.iter().filter_map(|r| r.get(n)).all(|c| c.bytes().all(|b| b.is_ascii_digit()))
    };
    let line = |cells: &[&str]| {
        let mut out = indent.to_owned();
        for (n, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            out.push_str(&if numeric(n) {
                format!("{pad}{cell}  ")
            } else {
                format!("{cell}{pad}  ")
            });
        }
        out.trim_end().to_owned()
    };
    let mut out = vec![line(heading)];
    out.extend(rows.iter().map(|r| line(&r.iter().map(String::as_str).collect::<Vec<_>>())));
    out
}

/// RFC 3339, in UTC.
pub(super) fn rfc3339(unix: i64) -> String {
    Timestamp::from_second(unix).map(|t| t.to_string()).unwrap_or_else(|_| unix.to_string())
}

/// Date and time where the user is.
pub(super) fn local_time(unix: i64) -> String {
    match Timestamp::from_second(unix) {
        Ok(t) => t.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => unix.to_string(),
    }
}

/// One cell of a line: tabs, line ends, escape sequences and text direction marks are made
/// harmless.
pub(super) fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' | '\r' | '\n' => out.push(' '),
            c if c.is_control() => out.extend(c.escape_default()),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c => out.push(c),
        }
    }
    out
}

/// A word that a shell takes as it is meant.
pub(super) fn shell_word(s: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./@+:,%=".contains(&b);
    if !s.is_empty() && s.bytes().all(plain) {
        s.to_owned()
    } else {
        format!("'{}'", s.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![
            vec!["ä".into(), "5".into(), "idle".into()],
            vec!["long".into(), "50".into(), String::new()],
        ];
        assert_eq!(
            table(" ", &["NAME", "N", "PUSH"], &rows),
            [" NAME   N  PUSH", " ä      5  idle", " long  50"]
        );
    }

    #[test]
    fn a_subject_cannot_write_to_the_terminal() {
        assert_eq!(cell("a\tb\u{1b}[2J\u{202e}c\r\nd"), "a b\\u{1b}[2Jc  d");
    }

    #[test]
    fn words_for_the_shell() {
        assert_eq!(shell_word("me@x.org"), "me@x.org");
        assert_eq!(shell_word("it's"), "'it'\\''s'");
    }
}
