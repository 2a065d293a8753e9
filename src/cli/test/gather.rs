//! Finds tests below the given paths and reads every file that they name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use futures::StreamExt;
use serde_json::Value;

use crate::cli::renderer;
use crate::policy::RegoFile;
use crate::policy::suite::{self, Suite};
use crate::policy::testing::{self, Package};
use crate::render::{Options, Pool};
use crate::source::policy_dir::{self, YamlFile};

/// How many files are handed to the render workers at once: enough for each to have the next one waiting.
const AT_ONCE: usize = 2 * Options::WORKERS;
/// Largest input of a test: what the render worker takes at most.
const MAX_BYTES: u64 = 16 << 20;

/// All that a run needs.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) suites: Vec<(PathBuf, Suite)>,
    pub(super) packages: Vec<Package>,
    /// Documents of the files that suites name, or why there are none.
    pub(super) files: Files,
    pub(super) errors: Vec<String>,
}

/// Documents by file.
pub(super) type Files = BTreeMap<PathBuf, Result<Vec<Value>, String>>;

pub(super) async fn gather(paths: &[PathBuf], named: Option<&Path>) -> Gathered {
    let mut gathered = Gathered::default();
    let (mut yaml, mut rego): (Vec<YamlFile>, Vec<RegoFile>) = (Vec::new(), Vec::new());
    for path in paths {
        // `gator verify` wants to be told to descend; here it goes without saying.
        let path = path
            .to_str()
            .and_then(|text| text.strip_suffix("/..."))
            .map_or(path.as_path(), Path::new);
        let suites = policy_dir::read_yaml(path, |text| text.contains(suite::GROUP));
        let found = suites.and_then(|suites| Ok((suites, policy_dir::read_with_tests(path)?)));
        match found {
            Ok((suites, files)) => {
                for mut file in suites {
                    file.path = file.path.strip_prefix(".").map_or(file.path.clone(), Path::to_owned);
                    if yaml.iter().all(|known| known.path != file.path) {
                        yaml.push(file);
                    }
                }
                for mut file in files {
                    file.name = file.name.trim_start_matches("./").to_owned();
                    if rego.iter().all(|known| known.name != file.name) {
                        rego.push(file);
                    }
                }
            }
            Err(error) => gathered.errors.push(error.to_string()),
        }
    }
    let (packages, problems) = testing::packages(&rego);
    gathered.packages = packages;
    let errors = problems.iter().filter(|problem| problem.is_error());
    gathered.errors.extend(errors.map(ToString::to_string));
    if !yaml.is_empty() {
        match renderer::locate(named) {
            Ok(program) => suites(&mut gathered, yaml, &Pool::new(Options::new(program))).await,
            Err(error) => gathered
                .errors
                .push(format!("{error:#}; suites cannot be read without it")),
        }
    }
    if gathered.suites.is_empty() && gathered.packages.is_empty() && gathered.errors.is_empty() {
        gathered.errors.push(
            "there is no test: neither a suite (apiVersion test.gatekeeper.sh/v1alpha1) nor a rule test_… in a .rego file"
                .to_owned(),
        );
    }
    gathered
}

async fn suites(gathered: &mut Gathered, yaml: Vec<YamlFile>, pool: &Pool) {
    for file in yaml {
        let shown = file.path.display();
        match pool.decode(file.text.into_bytes()).await {
            Ok(documents) => {
                for document in documents {
                    match Suite::read(&document.value) {
                        Some(Ok(suite)) => gathered.suites.push((file.path.clone(), suite)),
                        Some(Err(error)) => gathered.errors.push(format!("{shown}:{}: {error}", document.line)),
                        None => {}
                    }
                }
            }
            Err(error) => gathered.errors.push(error.in_file(&shown.to_string()).to_string()),
        }
    }
    let named = gathered.suites.iter().flat_map(|(path, suite)| inputs(path, suite));
    let named: BTreeSet<PathBuf> = named.collect();
    gathered.files = futures::stream::iter(named)
        .map(|path| async move {
            let documents = read(&path, pool).await;
            (path, documents)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    pool.stop().await;
}

/// Every file that a suite names.
fn inputs(path: &Path, suite: &Suite) -> Vec<PathBuf> {
    let tests = suite.tests.iter().filter(|test| !suite.skip && !test.skip);
    let names = tests.flat_map(|test| {
        let cases = test.cases.iter().filter(|case| !case.skip);
        let of_cases = cases.flat_map(|case| std::iter::once(&case.object).chain(&case.inventory));
        [&test.template, &test.constraint, &test.expansion]
            .into_iter()
            .chain(of_cases)
    });
    names
        .filter(|name| !name.is_empty())
        .map(|name| beside(path, name))
        .collect()
}

/// A file as a suite names it.
pub(super) fn beside(suite: &Path, name: &str) -> PathBuf {
    suite.parent().unwrap_or(Path::new("")).join(name)
}

async fn read(path: &Path, pool: &Pool) -> Result<Vec<Value>, String> {
    let shown = path.display();
    let size = std::fs::metadata(path)
        .map_err(|error| format!("{shown}: {error}"))?
        .len();
    if size > MAX_BYTES {
        return Err(format!(
            "{shown}: {size} bytes are more than the {MAX_BYTES} that a file may have"
        ));
    }
    let content = std::fs::read(path).map_err(|error| format!("{shown}: {error}"))?;
    let documents = pool
        .decode(content)
        .await
        .map_err(|error| format!("{shown}: {error}"))?;
    Ok(documents.into_iter().map(|document| document.value).collect())
}
