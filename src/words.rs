//! How many of something, in messages for people. Pure.

use std::fmt::Display;

/// "1 message", "2 messages": whatever goes with the number, in the singular and the plural.
pub fn count<N: Display + PartialEq + From<u8>>(n: N, one: &str, many: &str) -> String {
    let what = if n == N::from(1) { one } else { many };
    format!("{n} {what}")
}

/// The same of messages.
pub fn messages<N: Display + PartialEq + From<u8>>(n: N) -> String {
    count(n, "message", "messages")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one() {
        assert_eq!([0, 1, 2].map(messages::<u64>), ["0 messages", "1 message", "2 messages"]);
    }
}
