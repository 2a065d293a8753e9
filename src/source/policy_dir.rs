//! Reads policies from a directory: plain Rego (`--policy-dir`), and where there is no cluster the YAML files that hold
//! Gatekeeper's objects too.
//!
//! Guarantees: the order does not depend on the file system; sizes are bounded.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::policy::RegoFile;

/// Most policy files in a directory: ten times the largest public library.
const MAX_FILES: usize = 10_000;
/// Largest policy file in bytes; what regorus accepts at most.
const MAX_BYTES: u64 = 1 << 20;
/// Files with this ending hold tests and are no policies.
const TEST_SUFFIX: &str = "_test.rego";
/// Deepest directory below the one that was named.
const MAX_DEPTH: usize = 32;

/// Why policies could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PolicyDirError {
    /// The disk refused.
    #[error("cannot read policies in {}: {source}", path.display())]
    Unreadable {
        /// Where.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A bound was met.
    #[error("{}: {reason}", path.display())]
    TooLarge {
        /// Where.
        path: PathBuf,
        /// The bound.
        reason: String,
    },
}

/// Reads every `.rego` file below a directory, or the one file that is named. Unit tests (`*_test.rego`) are left out.
///
/// # Errors
/// When something cannot be read or is too large.
pub fn read(root: &Path) -> Result<Vec<RegoFile>, PolicyDirError> {
    rego(root, |name| !name.ends_with(TEST_SUFFIX))
}

/// Reads every `.rego` file below a directory, unit tests too.
///
/// # Errors
/// When something cannot be read or is too large.
pub fn read_with_tests(root: &Path) -> Result<Vec<RegoFile>, PolicyDirError> {
    rego(root, |_| true)
}

/// Reads every YAML file below a directory that `wanted` takes for its text. What is no text or larger than an object can be
/// is none.
///
/// # Errors
/// When the directory cannot be read or holds too much.
pub fn read_yaml(root: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<YamlFile>, PolicyDirError> {
    let mut found = Vec::new();
    for path in files(root, |name| name.ends_with(".yaml") || name.ends_with(".yml"))? {
        if size(&path)? > MAX_BYTES {
            continue;
        }
        let bytes = fs::read(&path).map_err(|source| unreadable(&path, source))?;
        if let Ok(text) = String::from_utf8(bytes)
            && wanted(&text)
        {
            found.push(YamlFile { path, text });
        }
    }
    Ok(found)
}

/// A YAML file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlFile {
    /// Where it is, as the user wrote it.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

fn rego(root: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<RegoFile>, PolicyDirError> {
    let paths = files(root, |name| name.ends_with(".rego") && wanted(name))?;
    paths.iter().map(|path| load(path)).collect()
}

fn files(root: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, PolicyDirError> {
    let mut paths = Vec::new();
    collect(root, 0, &wanted, &mut paths)?;
    paths.sort();
    Ok(paths)
}

fn collect(
    path: &Path,
    depth: usize,
    wanted: &impl Fn(&str) -> bool,
    found: &mut Vec<PathBuf>,
) -> Result<(), PolicyDirError> {
    let too_large = |reason: String| PolicyDirError::TooLarge {
        path: path.to_owned(),
        reason,
    };
    let kind = fs::metadata(path).map_err(|source| unreadable(path, source))?;
    if kind.is_file() {
        if wanted(&path.file_name().unwrap_or_default().to_string_lossy()) {
            found.push(path.to_owned());
        }
        return if found.len() > MAX_FILES {
            Err(too_large(format!("more than {MAX_FILES} policy files")))
        } else {
            Ok(())
        };
    }
    if depth > MAX_DEPTH {
        return Err(too_large(format!("directories nested deeper than {MAX_DEPTH}")));
    }
    for entry in fs::read_dir(path).map_err(|source| unreadable(path, source))? {
        let entry = entry.map_err(|source| unreadable(path, source))?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        // A ConfigMap volume shows its files as links through a hidden directory: follow links, skip what is hidden.
        if !hidden {
            collect(&entry.path(), depth + 1, wanted, found)?;
        }
    }
    Ok(())
}

fn load(path: &Path) -> Result<RegoFile, PolicyDirError> {
    let size = size(path)?;
    if size > MAX_BYTES {
        let reason = format!("{size} bytes are more than the {MAX_BYTES} that a policy may have");
        return Err(PolicyDirError::TooLarge {
            path: path.to_owned(),
            reason,
        });
    }
    let text = fs::read_to_string(path).map_err(|source| unreadable(path, source))?;
    Ok(RegoFile {
        name: path.display().to_string(),
        text,
    })
}

fn size(path: &Path) -> Result<u64, PolicyDirError> {
    let metadata = fs::metadata(path).map_err(|source| unreadable(path, source))?;
    Ok(metadata.len())
}

fn unreadable(path: &Path, source: io::Error) -> PolicyDirError {
    PolicyDirError::Unreadable {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_in_order_and_tests_left_out() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("b/.hidden")).unwrap();
        for name in ["z.rego", "b/a.rego", "b/a_test.rego", "b/notes.md", "b/.hidden/x.rego"] {
            fs::write(dir.path().join(name), "package x").unwrap();
        }
        let names: Vec<String> = read(dir.path()).unwrap().into_iter().map(|file| file.name).collect();
        let expect: Vec<String> = ["b/a.rego", "z.rego"]
            .iter()
            .map(|name| dir.path().join(name).display().to_string())
            .collect();
        assert_eq!(names, expect);
        assert!(read(&dir.path().join("absent")).is_err());
        assert_eq!(read_with_tests(dir.path()).unwrap().len(), 3);
        fs::write(dir.path().join("b/x.yaml"), "wanted").unwrap();
        fs::write(dir.path().join("y.yml"), "not").unwrap();
        fs::write(dir.path().join("z.yaml"), [0xff]).unwrap();
        let yaml = read_yaml(dir.path(), |text| text.contains("wanted")).unwrap();
        assert_eq!(yaml.len(), 1);
        assert_eq!(yaml[0].path, dir.path().join("b/x.yaml"));
    }
}
