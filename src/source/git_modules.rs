//! Submodules: what `.gitmodules` says. Pure.
//!
//! Guarantees: only paths inside the tree and addresses that a GitRepository could have too come out. An address that is
//! relative is resolved against the repository's own, as git does. Read by hand and not as configuration, since that could
//! include files of this machine.

use super::layers::clean;

/// Most submodules of one repository: each is a fetch of its own.
pub(super) const MAX_MODULES: usize = 100;

/// How deep submodules may have submodules; git hosts show fewer.
pub(super) const MAX_NESTING: usize = 10;

/// Longest `.gitmodules` that is read.
const MAX_BYTES: usize = 256 * 1024;

/// One submodule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Module {
    /// Where it belongs in the tree.
    pub(super) path: String,
    /// Its address.
    pub(super) url: String,
}

/// Reads `.gitmodules` of the repository at `parent`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(text: &[u8], parent: &str) -> Result<Vec<Module>, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("it is larger than {MAX_BYTES} bytes"));
    }
    let text = String::from_utf8_lossy(text);
    let mut sections: Vec<(String, Option<String>, Option<String>)> = Vec::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            let name = header.split(']').next().unwrap_or_default().trim();
            let name = name.strip_prefix("submodule").map(str::trim);
            inside = name.is_some();
            if let Some(name) = name {
                sections.push((name.trim_matches('"').to_owned(), None, None));
            }
            continue;
        }
        let (Some((key, value)), true, Some(section)) = (line.split_once('='), inside, sections.last_mut()) else {
            continue;
        };
        match key.trim().to_ascii_lowercase().as_str() {
            "path" => section.1 = Some(unquote(value)),
            "url" => section.2 = Some(unquote(value)),
            _ => {}
        }
    }
    if sections.len() > MAX_MODULES {
        return Err(format!("it has more than {MAX_MODULES} submodules"));
    }
    let mut modules = Vec::new();
    for (name, path, url) in sections {
        let (Some(path), Some(url)) = (path, url) else {
            return Err(format!("submodule {name:?} has no path or no url"));
        };
        let bad = |what: &str| format!("submodule {name:?} has {what}");
        let path = clean(&path)
            .filter(|path| !path.is_empty())
            .ok_or_else(|| bad("a path outside of the repository"))?;
        let url = resolve(&url, parent).ok_or_else(|| bad("a url that leads nowhere"))?;
        modules.push(Module { path, url });
    }
    Ok(modules)
}

/// A value of git's configuration: quotes, escapes, comments.
fn unquote(value: &str) -> String {
    let (mut plain, mut quoted) = (String::new(), false);
    let mut characters = value.trim().chars();
    while let Some(one) = characters.next() {
        match one {
            '"' => quoted = !quoted,
            '\\' => plain.extend(characters.next()),
            '#' | ';' if !quoted => break,
            other => plain.push(other),
        }
    }
    if quoted { plain } else { plain.trim_end().to_owned() }
}

/// An address, resolved against the repository's when it begins with `./` or `../`.
fn resolve(url: &str, parent: &str) -> Option<String> {
    if !url.starts_with("./") && !url.starts_with("../") {
        return Some(scp(url).unwrap_or_else(|| url.to_owned()));
    }
    let (scheme, rest) = parent.split_once("://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    for part in url.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(format!("{scheme}://{authority}/{}", parts.join("/")))
}

/// `git@host:path`, which is SSH by another name.
fn scp(url: &str) -> Option<String> {
    if url.contains("://") {
        return None;
    }
    let (host, path) = url.split_once(':')?;
    let plain = !host.is_empty() && !host.contains('/');
    plain.then(|| format!("ssh://{host}/{}", path.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<&[(&str, &str)], &str>) {
        let told = parse(text.as_bytes(), "https://h/org/app.git");
        let told = told.map(|modules| modules.into_iter().map(|one| (one.path, one.url)).collect::<Vec<_>>());
        let owned = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(path, url)| ((*path).to_owned(), (*url).to_owned()));
            pairs.collect::<Vec<_>>()
        };
        assert_eq!(told, expect.map(owned).map_err(str::to_owned), "{text}");
    }

    #[test]
    fn gitmodules_are_read() {
        check(
            "[submodule \"a\"]\n\tpath = lib/a\n\turl = ../a.git\n[other]\n\tpath = x\n[submodule \"b\"]\n  URL = \"https://o/b\" ; note\n  path = b\n  branch = main\n",
            Ok(&[("lib/a", "https://h/org/a.git"), ("b", "https://o/b")]),
        );
        check(
            "[submodule \"a\"]\npath=a\nurl=git@o:org/a.git\n",
            Ok(&[("a", "ssh://git@o/org/a.git")]),
        );
        check(
            "[submodule \"a\"]\npath=a\nurl=./sub\n",
            Ok(&[("a", "https://h/org/app.git/sub")]),
        );
        check("", Ok(&[]));
    }

    #[test]
    fn what_leads_outside_is_refused() {
        check(
            "[submodule \"a\"]\npath=../a\nurl=https://o/a\n",
            Err("submodule \"a\" has a path outside of the repository"),
        );
        check(
            "[submodule \"a\"]\npath=a\nurl=../../../a\n",
            Err("submodule \"a\" has a url that leads nowhere"),
        );
        check(
            "[submodule \"a\"]\npath=a\n",
            Err("submodule \"a\" has no path or no url"),
        );
    }
}
