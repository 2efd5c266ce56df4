//! Each rule with what trips it and with what just does not; and that nothing is left out.

mod accounts;
mod frontend;
mod gaps;
mod lifetime;
mod observation;
mod people;
mod providers;
mod routes;
mod running;
mod secrets;
mod transport;
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use super::Severity::{High, Low, Medium};
use super::*;
use crate::clock::Timestamp;
use crate::secret::Secret;
use world::{DAY, NOW, POSTGRES, REDIS, World, seen};

/// A rule, how bad its finding is, what trips it, and what comes near and does not.
type Case = (&'static str, Severity, fn(&mut World), fn(&mut World));

/// In the order in which the rules are read.
fn cases() -> impl Iterator<Item = &'static Case> {
    [
        lifetime::CASES,
        frontend::CASES,
        transport::CASES,
        routes::CASES,
        providers::CASES,
        secrets::CASES,
        observation::CASES,
        running::CASES,
        gaps::CASES,
    ]
    .into_iter()
    .flatten()
}

/// What is found whatever is configured.
const ALWAYS: [&str; 2] = ["no-encrypted-hello", "no-ocsp-stapling"];

#[test]
fn each_rule_finds_what_it_is_about_and_not_what_comes_near() {
    for (rule, severity, trip, near) in cases() {
        let mut world = World::good();
        trip(&mut world);
        let report = world.review();
        let found: Vec<_> = report
            .findings()
            .iter()
            .filter(|finding| finding.rule == *rule)
            .collect();
        let [finding] = found.as_slice() else {
            panic!("{rule} found {} times", found.len());
        };
        assert_eq!(finding.fault.severity, *severity, "{rule}");
        assert!(
            !finding.fault.set.is_empty() && !finding.fault.advised.is_empty(),
            "{rule}"
        );
        if let Some(key) = &finding.fault.key {
            let places = Places::of(&world.text);
            assert!(
                key.is_empty() || places.nearest(key).is_some(),
                "{rule}: where is {key}?"
            );
        }
        let mut world = World::good();
        near(&mut world);
        let report = world.review();
        assert!(
            report
                .findings()
                .iter()
                .all(|finding| finding.rule != *rule),
            "{rule} cries wolf"
        );
    }
}

#[test]
fn every_rule_is_among_them() {
    let tried: BTreeSet<&str> = cases().map(|case| case.0).chain(ALWAYS).collect();
    let there: Vec<&str> = rules::all().map(|rule| rule.name).collect();
    let each_once: BTreeSet<&str> = there.iter().copied().collect();
    assert_eq!(there.len(), each_once.len(), "two rules of one name");
    assert_eq!(tried, each_once);
}

#[test]
fn a_good_configuration_has_only_what_this_version_lacks() {
    let report = World::good().review();
    let found: BTreeSet<&str> = report
        .findings()
        .iter()
        .map(|finding| finding.rule)
        .collect();
    let lacks = [
        "hsts-without-subdomains",
        "no-client-certificate",
        "own-sessions-without-fresh-login",
    ];
    assert_eq!(found, ALWAYS.into_iter().chain(lacks).collect());
    assert!(report.passes(Medium) && !report.passes(Low));
}
