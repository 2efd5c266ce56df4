//! What somebody who reviews an installation would say: the configuration and what runs, held against OWASP ASVS 5.0,
//! NIST SP 800-63B-4 and the OWASP session management cheat sheet. It looks once, then judges; it changes nothing.

mod facts;
mod report;
mod requirements;
mod rules;
#[cfg(test)]
mod tests;

pub use facts::{
    CertificateFact, Facts, FactsError, FileFact, Holds, PublicKey, Running, Seen, UserFact,
};
pub use report::{Accounted, Report, Standing};
pub use requirements::{Answer, Requirement};

use crate::config::{Places, Settings};

/// How bad a finding is. In ascending order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// Stricter is possible, or a recommendation is not followed.
    Low,
    /// A requirement is not met, and somebody needs luck or a second fault to use that.
    Medium,
    /// Somebody can use it as it is.
    High,
}

impl Severity {
    pub const ALL: [Self; 3] = [Self::High, Self::Medium, Self::Low];

    /// The word for it on the command line and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// What a rule found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// The rule's own name, which stays.
    pub rule: &'static str,
    /// The requirements that it is about.
    pub requirements: &'static [&'static str],
    pub why: &'static str,
    pub fault: Fault,
}

/// The part of a finding that differs from one to the next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    pub severity: Severity,
    /// The key of the configuration that it is about, as [`Places`] names it; `None`: what runs, or no key at all.
    pub key: Option<String>,
    pub set: String,
    pub advised: String,
}

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    pub settings: &'a Settings,
    pub places: &'a Places,
    pub facts: &'a Facts,
}

/// Judges by every rule and accounts for every requirement. Pure.
pub fn review(evidence: &Evidence<'_>) -> Report {
    Report::new(rules::judge(evidence))
}

impl Fault {
    fn new(severity: Severity, key: impl Into<String>, set: impl Into<String>) -> Self {
        Self {
            severity,
            key: Some(key.into()),
            set: set.into(),
            advised: String::new(),
        }
    }

    /// About no key.
    fn elsewhere(severity: Severity, set: impl Into<String>) -> Self {
        Self {
            key: None,
            ..Self::new(severity, "", set)
        }
    }

    fn advise(mut self, advised: impl Into<String>) -> Self {
        self.advised = advised.into();
        self
    }
}
