//! What was found, and how each requirement stands. Here it is put together; `text` and `json` say it.

mod json;
mod text;

use super::requirements::{self, Answer, Requirement};
use super::{Finding, Severity};

/// The outcome of a review.
#[derive(Clone, Debug)]
pub struct Report {
    findings: Vec<Finding>,
}

/// A requirement and how it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Accounted<'a> {
    pub requirement: &'static Requirement,
    pub standing: Standing<'a>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Standing<'a> {
    Fulfilled(&'static str),
    NotApplicable(&'static str),
    /// By these, each once, the worst first.
    Found(Vec<&'a Finding>),
}

impl Standing<'_> {
    /// The word for it in JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Fulfilled(_) => "fulfilled",
            Self::NotApplicable(_) => "not_applicable",
            Self::Found(_) => "finding",
        }
    }
}

impl Report {
    pub(super) const fn new(findings: Vec<Finding>) -> Self {
        Self { findings }
    }

    /// The worst first.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    pub fn count(&self, severity: Severity) -> usize {
        let is_so = |finding: &&Finding| finding.fault.severity == severity;
        self.findings.iter().filter(is_so).count()
    }

    /// Whether nothing is as bad as this, or worse.
    pub fn passes(&self, threshold: Severity) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.fault.severity < threshold)
    }

    /// Every requirement, in the order of the standards.
    pub fn accounts(&self) -> impl Iterator<Item = Accounted<'_>> {
        requirements::all().map(|requirement| {
            let about = |finding: &&Finding| finding.requirements.contains(&requirement.id);
            let found: Vec<&Finding> = self.findings.iter().filter(about).collect();
            let standing = match (found.is_empty(), requirement.answer) {
                (false, _) => Standing::Found(found),
                (true, Answer::Fulfilled(reason)) => Standing::Fulfilled(reason),
                (true, Answer::NotApplicable(reason)) => Standing::NotApplicable(reason),
            };
            Accounted {
                requirement,
                standing,
            }
        })
    }
}
