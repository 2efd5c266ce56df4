//! The shape of the source tree: who may know whom, what every file opens with, how long it may get. It reads the
//! sources as text and knows nothing else of Doorward. The table is explained in ARCHITECTURE.md.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that fails is to say so at once"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Each area and the areas that it may name. Lines only name areas of the lines below them, so there is no cycle.
const TABLE: &[(&str, &str)] = &[
    (
        "cli",
        "app audit authority clock config demo edge login telemetry",
    ),
    ("demo", "app clock config login secret telemetry"),
    (
        "app",
        "admin authority clock config deadline edge identity login outbound pipeline portal routing secret session telemetry \
         upstream wire",
    ),
    (
        "audit",
        "authority clock config edge login routing secret session telemetry upstream",
    ),
    (
        "config",
        "edge identity login routing secret session telemetry upstream",
    ),
    (
        "pipeline",
        "clock deadline edge identity login portal routing session telemetry upstream wire",
    ),
    (
        "admin",
        "clock identity secret session telemetry upstream wire",
    ),
    (
        "portal",
        "clock identity login routing secret session telemetry wire",
    ),
    ("session", "clock identity secret telemetry"),
    ("login", "clock identity outbound resolver secret telemetry"),
    ("edge", "clock deadline routing telemetry wire"),
    ("upstream", "clock deadline resolver telemetry wire"),
    ("identity", "clock secret"),
    ("authority", "clock secret"),
    ("telemetry", "clock wire"),
    ("deadline", "clock"),
    ("wire", "secret"),
    ("outbound", "resolver"),
    ("resolver", ""),
    ("clock", ""),
    ("routing", ""),
    ("secret", ""),
];

/// Lines of a file before its tests.
const LONGEST_FILE: usize = 400;

/// One source file, without its tests and without its comments.
struct Source {
    path: String,
    /// The folder or file below `src` that it belongs to.
    area: String,
    /// Whether `super` is the crate's root here.
    is_head: bool,
    opening: String,
    lines: usize,
    code: String,
}

#[test]
fn areas_name_only_what_the_table_allows() {
    let table: BTreeMap<_, BTreeSet<_>> = TABLE
        .iter()
        .map(|(area, allowed)| (*area, allowed.split_whitespace().collect()))
        .collect();
    let mut faults = String::new();
    for source in sources() {
        let Some(allowed) = table.get(source.area.as_str()) else {
            assert!(
                ["main", "lib"].contains(&source.area.as_str()),
                "{} is not in the table",
                source.area
            );
            continue;
        };
        for named in named_areas(&source.code) {
            if named != source.area && !allowed.contains(named) {
                writeln!(
                    faults,
                    "{}: {} may not know {named}",
                    source.path, source.area
                )
                .unwrap();
            }
        }
        if source.code.contains("super::super") {
            writeln!(
                faults,
                "{}: say crate:: in place of super::super",
                source.path
            )
            .unwrap();
        }
        if source.is_head && source.code.contains("super::") {
            writeln!(
                faults,
                "{}: say crate:: in place of super:: in an area's head",
                source.path
            )
            .unwrap();
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn the_table_has_no_cycle_and_no_area_that_is_not_there() {
    let order: Vec<&str> = TABLE.iter().map(|(area, _)| *area).collect();
    for (place, (area, allowed)) in TABLE.iter().enumerate() {
        for name in allowed.split_whitespace() {
            let below = order.iter().position(|other| *other == name);
            assert!(
                below.is_some_and(|below| below > place),
                "{area} names {name}, which is not below it"
            );
        }
    }
    let there: BTreeSet<String> = sources().into_iter().map(|source| source.area).collect();
    for area in order {
        assert!(there.contains(area), "there is no {area}");
    }
}

#[test]
fn every_file_says_what_it_is() {
    let silent = sources()
        .into_iter()
        .filter(|source| !source.opening.starts_with("//! "));
    let silent: Vec<String> = silent.map(|source| source.path).collect();
    assert!(silent.is_empty(), "no //! at the top of {silent:?}");
}

#[test]
fn no_file_is_longer_than_a_reader_holds_in_mind() {
    let long = sources()
        .into_iter()
        .filter(|source| source.lines > LONGEST_FILE);
    let long: Vec<_> = long.map(|source| (source.path, source.lines)).collect();
    assert!(
        long.is_empty(),
        "more than {LONGEST_FILE} lines before the tests: {long:?}"
    );
}

#[test]
fn every_way_to_name_an_area_is_seen() {
    let code = "use crate::a::{b, c};\nuse crate::{d, e::{f, g}, h as i, self};\nlet x = crate::j::k();\npub(crate) fn l(x: mycrate::m) {}";
    assert_eq!(named_areas(code), BTreeSet::from(["a", "d", "e", "h", "j"]));
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 50, "the sources were not found");
    files.iter().map(|file| read(&root, file)).collect()
}

/// Every Rust file that is not all tests.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
    files.sort();
}

fn read(root: &Path, file: &Path) -> Source {
    let text = fs::read_to_string(file).unwrap();
    let path = file.strip_prefix(root).unwrap();
    let first = path
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap();
    let all: Vec<&str> = text.lines().collect();
    let is_tests = |at: &usize| {
        all[*at] == "#[cfg(test)]"
            && all
                .get(at + 1)
                .is_some_and(|next| next.contains("mod ") && next.ends_with('{'))
    };
    let lines = (0..all.len()).find(is_tests).unwrap_or(all.len());
    let code = all[..lines]
        .iter()
        .filter(|line| !line.trim_start().starts_with("//"));
    Source {
        area: first.trim_end_matches(".rs").to_owned(),
        is_head: path.components().count() == 1
            || (path.components().count() == 2 && path.ends_with("mod.rs")),
        path: path.display().to_string(),
        opening: all.first().map_or(String::new(), |line| (*line).to_owned()),
        lines,
        code: code.fold(String::new(), |code, line| code + line + "\n"),
    }
}

/// What follows each `crate::`, be it a name or a list in braces.
fn named_areas(code: &str) -> BTreeSet<&str> {
    let mut named = BTreeSet::new();
    for (at, found) in code.match_indices("crate::") {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        let rest = &code[at + found.len()..];
        match rest.strip_prefix('{') {
            None => named.extend(name(rest)),
            Some(list) => named.extend(items(list).into_iter().filter_map(name)),
        }
    }
    named.remove("self");
    named
}

/// The items of a list, up to its closing brace; lists within stay whole.
fn items(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0_usize, 0, Vec::new());
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.push(list[start..at].trim());
                start = at + 1;
                if character == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

fn name(text: &str) -> Option<&str> {
    let end = text.find(|character: char| !character.is_alphanumeric() && character != '_');
    let name = &text[..end.unwrap_or(text.len())];
    (!name.is_empty()).then_some(name)
}
