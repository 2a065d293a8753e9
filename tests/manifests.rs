//! What `manifests/` holds: the CRDs are those of the types, what `weir install` prints is what kustomize builds, versions
//! agree, and alert rules name metrics that exist.
//!
//! With `WEIR_TEST_KUBECONFIG`, a control plane that is ours alone, they are applied to it too, and promtool reads the
//! rules.
//!
//! `UPDATE_MANIFESTS=1 cargo test --test manifests` writes the CRD files anew.

// clippy.toml lets tests unwrap, but sees no test in the helpers of an integration test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "manifests/flux.rs"]
mod flux;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use weir::telemetry::metrics::{Kind, TABLE};

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")
}

fn documents(yaml: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    all.into_iter().filter(|document| !document.is_null()).collect()
}

fn read(file: &str) -> Vec<Value> {
    documents(&std::fs::read_to_string(manifests().join(file)).unwrap())
}

/// Where a tool is: named in an environment variable, on PATH, or built by `hack/tool`.
fn tool(name: &str) -> String {
    if let Ok(named) = std::env::var(name.to_uppercase()) {
        return named;
    }
    let on_path = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file());
    if let Some(found) = on_path {
        return found.display().to_string();
    }
    let built = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/tool"))
        .arg(name)
        .output();
    let built = built.unwrap_or_else(|error| panic!("{name} is needed and hack/tool does not run: {error}"));
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    String::from_utf8(built.stdout).unwrap().trim().to_owned()
}

/// What kustomize makes of a directory.
fn kustomize(directory: &str) -> Vec<Value> {
    let output = Command::new(tool("kubectl"))
        .arg("kustomize")
        .arg(manifests().join(directory))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    documents(&String::from_utf8(output.stdout).unwrap())
}

fn exported() -> Vec<Value> {
    let mut out = Vec::new();
    weir::cli::install::export(&mut out).unwrap();
    documents(&String::from_utf8(out).unwrap())
}

fn id(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    format!(
        "{}/{}/{}",
        text("/kind"),
        text("/metadata/namespace"),
        text("/metadata/name")
    )
}

fn by_id(objects: Vec<Value>) -> BTreeMap<String, Value> {
    objects.into_iter().map(|object| (id(&object), object)).collect()
}

/// The CRDs of the types, with the labels that `flux check` reads.
fn crds() -> Vec<(String, Value)> {
    let mut crds = weir::api::schema::crds().unwrap();
    for crd in &mut crds {
        let metadata = crd["metadata"].as_object_mut().unwrap();
        let labels = metadata.entry("labels").or_insert_with(|| json!({}));
        labels["app.kubernetes.io/instance"] = json!("flux-system");
        labels["app.kubernetes.io/part-of"] = json!("flux");
        labels["app.kubernetes.io/version"] = json!(version());
    }
    let named = |crd: Value| (format!("crds/{}.yaml", crd["metadata"]["name"].as_str().unwrap()), crd);
    crds.into_iter().map(named).collect()
}

fn version() -> String {
    format!("v{}", env!("CARGO_PKG_VERSION"))
}

#[test]
fn crd_files_are_those_of_the_types() {
    for (file, crd) in crds() {
        if std::env::var_os("UPDATE_MANIFESTS").is_some() {
            let yaml = serde_saphyr::to_string(&crd).unwrap();
            let text = format!("# Generated from src/api by `UPDATE_MANIFESTS=1 cargo test --test manifests`.\n{yaml}");
            std::fs::write(manifests().join(&file), text).unwrap();
        }
        assert!(
            read(&file) == [crd],
            "manifests/{file} is not what src/api says; run UPDATE_MANIFESTS=1 cargo test --test manifests"
        );
    }
    let files = read("crds/kustomization.yaml").remove(0);
    assert_eq!(files["resources"].as_array().unwrap().len(), crds().len());
}

#[test]
fn install_prints_what_kustomize_builds() {
    let (printed, built) = (by_id(exported()), by_id(kustomize("")));
    let ids = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(ids(&printed), ids(&built));
    for (id, object) in &built {
        assert_eq!(&printed[id], object, "{id}");
    }
    let kinds: Vec<String> = exported()
        .iter()
        .map(|object| object["kind"].as_str().unwrap().to_owned())
        .collect();
    let first_other = kinds
        .iter()
        .position(|kind| kind != "CustomResourceDefinition")
        .unwrap();
    let last_crd = kinds
        .iter()
        .rposition(|kind| kind == "CustomResourceDefinition")
        .unwrap();
    assert!(last_crd < first_other, "CRDs come first: {kinds:?}");
    assert!(
        kinds.last().unwrap().ends_with("WebhookConfiguration"),
        "webhooks come last: {kinds:?}"
    );
}

#[test]
fn every_object_carries_the_version_of_the_program() {
    for object in exported() {
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/version"], version(), "{}", id(&object));
        assert_eq!(labels["app.kubernetes.io/part-of"], "flux", "{}", id(&object));
    }
    let deployment = &by_id(exported())["Deployment/flux-system/weir-controller"];
    let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(
        image,
        &json!(format!("weir:{}", version())),
        "flux version wants name:tag"
    );
}

#[test]
fn the_local_overlay_has_urls_and_no_process() {
    let objects = by_id(kustomize("overlays/local"));
    let gone = ["Deployment/", "Service/", "ResourceQuota/"];
    let left: Vec<&String> = objects
        .keys()
        .filter(|id| gone.iter().any(|kind| id.starts_with(kind)))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let mut paths = BTreeSet::new();
    for id in [
        "ValidatingWebhookConfiguration//weir-validate",
        "MutatingWebhookConfiguration//weir-mutate",
    ] {
        for webhook in objects[id]["webhooks"].as_array().unwrap() {
            assert_eq!(webhook["clientConfig"].get("service"), None, "{webhook}");
            paths.insert(
                webhook["clientConfig"]["url"]
                    .as_str()
                    .unwrap()
                    .rsplit('/')
                    .next()
                    .unwrap()
                    .to_owned(),
            );
        }
    }
    assert_eq!(paths.into_iter().collect::<Vec<_>>(), ["guard", "mutate", "validate"]);
}

#[test]
fn components_fit_the_base() {
    // kustomize wants relative paths: up to the root of the file system, and down again.
    let directory = tempfile::tempdir().unwrap();
    let depth = directory.path().canonicalize().unwrap().components().count() - 1;
    let here = format!(
        "{}{}",
        "../".repeat(depth),
        manifests()
            .canonicalize()
            .unwrap()
            .display()
            .to_string()
            .trim_start_matches('/')
    );
    let text = format!(
        "resources: [{here}/crds, {here}/base, {here}/controller]\n\
         components: [{here}/components/fail-closed, {here}/components/alerts]\n"
    );
    std::fs::write(directory.path().join("kustomization.yaml"), text).unwrap();
    let objects = by_id(kustomize(directory.path().to_str().unwrap()));
    for id in [
        "ValidatingWebhookConfiguration//weir-validate",
        "MutatingWebhookConfiguration//weir-mutate",
    ] {
        for webhook in objects[id]["webhooks"].as_array().unwrap() {
            // It writes a name on Exemptions; who breaks the glass must not be stopped by that.
            if webhook["name"] == "exemption.weir.dev" {
                assert_eq!(webhook["failurePolicy"], "Ignore", "{webhook}");
                continue;
            }
            assert_eq!(webhook["failurePolicy"], "Fail", "{webhook}");
            // Nothing that starts Weir asks this one, and what lies in Weir's own namespace reaches furthest.
            if webhook["name"] == "guard-status.weir.dev" {
                continue;
            }
            let selector = webhook["namespaceSelector"].to_string();
            assert!(
                selector.contains("kube-system") && selector.contains("flux-system"),
                "Weir must be able to start: {webhook}"
            );
        }
    }
    assert!(objects.contains_key("PrometheusRule/flux-system/weir"));
}

#[test]
fn alert_rules_name_metrics_and_labels_that_exist() {
    let rules = read("components/alerts/rules.yaml").remove(0);
    let rules = rules["spec"]["groups"][0]["rules"].as_array().unwrap().clone();
    let metric = regex::Regex::new(r"\b(?:weir|gotk|controller_runtime)_[a-z_]+").unwrap();
    let label = regex::Regex::new(r#"([a-z_]+)\s*(?:=~|!~|!=|=)\s*""#).unwrap();
    let by = regex::Regex::new(r"by \(([^)]*)\)").unwrap();
    let mut stages = BTreeSet::new();
    for rule in &rules {
        let expr = rule["expr"].as_str().unwrap();
        let mut known = BTreeSet::from(["le"]);
        let mut found = 0;
        for name in metric.find_iter(expr).map(|found| found.as_str()) {
            let histogram = |definition: &Kind| matches!(definition, Kind::Reconciles | Kind::Requests);
            let fits = |name: &str, of: &str, kind: &Kind| {
                name == of && !histogram(kind)
                    || histogram(kind)
                        && name
                            .strip_prefix(of)
                            .is_some_and(|end| ["_bucket", "_sum", "_count"].contains(&end))
            };
            let definition = TABLE
                .iter()
                .find(|definition| fits(name, definition.name, &definition.kind));
            let definition = definition.unwrap_or_else(|| panic!("{}: no metric is called {name}", rule["alert"]));
            known.extend(definition.labels);
            found += 1;
        }
        assert!(found > 0, "{} asks for no metric of ours", rule["alert"]);
        let used = label.captures_iter(expr).map(|found| found[1].to_owned());
        let grouped = by
            .captures_iter(expr)
            .flat_map(|found| found[1].split(',').map(|one| one.trim().to_owned()).collect::<Vec<_>>());
        for name in used.chain(grouped) {
            assert!(
                known.contains(name.as_str()),
                "{}: its metrics have no label {name}",
                rule["alert"]
            );
        }
        stages.extend(rule["labels"]["stage"].as_str());
        for field in ["summary", "description"] {
            assert!(
                rule["annotations"][field].is_string(),
                "{} has no {field}",
                rule["alert"]
            );
        }
    }
    let all = [
        "apply",
        "certificates",
        "drift",
        "gate",
        "health",
        "render",
        "source",
        "webhook",
    ];
    assert_eq!(
        stages.into_iter().collect::<Vec<_>>(),
        all,
        "each stage that can fail has an alert"
    );
}

#[test]
fn a_real_control_plane_takes_what_install_prints() {
    let Some(kubeconfig) = std::env::var_os("WEIR_TEST_KUBECONFIG") else {
        eprintln!("skipped: WEIR_TEST_KUBECONFIG is not set");
        return;
    };
    let kubectl = |arguments: &[&str], input: &[u8]| {
        let mut child = Command::new(tool("kubectl"))
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let mut yaml = Vec::new();
    weir::cli::install::export(&mut yaml).unwrap();
    // Twice: what is applied again must not differ, or Flux would see drift in its own installation.
    for round in 0..2 {
        let (applied, out, error) = kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &yaml);
        assert!(applied, "round {round}: {out}{error}");
        assert_eq!(out.lines().count(), exported().len(), "{out}");
    }
    let wait = ["wait", "--for=condition=Established", "--timeout=60s"];
    let names: Vec<String> = crds()
        .iter()
        .map(|(_, crd)| format!("crd/{}", crd["metadata"]["name"].as_str().unwrap()))
        .collect();
    let arguments: Vec<&str> = wait.into_iter().chain(names.iter().map(String::as_str)).collect();
    let (established, _, error) = kubectl(&arguments, b"");
    assert!(established, "{error}");

    let repository = |url: &str, name: &str| {
        json!({"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "spec": {"url": url, "interval": "1m"},
            "metadata": {"name": name, "namespace": "flux-system"}})
        .to_string()
    };
    let apply = ["apply", "--server-side", "--dry-run=server", "-o", "json", "-f", "-"];
    let (taken, out, error) = kubectl(
        &apply,
        repository("https://git.example/apps", "manifests-test").as_bytes(),
    );
    assert!(taken, "{error}");
    let taken: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(taken["spec"]["timeout"], "60s", "defaults are set");
    assert_eq!(
        taken["status"]["observedGeneration"], -1,
        "kstatus must see that nothing has looked at it"
    );
    let (taken, _, error) = kubectl(
        &apply,
        repository("ftp://git.example/apps", "manifests-test").as_bytes(),
    );
    assert!(!taken && error.contains("spec.url"), "{error}");

    // Webhooks that nobody answers would slow down every test after this one.
    let (deleted, _, error) = kubectl(
        &[
            "delete",
            "--ignore-not-found",
            "validatingwebhookconfiguration/weir-validate",
            "mutatingwebhookconfiguration/weir-mutate",
        ],
        b"",
    );
    assert!(deleted, "{error}");
    let (deleted, _, error) = kubectl(
        &[
            "delete",
            "--ignore-not-found",
            "-n",
            "flux-system",
            "deployment/weir-controller",
        ],
        b"",
    );
    assert!(deleted, "{error}");
}

#[test]
fn promtool_accepts_the_alert_rules() {
    if std::env::var_os("WEIR_TEST_KUBECONFIG").is_none() && std::env::var_os("PROMTOOL").is_none() {
        eprintln!("skipped: promtool takes minutes to build; set PROMTOOL or WEIR_TEST_KUBECONFIG");
        return;
    }
    let rules = read("components/alerts/rules.yaml").remove(0);
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    // JSON is YAML; what stands in spec is Prometheus's own file format.
    std::fs::write(file.path(), rules["spec"].to_string()).unwrap();
    let output = Command::new(tool("promtool"))
        .args(["check", "rules", "--lint-fatal"])
        .arg(file.path())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat();
    assert!(output.status.success(), "{text}");
    let count = rules["spec"]["groups"][0]["rules"].as_array().unwrap().len();
    assert!(text.contains(&format!("SUCCESS: {count} rules found")), "{text}");
}
