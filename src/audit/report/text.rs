//! A report for people: findings by severity, then what is accounted for. 80 columns wide.

use std::fmt::Write as _;

use super::json::rules;
use super::{Report, Standing};
use crate::audit::facts::Running;
use crate::audit::{Evidence, Finding, Severity};

const WIDTH: usize = 80;

impl Report {
    /// `with_all`: each requirement too, fulfilled or not. `unheard` is why nothing that runs was asked.
    pub fn to_text(
        &self,
        evidence: &Evidence<'_>,
        unheard: Option<&str>,
        with_all: bool,
    ) -> String {
        let mut page = TextPage::default();
        head(&mut page, evidence, unheard);
        for severity in Severity::ALL {
            let findings = self.findings.iter();
            let of_it: Vec<&Finding> = findings
                .filter(|finding| finding.fault.severity == severity)
                .collect();
            if of_it.is_empty() {
                continue;
            }
            page.line("");
            page.line(&format!(
                "{} ({})",
                severity.name().to_uppercase(),
                of_it.len()
            ));
            for finding in of_it {
                write_finding(&mut page, evidence, finding);
            }
        }
        if with_all {
            self.write_accounts(&mut page);
        }
        self.write_summary(&mut page, with_all);
        page.0
    }

    fn write_accounts(&self, page: &mut TextPage) {
        page.line("");
        page.line("REQUIREMENTS");
        for account in self.accounts() {
            let requirement = account.requirement;
            let level = match requirement.level {
                0 => String::new(),
                level => format!(" (level {level})"),
            };
            page.line("");
            page.wrapped(
                "  ",
                "    ",
                &format!("{}{level}: {}", requirement.id, requirement.asks),
            );
            let answer = match &account.standing {
                Standing::Fulfilled(reason) => format!("fulfilled: {reason}"),
                Standing::NotApplicable(reason) => format!("not applicable: {reason}"),
                Standing::Found(findings) => format!("finding: {}", rules(findings).join(", ")),
            };
            page.wrapped("    ", "    ", &answer);
        }
    }

    fn write_summary(&self, page: &mut TextPage, with_all: bool) {
        let mut chapters: Vec<Chapter> = ["7", "3", "12"].map(Chapter::new).into();
        for account in self.accounts() {
            let id = account.requirement.id;
            let asvs = id.strip_prefix("ASVS ").and_then(|id| id.split('.').next());
            let mut chapters = chapters.iter_mut();
            if let Some(chapter) = chapters.find(|chapter| asvs == Some(chapter.number)) {
                chapter.count(&account.standing);
            }
        }
        page.line("");
        for chapter in chapters {
            page.line(&chapter.told());
        }
        if !with_all {
            page.line("`--all` lists every requirement, with the reason.");
        }
        let counts =
            Severity::ALL.map(|severity| format!("{} {}", self.count(severity), severity.name()));
        page.line(&format!("Findings: {}.", counts.join(", ")));
    }
}

/// How the items of one chapter stand.
struct Chapter {
    number: &'static str,
    fulfilled: usize,
    not_applicable: usize,
    found: usize,
}

impl Chapter {
    const fn new(number: &'static str) -> Self {
        Self {
            number,
            fulfilled: 0,
            not_applicable: 0,
            found: 0,
        }
    }

    fn count(&mut self, standing: &Standing<'_>) {
        *match standing {
            Standing::Fulfilled(_) => &mut self.fulfilled,
            Standing::NotApplicable(_) => &mut self.not_applicable,
            Standing::Found(_) => &mut self.found,
        } += 1;
    }

    fn told(&self) -> String {
        let Self {
            number,
            fulfilled,
            not_applicable,
            found,
        } = self;
        let items = fulfilled + not_applicable + found;
        format!(
            "ASVS 5.0 V{number}: {items} items, {fulfilled} fulfilled, {found} with findings, {not_applicable} not applicable"
        )
    }
}

fn head(page: &mut TextPage, evidence: &Evidence<'_>, unheard: Option<&str>) {
    let (settings, facts) = (evidence.settings, evidence.facts);
    page.line(&format!("{}, {}", settings.file.display(), facts.now));
    match (&facts.running, unheard) {
        (Some(running), _) => page.wrapped("", "", &what_runs(running)),
        (None, Some(why)) => page.wrapped("", "", &format!("Only files were looked at: {why}")),
        (None, None) => {}
    }
}

fn what_runs(running: &Running) -> String {
    let Running {
        version, started, ..
    } = running;
    let state = if running.ready { "ready" } else { "not ready" };
    let count = running.sessions.len();
    let more = if running.has_more {
        " looked at, of more"
    } else {
        ""
    };
    format!("Running: version {version}, {state}, since {started}, {count} sessions{more}.")
}

fn write_finding(page: &mut TextPage, evidence: &Evidence<'_>, finding: &Finding) {
    let fault = &finding.fault;
    page.line("");
    page.line(&format!("  {}", finding.rule));
    if let Some(place) = place(evidence, finding) {
        page.labelled("at", &place);
    }
    page.labelled("set", &fault.set);
    page.labelled("advised", &fault.advised);
    page.labelled("why", finding.why);
    page.labelled("asked by", &finding.requirements.join(", "));
}

/// Where it is set, or would be.
fn place(evidence: &Evidence<'_>, finding: &Finding) -> Option<String> {
    let key = finding.fault.key.as_deref()?;
    let file = evidence.settings.file.display();
    Some(
        match (evidence.places.line(key), evidence.places.nearest(key)) {
            (Some(line), _) => format!("{file}:{line} {key}"),
            (None, Some(line)) => format!("{file}:{line} {key}, not set there"),
            (None, None) if key.is_empty() => file.to_string(),
            (None, None) => format!("{file} {key}, not set there"),
        },
    )
}

/// Lines that end before the edge, and that nothing in them can take control of.
#[derive(Default)]
struct TextPage(String);

impl TextPage {
    fn line(&mut self, text: &str) {
        let plain = text
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c });
        self.0.extend(plain);
        self.0.push('\n');
    }

    fn labelled(&mut self, label: &str, text: &str) {
        let first = format!("    {label:<8} ");
        self.wrapped(&first, &" ".repeat(first.len()), text);
    }

    /// Breaks between words; a word that is longer than a line stays whole.
    fn wrapped(&mut self, first: &str, rest: &str, text: &str) {
        let mut line = first.to_owned();
        let mut is_empty = true;
        for word in text.split_whitespace() {
            let width = line.chars().count() + word.chars().count() + usize::from(!is_empty);
            if !is_empty && width > WIDTH {
                self.line(&line);
                rest.clone_into(&mut line);
                is_empty = true;
            }
            // Writing to a string cannot fail.
            let space = if is_empty { "" } else { " " };
            let _written: std::fmt::Result = write!(line, "{space}{word}");
            is_empty = false;
        }
        self.line(&line);
    }
}
