//! Holds the source to the directions and invariants that `ARCHITECTURE.md` states.
//!
//! Guarantees: a room uses only the rooms in its row of `ROOMS`; pure rooms name no client, file system, network or clock;
//! every file says what it is for. Tests inside a room are left out, they may use whatever shows that it works.

// clippy.toml lets tests unwrap, but sees no test in the helpers of an integration test.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room, and the rooms that it may use. One way: a stage knows no other stage; only `controllers`, `serve` and `cli`
/// know several.
const ROOMS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("api", &["core"]),
    ("telemetry", &[]),
    ("cel", &["api", "core"]),
    ("policy", &["api", "cel", "core"]),
    ("plan", &["api", "core"]),
    ("gate", &["core", "plan", "policy"]),
    ("cluster", &["core", "telemetry"]),
    // Of policy only `RegoFile`, the form in which policies are read from disk.
    ("source", &["api", "core", "policy"]),
    ("render", &["api", "cluster", "core", "telemetry"]),
    ("apply", &["api", "cluster", "core", "plan"]),
    ("guard", &["api", "core"]),
    ("admission", &["api", "cluster", "core", "telemetry"]),
    (
        "controllers",
        &[
            "api",
            "apply",
            "cel",
            "cluster",
            "core",
            "gate",
            "guard",
            "plan",
            "policy",
            "render",
            "source",
            "telemetry",
        ],
    ),
    (
        "serve",
        &[
            "admission",
            "api",
            "controllers",
            "core",
            "guard",
            "policy",
            "source",
            "telemetry",
        ],
    ),
];

/// Rooms that decide and do not act.
const PURE: &[&str] = &["core", "api", "cel", "policy", "plan", "gate", "guard"];

/// What a room that only decides must not name. `kube::` itself is allowed for its derive macro and its types; whoever
/// talks to an API server names a client.
const IMPURE: &[&str] = &[
    "kube::Api",
    "kube::Client",
    "kube::client",
    "kube::api::Api",
    "kube::runtime",
    "Client,",
    "std::fs",
    "tokio::",
    "std::net",
    "std::env::",
    "std::process",
    "Instant::now",
    "SystemTime",
    "Timestamp::now",
    "Zoned::now",
    "actix_web",
];

/// The entry point parses and dispatches; everything else has a room.
const MAIN_LINES: usize = 25;

#[test]
fn every_room_uses_only_the_rooms_that_its_row_allows() {
    let mut wrong = Vec::new();
    for file in sources() {
        let Some(allowed) = allowed_for(&file.room) else {
            continue;
        };
        for used in rooms_named(&file.text) {
            if used != file.room && !allowed.contains(&used.as_str()) {
                wrong.push(format!(
                    "{}: {} may not use crate::{used}",
                    file.path.display(),
                    file.room
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rooms_that_decide_name_no_client_file_system_network_or_clock() {
    let mut wrong = Vec::new();
    for file in sources().into_iter().filter(|file| PURE.contains(&file.room.as_str())) {
        for word in impure(&file.text) {
            wrong.push(format!("{}: names {word}", file.path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_has_a_row_and_every_row_a_room() {
    let found: BTreeSet<String> = sources()
        .into_iter()
        .map(|file| file.room)
        .filter(|room| !["main", "lib", "cli"].contains(&room.as_str()))
        .collect();
    let rows: BTreeSet<String> = ROOMS.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(found, rows);
}

#[test]
fn the_rooms_form_no_circle() {
    // A room whose needs are all met can be taken away; what can never be taken away stands in a circle.
    let mut left: Vec<_> = ROOMS.to_vec();
    let mut met = BTreeSet::new();
    while let Some(position) = left
        .iter()
        .position(|(_, needs)| needs.iter().all(|need| met.contains(need)))
    {
        met.insert(left.remove(position).0);
    }
    assert!(left.is_empty(), "in a circle: {left:?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|file| !file.whole.starts_with("//!"))
        .map(|file| file.path)
        .collect();
    assert!(silent.is_empty(), "no `//!` in the first line: {silent:?}");
}

#[test]
fn the_entry_point_stays_small() {
    let text = fs::read_to_string(root().join("src/main.rs")).unwrap();
    assert!(
        text.lines().count() < MAIN_LINES,
        "src/main.rs has grown: move it into src/cli"
    );
}

#[test]
fn metric_names_stand_in_telemetry_only() {
    let wrong: Vec<_> = sources()
        .into_iter()
        .filter(|file| !["telemetry", "cli"].contains(&file.room.as_str()))
        .filter(|file| file.text.contains("\"weir_") || file.text.contains("\"gotk_"))
        .map(|file| file.path)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn what_these_tests_look_for_is_found() {
    assert_eq!(
        rooms_named("use crate::{core::x, policy};\nuse crate::cluster::client;\nlet a = crate::plan::b();"),
        ["cluster", "core", "plan", "policy"].map(str::to_owned).into()
    );
    assert_eq!(impure("fn f() { std::fs::read(p) }"), ["std::fs"]);
    assert_eq!(impure("/// not std::fs\n// nor SystemTime\nfn f() {}"), [""; 0]);
    assert_eq!(
        without_tests("a\n#[cfg(test)]\nmod tests {\n    use crate::cli;\n}\n"),
        "a\n"
    );
    assert_eq!(without_tests("#[cfg(test)]\nmod tests;\nmod b;\n"), "mod b;\n");
}

struct Source {
    path: PathBuf,
    room: String,
    /// All of it.
    whole: String,
    /// Without what is compiled for tests only.
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn allowed_for(room: &str) -> Option<&'static [&'static str]> {
    ROOMS
        .iter()
        .find(|(name, _)| *name == room)
        .map(|(_, allowed)| *allowed)
}

/// The sources that are part of the program; files and folders of tests are not.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            if name == "tests" || name.ends_with("_tests") || name == "testing" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(root().join("src")).unwrap();
                let first = inside.components().next().unwrap().as_os_str().to_string_lossy();
                let whole = fs::read_to_string(&path).unwrap();
                found.push(Source {
                    room: first.trim_end_matches(".rs").to_owned(),
                    text: without_tests(&whole),
                    whole,
                    path: inside.to_owned(),
                });
            }
        }
    }
    assert!(!found.is_empty(), "no sources under {}", root().display());
    found
}

/// Leaves out each item under `#[cfg(test)]`: a declaration ends at its line, a block at the first line that is only `}`.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
        let item = lines.by_ref().find(|line| !line.trim_start().starts_with("#["));
        if item.is_some_and(|item| item.trim_end().ends_with('{')) {
            let _ = lines.by_ref().find(|line| *line == end);
        }
    }
    kept
}

fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// Rooms that a text reaches through `crate::`, also through a group of imports.
fn rooms_named(text: &str) -> BTreeSet<String> {
    let text: String = code(text).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(top_names(group)),
            None => found.extend(name_at(rest)),
        }
    }
    found
}

/// The first names of a group's members: `core::{a, b}, policy}` has `core` and `policy`.
fn top_names(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut member) = (0, String::new());
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.extend(name_at(&std::mem::take(&mut member))),
            _ if depth == 0 => member.push(character),
            _ => {}
        }
    }
    names.extend(name_at(&member));
    names
}

fn name_at(text: &str) -> Option<String> {
    let name: String = text
        .trim_start()
        .chars()
        .take_while(|character| character.is_alphanumeric() || *character == '_')
        .collect();
    // A macro or a type at the crate's root is no room.
    name.chars().next().is_some_and(char::is_lowercase).then_some(name)
}

fn impure(text: &str) -> Vec<&'static str> {
    let named = |word: &&&str| code(text).any(|line| line.contains(**word));
    IMPURE.iter().filter(named).copied().collect()
}

/// A name such as `run/contract::a_test`, and the file that it should be in.
fn named_tests(text: &str) -> Vec<(PathBuf, String)> {
    let quoted = text.split('`').skip(1).step_by(2);
    let named = quoted.filter_map(|one| one.split_once("::"));
    named
        .map(|(file, test)| {
            let path = match file.split_once('/') {
                Some(("src", _)) => format!("{file}.rs"),
                Some(("renderer", _)) => format!("{file}.go"),
                _ => format!("tests/{file}.rs"),
            };
            (PathBuf::from(path), test.to_owned())
        })
        .collect()
}

#[test]
fn every_test_that_the_contract_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let contract = fs::read_to_string(root.join("tests/CONTRACT.md")).unwrap();
    let mut wrong = Vec::new();
    for (file, test) in named_tests(&contract) {
        let text = fs::read_to_string(root.join(&file)).unwrap_or_default();
        let is_test = if test.starts_with("Test") {
            text.contains(&format!("\nfunc {test}(t *testing.T)"))
        } else {
            let mut lines = text.lines().zip(text.lines().skip(1));
            lines.any(|(above, line)| {
                let line = line.trim_start().trim_start_matches("async ");
                above.contains("test]") && line.starts_with(&format!("fn {test}("))
            })
        };
        if !is_test {
            wrong.push(format!("{}: there is no test {test}", file.display()));
        }
    }
    let rows = contract
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| behaviour"));
    let unproved = rows.filter(|line| !line.contains("::") && !line.contains("**open**"));
    wrong.extend(unproved.map(|line| format!("no test is named: {line}")));
    assert!(wrong.is_empty(), "tests/CONTRACT.md:\n{}", wrong.join("\n"));
}
