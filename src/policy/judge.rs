//! What plain Rego policies say about a review.

use regorus::Value;
use serde_json::{Map, Value as Json};

use super::decision::{Action, Finding};
use super::inventory::Inventory;
use super::plain::{Entry, Purpose, Unit};
use super::rego::session::Deadline;
use super::review::Review;

impl Unit {
    /// Asks the judging rules that look at the kind. Answers whether there were any.
    pub(crate) fn judge(
        &self,
        review: &Review,
        inventory: &Inventory,
        deadline: Deadline,
        findings: &mut Vec<Finding>,
    ) -> bool {
        let mut asked = false;
        for entry in self.entries_for(review) {
            let Purpose::Judge(action) = entry.purpose else {
                continue;
            };
            asked = true;
            match self.session(entry, review, inventory).value(&entry.path, deadline) {
                Ok(value) => findings.extend(
                    answers(value.as_ref())
                        .into_iter()
                        .map(|answer| self.finding(entry, action, answer)),
                ),
                Err(error) => {
                    let message = format!("the policy could not be evaluated: {}: {error}", entry.source);
                    findings.push(self.finding(entry, action, Answer::failed(message)));
                }
            }
        }
        asked
    }

    fn finding(&self, entry: &Entry, action: Action, answer: Answer) -> Finding {
        Finding {
            policy: self.name.clone(),
            action,
            message: answer.message.unwrap_or_else(|| format!("refused by {}", entry.path)),
            details: answer.details,
            title: answer.title.or_else(|| entry.metadata.title.clone()),
            hint: answer.hint.or_else(|| entry.metadata.fix.clone()),
            source: entry.source.clone(),
            failed: answer.failed,
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Answer {
    message: Option<String>,
    title: Option<String>,
    hint: Option<String>,
    details: Json,
    failed: bool,
}

impl Answer {
    fn failed(message: String) -> Self {
        Self {
            message: Some(message),
            failed: true,
            ..Self::default()
        }
    }
}

/// A set or list of answers, one answer, or true for an answer without words.
fn answers(value: Option<&Value>) -> Vec<Answer> {
    match value {
        None | Some(Value::Null | Value::Undefined | Value::Bool(false)) => Vec::new(),
        Some(Value::Bool(true)) => vec![Answer::default()],
        Some(Value::Set(items)) => items.iter_sorted().map(answer).collect(),
        Some(Value::Array(items)) => items.iter().map(answer).collect(),
        // `deny[x] = y`, and an object that no rule filled.
        Some(Value::Object(fields)) if fields.is_empty() => Vec::new(),
        Some(single) => vec![answer(single)],
    }
}

fn answer(item: &Value) -> Answer {
    match item {
        Value::String(text) => Answer {
            message: Some(text.to_string()),
            ..Answer::default()
        },
        Value::Object(_) => {
            let Ok(Json::Object(mut fields)) = serde_json::to_value(item) else {
                return unreadable(item);
            };
            let mut text = |keys: &[&str]| {
                let key = keys.iter().find(|key| fields.get(**key).is_some_and(Json::is_string))?;
                match fields.remove(*key) {
                    Some(Json::String(text)) => Some(text),
                    _ => None,
                }
            };
            let Some(message) = text(&["msg", "message"]) else {
                return unreadable(item);
            };
            let (title, hint) = (text(&["title"]), text(&["hint", "fix"]));
            Answer {
                message: Some(message),
                title,
                hint,
                details: details(fields),
                failed: false,
            }
        }
        other => unreadable(other),
    }
}

fn details(mut fields: Map<String, Json>) -> Json {
    let rest = match fields.len() {
        0 => return Json::Null,
        1 => fields.remove("details"),
        _ => None,
    };
    rest.unwrap_or(Json::Object(fields))
}

fn unreadable(item: &Value) -> Answer {
    let mut text = item.to_string();
    // Enough to recognise it.
    if let Some((end, _)) = text.char_indices().nth(200) {
        text.truncate(end);
        text.push('…');
    }
    Answer::failed(format!(
        "the policy answered {text}; an answer is a string, or an object with msg"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_have_several_forms() {
        let read = |json: &str| answers(Some(&Value::from_json_str(json).unwrap()));
        let message = |text: &str| Answer {
            message: Some(text.to_owned()),
            ..Answer::default()
        };
        assert_eq!(read(r#"["a", {"msg": "b"}]"#), [message("a"), message("b")]);
        assert_eq!(read(r#""a""#), [message("a")]);
        assert_eq!(read("true"), [Answer::default()]);
        assert_eq!(read("false"), []);
        assert_eq!(read("{}"), []);
        assert_eq!(
            read(r#"{"msg": "a", "title": "T", "fix": "F", "x": 1}"#),
            [Answer {
                title: Some("T".into()),
                hint: Some("F".into()),
                details: json!({"x": 1}),
                ..message("a")
            }]
        );
        assert_eq!(read(r#"{"msg": "a", "details": {"x": 1}}"#)[0].details, json!({"x": 1}));
        for odd in ["[1]", r#"{"text": "a"}"#, r#"{"msg": 1}"#] {
            assert!(read(odd)[0].failed, "{odd}");
        }
    }
}
