//! That no requirement is left out, and none is called fulfilled that is not.

use super::*;

/// The numbers of the standard (ASVS 5.0.0): so many items has each section.
#[test]
fn every_item_of_the_three_chapters_is_accounted_for() {
    let sections = [
        ("3", &[1, 3, 5, 8, 8, 1, 5][..]),
        ("7", &[3, 4, 2, 5, 3, 2][..]),
        ("12", &[5, 2, 5][..]),
    ];
    let mut expected = BTreeSet::new();
    for (chapter, sizes) in sections {
        for (section, size) in (1..).zip(sizes) {
            expected.extend((1..=*size).map(|item| format!("ASVS {chapter}.{section}.{item}")));
        }
    }
    assert_eq!(expected.len(), 31 + 19 + 12);
    let all: Vec<_> = requirements::all().collect();
    let ids: BTreeSet<String> = all
        .iter()
        .map(|requirement| requirement.id.to_owned())
        .collect();
    assert_eq!(ids.len(), all.len(), "two requirements of one id");
    let missing: Vec<_> = expected.difference(&ids).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for requirement in &all {
        let is_asvs = requirement.id.starts_with("ASVS ");
        assert_eq!(
            is_asvs,
            (1..=3).contains(&requirement.level),
            "{}",
            requirement.id
        );
    }
    let report = World::good().review();
    assert_eq!(report.accounts().count(), all.len());
}

#[test]
fn every_rule_names_requirements_that_are_told_of() {
    let ids: BTreeSet<&str> = requirements::all()
        .map(|requirement| requirement.id)
        .collect();
    for rule in rules::all() {
        assert!(!rule.requirements.is_empty(), "{}", rule.name);
        for id in rule.requirements {
            assert!(ids.contains(id), "{}: there is no {id}", rule.name);
        }
        assert!(rule.why.ends_with('.'), "{}", rule.name);
    }
}

#[test]
fn a_requirement_with_a_finding_is_not_called_fulfilled() {
    let mut world = World::good();
    world.set("idle_timeout", "\"31m\"");
    let report = world.review();
    let mut accounts = report.accounts();
    let account = accounts
        .find(|account| account.requirement.id == "ASVS 7.3.1")
        .unwrap();
    let Standing::Found(findings) = account.standing else {
        panic!("{account:?}");
    };
    assert_eq!(findings[0].rule, "idle-timeout-long");
}
