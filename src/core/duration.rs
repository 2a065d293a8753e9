//! Go's notation for durations (`1h2m3.5s`), which Flux's APIs use.

use std::time::Duration;

/// A text that is no duration in Flux's notation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration such as 30s, 5m or 1h30m")]
pub struct DurationError(pub String);

/// Longest duration that is understood, ten years: far above any interval, far below what overflows.
const MAX_SECONDS: f64 = 10.0 * 365.0 * 24.0 * 3600.0;

/// Reads a duration such as `1m0s`, `500ms` or `1.5h`.
///
/// # Errors
/// When the text is not of that form or names more than ten years.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let bad = || DurationError(text.to_owned());
    let mut rest = text;
    let mut seconds = 0.0_f64;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| bad())?;
        let (unit, tail) = [
            ("ms", 0.001),
            ("us", 0.000_001),
            ("µs", 0.000_001),
            ("ns", 1e-9),
            ("s", 1.0),
            ("m", 60.0),
            ("h", 3600.0),
        ]
        .into_iter()
        .find_map(|(name, unit)| Some((unit, tail.strip_prefix(name)?)))
        .ok_or_else(bad)?;
        seconds += number * unit;
        rest = tail;
    }
    if seconds > MAX_SECONDS {
        Err(bad())
    } else {
        Ok(Duration::from_secs_f64(seconds))
    }
}

/// Writes a duration as Go does: `1m0s`, `1.5s`, `250ms`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    if seconds == 0 {
        return match nanos {
            0 => "0s".to_owned(),
            n if n < 1_000 => format!("{n}ns"),
            n if n < 1_000_000 => format!("{}µs", f64::from(n) / 1e3),
            n => format!("{}ms", f64::from(n) / 1e6),
        };
    }
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = if nanos == 0 {
        String::new()
    } else {
        format!(".{nanos:09}").trim_end_matches('0').to_owned()
    };
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, m) => format!("{m}m{seconds}{fraction}s"),
        (h, m) => format!("{h}h{m}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(
                parse_duration(text).ok().map(|d| d.as_millis() as u64),
                expect,
                "{text}"
            );
        };
        check("60s", Some(60_000));
        check("1m0s", Some(60_000));
        check("1h2m3.5s", Some(3_723_500));
        check("250ms", Some(250));
        for bad in ["", "5", "s", "1x", "-1s", "1.2.3s", "1 s", "99999999h"] {
            check(bad, None);
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let check = |millis: u64, expect: &str| assert_eq!(format_duration(Duration::from_millis(millis)), expect);
        check(0, "0s");
        check(250, "250ms");
        check(1_500, "1.5s");
        check(60_000, "1m0s");
        check(3_600_000, "1h0m0s");
    }
}
