//! Trees that are put together, from trees of paths.

use super::*;

/// Files by path; directories follow from them.
struct Fixture(Vec<(&'static str, &'static str)>);

impl Files for Fixture {
    fn stat(&self, path: &str) -> Result<Option<FileKind>, FilesError> {
        let hit = |(file, _): &(&str, &str)| {
            let rest = below(file, path)?;
            Some(if rest.is_empty() { FileKind::File } else { FileKind::Dir })
        };
        Ok(self.0.iter().find_map(hit))
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, FilesError> {
        let found = self.0.iter().find(|(file, _)| *file == path);
        Ok(found.map(|(_, text)| text.as_bytes().to_vec()))
    }

    fn list(&self, path: &str) -> Result<Option<Vec<DirEntry>>, FilesError> {
        let mut found = BTreeMap::new();
        for rest in self.0.iter().filter_map(|(file, _)| below(file, path)) {
            let (name, kind) = match rest.split_once('/') {
                Some((name, _)) => (name, FileKind::Dir),
                None => (rest, FileKind::File),
            };
            found.insert(name.to_owned(), kind);
        }
        let entries = found.into_iter().map(|(name, kind)| DirEntry { name, kind });
        Ok(Some(entries.collect()))
    }

    fn digest(&self, path: &str) -> Result<Option<String>, FilesError> {
        Ok(self.read(path)?.map(|content| format!("{}", content.len())))
    }
}

fn all(files: &dyn Files, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in files.list(path).unwrap().unwrap() {
        let child = join(path, &entry.name);
        assert_eq!(files.stat(&child).unwrap(), Some(entry.kind), "{child}");
        match entry.kind {
            FileKind::Dir => found.extend(all(files, &child)),
            FileKind::File => {
                assert!(files.read(&child).unwrap().is_some() && files.digest(&child).unwrap().is_some());
                found.push(child);
            }
        }
    }
    found
}

fn check(sparse: &[&str], mounts: &[(&str, &str)], ignore: Option<&str>, expect: &[&str]) {
    let base = Fixture(vec![
        ("a/b/x", ""),
        ("a/y", ""),
        ("ab/z", ""),
        ("c/.sourceignore", "*.md\n"),
        ("c/d.md", ""),
        ("root", ""),
    ]);
    let sparse = sparse.iter().map(|dir| (*dir).to_owned()).collect();
    let mut layers = Layers::new(Arc::new(base), sparse);
    for (path, from) in mounts {
        layers.mount(Mount {
            path: (*path).to_owned(),
            from: (*from).to_owned(),
            files: Arc::new(Fixture(vec![("m/one", ""), ("two", "")])),
        });
    }
    let layered = Layered::new(layers, ignore).unwrap();
    assert_eq!(
        all(&layered, ""),
        expect,
        "{sparse:?} {mounts:?} {ignore:?}",
        sparse = layered.layers.sparse
    );
}

#[test]
fn sparse_directories_are_all_there_is() {
    check(&[], &[], None, &["a/b/x", "a/y", "ab/z", "c/.sourceignore", "root"]);
    check(&["a/b"], &[], None, &["a/b/x"]);
    check(&["a", "c"], &[], None, &["a/b/x", "a/y", "c/.sourceignore"]);
    check(&[""], &[], Some("/a"), &["ab/z", "c/.sourceignore", "root"]);
}

#[test]
fn mounts_are_seen_where_they_are_put_and_the_rules_hold_for_them() {
    check(&["a"], &[("v/w", "")], None, &["a/b/x", "a/y", "v/w/m/one", "v/w/two"]);
    check(&["ab"], &[("v", "m")], None, &["ab/z", "v/one"]);
    check(
        &["ab"],
        &[("ab/v", "m"), ("v", "")],
        Some("two"),
        &["ab/v/one", "ab/z", "v/m/one"],
    );
    check(&["ab"], &[("v", "")], Some("/*\n!/v/two"), &["v/two"]);
}

#[test]
fn paths_of_a_spec_stay_inside() {
    let check = |path: &str, expect: Option<&str>| assert_eq!(clean(path).as_deref(), expect, "{path}");
    check("./a//b/", Some("a/b"));
    check("/", Some(""));
    check("a/../b", Some("b"));
    check("../b", None);
    check("a/../../b", None);
}
