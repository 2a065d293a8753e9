//! Floating numbers as Go writes them.

/// `%e`: Go writes at least two digits of exponent.
pub(super) fn exponent(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    go_exponent(&text)
}

fn go_exponent(text: &str) -> String {
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return text.to_owned();
    };
    let (sign, digits) = exponent
        .strip_prefix('-')
        .map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// `%v` and `%g`: the shortest text that reads back, with an exponent below 1e-4 and from 1e21.
pub(super) fn general(value: f64, precision: Option<usize>) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN"
        } else if value < 0.0 {
            "-Inf"
        } else {
            "+Inf"
        }
        .to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = match precision {
        Some(digits) => format!("{value:.*e}", digits.max(1) - 1),
        None => format!("{value:e}"),
    };
    let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i64 = power.parse().unwrap_or(0);
    let limit = precision.map_or(21, |digits| i64::try_from(digits.max(1)).unwrap_or(i64::MAX));
    let mantissa = if precision.is_some() && mantissa.contains('.') {
        mantissa.trim_end_matches('0').trim_end_matches('.')
    } else {
        mantissa
    };
    if power < -4 || power >= limit {
        return go_exponent(&format!("{mantissa}e{power}"));
    }
    let value: f64 = format!("{mantissa}e{power}").parse().unwrap_or(value);
    value.to_string()
}
