//! Every rule, by group. A rule is a small pure function from what was seen to at most one fault; its name, its
//! requirements and its reason stand beside it.

mod frontend;
mod gaps;
mod lifetime;
mod observation;
mod providers;
mod routes;
mod running;
mod secrets;
mod transport;

use super::facts::{CertificateFact, FileFact, Running};
use super::{Evidence, Fault, Finding};
use crate::routing::Route;

#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) requirements: &'static [&'static str],
    pub(super) why: &'static str,
    judge: Judge,
}

/// What a rule is asked about.
#[derive(Clone, Copy, Debug)]
enum Judge {
    /// There is nothing to ask.
    Always(fn() -> Fault),
    Whole(fn(&Evidence<'_>) -> Option<Fault>),
    EachCertificate(fn(&Evidence<'_>, &CertificateFact) -> Option<Fault>),
    EachFile(fn(&Evidence<'_>, &FileFact) -> Option<Fault>),
    EachRoute(fn(&Evidence<'_>, &Routed<'_>) -> Option<Fault>),
    Running(fn(&Evidence<'_>, &Running) -> Option<Fault>),
}

/// A route and its number in the file.
#[derive(Clone, Copy, Debug)]
struct Routed<'a> {
    index: usize,
    route: &'a Route,
}

impl Routed<'_> {
    /// As [`crate::config::Places`] names a key of this route.
    fn key(&self, name: &str) -> String {
        format!("route[{}].{name}", self.index)
    }
}

/// In the order of reading.
pub(super) fn all() -> impl Iterator<Item = &'static Rule> {
    [
        lifetime::RULES,
        frontend::RULES,
        transport::RULES,
        routes::RULES,
        providers::RULES,
        secrets::RULES,
        observation::RULES,
        running::RULES,
        gaps::RULES,
    ]
    .into_iter()
    .flatten()
}

/// What all of them find, the worst first.
pub(super) fn judge(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = all()
        .flat_map(|rule| {
            let found = rule.faults(evidence).into_iter();
            found.map(|fault| Finding {
                rule: rule.name,
                requirements: rule.requirements,
                why: rule.why,
                fault,
            })
        })
        .collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.fault.severity));
    findings
}

impl Rule {
    fn faults(&self, evidence: &Evidence<'_>) -> Vec<Fault> {
        let facts = evidence.facts;
        match self.judge {
            Judge::Always(fault) => vec![fault()],
            Judge::Whole(judge) => judge(evidence).into_iter().collect(),
            Judge::EachCertificate(judge) => {
                let each = facts.certificates.iter();
                each.filter_map(|one| judge(evidence, one)).collect()
            }
            Judge::EachFile(judge) => {
                let each = facts.files.iter();
                each.filter_map(|one| judge(evidence, one)).collect()
            }
            Judge::EachRoute(judge) => {
                let each = evidence.settings.routes.iter().enumerate();
                each.filter_map(|(index, route)| judge(evidence, &Routed { index, route }))
                    .collect()
            }
            Judge::Running(judge) => {
                let running = facts.running.iter();
                running.filter_map(|one| judge(evidence, one)).collect()
            }
        }
    }
}
