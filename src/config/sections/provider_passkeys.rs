//! `rp_id` of local users: the domain that their passkeys are for. It has to fit every host that people log in at.

use std::ops::Range;

use super::route::Placed;
use crate::config::reader::{Report, Section, quoted};
use crate::routing::HostPattern;

/// The domain, and where it is said.
pub(super) type RpId = (String, Range<usize>);

pub(super) fn read(section: &Section<'_>) -> Option<RpId> {
    let value = section.value("rp_id")?;
    let text = value.text()?;
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_address = text
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    let is_domain = text.len() <= 253 && text.split('.').all(label) && !is_address;
    if is_domain {
        return Some((text.to_owned(), value.place()));
    }
    value
        .wrong(format!("{} is not a domain", quoted(text)))
        .help("the end that the hosts of all routes have in common, in lower case, like \"example.com\"")
        .push();
    None
}

/// A passkey is of no use at a host that its domain does not cover: browsers refuse it there.
pub(super) fn judge(report: &Report<'_>, routes: &[Placed], rp_id: Option<&RpId>) {
    let Some((domain, place)) = rp_id else {
        return;
    };
    let stranger = routes.iter().find_map(|placed| {
        let (host, shown) = match &placed.route.host {
            HostPattern::Exact(host) => (host, host.clone()),
            HostPattern::Wildcard(rest) => (rest, format!("*.{rest}")),
        };
        (!covers(domain, host)).then_some((placed, shown))
    });
    let Some((placed, host)) = stranger else {
        return;
    };
    let message = format!(
        "{} is not the end of the host {}",
        quoted(domain),
        quoted(&host)
    );
    report
        .complaint(place.clone(), "provider.rp_id", message)
        .other(placed.header(), "served here")
        .help("the end that the hosts of all routes have in common, or leave it out: each host has passkeys of its own then")
        .push();
}

fn covers(domain: &str, host: &str) -> bool {
    let rest = host.strip_suffix(domain);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_covers_itself_and_what_is_below_it() {
        for (host, expected) in [
            ("example.com", true),
            ("wiki.example.com", true),
            ("badexample.com", false),
            ("com", false),
            ("example.com.evil.net", false),
        ] {
            assert_eq!(covers("example.com", host), expected, "{host}");
        }
    }
}
