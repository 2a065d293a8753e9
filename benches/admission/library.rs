//! The policy library: of every suite its first test, that is a template, a constraint, and the objects of the cases.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// What of the library is used.
#[derive(Default)]
pub(crate) struct PolicyLibrary {
    pub(crate) templates: Vec<Value>,
    pub(crate) constraints: Vec<Value>,
    /// Each with the file that it stands in.
    pub(crate) objects: Vec<(PathBuf, Value)>,
}

impl PolicyLibrary {
    /// Reads all suites below a folder.
    pub(crate) fn read(root: &Path) -> Self {
        let mut suites = Vec::new();
        find(root, &mut suites);
        suites.sort();
        let mut library = Self::default();
        for suite in suites {
            let folder = suite.parent().unwrap();
            let value = load(&suite);
            let test = &value["tests"][0];
            let file = |name: &Value| folder.join(name.as_str().unwrap());
            library.templates.push(load(&file(&test["template"])));
            library.constraints.push(load(&file(&test["constraint"])));
            for case in test["cases"].as_array().unwrap() {
                let path = file(&case["object"]);
                let object = load(&path);
                let path = path.strip_prefix(root).unwrap().to_owned();
                if !library.objects.iter().any(|(known, _)| *known == path) {
                    library.objects.push((path, object));
                }
            }
        }
        assert!(
            !library.templates.is_empty(),
            "there is no suite.yaml below {}",
            root.display()
        );
        library
    }
}

fn find(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, found);
        } else if path.file_name().is_some_and(|name| name == "suite.yaml") {
            found.push(path);
        }
    }
}

fn load(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
