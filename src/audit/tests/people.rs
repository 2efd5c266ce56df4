//! What people read.

use super::*;

#[test]
fn the_worst_comes_first_and_decides() {
    let mut world = World::good();
    world.set("audit", "\"off\"");
    world.set("hsts_max_age", "\"0s\"");
    let report = world.review();
    let severities: Vec<Severity> = report
        .findings()
        .iter()
        .map(|finding| finding.fault.severity)
        .collect();
    assert!(severities.is_sorted_by(|a, b| a >= b));
    assert_eq!(severities.first(), Some(&High));
    assert!(!report.passes(High));
    let counted: usize = Severity::ALL
        .map(|severity| report.count(severity))
        .iter()
        .sum();
    assert_eq!(counted, severities.len());
}

#[test]
fn a_report_for_people_fits_a_terminal_and_cannot_steer_it() {
    let mut world = World::good();
    for (_, _, trip, _) in cases().filter(|case| !["cache-long", "store-plain"].contains(&case.0)) {
        let mut alone = World::good();
        trip(&mut alone);
        world.facts.files.extend(alone.facts.files);
        world.facts.certificates.extend(alone.facts.certificates);
    }
    world.user("demo\u{1b}[2J", 8, 1);
    world.running(|_| {});
    let (settings, places) = (world.settings(), Places::of(&world.text));
    let evidence = Evidence {
        settings: &settings,
        places: &places,
        facts: &world.facts,
    };
    let report = review(&evidence);
    let text = report.to_text(&evidence, None, true);
    let wide: Vec<&str> = text
        .lines()
        .filter(|line| line.chars().count() > 80 && line.trim().contains(' '))
        .collect();
    assert!(wide.is_empty(), "{wide:?}");
    assert!(!text.contains('\u{1b}'));
    assert!(text.contains("ASVS 5.0 V7: 19 items, "), "{text}");
    assert!(text.contains("/nowhere/config.toml:5 tls"), "{text}");
}
