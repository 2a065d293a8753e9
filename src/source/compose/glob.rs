//! Globs of copy operations: `*` within a name, `**` over any number of directories, `?`, `[…]` and `{…,…}`.

use globset::{GlobBuilder, GlobMatcher};

/// Most alternatives in the braces of one glob: each group multiplies the work of matching. Flux's bound.
const MAX_ALTERNATIVES: usize = 20;

/// A glob that was read.
#[derive(Clone)]
pub(super) struct Glob {
    matcher: GlobMatcher,
    /// Whether it names no directory, so that it is about names at any depth.
    plain: bool,
}

impl Glob {
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let alternatives = text.matches(',').count();
        if text.contains('{') && alternatives > MAX_ALTERNATIVES {
            return Err(format!(
                "the pattern '{text}' has {alternatives} alternatives; at most {MAX_ALTERNATIVES} are taken"
            ));
        }
        let glob = GlobBuilder::new(text)
            .literal_separator(true)
            .backslash_escape(true)
            .build();
        let matcher = glob
            .map_err(|error| format!("invalid pattern '{text}': {}", error.kind()))?
            .compile_matcher();
        Ok(Self {
            matcher,
            plain: !text.contains('/'),
        })
    }

    /// Whether it matches the whole path.
    pub(super) fn matches(&self, path: &str) -> bool {
        self.matcher.is_match(path)
    }

    /// Whether it excludes a path that was found below `base`: as it stands, from the base, or by its name.
    pub(super) fn excludes(&self, path: &str, base: &str) -> bool {
        let below = match base {
            "" => None,
            base => path.strip_prefix(base).and_then(|rest| rest.strip_prefix('/')),
        };
        self.matches(path)
            || below.is_some_and(|rest| self.matches(rest))
            || self.plain && path.rsplit('/').next().is_some_and(|name| self.matches(name))
    }
}

/// Whether a path is a glob.
pub(super) fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '[', ']', '{', '}'])
}

/// The directory above the first part that is a glob.
pub(super) fn base(pattern: &str) -> String {
    let parts: Vec<&str> = pattern.split('/').take_while(|part| !is_glob(part)).collect();
    parts.join("/")
}
