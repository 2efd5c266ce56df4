//! What is asked, by whom, in our own words, and how Doorward answers where no rule finds anything. All of V3, V7 and V12
//! of ASVS 5.0 is here, so that nothing is left out in silence; of the rest, what rules are about.

mod others;
mod v12;
mod v3;
mod v7;

/// One item of a standard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Requirement {
    pub id: &'static str,
    /// Of ASVS; 0: the standard has none.
    pub level: u8,
    pub asks: &'static str,
    pub answer: Answer,
}

/// How it stands where no rule finds anything. Each with the reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    Fulfilled(&'static str),
    /// It asks something of somebody else, or of what is not there.
    NotApplicable(&'static str),
}

/// In the order of a report.
pub(super) fn all() -> impl Iterator<Item = &'static Requirement> {
    [v7::V7, v3::V3, v12::V12, others::OTHERS]
        .into_iter()
        .flatten()
}

const fn fulfilled(
    (id, level): (&'static str, u8),
    asks: &'static str,
    reason: &'static str,
) -> Requirement {
    Requirement {
        id,
        level,
        asks,
        answer: Answer::Fulfilled(reason),
    }
}

const fn not_applicable(
    (id, level): (&'static str, u8),
    asks: &'static str,
    reason: &'static str,
) -> Requirement {
    Requirement {
        id,
        level,
        asks,
        answer: Answer::NotApplicable(reason),
    }
}
