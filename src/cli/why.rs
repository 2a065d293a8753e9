//! `weir why`: where a live object and each of its fields come from.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use kube::{Api, Client, ResourceExt};

use super::declared::{Origin as Source, Reader};
use super::{EXIT_ERROR, renderer};
use crate::api::kustomize::{Kustomization, OWNER_NAME, OWNER_NAMESPACE};
use crate::apply::objects::Objects;
use crate::cluster::client::{ClientOptions, connect, explain};
use crate::cluster::discovery::Discovery;
use crate::controllers::kustomization::{source_of, status};
use crate::core::object::{Gvk, Object, ObjectRef};
use crate::guard::origin::{Origin, origins};
use crate::guard::revert::Manager;
use crate::guard::shown_value;
use crate::render::{Options as PoolOptions, Pool};

/// Characters of a commit id that people use.
const SHORT_ID: usize = 8;
/// Longest column of paths; longer ones push their own line out.
const MAX_COLUMN: usize = 60;
/// Longest column of values.
const MAX_VALUES: usize = 32;

/// Says where a live object and each of its fields come from.
///
/// For what Git declares: Kustomization, repository, file, revision, commit and author. For every field: Git, or the field
/// manager that set it and when. Fields that nobody set have their default and are not shown.
#[derive(Debug, Clone, clap::Args)]
pub struct Why {
    /// The object, as in deployment/web; the kind as kubectl takes it.
    #[arg(value_name = "KIND/NAME")]
    pub object: String,
    /// Namespace of the object.
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    pub namespace: String,
    /// Shows the status too.
    #[arg(long)]
    pub status: bool,
    /// Kubeconfig of the cluster; KUBECONFIG when unset, else the service account of the Pod.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The render worker's binary; beside weir or on PATH when unset.
    #[arg(long, value_name = "FILE", env = "WEIR_RENDERER", hide_env_values = true)]
    pub renderer: Option<PathBuf>,
}

/// Whose the object is.
enum Belongs {
    /// No owner label.
    Nobody,
    /// It carries the labels of a Kustomization that does not list it.
    Copied(String),
    /// A Kustomization lists it.
    To(Box<Declaration>),
}

/// What a Kustomization knows of the object.
struct Declaration {
    kustomization: Kustomization,
    /// The source, or why it cannot be read; then only the cluster's own word is shown.
    source: Result<(Source, Option<String>), String>,
}

/// Looks and prints.
///
/// # Errors
/// When there is no such object, or the cluster cannot be asked.
pub async fn run(arguments: Why) -> anyhow::Result<ExitCode> {
    let (kind, name) = arguments
        .object
        .split_once('/')
        .filter(|(kind, name)| !kind.is_empty() && !name.is_empty())
        .ok_or_else(|| {
            anyhow::anyhow!(
                "{:?} is not of the form KIND/NAME, as in deployment/web",
                arguments.object
            )
        })?;
    let client = connect(&ClientOptions {
        kubeconfig: arguments.kubeconfig.clone(),
    })
    .await?;
    let objects = Objects::new(client.clone(), Discovery::new(client.clone()));
    let found = find(&objects, kind, &arguments.namespace, name).await?;
    let belongs = belongs(&arguments, &client, &objects, &found).await?;
    let origins = origins(&found, arguments.status);
    match print(&found, &belongs, &origins, &mut anstream::stdout()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        printed => printed.map_err(|error| anyhow::anyhow!("the answer cannot be written: {error}"))?,
    }
    let unread = matches!(&belongs, Belongs::To(declaration) if declaration.source.is_err());
    Ok(if unread {
        ExitCode::from(EXIT_ERROR)
    } else {
        ExitCode::SUCCESS
    })
}

async fn find(objects: &Objects, kind: &str, namespace: &str, name: &str) -> anyhow::Result<Object> {
    let kinds = objects.discovery().called(kind).await?;
    anyhow::ensure!(
        !kinds.is_empty(),
        "the API server does not serve anything called {kind:?}"
    );
    for gvk in &kinds {
        let namespaced = objects.discovery().resolve(gvk).await?.namespaced;
        if let Some(found) = objects
            .get(gvk, &reference(gvk, if namespaced { namespace } else { "" }, name))
            .await?
        {
            return Ok(found);
        }
    }
    anyhow::bail!("there is no {kind} {name} in namespace {namespace}; name another with -n")
}

fn reference(gvk: &Gvk, namespace: &str, name: &str) -> ObjectRef {
    ObjectRef {
        group: gvk.group.clone(),
        kind: gvk.kind.clone(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

async fn belongs(arguments: &Why, client: &Client, objects: &Objects, found: &Object) -> anyhow::Result<Belongs> {
    let (Some(name), Some(namespace)) = (found.label(OWNER_NAME), found.label(OWNER_NAMESPACE)) else {
        return Ok(Belongs::Nobody);
    };
    let api: Api<Kustomization> = Api::namespaced(client.clone(), namespace);
    let owner = api
        .get_opt(name)
        .await
        .map_err(|error| anyhow::anyhow!("{}", explain(&error)))?;
    let lists = |one: &Kustomization| {
        status::inventory(one.status.as_ref())
            .0
            .0
            .contains_key(&found.reference())
    };
    let Some(kustomization) = owner.filter(lists) else {
        return Ok(Belongs::Copied(format!("{namespace}/{name}")));
    };
    let source = read(arguments, client, objects, &kustomization, &found.reference()).await;
    Ok(Belongs::To(Box::new(Declaration { kustomization, source })))
}

/// The source and the place in it that declares the object.
async fn read(
    arguments: &Why,
    client: &Client,
    objects: &Objects,
    kustomization: &Kustomization,
    object: &ObjectRef,
) -> Result<(Source, Option<String>), String> {
    let program = renderer::locate(arguments.renderer.as_deref()).map_err(|error| error.to_string())?;
    let pool = Pool::new(PoolOptions::new(program));
    let reader = Reader::new(client.clone(), objects.clone(), pool.clone()).map_err(|error| error.to_string())?;
    let declared = reader.declared(kustomization).await;
    pool.stop().await;
    let declared = declared?;
    let place = declared.objects.iter().find(|one| one.object.reference() == *object);
    Ok((declared.origin, place.and_then(|one| one.place())))
}

fn print(object: &Object, belongs: &Belongs, origins: &[Origin], out: &mut impl Write) -> io::Result<()> {
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
    let place = match belongs {
        Belongs::To(declaration) => declaration.source.as_ref().ok().and_then(|(_, place)| place.as_deref()),
        _ => None,
    };
    let rows: Vec<[String; 3]> = origins
        .iter()
        .map(|origin| {
            let value = origin.value.as_ref().map_or("(absent)".to_owned(), |value| {
                shown_value(&reference, &origin.path, value)
            });
            [origin.path.to_string(), value, from(origin, place)]
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
        Ok((source, place)) => {
            line("repository", &source.url)?;
            line("revision", &source.revision)?;
            if let Some(commit) = &source.commit {
                let id: String = commit.id.chars().take(SHORT_ID).collect();
                line("commit", &format!("{id} \"{}\" by {}", commit.subject, commit.author))?;
            }
            line("file", place.as_deref().unwrap_or("no longer in it"))
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

/// `Git, shop/web.yaml:12`, or `kubectl-edit, 2026-11-24T19:30:00Z`, or both when they agree.
fn from(origin: &Origin, place: Option<&str>) -> String {
    let others: Vec<String> = origin
        .by
        .iter()
        .filter(|by| !(origin.from_git && is_ours(by)))
        .map(|by| {
            if by.time.is_empty() {
                by.to_string()
            } else {
                format!("{by}, {}", by.time)
            }
        })
        .collect();
    let git = origin
        .from_git
        .then(|| place.map_or("Git".to_owned(), |place| format!("Git, {place}")));
    git.into_iter().chain(others).collect::<Vec<_>>().join("; ")
}

fn is_ours(manager: &Manager) -> bool {
    manager.name == crate::api::kustomize::FIELD_MANAGER && manager.applied
}

#[cfg(test)]
mod tests {
    use super::*;
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
            "metadata": {"name": "web", "namespace": "prod", "annotations": {"note": long}, "managedFields": [
                {"manager": "kustomize-controller", "operation": "Apply", "apiVersion": "apps/v1", "time": "2026-11-01T10:00:00Z",
                    "fieldsV1": {"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {
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
            "spec": {"interval": "1m", "prune": true, "sourceRef": {"kind": "GitRepository", "name": "apps"}}}))
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
        let belongs = Belongs::To(Box::new(Declaration {
            kustomization,
            source: Ok((source, Some("shop/web.yaml:12".to_owned()))),
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

        metadata.annotations.note                        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…  ← kubectl-annotate, 2026-11-01T12:00:00Z
        spec.replicas                                    2                             ← Git, shop/web.yaml:12; kubectl (scale), 2026-11-01T11:00:00Z
        spec.template.spec.containers[name="web"].image  "registry.example/web:1.0.0"  ← Git, shop/web.yaml:12
        spec.template.spec.containers[name="web"].name   "web"                         ← Git, shop/web.yaml:12
        "#);
    }
}
