//! The one place where a pass reads the clock. Decisions get times as values.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in whole seconds; negative before 1970.
pub fn unix_now() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(d) => i64::try_from(d.as_secs()).unwrap_or(i64::MAX),
        Err(e) => -i64::try_from(e.duration().as_secs()).unwrap_or(i64::MAX),
    }
}
