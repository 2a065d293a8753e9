//! `weir why`: where a live object and each of its fields come from.

mod print;
mod written;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use kube::{Api, Client};

use self::written::{Part, Written};
use super::declared::{Declared, Origin as Source, Reader};
use super::{EXIT_ERROR, renderer};
use crate::api::kustomize::{Kustomization, OWNER_NAME, OWNER_NAMESPACE};
use crate::apply::objects::Objects;
use crate::cluster::client::{ClientOptions, connect, explain};
use crate::cluster::discovery::Discovery;
use crate::controllers::kustomization::status;
use crate::core::fields::Path;
use crate::core::object::{Gvk, Object, ObjectRef};
use crate::guard::origin::{Origin, origins};
use crate::render::{Found as ReadOf, Options as PoolOptions, Pool};
use crate::source::Authorship;

/// Most files in which a field is looked for besides the one that declares its object: patches and kustomizations. Reading
/// one takes about a millisecond, and a build that reads more is of many objects, hardly of many patches of one.
const MAX_FILES: usize = 500;

/// Says where a live object and each of its fields come from.
///
/// For what Git declares: Kustomization, repository, file, revision, and the commit that changed the file last. For every
/// field: file, line, commit and author, or the field manager that set it and when. Fields that nobody set have their
/// default and are not shown.
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
    source: Result<Traced, String>,
}

/// What the source says of the object.
struct Traced {
    source: Source,
    /// Where the object is written, when it still is.
    declared: Option<Written>,
    /// Where its fields are written.
    fields: BTreeMap<Path, Written>,
    /// Who wrote the files.
    authors: HashMap<String, Authorship>,
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
    let origins = origins(&found, arguments.status);
    let belongs = belongs(&arguments, &client, &objects, &found, &origins).await?;
    match print::print(&found, &belongs, &origins, &mut anstream::stdout()) {
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

async fn belongs(
    arguments: &Why,
    client: &Client,
    objects: &Objects,
    found: &Object,
    origins: &[Origin],
) -> anyhow::Result<Belongs> {
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
    let source = read(arguments, client, objects, &kustomization, found, origins).await;
    Ok(Belongs::To(Box::new(Declaration { kustomization, source })))
}

/// The source, the place in it that declares the object, and those of its fields.
async fn read(
    arguments: &Why,
    client: &Client,
    objects: &Objects,
    kustomization: &Kustomization,
    found: &Object,
    origins: &[Origin],
) -> Result<Traced, String> {
    let program = renderer::locate(arguments.renderer.as_deref()).map_err(|error| error.to_string())?;
    let pool = Pool::new(PoolOptions::new(program));
    let traced = async {
        let reader = Reader::new(client.clone(), objects.clone(), pool.clone()).map_err(|error| error.to_string())?;
        let declared = reader.declared(kustomization).await?;
        trace(&reader, &pool, declared, found, origins).await
    };
    let traced = traced.await;
    pool.stop().await;
    traced
}

async fn trace(
    reader: &Reader,
    pool: &Pool,
    declared: Declared,
    found: &Object,
    origins: &[Origin],
) -> Result<Traced, String> {
    let object = declared
        .objects
        .iter()
        .find(|one| one.object.reference() == found.reference());
    let place = object.and_then(|one| {
        Some(Written {
            file: one.file.clone()?,
            line: one.line,
        })
    });
    let mut fields = BTreeMap::new();
    if let (Some(object), Some(place)) = (object, &place) {
        let parts = parts_read(pool, &declared, &place.file).await;
        for origin in origins.iter().filter(|origin| origin.from_git) {
            let written = written::written(&origin.path, object.object.value(), place, &parts);
            fields.insert(origin.path.clone(), written);
        }
    }
    let files: BTreeSet<&String> = fields.values().chain(&place).map(|written| &written.file).collect();
    let files = files.into_iter().cloned().collect();
    // Without history the rest is still an answer.
    let authors = reader.authorship(&declared, files).await.unwrap_or_default();
    Ok(Traced {
        source: declared.origin,
        declared: place,
        fields,
        authors,
    })
}

/// What stands in the file that declares an object and in the others that the build read. A file that cannot be read as
/// documents says nothing of any line.
async fn parts_read(pool: &Pool, declared: &Declared, first: &str) -> Vec<Part> {
    let others = declared.reads.iter().filter(|(path, read)| {
        let extension = path.rsplit_once('.').map(|(_, extension)| extension);
        matches!(read, ReadOf::File(_)) && *path != first && matches!(extension, Some("yaml" | "yml" | "json"))
    });
    let mut parts = Vec::new();
    for path in std::iter::once(first).chain(others.map(|(path, _)| path).take(MAX_FILES)) {
        if let Ok(Some(content)) = declared.files().read(path)
            && let Ok(documents) = pool.decode_with_lines(content).await
        {
            parts.extend(written::parts(path, documents));
        }
    }
    parts
}
