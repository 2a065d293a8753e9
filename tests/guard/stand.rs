//! A real `weir run` beside a real control plane, with a Git repository that declares what a test needs.
//!
//! Guarantees: everything has ports and a namespace of its own; what was started ends when it is dropped.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::git_server::{GitServer, Repo};

/// How long something that happens within a second may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);
/// How often to look meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// The control plane that the environment names; `None` when there is none, and the test is skipped.
pub struct Cluster {
    pub admin: PathBuf,
    kubectl: PathBuf,
    /// Copies of the kubeconfigs, which stand in the namespace of the tests.
    folder: tempfile::TempDir,
}

/// The namespace in which shell lines stand unless they say otherwise.
const NAMESPACE: &str = "guard-shop";

impl Cluster {
    pub fn find() -> Option<Self> {
        let file = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let found = (
            file("WEIR_TEST_KUBECONFIG"),
            file("WEIR_TEST_ALICE_KUBECONFIG"),
            file("WEIR_CLUSTER_DIR"),
            file("WEIR_RENDERER"),
        );
        let (Some(admin), Some(alice), Some(folder), Some(_)) = found else {
            eprintln!("skipped: no control plane, or WEIR_RENDERER is not set; see hack/test");
            return None;
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (kubectl, copies) = (folder.join("bin/kubectl"), tempfile::tempdir().unwrap());
        for (name, from) in [("admin", &admin), ("alice", &alice)] {
            let copy = copies.path().join(name);
            std::fs::copy(from, &copy).unwrap();
            let set = Command::new(&kubectl)
                .arg("--kubeconfig")
                .arg(&copy)
                .args(["config", "set-context", "--current", "--namespace", NAMESPACE])
                .stdout(Stdio::null())
                .status();
            assert!(set.unwrap().success());
        }
        Some(Self {
            admin,
            kubectl,
            folder: copies,
        })
    }

    /// The kubeconfig of `admin` or `alice`.
    pub fn kubeconfig(&self, who: &str) -> PathBuf {
        self.folder.path().join(who)
    }

    /// Runs a line of shell; `kubectl` is the administrator, `alice` is kubectl as somebody with rights but no part in Git.
    pub fn shell(&self, line: &str) -> (bool, String) {
        let script = format!(
            "set -euo pipefail\nexport KUBECONFIG={admin}\nexport PATH={bin}:$PATH\n\
             alice() {{ kubectl --kubeconfig={alice} \"$@\"; }}\n\
             weir() {{ {weir} \"$@\"; }}\nhelm() {{ {helm} --kubeconfig={alice} \"$@\"; }}\n{line}\n",
            helm = std::env::var("WEIR_HELM").unwrap_or_else(|_| "false".to_owned()),
            weir = env!("CARGO_BIN_EXE_weir"),
            admin = self.folder.path().join("admin").display(),
            alice = self.folder.path().join("alice").display(),
            bin = self.kubectl.parent().unwrap().display(),
        );
        let output = Command::new("bash")
            .arg("-c")
            .arg(script)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        (output.status.success(), text)
    }

    /// Runs a line of shell that must succeed; gives what it prints.
    pub fn ok(&self, line: &str) -> String {
        let (ok, text) = self.shell(line);
        assert!(ok, "{line}\n{text}");
        text.trim().to_owned()
    }

    /// Applies YAML as the administrator.
    pub fn apply(&self, yaml: &str) {
        let mut child = Command::new(&self.kubectl)
            .arg("--kubeconfig")
            .arg(&self.admin)
            .args(["apply", "--server-side", "--force-conflicts", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(yaml.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{yaml}");
    }

    /// Waits until a line of shell succeeds.
    pub fn eventually(&self, what: &str, line: &str) {
        let began = Instant::now();
        loop {
            let (ok, text) = self.shell(line);
            if ok {
                return;
            }
            assert!(began.elapsed() < SOON, "{what} did not happen: {line}\n{text}");
            std::thread::sleep(LOOK);
        }
    }
}

/// A repository that is served over HTTP.
pub struct Git {
    pub server: GitServer,
    pub repo: Repo,
    _folder: tempfile::TempDir,
}

impl Git {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repo = Repo::new(folder.path(), "shop");
        repo.commit(files, "The shop");
        let server = GitServer::start(folder.path());
        Self {
            server,
            repo,
            _folder: folder,
        }
    }

    pub fn url(&self) -> String {
        self.server.url("shop/.git")
    }
}

/// A `weir run`.
pub struct Weir {
    child: Child,
    log: PathBuf,
    health: u16,
    _folder: tempfile::TempDir,
}

/// How a `weir run` differs from an ordinary one.
#[derive(Default)]
pub struct Manner<'a> {
    /// Without a webhook.
    pub without_webhook: bool,
    /// Where it keeps what it has fetched, for another one to find.
    pub storage: Option<&'a Path>,
    /// Where its webhook listens and under which port the API server reaches it.
    pub hook: Option<(u16, u16)>,
    /// More arguments.
    pub arguments: &'a [&'a str],
}

impl Weir {
    /// An ordinary one, with or without its webhook.
    pub fn start(cluster: &Cluster, webhook: bool) -> Self {
        Self::start_like(
            cluster,
            &Manner {
                without_webhook: !webhook,
                ..Manner::default()
            },
        )
    }

    /// Installs what Weir needs, starts it and waits until it is ready, which with the webhook it is when the API server was
    /// told.
    pub fn start_like(cluster: &Cluster, manner: &Manner<'_>) -> Self {
        let webhook = !manner.without_webhook;
        let folder = tempfile::tempdir().unwrap();
        if manner.hook.is_none() {
            cluster.ok("kubectl apply --server-side --force-conflicts -k manifests/overlays/local >/dev/null");
        }
        if !webhook {
            cluster.ok(
                "kubectl delete --ignore-not-found validatingwebhookconfiguration/weir-validate \
                        mutatingwebhookconfiguration/weir-mutate",
            );
        }
        let kubeconfig = folder.path().join("weir.kubeconfig");
        std::fs::copy(&cluster.admin, &kubeconfig).unwrap();
        cluster.ok(&format!(
            "token=$(kubectl -n flux-system create token weir-controller --duration=24h)\n\
             kubectl --kubeconfig={0} config set-credentials weir --token=\"$token\" >/dev/null\n\
             kubectl --kubeconfig={0} config set-context --current --user=weir >/dev/null",
            kubeconfig.display()
        ));
        let (storage, health) = (free_port(), free_port());
        let (hook, reached) = manner.hook.unwrap_or_else(|| {
            let port = free_port();
            (port, port)
        });
        let disk = manner.storage.map_or(folder.path().join("storage"), Path::to_path_buf);
        let log = folder.path().join("weir.log");
        let written = std::fs::File::create(&log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .arg("run")
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .arg("--storage-path")
            .arg(disk)
            .args(["--storage-addr", &format!("127.0.0.1:{storage}")])
            .args(["--webhook", if webhook { "true" } else { "false" }])
            .args(["--webhook-addr", &format!("127.0.0.1:{hook}")])
            .args(["--webhook-url", &format!("https://127.0.0.1:{reached}")])
            .args(["--metrics-addr", &format!("127.0.0.1:{health}")])
            .args(["--health-addr", &format!("127.0.0.1:{health}")])
            .args(manner.arguments)
            .stdout(written.try_clone().unwrap())
            .stderr(written)
            .spawn()
            .unwrap();
        let weir = Self {
            child,
            log,
            health,
            _folder: folder,
        };
        cluster.eventually(
            "Weir is ready",
            &format!("curl -fsS --noproxy '*' http://127.0.0.1:{health}/readyz"),
        );
        if webhook {
            let registered = cluster.ok(
                "kubectl get validatingwebhookconfiguration weir-validate -o 'jsonpath={.webhooks[*].clientConfig.url}'",
            );
            assert!(
                registered.contains(&format!(":{reached}/guard")),
                "ready means registered: {registered}"
            );
        }
        weir
    }

    /// A metric's lines.
    pub fn metrics(&self, name: &str) -> Vec<String> {
        let address = format!("http://127.0.0.1:{}/metrics", self.health);
        let output = Command::new("curl")
            .args(["-fsS", "--noproxy", "*", &address])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .filter(|line| line.starts_with(name))
            .map(str::to_owned)
            .collect()
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status();
        assert!(sent.unwrap().success());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let last: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("the last lines of Weir, newest first:\n{}", last.join("\n"));
        }
    }
}

/// A GitRepository and a Kustomization of the same name, which deploys a directory of a repository.
pub fn deploys(name: &str, url: &str, path: &str) -> String {
    format!(
        "---\napiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\n\
         metadata: {{name: {name}, namespace: flux-system}}\nspec: {{interval: 10m, url: '{url}', ref: {{branch: main}}}}\n\
         ---\napiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\n\
         metadata: {{name: {name}, namespace: flux-system}}\n\
         spec: {{interval: 10m, path: '{path}', prune: true, sourceRef: {{kind: GitRepository, name: {name}}}}}\n"
    )
}

/// Shell that succeeds when a Kustomization is ready.
pub fn is_ready(name: &str) -> String {
    format!(
        "[[ $(kubectl -n flux-system get kustomization {name} \
         -o 'jsonpath={{.status.conditions[?(@.type==\"Ready\")].status}}') == True ]] || \
         {{ kubectl -n flux-system get gitrepository,kustomization {name} -o wide; false; }}"
    )
}

/// Takes away whatever a test of this file leaves, its own or one that was interrupted.
pub fn clean(cluster: &Cluster) {
    cluster.ok(
        "kubectl delete --ignore-not-found validatingwebhookconfiguration/weir-validate mutatingwebhookconfiguration/weir-mutate\n\
         kubectl -n flux-system delete --ignore-not-found configmap/weir-freeze\n\
         for kind in kustomizations gitrepositories; do\n\
         for name in $(kubectl -n flux-system get --ignore-not-found $kind -o name 2>/dev/null || true); do\n\
         kubectl -n flux-system delete $name --wait=false\n\
         kubectl -n flux-system patch $name --type=merge -p '{\"metadata\":{\"finalizers\":null}}' || true\n\
         done; done\n\
         kubectl delete --ignore-not-found namespace guard-shop guard-away guard-modes\n\
         kubectl delete --ignore-not-found customresourcedefinition pools.guard.example",
    );
}

pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// The folder of this file's data.
pub fn data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guard").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
