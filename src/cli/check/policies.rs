//! Reads the policies that `--policies` names: plain Rego, ConstraintTemplates and constraints. YAML goes through the render
//! worker like every manifest, so that a template means here what it means in the cluster.

use std::path::{Path, PathBuf};

use super::report::Failure;
use super::tree::Renderer;
use crate::api::gatekeeper::{CONSTRAINTS_GROUP, TEMPLATES_GROUP};
use crate::plan::Desired;
use crate::policy::{Document, Sources};
use crate::source::policy_dir;

/// Reads all directories; what goes wrong is added to `errors`.
pub(super) async fn read(directories: &[PathBuf], renderer: &Renderer, errors: &mut Vec<Failure>) -> Sources {
    let mut sources = Sources::default();
    for directory in directories {
        match read_one(directory, renderer, errors).await {
            Ok(found) if count(&found) == 0 => errors.push(Failure::new(format!(
                "{}: holds no policy; expected are .rego files, or YAML files with ConstraintTemplates and constraints",
                directory.display()
            ))),
            Ok(found) => {
                sources.rego.extend(found.rego);
                sources.templates.extend(found.templates);
                sources.constraints.extend(found.constraints);
            }
            Err(error) => errors.push(Failure::new(error.to_string())),
        }
    }
    sources
}

async fn read_one(
    directory: &Path,
    renderer: &Renderer,
    errors: &mut Vec<Failure>,
) -> Result<Sources, policy_dir::PolicyDirError> {
    let mut sources = Sources {
        rego: policy_dir::read(directory)?,
        ..Sources::default()
    };
    let mentions = |text: &str| text.contains(TEMPLATES_GROUP) || text.contains(CONSTRAINTS_GROUP);
    for file in policy_dir::read_yaml(directory, mentions)? {
        let name = file.path.display().to_string();
        match renderer.decode(&name, file.text.into_bytes()).await {
            Ok(objects) => add(&mut sources, &objects),
            Err(error) => errors.push(Failure::new(error.to_string())),
        }
    }
    Ok(sources)
}

/// Adds the templates and constraints among objects, unless one of the same kind and name is there already.
pub(super) fn add(sources: &mut Sources, objects: &[Desired]) {
    for one in objects {
        let (gvk, name) = (one.object.gvk(), one.object.name());
        let list = match gvk.group.as_str() {
            TEMPLATES_GROUP if gvk.kind == "ConstraintTemplate" => &mut sources.templates,
            CONSTRAINTS_GROUP => &mut sources.constraints,
            _ => continue,
        };
        let document = Document {
            origin: one.place().unwrap_or_else(|| one.object.reference().to_string()),
            value: one.object.value().clone(),
        };
        let text = |value: &serde_json::Value, pointer: &str| value.pointer(pointer)?.as_str().map(str::to_owned);
        let same = list.iter().any(|known| {
            text(&known.value, "/kind").as_deref() == Some(&gvk.kind)
                && text(&known.value, "/metadata/name").as_deref() == Some(name)
        });
        if !same {
            list.push(document);
        }
    }
}

/// How many policies sources have.
pub(super) fn count(sources: &Sources) -> usize {
    sources.rego.len() + sources.templates.len() + sources.constraints.len()
}
