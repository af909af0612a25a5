//! The one place where a pass reads the clock. Decisions get times as values.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unix time in whole seconds; negative before 1970.
pub fn unix_now() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(d) => i64::try_from(d.as_secs()).unwrap_or(i64::MAX),
        Err(e) => -i64::try_from(e.duration().as_secs()).unwrap_or(i64::MAX),
    }
}

/// Unix time, for what is compared with a filesystem's time stamps; zero before 1970.
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
