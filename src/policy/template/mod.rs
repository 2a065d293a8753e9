//! ConstraintTemplates: read, checked, compiled.
//!
//! Accepted is what Gatekeeper accepts: one target, with Rego in `rego`/`libs` or in `code[].source` of engine Rego, or with
//! CEL in `code[].source` of engine K8sNativeValidation. Where a template has both, CEL answers, and of two texts in Rego the
//! one in `rego`, as with Gatekeeper.

mod source;

use regorus::unstable::{Expr, Rule, RuleHead};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use super::cel;
use super::decision::EnforcementPoint;
use super::parameters;
use super::rego::parse::{Parsed, parse};
use super::rego::path;
use super::rego::program::Program;
use super::review::{Operation, Review};
use super::source::{Document, Problem};
use crate::api::gatekeeper::TEMPLATES_GROUP;
use source::foreign_data;
pub(super) use source::{RegoSource, Source, source};

/// The only target there is.
const TARGET: &str = "admission.k8s.gatekeeper.sh";
/// What a template is asked about only if it wants to be.
const UNUSUAL: [&str; 2] = [Operation::Delete.as_str(), Operation::Connect.as_str()];
/// The rule that a template answers with.
const RULE: &str = "violation";

/// A kind of constraint, for whoever makes its CRD.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateKind {
    /// Kind of the constraints.
    pub kind: String,
    /// Name of the template: the kind in lower case.
    pub template_name: String,
    /// Short names that kubectl takes for the kind.
    pub short_names: Vec<String>,
    /// Labels of the template; its CRD has them too.
    pub labels: Vec<(String, String)>,
    /// Schema of `spec.parameters`; `None` when the template does not say.
    pub schema: Option<Json>,
}

/// A compiled template.
pub(crate) struct Template {
    pub(crate) spec: TemplateKind,
    pub(crate) origin: String,
    pub(crate) engine: Engine,
    /// The operations that the template lists; if any, the webhook asks it about no other.
    listed: Vec<String>,
    /// Operations beyond creation and change that its text mentions.
    mentioned: Vec<&'static str>,
    /// Of everything that the template was made of.
    pub(crate) digest: [u8; 32],
}

/// What answers for a template.
pub(crate) enum Engine {
    Rego {
        program: Box<Program>,
        /// Path of the rule that answers.
        rule: String,
    },
    Cel(cel::Program),
}

impl Template {
    /// The template's Rego, if that is what answers.
    pub(crate) fn rego(&self) -> Option<&Program> {
        match &self.engine {
            Engine::Rego { program, .. } => Some(program),
            Engine::Cel(_) => None,
        }
    }

    /// Whether the template is asked about the operation of a review at a door. Only the webhook's is told apart by it, as by
    /// Gatekeeper; about deletions and connections it is asked only if it lists or mentions them.
    pub(crate) fn handles(&self, point: EnforcementPoint, review: &Review) -> bool {
        if self
            .listed
            .iter()
            .any(|known| known == "*" || known == review.operation())
        {
            return true;
        }
        match review.unusual_operation() {
            None => self.listed.is_empty() || point != EnforcementPoint::Validation,
            Some(unusual) => self.mentioned.contains(&unusual),
        }
    }
}

/// Identifies the content of a template.
pub(crate) fn digest(document: &Document) -> [u8; 32] {
    let parts = ["/apiVersion", "/metadata/name", "/metadata/labels", "/spec"];
    let parts: Vec<Option<&Json>> = parts
        .into_iter()
        .map(|pointer| document.value.pointer(pointer))
        .collect();
    Sha256::digest(serde_json::to_vec(&parts).unwrap_or_default()).into()
}

/// The kind that a template defines, if it says so.
pub(crate) fn kind(document: &Document) -> Option<&str> {
    document
        .value
        .pointer("/spec/crd/spec/names/kind")?
        .as_str()
        .filter(|kind| !kind.is_empty())
}

/// Reads and compiles a template.
pub(crate) fn load(document: &Document) -> Result<Template, Vec<Problem>> {
    let origin = document.origin.as_str();
    let one = |message: String| vec![Problem::new(origin, message)];
    let spec = spec(document).map_err(one)?;
    let (engine, mentioned) = match source(&document.value).map_err(one)? {
        Source::Rego(source) => rego(origin, &source)?,
        Source::Cel(source) => {
            let text = source.to_string();
            let mentioned = UNUSUAL.into_iter().filter(|operation| text.contains(operation));
            (Engine::Cel(cel::Program::compile(origin, source)?), mentioned.collect())
        }
    };
    let listed = document
        .value
        .pointer("/spec/targets/0/operations")
        .and_then(Json::as_array)
        .into_iter()
        .flatten();
    let listed = listed.filter_map(Json::as_str).map(str::to_owned);
    Ok(Template {
        listed: listed.collect(),
        mentioned,
        spec,
        origin: origin.to_owned(),
        engine,
        digest: digest(document),
    })
}

/// Compiles Rego, and says which of the unusual operations it mentions.
fn rego(origin: &str, source: &RegoSource<'_>) -> Result<(Engine, Vec<&'static str>), Vec<Problem>> {
    let main = parse(origin, source.rego, source.version).map_err(|problem| vec![problem])?;
    let mut modules = vec![main];
    for (index, lib) in source.libs.iter().enumerate() {
        let name = format!("{origin} libs[{index}]");
        let lib = parse(&name, lib, source.version).map_err(|problem| vec![problem])?;
        if lib.package.len() < 2 || lib.package.first().map(String::as_str) != Some("lib") {
            let message = format!("a lib must be in a package below lib, not in {}", lib.package.join("."));
            return Err(vec![Problem::new(&name, message)]);
        }
        modules.push(lib);
    }
    let problems: Vec<Problem> = modules.iter().flat_map(foreign_data).collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let Some(main) = modules.first().filter(|main| answers(main)) else {
        let message = format!("the Rego has no rule {RULE:?}, so the template could never find anything");
        return Err(vec![Problem::new(origin, message)]);
    };
    if let Some(problem) = main.module.policy.iter().find_map(|rule| wordless(main, rule)) {
        return Err(vec![problem]);
    }
    let rule = main.rule_path(RULE);
    let program = Box::new(Program::compile(&modules.iter().collect::<Vec<_>>())?);
    let mentioned = UNUSUAL
        .into_iter()
        .filter(|operation| modules.iter().any(|parsed| parsed.mentions(operation)));
    Ok((Engine::Rego { program, rule }, mentioned.collect()))
}

fn spec(document: &Document) -> Result<TemplateKind, String> {
    let value = &document.value;
    let api_version = value.get("apiVersion").and_then(Json::as_str).unwrap_or_default();
    let version = api_version
        .strip_prefix(TEMPLATES_GROUP)
        .and_then(|rest| rest.strip_prefix('/'));
    let Some(version @ ("v1" | "v1beta1" | "v1alpha1")) = version else {
        return Err(format!(
            "apiVersion {api_version:?} is none of {TEMPLATES_GROUP}/v1, v1beta1, v1alpha1"
        ));
    };
    let kind = kind(document).ok_or("spec.crd.spec.names.kind is missing")?;
    let name = value
        .pointer("/metadata/name")
        .and_then(Json::as_str)
        .unwrap_or_default();
    if name != kind.to_lowercase() {
        return Err(format!(
            "metadata.name {name:?} must be the kind in lower case, {:?}",
            kind.to_lowercase()
        ));
    }
    let strings = |pointer: &str| {
        let list = value.pointer(pointer).and_then(Json::as_array).into_iter().flatten();
        list.filter_map(|entry| entry.as_str().map(str::to_owned)).collect()
    };
    let labels = value
        .pointer("/metadata/labels")
        .and_then(Json::as_object)
        .into_iter()
        .flatten();
    let labels = labels
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    let validation = value.pointer("/spec/crd/spec/validation");
    // Before v1 schemas were not structural, and that is what the default says.
    let legacy = validation
        .and_then(|validation| validation.get("legacySchema"))
        .and_then(Json::as_bool)
        .unwrap_or(version != "v1");
    let schema = validation
        .and_then(|validation| validation.get("openAPIV3Schema"))
        .filter(|schema| schema.is_object());
    if let Some(wrong) = schema.and_then(parameters::malformed) {
        return Err(format!("spec.crd.spec.validation.openAPIV3Schema{wrong}"));
    }
    let schema = match (schema, legacy) {
        (Some(schema), true) => Some(open(schema.clone())),
        (Some(schema), false) => Some(schema.clone()),
        (None, true) if validation.is_some() => Some(json!({"x-kubernetes-preserve-unknown-fields": true})),
        (None, _) => None,
    };
    Ok(TemplateKind {
        kind: kind.to_owned(),
        template_name: name.to_owned(),
        short_names: strings("/spec/crd/spec/names/shortNames"),
        labels,
        schema,
    })
}

/// Makes a schema from before structural schemas acceptable: every level keeps the fields it does not know.
fn open(mut schema: Json) -> Json {
    let Some(fields) = schema.as_object_mut() else {
        return schema;
    };
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(key).filter(|inner| inner.is_object()) {
            *inner = open(inner.take());
        }
    }
    if let Some(properties) = fields.get_mut("properties").and_then(Json::as_object_mut) {
        for property in properties.values_mut() {
            *property = open(property.take());
        }
    }
    let object = fields.contains_key("properties") || fields.contains_key("additionalProperties");
    if object {
        fields.entry("type").or_insert_with(|| "object".into());
    } else if fields.contains_key("items") {
        fields.entry("type").or_insert_with(|| "array".into());
    }
    if matches!(fields.get("type").and_then(Json::as_str), None | Some("object")) {
        fields.insert("x-kubernetes-preserve-unknown-fields".to_owned(), true.into());
    }
    schema
}

/// What is wrong with a definition of the rule of which it is plain that its answers have no `msg`.
fn wordless(parsed: &Parsed, rule: &Rule) -> Option<Problem> {
    let Rule::Spec { head, .. } = rule else { return None };
    let (refr, answer, all) = match head {
        RuleHead::Set { refr, key, .. } => (refr, key.as_ref()?, false),
        RuleHead::Compr { refr, assign, .. } => (refr, &assign.as_ref()?.value, true),
        RuleHead::Func { .. } => return None,
    };
    let wordless = match answer.as_ref() {
        Expr::String { .. } | Expr::RawString { .. } | Expr::Number { .. } | Expr::Bool { .. } | Expr::Null { .. } => {
            true
        }
        Expr::Array { .. } => true,
        // All answers at once are a set.
        Expr::Set { .. } => !all,
        _ => false,
    };
    let names = path(refr)
        .filter(|(names, whole)| *whole && names.len() == 1 && names.first().is_some_and(|name| name == RULE));
    names.filter(|_| wordless)?;
    let span = answer.span();
    let message = format!("an answer of {RULE:?} must be an object with msg");
    Some(Problem::at(parsed.origin(), span.line, span.col, message))
}

fn answers(parsed: &Parsed) -> bool {
    parsed.module.policy.iter().any(|rule| {
        let Rule::Spec {
            head: RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. },
            ..
        } = rule.as_ref()
        else {
            return false;
        };
        path(refr).is_some_and(|(names, _)| names.first().is_some_and(|name| name == RULE))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A template of a kind with a Rego text.
    pub(crate) fn template(kind: &str, rego: &str) -> Document {
        Document {
            origin: format!("{}.yaml", kind.to_lowercase()),
            value: json!({"apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate",
                "metadata": {"name": kind.to_lowercase()},
                "spec": {"crd": {"spec": {"names": {"kind": kind}}}, "targets": [{"target": TARGET, "rego": rego}]}}),
        }
    }

    fn refused(document: &Document, expect: &str) {
        let Err(problems) = load(document) else {
            panic!("{expect}")
        };
        assert_eq!(problems[0].to_string(), expect);
    }

    #[test]
    fn templates_that_cannot_work_are_refused_with_position_and_reason() {
        refused(
            &template("A", "package a\nviolation[{\"msg\": \"x\"}] {\n  nope(1)\n}"),
            "a.yaml:3:3: function nope does not exist here",
        );
        refused(
            &template("A", "package a\nx = 1"),
            "a.yaml: the Rego has no rule \"violation\", so the template could never find anything",
        );
        refused(
            &template("A", "package a\nviolation[{\"msg\": \"x\"}] {\n  data.other.x\n}"),
            "a.yaml:3:3: data.other does not exist for a template; it has data.inventory and its data.lib",
        );
        refused(
            &template("A", "package a\nviolation[\"a\"] { true }"),
            "a.yaml:2:12: an answer of \"violation\" must be an object with msg",
        );
        refused(
            &template("A", "package a\nviolation = [{\"msg\": \"a\"}] { true }"),
            "a.yaml:2:13: an answer of \"violation\" must be an object with msg",
        );
        let mut wrong = template("A", "package a");
        wrong.value["metadata"]["name"] = json!("b");
        refused(
            &wrong,
            "a.yaml: metadata.name \"b\" must be the kind in lower case, \"a\"",
        );
        let mut cel = template("A", "");
        cel.value["spec"]["targets"][0]["code"] = json!([{"engine": "K8sNativeValidation", "source": {}}]);
        refused(
            &cel,
            "a.yaml: the CEL has no validations, so the template could never find anything",
        );
        let mut schema = template("A", "package a\nviolation[{\"msg\": \"x\"}] { true }");
        schema.value["spec"]["crd"]["spec"]["validation"] =
            json!({"openAPIV3Schema": {"type": "object", "properties": {"a": {"items": {"type": "nonsense"}}}}});
        refused(
            &schema,
            "a.yaml: spec.crd.spec.validation.openAPIV3Schema.properties[a].items.type is \"nonsense\" and must be one of \
             array, boolean, integer, number, object, string",
        );
        let mut lib = template(
            "A",
            "package a\nimport data.lib.x\nviolation[{\"msg\": \"x\"}] { x.f(1) }",
        );
        lib.value["spec"]["targets"][0]["libs"] = json!(["package x\nf(a) = a"]);
        refused(&lib, "a.yaml libs[0]: a lib must be in a package below lib, not in x");
    }

    #[test]
    fn code_says_its_version_and_gives_way_to_rego() {
        let mut document = template("A", "");
        document.value["spec"]["targets"][0]["code"] = json!([
            {"engine": "Other", "source": {}},
            {"engine": "Rego", "source": {"version": "v1", "rego": "package a\nviolation contains {\"msg\": \"x\"} if x.f(1)\nimport data.lib.x",
                "libs": ["package lib.x\nf(x) := x"]}},
        ]);
        // Imports stand before rules.
        assert!(load(&document).is_err());
        document.value["spec"]["targets"][0]["code"][1]["source"]["rego"] =
            json!("package a\nimport data.lib.x\nviolation contains {\"msg\": \"x\"} if x.f(1)");
        assert_eq!(rule(&document), Ok("data.a.violation".to_owned()));
        document.value["spec"]["targets"][0]["rego"] = json!("package b\nviolation[{\"msg\": \"x\"}] { true }");
        assert_eq!(rule(&document), Ok("data.b.violation".to_owned()));
    }

    fn rule(document: &Document) -> Result<String, String> {
        load(document)
            .map(|template| match template.engine {
                Engine::Rego { rule, .. } => rule,
                Engine::Cel(_) => String::new(),
            })
            .map_err(|problems| format!("{problems:?}"))
    }

    #[test]
    fn cel_answers_where_there_is_both() {
        let cel = json!({"engine": "K8sNativeValidation", "source": {"validations": [{"expression": "true"}]}});
        let rego = json!({"engine": "Rego", "source": {"rego": "package a\nviolation[{\"msg\": \"x\"}] { true }"}});
        let check = |code: Json, legacy: bool, expect: bool| {
            let mut document = template("A", "package a\nviolation[{\"msg\": \"x\"}] { true }");
            let target = &mut document.value["spec"]["targets"][0];
            target["code"] = code;
            if !legacy {
                target["rego"] = Json::Null;
            }
            let loaded = load(&document).unwrap_or_else(|problems| panic!("{problems:?}"));
            assert_eq!(matches!(loaded.engine, Engine::Cel(_)), expect);
        };
        check(json!([rego, cel]), false, true);
        check(json!([cel, rego]), false, true);
        check(json!([cel]), true, true);
        check(json!([rego]), false, false);
    }

    #[test]
    fn a_legacy_schema_keeps_what_it_does_not_know() {
        let mut document = template("A", "package a\nviolation[{\"msg\": \"x\"}] { true }");
        document.value["spec"]["crd"]["spec"]["validation"] = json!({"legacySchema": true, "openAPIV3Schema":
            {"properties": {"a": {"type": "array", "items": {"properties": {"b": {"type": "string"}}}}, "c": {}}}});
        let keep = "x-kubernetes-preserve-unknown-fields";
        assert_eq!(
            load(&document).ok().and_then(|template| template.spec.schema),
            Some(json!({"type": "object", keep: true, "properties": {
                "a": {"type": "array", "items": {"type": "object", keep: true, "properties": {"b": {"type": "string"}}}},
                "c": {keep: true}}}))
        );
    }
}
