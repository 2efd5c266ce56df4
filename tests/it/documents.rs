//! What README.md and ARCHITECTURE.md say, held against the program.

use std::collections::BTreeSet;
use std::path::Path;

use doorward::config::{self, MINIMAL, Missing};
use doorward::telemetry::{LineWriter, Metrics};

const MAP: &str = include_str!("../../ARCHITECTURE.md");
const README: &str = include_str!("../../README.md");
const FILE: &str = include_str!("../../config.toml");

#[test]
fn the_reference_names_every_key_and_no_other() {
    // `set.*` in the reader's words is `set` to a person.
    let known: BTreeSet<String> = config::known_keys()
        .into_iter()
        .map(|key| key.trim_end_matches(".*").to_owned())
        .collect();
    let told: BTreeSet<String> = first_cells().filter(|cell| cell.contains('.')).collect();
    let whole: BTreeSet<&str> = BTreeSet::from(["route.timeouts"]);
    let missing: Vec<_> = known
        .difference(&told)
        .filter(|key| {
            !told
                .iter()
                .any(|other| other.starts_with(&format!("{key}.")))
        })
        .collect();
    let strange: Vec<_> = told
        .difference(&known)
        .filter(|key| !whole.contains(key.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "the README says nothing about {missing:?}"
    );
    assert!(
        strange.is_empty(),
        "the README names what nobody reads: {strange:?}"
    );
}

/// `config.toml` is held against the program elsewhere.
#[test]
fn the_defaults_are_those_of_the_repositorys_own_file() {
    let told = defaults_of_the_file();
    let mut compared = 0;
    for row in README.lines().filter_map(|line| line.strip_prefix("| `")) {
        let mut cells = row.split("` |");
        let (Some(key), Some(default)) = (cells.next(), cells.next()) else {
            continue;
        };
        let default = default.trim().trim_start_matches('`');
        if let Some((_, expected)) = told.iter().find(|(known, _)| known == key) {
            assert_eq!(default, expected, "{key}");
            compared += 1;
        }
    }
    assert!(compared >= 30, "only {compared} defaults were compared");
}

#[test]
fn every_example_is_a_good_configuration() {
    assert!(
        README.contains(MINIMAL),
        "the minimal configuration is not in the README"
    );
    let examples: Vec<&str> = blocks("toml").collect();
    assert!(examples.len() >= 6, "{} examples", examples.len());
    for example in examples {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        let text = if example.contains("[server]") {
            example.to_owned()
        } else {
            format!("{MINIMAL}\n{example}")
        };
        if let Err(errors) = config::parse(&file, &text, Missing::Tolerated) {
            panic!("{errors}\n{example}");
        }
    }
}

#[test]
fn every_metric_is_told_of_and_no_other() {
    let metrics = Metrics::new();
    metrics.route("wiki").count(200);
    metrics.session_over("logout");
    metrics.watch_log("access", &LineWriter::off());
    let text = metrics.encode();
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let there: BTreeSet<String> = families
        .map(|family| match family.split_once(' ').unwrap() {
            (name, "counter") => format!("{name}_total"),
            (name, "info") => format!("{name}_info"),
            (name, _) => name.to_owned(),
        })
        .collect();
    let told: BTreeSet<String> = first_cells()
        .filter(|cell| cell.starts_with("doorward_") || cell.starts_with("process_"))
        .collect();
    assert_eq!(told, there);
}

#[test]
fn the_map_leads_to_files_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let words = MAP.split('`').skip(1).step_by(2);
    let files = words.filter(|word| {
        let is_file = Path::new(word).extension().is_some_and(|ext| ext == "rs");
        (is_file || word.ends_with('/')) && !word.starts_with('/') && *word != "mod.rs"
    });
    let lost: Vec<&str> = files
        .filter(|file| !root.join("src").join(file).exists() && !root.join(file).exists())
        .collect();
    assert!(lost.is_empty(), "ARCHITECTURE.md leads to {lost:?}");
    assert!(
        MAP.lines().count() <= 150,
        "a map of {} lines",
        MAP.lines().count()
    );
}

#[test]
fn the_map_tells_the_table_that_is_checked() {
    let table = include_str!("../architecture.rs")
        .split_once("TABLE:")
        .unwrap()
        .1;
    let table = table.split_once("];").unwrap().0;
    let mut texts = table.split('"').skip(1).step_by(2);
    while let (Some(area), Some(allowed)) = (texts.next(), texts.next()) {
        if area == "app" || allowed.is_empty() {
            continue;
        }
        let line = MAP
            .lines()
            .find(|line| line.starts_with(&format!("{area} ")));
        let told = line
            .unwrap_or_default()
            .split('(')
            .next()
            .unwrap_or_default();
        let told: Vec<&str> = told.split_whitespace().skip(1).collect();
        assert_eq!(
            told,
            allowed.split_whitespace().collect::<Vec<_>>(),
            "{area}"
        );
    }
}

/// What stands in backticks at the beginning of a table's rows.
fn first_cells() -> impl Iterator<Item = String> {
    let rows = README.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.filter_map(|row| row.split_once("` |"));
    let names = cells.map(|(cell, _)| cell.to_owned());
    names.filter(|cell| !cell.contains(['/', '"']))
}

/// Keys and values of the sections that show defaults. Of what has none, an example stands there.
fn defaults_of_the_file() -> Vec<(String, String)> {
    const NOT_DEFAULTS: [&str; 39] = [
        "provider.authorization_url",
        "provider.base_dn",
        "provider.bind_dn",
        "provider.client_key",
        "provider.client_key_id",
        "provider.ca_file",
        "provider.client_id",
        "provider.emails_url",
        "provider.group_base_dn",
        "provider.group_filter",
        "provider.groups_url",
        "provider.id",
        "provider.issuer",
        "provider.login_url",
        "provider.max_auth_age",
        "provider.name",
        "provider.preset",
        "provider.return_parameter",
        "provider.rp_id",
        "provider.token_url",
        "provider.type",
        "provider.url",
        "provider.user_dn",
        "provider.user_filter",
        "provider.userinfo_url",
        "provider.users",
        "server.admin_listen",
        "server.http_listen",
        "server.listen",
        "session.assurance",
        "session.domain",
        "session.edge.ca_file",
        "session.edge.keys",
        "session.edge.renew",
        "session.jwt.domain",
        "session.secrets",
        "store.ca",
        "store.sentinel",
        "store.url",
    ];
    let mut section = "";
    let mut found = Vec::new();
    for line in FILE.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_start_matches('[').split(']').next().unwrap();
        } else if let Some((key, rest)) = line.split_once(" = ") {
            let value = rest.split(" #").next().unwrap().trim();
            let key = format!("{section}.{key}");
            let is_plain = key
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b"._".contains(&b));
            let is_one = !value.starts_with(['{', '[']) || value == "[]";
            if ![
                "clients.issuer",
                "route",
                "session.group",
                "session.namespace",
            ]
            .contains(&section)
                && is_plain
                && is_one
                && !NOT_DEFAULTS.contains(&key.as_str())
            {
                found.push((key, value.to_owned()));
            }
        }
    }
    found
}

fn blocks(kind: &str) -> impl Iterator<Item = &'static str> {
    let mark = format!("```{kind}\n");
    let mut rest = README;
    std::iter::from_fn(move || {
        let (_, from) = rest.split_once(&mark)?;
        let (block, after) = from.split_once("```")?;
        rest = after;
        Some(block)
    })
}
