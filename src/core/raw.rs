//! JSON that is looked at without being read: the text of an object taken apart into the texts of its fields.
//!
//! For those who compare two forms of one large object, most of which is the same text.
//!
//! Guarantees: never panics, makes nothing but a list of places, and takes time in the length of the text. What is not the
//! compact and plain form in which the API server writes (a key with an escape in it, say) is given up with `None`; then
//! whoever asks has to read it properly. Well-formed JSON is taken apart rightly; of other texts nothing is promised but an end.

/// The fields of an object, in their order: names without quotes, and the texts of their values.
pub(crate) fn fields(object: &str) -> Option<Vec<(&str, &str)>> {
    let mut rest = inner(object, '{', '}')?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let end = string(rest)?;
        let name = plain(rest.get(..end)?)?;
        let after = rest.get(end..)?.trim_start().strip_prefix(':')?.trim_start();
        let (value, next) = element(after)?;
        found.push((name, value));
        rest = next;
    }
    Some(found)
}

/// The elements of a list.
pub(crate) fn items(list: &str) -> Option<Vec<&str>> {
    let mut rest = inner(list, '[', ']')?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (value, next) = element(rest)?;
        found.push(value);
        rest = next;
    }
    Some(found)
}

/// The value of a field.
pub(crate) fn field<'a>(fields: &[(&'a str, &'a str)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// A text without its quotes; `None` for another value and for a text with an escape in it.
pub(crate) fn plain(text: &str) -> Option<&str> {
    let text = text.strip_prefix('"')?.strip_suffix('"')?;
    (!text.contains('\\')).then_some(text)
}

fn inner(text: &str, opens: char, closes: char) -> Option<&str> {
    Some(text.trim().strip_prefix(opens)?.strip_suffix(closes)?.trim())
}

/// One value at the beginning of what stands in a list or object, and what follows behind the comma.
fn element(text: &str) -> Option<(&str, &str)> {
    let (value, rest) = text.split_at_checked(value(text)?)?;
    let rest = rest.trim_start();
    match rest.strip_prefix(',') {
        // A comma at the end is no JSON.
        Some(rest) => Some((
            value.trim_end(),
            Some(rest.trim_start()).filter(|rest| !rest.is_empty())?,
        )),
        None if rest.is_empty() => Some((value.trim_end(), rest)),
        None => None,
    }
}

/// How long the value at the beginning is.
fn value(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    match bytes.first()? {
        b'"' => string(text),
        b'{' | b'[' => {
            let (mut depth, mut place) = (0_usize, 0_usize);
            loop {
                match bytes.get(place)? {
                    b'"' => {
                        place += string(text.get(place..)?)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            return Some(place + 1);
                        }
                    }
                    _ => {}
                }
                place += 1;
            }
        }
        _ => {
            let end = bytes.iter().position(|byte| matches!(byte, b',' | b'}' | b']'));
            Some(end.unwrap_or(bytes.len())).filter(|end| *end > 0)
        }
    }
}

/// How long the string at the beginning is, quotes included.
fn string(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes.first()? != &b'"' {
        return None;
    }
    let mut place = 1;
    loop {
        match bytes.get(place)? {
            b'"' => return Some(place + 1),
            b'\\' => place += 2,
            _ => place += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Takes a value apart and puts it together again, all the way down.
    fn again(text: &str) -> Value {
        if let Some(fields) = fields(text) {
            let fields = fields.into_iter();
            return fields.map(|(name, value)| (name.to_owned(), again(value))).collect();
        }
        match items(text) {
            Some(items) => items.into_iter().map(again).collect(),
            None => serde_json::from_str(text).unwrap(),
        }
    }

    #[test]
    fn what_is_taken_apart_is_all_of_it() {
        let check = |value: Value| {
            assert_eq!(again(&value.to_string()), value);
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            assert_eq!(again(&pretty), value);
        };
        check(json!({}));
        check(json!([]));
        check(json!({"a": {"b": [1, -2.5e3, "x,}]\"{[", true, null, {}], "c": ""}, "d": "ä\\\"\n", "e": [[], [{}]]}));
        check(json!({"f:metadata": {"f:labels": {".": {}, "k:{name=x}": {}}}}));
        check(json!("text"));
        check(json!(3));
    }

    #[test]
    fn what_is_not_plain_or_not_whole_is_given_up() {
        for text in [
            "",
            "{",
            "}",
            "[1",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\\n\":1}",
            "{\"a\":1}x",
            "{\"a\":1 2}x",
            "{\"a\":\"",
            "{\"a\":{\"b\":1}",
            "1",
            "\"{}\"",
            "{\"a\":1]",
            "{\"",
            "{\"\\",
        ] {
            assert_eq!(fields(text), None, "{text}");
        }
        for text in ["", "[", "[1,]", "[,1]", "{}", "[\"", "[1}"] {
            assert_eq!(items(text), None, "{text}");
        }
        assert_eq!(plain("\"a\""), Some("a"));
        assert_eq!((plain("a"), plain("\""), plain("\"a\\n\"")), (None, None, None));
    }

    #[test]
    fn a_torn_text_ends() {
        let whole = json!({"a": {"b": [1, "x\\\"", {"c": null}]}, "d": [{"e": "f"}]}).to_string();
        for end in 0..whole.len() {
            let torn = whole.get(..end).unwrap_or_default();
            assert_eq!(fields(torn), None, "{torn}");
        }
    }
}
