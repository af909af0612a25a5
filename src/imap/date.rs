//! INTERNALDATE, both ways (RFC 9051 `date-time`). Pure.

use jiff::civil::Date;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The last second of the year 9999: four digits are all the grammar has.
const LAST: i64 = 253_402_300_799;

/// Unix seconds of `dd-Mon-yyyy hh:mm:ss ±zzzz`, with a space or nothing before a one-digit day.
pub fn parse(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.trim_start();
    let mut words = text.split(' ').filter(|w| !w.is_empty());
    let (date, time, zone) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() {
        return None;
    }
    let mut d = date.split('-');
    let day = digits(d.next()?, 1, 2)?;
    let name = d.next()?;
    let month = MONTHS.iter().position(|m| m.eq_ignore_ascii_case(name))? + 1;
    let year = digits(d.next()?, 4, 4)?;
    let mut t = time.split(':');
    let (h, m, s) = (digits(t.next()?, 2, 2)?, digits(t.next()?, 2, 2)?, digits(t.next()?, 2, 2)?);
    if d.next().is_some() || t.next().is_some() || h > 23 || m > 59 || s > 60 {
        return None;
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let z = digits(zone.get(1..)?, 4, 4)?;
    let offset = (z / 100) * 3600 + (z % 100) * 60;
    let date =
        Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?)
            .ok()?;
    let days = i64::from((date - Date::constant(1970, 1, 1)).get_days());
    Some(days * 86_400 + h * 3600 + m * 60 + s - sign * offset)
}

fn digits(s: &str, least: usize, most: usize) -> Option<i64> {
    let ok = (least..=most).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
    if ok { s.parse().ok() } else { None }
}

/// As the grammar wants it, in UTC: ` 1-Feb-2021 10:00:00 +0000`. What it has no digits for is
/// brought to the nearest it has.
pub fn format(unix: i64) -> String {
    // years before 1 have no four digits either
    let unix = unix.clamp(-62_135_596_800, LAST);
    let days = unix.div_euclid(86_400);
    let secs = unix.rem_euclid(86_400);
    let date = i32::try_from(days)
        .ok()
        .and_then(|d| {
            Date::constant(1970, 1, 1).checked_add(jiff::Span::new().try_days(d).ok()?).ok()
        })
        .unwrap_or(Date::constant(1970, 1, 1));
    let month = usize::try_from(date.month() - 1)
        .ok()
        .and_then(|i| MONTHS.get(i))
        .copied()
        .unwrap_or("Jan");
    format!(
        "{:2}-{month}-{:04} {:02}:{:02}:{:02} +0000",
        date.day(),
        date.year(),
        secs / 3600,
        secs / 60 % 60,
        secs % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zones_and_short_days() {
        assert_eq!(parse(b" 1-Feb-2021 10:00:00 +0000"), Some(1_612_173_600));
        assert_eq!(parse(b"01-FEB-2021 12:00:00 +0200"), Some(1_612_173_600));
        assert_eq!(parse(b"1-Feb-2021 00:30:00 -0930"), Some(1_612_173_600));
        assert_eq!(parse(b"31-Dec-1969 23:59:59 +0000"), Some(-1));
        assert_eq!(format(1_612_173_600), " 1-Feb-2021 10:00:00 +0000");
        assert_eq!(format(i64::MAX), "31-Dec-9999 23:59:59 +0000");
        assert_eq!(format(i64::MIN), " 1-Jan-0001 00:00:00 +0000");
    }

    #[test]
    fn nonsense_is_none() {
        for bad in [
            "",
            "1-Feb-2021",
            "30-Feb-2021 10:00:00 +0000",
            "1-Foo-2021 10:00:00 +0000",
            "1-Feb-21 10:00:00 +0000",
            "1-Feb-2021 25:00:00 +0000",
            "1-Feb-2021 10:00:00 0000",
            "1-Feb-2021 10:00:00 +000000000000000000000",
            "1-Feb-2021 10:00:00 +0000 x",
            "00-Jan-0000 00:00:00 +0000",
            "+1-Feb-2021 10:00:00 +0000",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn there_and_back(t in -62_135_596_800i64..=LAST) {
            prop_assert_eq!(parse(format(t).as_bytes()), Some(t));
        }

        #[test]
        fn any_bytes(b in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&b);
        }
    }
}
