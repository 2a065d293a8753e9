//! Writes a JSON value as YAML in block style, keys in order: pure.
//!
//! Guarantees: it reads as the same value in every dialect of YAML. A text stands without quotes only where none could take it
//! for anything else; all others stand in double quotes, as in JSON. Assumes a value that is not nested without bound.

use serde_json::Value;

/// How far a level stands further in.
const STEP: usize = 2;
/// Words that some dialect reads as a boolean, a number or nothing.
const WORDS: [&str; 14] = [
    "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nil", "none", "inf", "nan", "infinity",
];

/// The value as a document, with a line break at its end.
#[must_use]
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    node(value, 0, false, &mut out);
    out
}

/// `begun` says that what stands before the first line has been written.
fn node(value: &Value, indent: usize, begun: bool, out: &mut String) {
    let start = |number: usize, out: &mut String| {
        if number > 0 || !begun {
            out.extend(std::iter::repeat_n(' ', indent));
        }
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            for (number, (name, value)) in fields.into_iter().enumerate() {
                start(number, out);
                out.push_str(&text(name));
                out.push(':');
                match value {
                    Value::Object(inner) if !inner.is_empty() => {
                        out.push('\n');
                        node(value, indent + STEP, false, out);
                    }
                    Value::Array(inner) if !inner.is_empty() => {
                        out.push('\n');
                        node(value, indent, false, out);
                    }
                    scalar => {
                        out.push(' ');
                        node(scalar, indent, true, out);
                    }
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (number, item) in items.iter().enumerate() {
                start(number, out);
                out.push_str("- ");
                node(item, indent + STEP, true, out);
            }
        }
        scalar => {
            start(0, out);
            match scalar {
                Value::String(content) => out.push_str(&text(content)),
                other => out.push_str(&other.to_string()),
            }
            out.push('\n');
        }
    }
}

fn text(content: &str) -> String {
    let mut letters = content.chars();
    let plain = letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|letter| letter.is_ascii_alphanumeric() || "._-/".contains(letter))
        && !WORDS.iter().any(|word| content.eq_ignore_ascii_case(word));
    if plain {
        content.to_owned()
    } else {
        Value::String(content.to_owned()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_written_in_blocks_and_read_as_what_they_were() {
        let check = |value: Value, expect: &str| {
            let written = to_yaml(&value);
            assert_eq!(written, expect);
            assert_eq!(serde_saphyr::from_str::<Value>(&written).unwrap(), value, "{written}");
        };
        check(json!({}), "{}\n");
        check(json!("yes"), "\"yes\"\n");
        check(
            json!({"b": [1, {"x": 1, "a": null}, [true, "on"], []], "a": {"c": {}, "d": 1.5}}),
            "a:\n  c: {}\n  d: 1.5\nb:\n- 1\n- a: null\n  x: 1\n- - true\n  - \"on\"\n- []\n",
        );
        check(
            json!({"on": "app/web-1.x", "1": "0777", "text": "a: b\n\tc \"d\" é", "time": "12:30", "empty": "", "~": "~"}),
            "\"1\": \"0777\"\nempty: \"\"\n\"on\": app/web-1.x\ntext: \"a: b\\n\\tc \\\"d\\\" é\"\ntime: \"12:30\"\n\"~\": \"~\"\n",
        );
    }
}
