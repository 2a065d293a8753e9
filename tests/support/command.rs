//! Runs the built `weir` in a directory of its own and shows all that came of it.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Files in a directory that goes when this does.
pub(crate) struct Fixture {
    directory: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let fixture = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        for (path, content) in files {
            fixture.write(path, content);
        }
        fixture
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    /// Exit status, standard output and standard error of `weir` with these arguments.
    pub(crate) fn weir(&self, arguments: &str) -> String {
        run(self.directory.path(), arguments, "").shown(self.directory.path())
    }

    pub(crate) fn weir_with_input(&self, arguments: &str, input: &str) -> String {
        run(self.directory.path(), arguments, input).shown(self.directory.path())
    }
}

/// What a run gave.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    fn shown(&self, directory: &Path) -> String {
        let real = std::fs::canonicalize(directory).unwrap();
        let hide = |text: &str| text.replace(real.to_str().unwrap(), "[directory]");
        let mut shown = format!("exit {}\n", self.code);
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                shown.push_str(&format!("--- {name}\n{}", hide(text)));
            }
        }
        shown
    }
}

/// Runs `weir`; arguments are separated by blanks.
pub(crate) fn run(directory: &Path, arguments: &str, input: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .env("WEIR_RENDERER", renderer())
        .env_remove("CLICOLOR_FORCE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The render worker: as the environment says, or built by `hack/tool`.
fn renderer() -> &'static Path {
    static RENDERER: OnceLock<PathBuf> = OnceLock::new();
    RENDERER.get_or_init(|| {
        if let Some(named) = std::env::var_os("WEIR_RENDERER") {
            return PathBuf::from(named);
        }
        let built = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/tool"))
            .arg("renderer")
            .output()
            .unwrap_or_else(|error| panic!("the render worker is needed and hack/tool does not run: {error}"));
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        PathBuf::from(String::from_utf8(built.stdout).unwrap().trim())
    })
}
