//! Runs `flux` as a user of a test's world.

use std::path::PathBuf;
use std::process::Command;

use crate::cluster::eventually;
use crate::world::World;

/// Longest wait that a command may ask for: generous, because a loaded machine is slow.
const TIMEOUT: &str = "--timeout=2m";

/// A user with a kubeconfig and a namespace.
pub(crate) struct Flux {
    program: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
    home: PathBuf,
}

/// What a command gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    /// What is said about the work: flux says it on standard error.
    pub(crate) said: String,
}

impl Flux {
    /// In the namespace of a world.
    pub(crate) fn of(world: &World) -> Self {
        Self::new(
            world.cluster.kubeconfig.clone(),
            &world.namespace,
            world.directory.path().join("home"),
        )
    }

    pub(crate) fn new(kubeconfig: PathBuf, namespace: &str, home: PathBuf) -> Self {
        let program = std::env::var_os("WEIR_FLUX").expect("WEIR_FLUX is not set; export it as `hack/tool flux` says");
        std::fs::create_dir_all(&home).unwrap();
        Self {
            program: program.into(),
            kubeconfig,
            namespace: namespace.to_owned(),
            home,
        }
    }

    /// Runs it; arguments are separated by blanks.
    pub(crate) fn run(&self, arguments: &str) -> Ran {
        let output = Command::new(&self.program)
            .arg(TIMEOUT)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["--namespace", &self.namespace])
            .args(arguments.split_whitespace())
            .current_dir(&self.home)
            .env("HOME", &self.home)
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        Ran {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            said: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs it and wants it to end well.
    pub(crate) fn well(&self, arguments: &str) -> Ran {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "flux {arguments}\n{}\n{}", ran.out, ran.said);
        ran
    }

    /// The row of a table, by its first column.
    pub(crate) fn row(&self, arguments: &str, name: &str) -> Vec<String> {
        let ran = self.well(arguments);
        let row = ran
            .out
            .lines()
            .find(|line| line.split('\t').next().unwrap_or_default().trim() == name);
        let row = row.unwrap_or_else(|| panic!("flux {arguments}: no {name} in\n{}", ran.out));
        row.trim_end().split('\t').map(|cell| cell.trim().to_owned()).collect()
    }

    /// Runs it until it shows this.
    pub(crate) async fn shows(&self, arguments: &str, wanted: &str) {
        eventually(&format!("flux {arguments} shows {wanted:?}"), async || {
            let ran = self.run(arguments);
            if ran.code == 0 && ran.out.contains(wanted) {
                return Ok(());
            }
            Err(format!("{ran:?}"))
        })
        .await;
    }

    /// A directory of files for the commands that read some.
    pub(crate) fn files(&self, directory: &str, files: &[(&str, &str)]) {
        for (path, content) in files {
            let path = self.home.join(directory).join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
    }
}

impl Ran {
    /// Wants this in what it printed.
    #[track_caller]
    pub(crate) fn has(&self, wanted: &str) -> &Self {
        assert!(
            self.out.contains(wanted) || self.said.contains(wanted),
            "no {wanted:?} in\n{}\n{}",
            self.out,
            self.said
        );
        self
    }
}
