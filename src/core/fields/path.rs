//! Where a field stands in an object, in the terms of `managedFields`.

use std::fmt;

use serde_json::Value;

/// A plain value, as it stands in the keys of a list item or in a set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scalar {
    /// `null`.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number, as JSON writes it.
    Number(String),
    /// A string.
    Text(String),
}

impl Scalar {
    /// Takes a JSON value that is neither a list nor an object.
    #[must_use]
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::Null),
            Value::Bool(value) => Some(Self::Bool(*value)),
            Value::Number(value) => Some(Self::Number(value.to_string())),
            Value::String(value) => Some(Self::Text(value.clone())),
            Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Whether a JSON value is this one.
    #[must_use]
    pub fn is(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Null, Value::Null) => true,
            (Self::Bool(this), Value::Bool(value)) => this == value,
            (Self::Number(this), Value::Number(value)) => *this == value.to_string(),
            (Self::Text(this), Value::String(value)) => this == value,
            _ => false,
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(value) => f.write_str(value),
            Self::Text(value) => write!(f, "{value:?}"),
        }
    }
}

/// One step into an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// `f:` a field of an object.
    Field(String),
    /// `k:` the item of a list that has these values in its key fields, sorted by name.
    Key(Vec<(String, Scalar)>),
    /// `v:` the item of a set that is this value.
    Value(Scalar),
    /// `i:` the item at a position.
    Index(usize),
}

/// The steps from the root of an object to a field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(pub Vec<Step>);

impl Path {
    /// A path of plain field names.
    #[must_use]
    pub fn of_fields<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().map(|name| Step::Field(name.to_owned())).collect())
    }

    /// This path and one step more.
    #[must_use]
    pub fn then(&self, step: &Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step.clone());
        Self(steps)
    }

    /// Whether this path leads through `other`, or is it.
    #[must_use]
    pub fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// Whether this path is at a JSON pointer (RFC 6901) or beneath it. A position in a pointer stands for any item where
    /// the path goes into a list by key or value: which item that is only the object can tell.
    #[must_use]
    pub fn is_at_pointer(&self, pointer: &str) -> bool {
        let Some(rest) = pointer.strip_prefix('/') else {
            return false;
        };
        let tokens: Vec<String> = rest
            .split('/')
            .map(|token| token.replace("~1", "/").replace("~0", "~"))
            .collect();
        tokens.len() <= self.0.len()
            && tokens.iter().zip(&self.0).all(|(token, step)| match step {
                Step::Field(name) => name == token,
                Step::Index(index) => index.to_string() == *token,
                Step::Key(_) | Step::Value(_) => token == "-" || token.chars().all(|c| c.is_ascii_digit()),
            })
    }
}

impl fmt::Display for Path {
    /// `spec.template.spec.containers[name="app"].image`; names that are no plain words stand in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if is_word(name) => {
                    let dot = if position == 0 { "" } else { "." };
                    write!(f, "{dot}{name}")?;
                }
                Step::Field(name) => write!(f, "[{name:?}]")?,
                Step::Key(keys) => {
                    let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                    write!(f, "[{}]", keys.join(","))?;
                }
                Step::Value(value) => write!(f, "[={value}]")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

fn is_word(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}
