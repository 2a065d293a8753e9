//! What a source leaves out of its artifact: Flux's default exclusions, `.sourceignore` files and `spec.ignore`.
//!
//! The last pattern that matches a path or one of its parents decides, as in Flux (Git instead never looks below an
//! excluded directory). The order is: defaults, the `.sourceignore` files from the root down, `spec.ignore`. As soon as any
//! user pattern exists anywhere in the tree, the defaults but for the version-control files are dropped.
//!
//! Guarantees: touches no file system; the caller hands in the text of a `.sourceignore` when asked. A pattern that is no
//! glob excludes nothing, as in Git.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ::ignore::gitignore::{Gitignore, GitignoreBuilder};

/// The file that holds patterns for the directory it stands in and all below.
pub const IGNORE_FILE: &str = ".sourceignore";

/// Longest `.sourceignore` or `spec.ignore` that is read, in bytes: etcd would not store a longer `spec.ignore`.
pub const MAX_IGNORE_BYTES: usize = 1 << 20;

/// Most patterns in one file: compiled, a pattern costs some kilobytes, so this bounds a hostile file to some megabytes.
const MAX_PATTERNS: usize = 2_000;

/// Version-control files: always excluded, unless a user pattern takes them back in.
const VCS: &[&str] = &[".git/", ".gitignore", ".gitmodules", ".gitattributes"];

/// Media and archives, CI configuration, and files of other tools: excluded where the user says nothing.
const DEFAULTS: &[&str] = &[
    "*.jpg",
    "*.jpeg",
    "*.gif",
    "*.png",
    "*.wmv",
    "*.flv",
    "*.tar.gz",
    "*.zip",
    ".github/",
    ".circleci/",
    ".travis.yml",
    ".gitlab-ci.yml",
    "appveyor.yml",
    ".drone.yml",
    "cloudbuild.yaml",
    "codeship-services.yml",
    "codeship-steps.yml",
    "**/.goreleaser.yml",
    "**/.sops.yaml",
    "**/.flux.yaml",
];

/// What the patterns of a file, or of a whole tree, amount to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// There is at least one pattern.
    pub patterns: bool,
    /// There is at least one pattern that takes something back in.
    pub negations: bool,
}

impl Summary {
    /// Of the text of an ignore file.
    #[must_use]
    pub fn of(text: &str) -> Self {
        lines(text).fold(Self::default(), |sum, line| {
            sum.and(Self {
                patterns: true,
                negations: line.starts_with('!'),
            })
        })
    }

    /// Of two together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            patterns: self.patterns || other.patterns,
            negations: self.negations || other.negations,
        }
    }
}

/// The exclusions of one tree.
pub struct Rules {
    base: Vec<Run>,
    spec: Vec<Run>,
    negations: bool,
    uniform: Option<String>,
    /// The patterns of each directory's `.sourceignore`, read when first needed.
    directories: Mutex<HashMap<String, Arc<Vec<Run>>>>,
}

impl Rules {
    /// The rules for a tree whose `.sourceignore` files amount to `tree`.
    #[must_use]
    pub fn new(spec_ignore: Option<&str>, tree: Summary) -> Self {
        let spec_ignore = spec_ignore.unwrap_or_default();
        let all = Summary::of(spec_ignore).and(tree);
        let defaults = if all.patterns { &[] } else { DEFAULTS };
        Self {
            base: parse("", VCS.iter().chain(defaults).copied()),
            spec: parse("", lines(spec_ignore)),
            negations: all.negations,
            uniform: (!tree.patterns).then(|| lines(spec_ignore).collect::<Vec<_>>().join("\n")),
            directories: Mutex::new(HashMap::new()),
        }
    }

    /// What the rules depend on beside the path, when no `.sourceignore` has a say in them.
    #[must_use]
    pub fn uniform(&self) -> Option<&str> {
        self.uniform.as_deref()
    }

    /// Whether something below an excluded directory can be part of the artifact after all.
    #[must_use]
    pub fn may_reinclude(&self) -> bool {
        self.negations
    }

    /// Whether a path is excluded. `load` gives the text of the `.sourceignore` in a directory, when there is one.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn excludes<E>(
        &self,
        path: &str,
        is_dir: bool,
        mut load: impl FnMut(&str) -> Result<Option<String>, E>,
    ) -> Result<bool, E> {
        if let Some(verdict) = decide(&self.spec, path, is_dir) {
            return Ok(verdict);
        }
        let mut directory = path;
        while let Some(parent) = parent(directory) {
            let patterns = self.directory(parent, &mut load)?;
            if let Some(verdict) = decide(&patterns, path, is_dir) {
                return Ok(verdict);
            }
            directory = parent;
        }
        Ok(decide(&self.base, path, is_dir).unwrap_or(false))
    }

    fn directory<E>(
        &self,
        directory: &str,
        load: &mut impl FnMut(&str) -> Result<Option<String>, E>,
    ) -> Result<Arc<Vec<Run>>, E> {
        let known = |rules: &Self| {
            let cache = rules.directories.lock().unwrap_or_else(PoisonError::into_inner);
            cache.get(directory).cloned()
        };
        if let Some(patterns) = known(self) {
            return Ok(patterns);
        }
        let text = load(directory)?;
        let patterns = Arc::new(text.map_or_else(Vec::new, |text| parse(directory, lines(&text))));
        let mut cache = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        cache.insert(directory.to_owned(), Arc::clone(&patterns));
        Ok(patterns)
    }
}

/// The directory that a path stands in; `None` for the root.
#[must_use]
pub fn parent(path: &str) -> Option<&str> {
    match path.rsplit_once('/') {
        Some((parent, _)) => Some(parent),
        None if path.is_empty() => None,
        None => Some(""),
    }
}

/// Consecutive patterns of one kind, all excluding or all taking back in. Only the order of the runs decides: within one,
/// every match says the same.
struct Run {
    domain: String,
    matcher: Gitignore,
}

impl Run {
    fn new(domain: &str, lines: &[&str]) -> Option<Self> {
        let mut builder = GitignoreBuilder::new("");
        builder.allow_unclosed_class(false);
        for line in lines {
            // A line that is no glob is left out and the others stay.
            let _ = builder.add_line(None, &escape_braces(line));
        }
        let matcher = builder.build().ok()?;
        (!matcher.is_empty()).then(|| Self {
            domain: domain.to_owned(),
            matcher,
        })
    }

    /// `Some(true)` when the run excludes the path or a parent of it, `Some(false)` when it takes it back in.
    fn decide(&self, path: &str, is_dir: bool) -> Option<bool> {
        let relative = match self.domain.as_str() {
            "" => path,
            domain => path.strip_prefix(domain)?.strip_prefix('/')?,
        };
        let ends = relative.match_indices('/').map(|(at, _)| (at, true));
        ends.chain([(relative.len(), is_dir)]).find_map(|(end, is_dir)| {
            let matched = self.matcher.matched(relative.get(..end)?, is_dir);
            (!matched.is_none()).then(|| matched.is_ignore())
        })
    }
}

/// Braces are plain characters in Git and Flux, but alternatives to the glob library.
fn escape_braces(line: &str) -> String {
    let (mut escaped, mut class) = (false, false);
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        if matches!(c, '{' | '}') && !escaped && !class {
            out.push('\\');
        }
        match c {
            '[' if !escaped => class = true,
            ']' => class = false,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        out.push(c);
    }
    out
}

fn parse<'a>(domain: &str, lines: impl Iterator<Item = &'a str>) -> Vec<Run> {
    let lines: Vec<&str> = lines.take(MAX_PATTERNS).collect();
    let runs = lines.chunk_by(|a, b| a.starts_with('!') == b.starts_with('!'));
    runs.filter_map(|run| Run::new(domain, run)).collect()
}

/// The lines that are patterns.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
}

fn decide(runs: &[Run], path: &str, is_dir: bool) -> Option<bool> {
    runs.iter().rev().find_map(|run| run.decide(path, is_dir))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Which of the paths are excluded; a path that ends in `/` is a directory.
    fn excluded<'a>(spec: Option<&str>, files: &[(&str, &str)], paths: &[&'a str]) -> Vec<&'a str> {
        let summary = files
            .iter()
            .fold(Summary::default(), |sum, (_, text)| sum.and(Summary::of(text)));
        let rules = Rules::new(spec, summary);
        let load = |directory: &str| -> Result<Option<String>, Infallible> {
            let found = files.iter().find(|(at, _)| *at == directory);
            Ok(found.map(|(_, text)| (*text).to_owned()))
        };
        let is_excluded = |path: &&&str| {
            rules
                .excludes(path.trim_end_matches('/'), path.ends_with('/'), load)
                .unwrap()
        };
        paths.iter().filter(is_excluded).copied().collect()
    }

    #[test]
    fn without_patterns_the_defaults_of_flux_are_excluded() {
        let out = [
            ".git/",
            ".git/config",
            "sub/.gitignore",
            ".gitmodules",
            ".gitattributes",
            "a/b.jpg",
            "x.tar.gz",
            "logo.png",
            ".github/",
            ".github/workflows/ci.yaml",
            "sub/.circleci/config.yml",
            ".travis.yml",
            "appveyor.yml",
            "cloudbuild.yaml",
            "codeship-steps.yml",
            "a/.goreleaser.yml",
            ".sops.yaml",
            "deep/er/.flux.yaml",
        ];
        let inside = [
            "a.yaml",
            "github/x",
            ".git",
            "tar.gz.yaml",
            "clusters/",
            "sops.yaml",
            ".github",
        ];
        let all: Vec<&str> = out.iter().chain(&inside).copied().collect();
        assert_eq!(excluded(None, &[], &all), out);
    }

    #[test]
    fn any_user_pattern_drops_the_defaults_but_for_version_control() {
        let paths = ["logo.png", ".github/x", ".gitignore", "notes.md", "deep/notes.md"];
        assert_eq!(
            excluded(Some("*.md"), &[], &paths),
            [".gitignore", "notes.md", "deep/notes.md"]
        );
        assert_eq!(
            excluded(None, &[("deep", "*.md")], &paths),
            [".gitignore", "deep/notes.md"]
        );
        assert_eq!(
            excluded(Some("# only a comment\n\n  \n"), &[("deep", "#")], &paths),
            ["logo.png", ".github/x", ".gitignore"]
        );
    }

    #[test]
    fn everything_but_one_directory_can_be_excluded() {
        let spec = "# exclude all\n/*\n# include deploy\n!/deploy\n# but not its texts\n/deploy/**/*.md\n";
        let paths = [
            "a.yaml",
            "src/",
            "src/a.yaml",
            "deploy/",
            "deploy/a.yaml",
            "deploy/b/c.md",
            "deploy/c.md",
        ];
        assert_eq!(
            excluded(Some(spec), &[], &paths),
            ["a.yaml", "src/", "src/a.yaml", "deploy/b/c.md", "deploy/c.md"]
        );
    }

    #[test]
    fn the_last_matching_pattern_wins_even_below_an_excluded_directory() {
        let paths = ["deploy/", "deploy/prod/", "deploy/prod/a.yaml", "deploy/dev/a.yaml"];
        assert_eq!(
            excluded(Some("/*\n!/deploy/prod"), &[], &paths),
            ["deploy/", "deploy/dev/a.yaml"]
        );
        assert_eq!(
            excluded(Some("/deploy/prod/a.yaml\n!/deploy"), &[], &paths),
            [] as [&str; 0]
        );
    }

    #[test]
    fn a_sourceignore_applies_to_its_own_directory_and_spec_ignore_comes_last() {
        let files = [("", "*.txt\n"), ("a", "/x\n!keep.txt\n"), ("a/b", "y/\n")];
        let paths = [
            "x",
            "a/x",
            "a/b/x",
            "a/b/y",
            "a/b/y/z",
            "y/z",
            "q.txt",
            "a/keep.txt",
            "a/b/keep.txt",
            "keep.txt",
        ];
        assert_eq!(excluded(None, &files, &paths), ["a/x", "a/b/y/z", "q.txt", "keep.txt"]);
        assert_eq!(
            excluded(Some("!q.txt\nkeep.txt"), &files, &paths),
            ["a/x", "a/b/y/z", "a/keep.txt", "a/b/keep.txt", "keep.txt"]
        );
    }

    #[test]
    fn a_pattern_that_is_no_glob_excludes_nothing() {
        assert_eq!(excluded(Some("[a\n*.md"), &[], &["[a", "a", "b.md"]), ["b.md"]);
    }

    #[test]
    fn braces_are_plain_characters() {
        let paths = ["a", "b", "{a,b}", "x{", "x"];
        assert_eq!(excluded(Some("{a,b}\nx\\{"), &[], &paths), ["{a,b}", "x{"]);
    }

    #[test]
    fn a_summary_tells_patterns_and_negations() {
        let check = |text: &str, patterns, negations| {
            assert_eq!(Summary::of(text), Summary { patterns, negations }, "{text:?}");
        };
        check("# nothing\n\n", false, false);
        check("a\n", true, false);
        check("a\n!b\n", true, true);
        check("\\!b\n", true, false);
    }
}
