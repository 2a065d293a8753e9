//! A sample object as the AdmissionReview that the API server would send, with places for a number that makes each another.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// Stands where the number goes; as long as every number is written.
const PLACE: &str = "n00000000";

/// A sample.
pub(crate) struct Sample {
    /// The file that it comes from.
    pub(crate) origin: PathBuf,
    body: Vec<u8>,
    places: Vec<usize>,
}

impl Sample {
    /// Makes the review of an object, or completes a review.
    pub(crate) fn new((origin, object): &(PathBuf, Value)) -> Self {
        let body = serde_json::to_vec(&review(object, origin)).unwrap();
        let places = body
            .windows(PLACE.len())
            .enumerate()
            .filter(|(_, at)| *at == PLACE.as_bytes());
        let places: Vec<usize> = places.map(|(at, _)| at + 1).collect();
        assert!(!places.is_empty(), "{}", origin.display());
        Self {
            origin: origin.clone(),
            body,
            places,
        }
    }

    /// The body of the request with a number.
    pub(crate) fn body(&self, number: u32) -> Vec<u8> {
        let digits = format!("{number:08}");
        let mut body = self.body.clone();
        for place in &self.places {
            body[*place..*place + digits.len()].copy_from_slice(digits.as_bytes());
        }
        body
    }
}

/// Namespace in which a sample's request is made; none for what lies in none.
pub(crate) fn namespace(object: &Value) -> Option<&str> {
    let object = if object["kind"] == "AdmissionReview" {
        subject(object)
    } else {
        object
    };
    object.pointer("/metadata/namespace")?.as_str()
}

fn subject(review: &Value) -> &Value {
    let request = &review["request"];
    if request["object"].is_object() {
        &request["object"]
    } else {
        &request["oldObject"]
    }
}

fn review(object: &Value, origin: &Path) -> Value {
    let given = if object["kind"] == "AdmissionReview" {
        object["request"].clone()
    } else {
        json!({"object": object})
    };
    let mut request = given
        .as_object()
        .unwrap_or_else(|| panic!("{}", origin.display()))
        .clone();
    let (group, version, kind) = type_of(subject(&json!({"request": given})));
    let mut default = |key: &str, value: Value| {
        if request.get(key).is_none_or(|value| value.is_null() || value == "") {
            request.insert(key.to_owned(), value);
        }
    };
    default("kind", json!({"group": group, "version": version, "kind": kind}));
    default(
        "resource",
        json!({"group": group, "version": version, "resource": plural(&kind)}),
    );
    default("operation", "CREATE".into());
    default(
        "userInfo",
        json!({"username": "jane", "groups": ["system:authenticated"]}),
    );
    default(
        "options",
        json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "bench"}),
    );
    default("dryRun", false.into());
    request.insert("uid".to_owned(), format!("7f3a0c52-0000-4000-8000-{PLACE}000").into());
    for key in ["object", "oldObject"] {
        if let Some(object) = request.get_mut(key).filter(|object| object.is_object()) {
            vary(object);
        }
    }
    let subject = subject(&json!({"request": request})).clone();
    if let Some(namespace) = subject.pointer("/metadata/namespace") {
        request.insert("namespace".to_owned(), namespace.clone());
    }
    if let Some(name) = subject.pointer("/metadata/name") {
        request.insert("name".to_owned(), name.clone());
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
}

/// Makes the name, a label and the images of an object its own, such that policies look at other values and decide the same.
fn vary(object: &mut Value) {
    let metadata = object
        .as_object_mut()
        .unwrap()
        .entry("metadata")
        .or_insert_with(|| json!({}));
    let metadata = metadata.as_object_mut().unwrap();
    let name = metadata
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or("sample")
        .to_owned();
    metadata.insert("name".to_owned(), format!("{name}-{PLACE}").into());
    let labels = metadata.entry("labels").or_insert(Value::Null);
    if !labels.is_object() {
        *labels = Value::Object(Map::new());
    }
    labels["bench.example/number"] = PLACE.into();
    images(object);
}

fn images(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(images),
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    // A digest has a form, and `latest` is what some policies look for.
                    Value::String(image) if key == "image" && !image.contains('@') => {
                        let name = image.rsplit('/').next().unwrap_or_default();
                        if name.contains(':') && !name.ends_with(":latest") {
                            *image = format!("{image}-{PLACE}");
                        }
                    }
                    other => images(other),
                }
            }
        }
        _ => {}
    }
}

fn type_of(object: &Value) -> (String, String, String) {
    let api_version = object["apiVersion"].as_str().unwrap_or("v1");
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = object["kind"].as_str().unwrap_or_default();
    (group.to_owned(), version.to_owned(), kind.to_owned())
}

/// As English does it, which is how the API's resources are named.
fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o']) => format!("{stem}ies"),
        _ if kind.ends_with('s') => format!("{kind}es"),
        _ => format!("{kind}s"),
    }
}
