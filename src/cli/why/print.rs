//! What `weir why` shows: whose the object is, then a line for each field. Tested word for word.

use std::io::{self, Write};

use kube::ResourceExt;

use super::written::Written;
use super::{Belongs, Declaration};
use crate::api::kustomize::{FIELD_MANAGER, OWNER_NAME, OWNER_NAMESPACE};
use crate::controllers::kustomization::source_of;
use crate::core::fields::Path;
use crate::core::object::Object;
use crate::core::snapshot::Commit;
use crate::guard::origin::Origin;
use crate::guard::revert::Manager;
use crate::guard::shown_value;
use crate::source::{Authorship, MOST_COMMITS};

/// Characters of a commit id that people use.
const SHORT_ID: usize = 8;
/// Longest column of paths; longer ones push their own line out.
const MAX_COLUMN: usize = 60;
/// Longest column of values.
const MAX_VALUES: usize = 32;

/// Writes it for people: whose the object is, then a line for each field.
pub(super) fn print(object: &Object, belongs: &Belongs, origins: &[Origin], out: &mut impl Write) -> io::Result<()> {
    let reference = object.reference();
    writeln!(out, "{reference}")?;
    match belongs {
        Belongs::Nobody => writeln!(out, "  is not managed: no Kustomization has applied it")?,
        Belongs::Copied(name) => writeln!(
            out,
            "  is not managed: it carries the labels of Kustomization {name}, which does not list it; labels get copied"
        )?,
        Belongs::To(declaration) => declared_by(declaration, out)?,
    }
    let rows: Vec<[String; 3]> = origins
        .iter()
        .map(|origin| {
            let value = origin.value.as_ref().map_or("(absent)".to_owned(), |value| {
                shown_value(&reference, &origin.path, value)
            });
            [origin.path.to_string(), value, from(origin, belongs)]
        })
        .collect();
    let column = |which: fn(&[String; 3]) -> &String, most: usize| {
        let longest = rows
            .iter()
            .map(|row| which(row).chars().count())
            .filter(|count| *count <= most)
            .max();
        longest.unwrap_or_default()
    };
    let paths = column(|[path, _, _]| path, MAX_COLUMN);
    let values = column(|[_, value, _]| value, MAX_VALUES);
    writeln!(out)?;
    for [path, value, from] in &rows {
        writeln!(out, "{path:paths$}  {value:values$}  ← {from}")?;
    }
    Ok(())
}

fn declared_by(declaration: &Declaration, out: &mut impl Write) -> io::Result<()> {
    let (kustomization, key) = (&declaration.kustomization, source_of(&declaration.kustomization));
    let mut line = |label: &str, text: &str| writeln!(out, "  {label:<14} {text}");
    let suspended = if kustomization.spec.suspend == Some(true) {
        " (suspended)"
    } else {
        ""
    };
    let namespace = kustomization.namespace().unwrap_or_default();
    line(
        "Kustomization",
        &format!("{namespace}/{}{suspended}", kustomization.name_any()),
    )?;
    line("source", &format!("{} {}/{}", key.kind, key.namespace, key.name))?;
    match &declaration.source {
        Ok(traced) => {
            line("repository", &traced.source.url)?;
            line("revision", &traced.source.revision)?;
            if let Some(commit) = &traced.source.commit {
                line("commit", &told(commit))?;
            }
            let Some(written) = &traced.declared else {
                return line("file", "no longer in it");
            };
            line("file", &place(written))?;
            match traced.authors.get(&written.file).map(Authorship::last) {
                Some(Some(commit)) => line("last changed", &told(commit)),
                Some(None) => line("last changed", &before_history()),
                None => Ok(()),
            }
        }
        Err(error) => {
            let revision = kustomization
                .status
                .as_ref()
                .and_then(|status| status.last_applied_revision.as_deref());
            line("revision", revision.unwrap_or("none was ever applied"))?;
            line("path", kustomization.spec.path.as_deref().unwrap_or("."))?;
            line("not read", error)
        }
    }
}

/// `Git, shop/web.yaml:12, 1a2b3c4d by Ann Example`, or `kubectl-edit, 2026-11-24T19:30:00Z`, or both when they agree.
fn from(origin: &Origin, belongs: &Belongs) -> String {
    let others = origin
        .by
        .iter()
        .filter(|by| !(origin.from_git && is_ours(by)))
        .map(|by| {
            if by.time.is_empty() {
                by.to_string()
            } else {
                format!("{by}, {}", by.time)
            }
        });
    let git = origin.from_git.then(|| match belongs {
        Belongs::To(declaration) => from_git(&origin.path, declaration),
        Belongs::Nobody | Belongs::Copied(_) => "Git".to_owned(),
    });
    git.into_iter().chain(others).collect::<Vec<_>>().join("; ")
}

fn from_git(path: &Path, declaration: &Declaration) -> String {
    let kustomization = &declaration.kustomization;
    let within = |map: &str, key: &str| *path == Path::of_fields(["metadata", map, key]);
    if [OWNER_NAME, OWNER_NAMESPACE]
        .iter()
        .any(|label| within("labels", label))
    {
        return "Weir, to mark whose it is".to_owned();
    }
    let common = kustomization.spec.common_metadata.as_ref();
    let labels = common.and_then(|common| common.labels.as_ref()).into_iter().flatten();
    let annotations = common
        .and_then(|common| common.annotations.as_ref())
        .into_iter()
        .flatten();
    if labels
        .map(|(key, _)| ("labels", key))
        .chain(annotations.map(|(key, _)| ("annotations", key)))
        .any(|(map, key)| within(map, key))
    {
        let namespace = kustomization.namespace().unwrap_or_default();
        return format!(
            "spec.commonMetadata of Kustomization {namespace}/{}",
            kustomization.name_any()
        );
    }
    let traced = declaration.source.as_ref().ok();
    let Some((traced, written)) = traced.and_then(|traced| Some((traced, traced.fields.get(path)?))) else {
        return "Git".to_owned();
    };
    let author = traced.authors.get(&written.file).map(|authors| match written.line {
        Some(line) => authors.of_line(line),
        None => authors.last(),
    });
    // Of what a transformer made, only the file is known that it was made from.
    let (made_from, changed) = match written.line {
        Some(_) => ("", ""),
        None => ("made from ", "last changed in "),
    };
    let author = match author {
        Some(Some(commit)) => format!(", {changed}{} by {}", short(commit), name(commit)),
        Some(None) => format!(", {}", before_history()),
        None => String::new(),
    };
    format!("Git, {made_from}{}{author}", place(written))
}

fn place(written: &Written) -> String {
    let file = &written.file;
    written
        .line
        .map_or_else(|| file.clone(), |line| format!("{file}:{line}"))
}

fn told(commit: &Commit) -> String {
    format!("{} \"{}\" by {}", short(commit), commit.subject, commit.author)
}

fn short(commit: &Commit) -> String {
    commit.id.chars().take(SHORT_ID).collect()
}

/// The author without the mail, which stands above.
fn name(commit: &Commit) -> &str {
    let name = commit.author.split_once(" <").map(|(name, _)| name);
    name.filter(|name| !name.is_empty()).unwrap_or(&commit.author)
}

fn before_history() -> String {
    format!("before the last {MOST_COMMITS} commits")
}

fn is_ours(manager: &Manager) -> bool {
    manager.name == FIELD_MANAGER && manager.applied
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::super::{Source, Traced};
    use super::*;
    use crate::api::kustomize::Kustomization;
    use crate::core::fields::FieldSet;
    use crate::guard::origin::origins;
    use serde_json::json;

    #[test]
    fn every_field_says_where_it_comes_from() {
        let entry = |manager: &str, operation: &str, fields: serde_json::Value| {
            json!({"manager": manager, "operation": operation, "apiVersion": "v1", "time": "2026-11-01T10:00:00Z",
                "fieldsV1": fields})
        };
        let object = Object::new(json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "keys", "namespace": "prod", "labels": {"a": "b"}, "managedFields": [
                entry("kustomize-controller", "Apply", json!({"f:data": {"f:password": {}}})),
                entry("kubectl-label", "Update", json!({"f:metadata": {"f:labels": {"f:a": {}}}, "f:data": {"f:password": {}}}))]},
            "data": {"password": "c2VjcmV0"}}))
        .unwrap();
        let mut out = Vec::new();
        let copied = Belongs::Copied("apps/web".to_owned());
        print(&object, &copied, &origins(&object, false), &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
        Secret/prod/keys
          is not managed: it carries the labels of Kustomization apps/web, which does not list it; labels get copied

        data.password      (hidden)  ← Git; kubectl-label, 2026-11-01T10:00:00Z
        metadata.labels.a  "b"       ← kubectl-label, 2026-11-01T10:00:00Z
        "#);
    }

    #[test]
    fn what_git_declares_is_shown_with_repository_file_commit_and_author() {
        let long = "x".repeat(80);
        let object = Object::new(json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "prod", "annotations": {"note": long},
                "labels": {"kustomize.toolkit.fluxcd.io/name": "shop", "part": "front", "team": "shop"}, "managedFields": [
                {"manager": "kustomize-controller", "operation": "Apply", "apiVersion": "apps/v1", "time": "2026-11-01T10:00:00Z",
                    "fieldsV1": {"f:metadata": {"f:labels": {"f:kustomize.toolkit.fluxcd.io/name": {}, "f:part": {}, "f:team": {}}}, "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {
                        "k:{\"name\":\"web\"}": {".": {}, "f:name": {}, "f:image": {}}}}}}}},
                {"manager": "kubectl", "operation": "Update", "apiVersion": "apps/v1", "subresource": "scale",
                    "time": "2026-11-01T11:00:00Z", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
                {"manager": "kubectl-annotate", "operation": "Update", "apiVersion": "apps/v1", "time": "2026-11-01T12:00:00Z",
                    "fieldsV1": {"f:metadata": {"f:annotations": {"f:note": {}}}}}]},
            "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "web", "image": "registry.example/web:1.0.0"}]}}}}))
        .unwrap();
        let kustomization: Kustomization = serde_json::from_value(json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": {"name": "shop", "namespace": "flux-system"},
            "spec": {"interval": "1m", "prune": true, "sourceRef": {"kind": "GitRepository", "name": "apps"}, "commonMetadata": {"labels": {"team": "shop"}}}}))
        .unwrap();
        let source = Source {
            url: "https://git.example.com/shop.git".into(),
            revision: "main@sha1:1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d".into(),
            commit: Some(crate::core::snapshot::Commit {
                id: "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d".into(),
                author: "Ann Example <ann@example.com>".into(),
                subject: "Run the shop on two replicas".into(),
            }),
        };
        let commit = |id: &str, author: &str, subject: &str| Commit {
            id: id.to_owned(),
            author: author.to_owned(),
            subject: subject.to_owned(),
        };
        // The line of `replicas` came with the second commit, that of the label before what is known.
        let mut lines = vec![None; 16];
        lines.push(Some(1));
        let authors = Authorship {
            commits: vec![
                commit("9f8e7d6c5b4a", "Bo Example <bo@example.com>", "Name the parts"),
                commit("5a4b3c2d1e0f", "Cy Example <cy@example.com>", "Two of them"),
            ],
            lines,
            last: Some(0),
        };
        let written = |line| Written {
            file: "shop/web.yaml".to_owned(),
            line,
        };
        let keyed = |field: &str| {
            let set =
                json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {field: {}}}}}}});
            FieldSet::parse(&set).unwrap().paths().remove(0)
        };
        let belongs = Belongs::To(Box::new(Declaration {
            kustomization,
            source: Ok(Traced {
                source,
                declared: Some(written(Some(12))),
                fields: BTreeMap::from([
                    (Path::of_fields(["spec", "replicas"]), written(Some(17))),
                    (Path::of_fields(["metadata", "labels", "part"]), written(Some(5))),
                    (keyed("f:image"), written(None)),
                    (
                        keyed("f:name"),
                        Written {
                            file: "modules/a.yaml".to_owned(),
                            line: Some(3),
                        },
                    ),
                ]),
                authors: HashMap::from([("shop/web.yaml".to_owned(), authors)]),
            }),
        }));
        let mut out = Vec::new();
        print(&object, &belongs, &origins(&object, false), &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
        Deployment/prod/web
          Kustomization  flux-system/shop
          source         GitRepository flux-system/apps
          repository     https://git.example.com/shop.git
          revision       main@sha1:1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d
          commit         1a2b3c4d "Run the shop on two replicas" by Ann Example <ann@example.com>
          file           shop/web.yaml:12
          last changed   9f8e7d6c "Name the parts" by Bo Example <bo@example.com>

        metadata.annotations.note                            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…  ← kubectl-annotate, 2026-11-01T12:00:00Z
        metadata.labels["kustomize.toolkit.fluxcd.io/name"]  "shop"                        ← Weir, to mark whose it is
        metadata.labels.part                                 "front"                       ← Git, shop/web.yaml:5, before the last 1024 commits
        metadata.labels.team                                 "shop"                        ← spec.commonMetadata of Kustomization flux-system/shop
        spec.replicas                                        2                             ← Git, shop/web.yaml:17, 5a4b3c2d by Cy Example; kubectl (scale), 2026-11-01T11:00:00Z
        spec.template.spec.containers[name="web"].image      "registry.example/web:1.0.0"  ← Git, made from shop/web.yaml, last changed in 9f8e7d6c by Bo Example
        spec.template.spec.containers[name="web"].name       "web"                         ← Git, modules/a.yaml:3
        "#);
    }
}
