//! The repository of the benchmark: N folders, each a kustomization of ConfigMap, ServiceAccount, Service and Deployment.

use super::Size;
use super::git_server::Repo;

/// Files of one Kustomization.
pub(crate) const FILES_EACH: usize = 5;
/// Files in one directory of those that no Kustomization reads.
const FILES_PER_DIRECTORY: usize = 20;

/// Name of the n-th application: its folder, its Kustomization and its objects.
pub(crate) fn name(number: usize) -> String {
    format!("app-{number:04}")
}

/// Commits all folders; gives the revision as a status shows it.
pub(crate) fn first_commit(repo: &Repo, size: Size, namespace: &str) -> String {
    let others = (FILES_EACH * size.count..size.files).map(|number| {
        let path = format!("other/{:04}/{number:06}.yaml", number / FILES_PER_DIRECTORY);
        (path, config(&name(number), "nobody reads this"))
    });
    let files: Vec<(String, String)> = (0..size.count)
        .flat_map(|number| {
            let name = name(number);
            let file = |file: &str, text: String| (format!("apps/{name}/{file}"), text);
            [
                file(
                    "kustomization.yaml",
                    format!("namespace: {namespace}\nresources: [config.yaml, account.yaml, service.yaml, deployment.yaml]\n"),
                ),
                file("config.yaml", config(&name, "first")),
                file("account.yaml", account(&name)),
                file("service.yaml", service(&name)),
                file("deployment.yaml", deployment(&name)),
            ]
        })
        .chain(others)
        .collect();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    format!("main@sha1:{}", repo.commit(&files, "All applications"))
}

/// Commits a change of one ConfigMap; gives the revision.
pub(crate) fn one_file(repo: &Repo, number: usize, _namespace: &str) -> String {
    let name = name(number);
    let path = format!("apps/{name}/config.yaml");
    format!(
        "main@sha1:{}",
        repo.commit(&[(&path, &config(&name, "second"))], "One setting")
    )
}

/// The four objects of an application as the bare client applies them.
pub(crate) fn objects(number: usize) -> [String; 4] {
    let name = name(number);
    [
        config(&name, "first"),
        account(&name),
        service(&name),
        deployment(&name),
    ]
}

fn config(name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{setting: {value}}}\n")
}

fn account(name: &str) -> String {
    format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}}}\n")
}

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: {name}}}, ports: [{{port: 80}}]}}\n"
    )
}

fn deployment(name: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: 0\n  selector: {{matchLabels: {{app: {name}}}}}\n  \
         template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      containers:\n      - {{name: web, image: registry.example/web:1.0.0}}\n"
    )
}
