//! Keys, passwords and the files that hold them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Judge, Rule};
use crate::audit::Severity::{High, Low, Medium};
use crate::audit::facts::{FileFact, Holds};
use crate::audit::{Evidence, Fault};
use crate::config::show_duration;
use crate::login::{HashCost, Kind};
use crate::secret::Secret;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "file-readable",
        requirements: &["ASVS 13.3.2", "ASVS 16.4.2"],
        why: "Accounts of this machine that need not know it can read it.",
        judge: Judge::EachFile(file_readable),
    },
    Rule {
        name: "file-writable",
        requirements: &["ASVS 13.3.2", "ASVS 16.4.2"],
        why: "Whoever can write it decides who gets in.",
        judge: Judge::EachFile(file_writable),
    },
    Rule {
        name: "secret-guessable",
        requirements: &["ASVS 7.2.3", "ASVS 13.3.1"],
        why: "It is long enough and yet nothing that chance made, so it can be guessed.",
        judge: Judge::Whole(secret_guessable),
    },
    Rule {
        name: "secret-shared",
        requirements: &["ASVS 13.3.2"],
        why: "Who is given the one for its purpose holds the other.",
        judge: Judge::Whole(secret_shared),
    },
    Rule {
        name: "secret-old",
        requirements: &["ASVS 13.3.4"],
        why: "Copies of it are in backups of more than a year. Replacing it ends no session: the new one seals, both open.",
        judge: Judge::Whole(secret_old),
    },
    Rule {
        name: "default-account",
        requirements: &["ASVS 6.3.2"],
        why: "Names like this are the first that are tried, and this one may still have the password of a trial.",
        judge: Judge::Whole(default_account),
    },
    Rule {
        name: "hash-weak",
        requirements: &["ASVS 11.4.2"],
        why: "Whoever gets hold of the users file guesses passwords that much faster.",
        judge: Judge::Whole(hash_weak),
    },
    Rule {
        name: "attempts-many",
        requirements: &["ASVS 6.3.1"],
        why: "So many wrong passwords are tried before anybody is stopped.",
        judge: Judge::Whole(attempts_many),
    },
];

const YEAR: Duration = Duration::from_hours(365 * 24);
/// Of the bytes of a secret of 32 bytes in hex, fewer differ once in more than a million times.
const FEWEST_BYTES: usize = 8;
/// argon2id as OWASP's password storage cheat sheet has it: more passes for less memory.
const LEAST_COST: [(u32, u32); 5] = [
    (47_104, 1),
    (19_456, 2),
    (12_288, 3),
    (9_216, 4),
    (7_168, 5),
];
const DEFAULT_NAMES: [&str; 6] = ["admin", "administrator", "demo", "guest", "root", "test"];

fn told(file: &FileFact) -> String {
    format!("{}, mode {:04o}", file.path.display(), file.mode)
}

fn file_readable(_: &Evidence<'_>, file: &FileFact) -> Option<Fault> {
    let (group, others) = (file.mode & 0o040 != 0, file.mode & 0o004 != 0);
    let severity = match file.holds {
        Holds::PrivateKey | Holds::Secret | Holds::Users if others => High,
        Holds::AuditLog | Holds::Sessions | Holds::Tokens if others => Medium,
        // A key may be for a group on purpose (Debian's `ssl-cert`).
        Holds::Secret | Holds::Users if group => Low,
        _ => return None,
    };
    Some(
        Fault::new(severity, file.key.clone(), told(file))
            .advise("`chmod 600`, and the account that runs Doorward as its owner"),
    )
}

fn file_writable(_: &Evidence<'_>, file: &FileFact) -> Option<Fault> {
    let severity = match file.mode {
        mode if mode & 0o002 != 0 => High,
        mode if mode & 0o020 != 0 => Low,
        _ => return None,
    };
    let set = match file.holds {
        Holds::Configuration => format!("this configuration, mode {:04o}", file.mode),
        _ => told(file),
    };
    Some(Fault::new(severity, file.key.clone(), set).advise("`chmod go-w`"))
}

/// The keys of secrets, and what they hold.
fn named<'a>(evidence: &Evidence<'a>) -> Vec<(String, &'a Secret)> {
    let settings = evidence.settings;
    let sealing = settings.secrets.iter().enumerate();
    let sealing = sealing.map(|(index, secret)| (format!("session.secrets[{index}]"), secret));
    let admin = settings.admin_token.iter();
    sealing
        .chain(admin.map(|secret| ("server.admin_token".to_owned(), secret)))
        .collect()
}

fn secret_guessable(evidence: &Evidence<'_>) -> Option<Fault> {
    let distinct = |secret: &Secret| secret.expose().iter().collect::<BTreeSet<_>>().len();
    let mut secrets = named(evidence).into_iter();
    let (key, secret) = secrets.find(|(_, secret)| distinct(secret) < FEWEST_BYTES)?;
    let set = format!("{} different bytes in all", distinct(secret));
    Some(Fault::new(High, key, set).advise("`openssl rand -hex 32`"))
}

fn secret_shared(evidence: &Evidence<'_>) -> Option<Fault> {
    let secrets = named(evidence);
    let mut pairs = secrets.iter().enumerate();
    let (key, other) = pairs.find_map(|(index, (key, secret))| {
        let (other, _) = secrets
            .iter()
            .take(index)
            .find(|(_, other)| other == secret)?;
        Some((key, other))
    })?;
    let fault = Fault::new(High, key.clone(), format!("the same as {other}"));
    Some(fault.advise("one of its own for each purpose"))
}

fn secret_old(evidence: &Evidence<'_>) -> Option<Fault> {
    let facts = evidence.facts;
    let mut files = facts.files.iter();
    // The first one seals.
    let newest = files.find(|file| {
        file.holds == Holds::Secret
            && matches!(
                file.key.as_str(),
                "session.secrets" | "session.secrets[0].file"
            )
    })?;
    let age = facts.now.since(newest.changed);
    if age <= YEAR {
        return None;
    }
    let set = format!(
        "{}, {} days old",
        newest.path.display(),
        age.as_secs() / 86_400
    );
    let fault = Fault::new(Low, newest.key.clone(), set);
    Some(fault.advise("a new one, first in `secrets`; the old one out after `absolute_timeout`"))
}

fn default_account(evidence: &Evidence<'_>) -> Option<Fault> {
    let mut users = evidence.facts.users.iter();
    let user =
        users.find(|user| DEFAULT_NAMES.contains(&user.name.to_ascii_lowercase().as_str()))?;
    let fault = Fault::new(
        Medium,
        "provider[0].users",
        format!("a user {:?}", user.name),
    );
    Some(fault.advise(format!(
        "a user for each person, and `doorward user remove {}`",
        user.name
    )))
}

fn hash_weak(evidence: &Evidence<'_>) -> Option<Fault> {
    let is_enough = |cost: HashCost| {
        let mut least = LEAST_COST.iter();
        least.any(|(memory, passes)| cost.memory_kib >= *memory && cost.passes >= *passes)
    };
    let users = evidence.facts.users.iter();
    let weak: Vec<_> = users
        .filter_map(|user| Some((user, user.cost?)))
        .filter(|(_, cost)| !is_enough(*cost))
        .collect();
    let (first, cost) = weak.first()?;
    let HashCost { memory_kib, passes } = cost;
    let others = match weak.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let set = format!(
        "{:?}: argon2id with {memory_kib} KiB, {passes} passes{others}",
        first.name
    );
    let fault = Fault::new(Medium, "provider[0].users", set);
    Some(fault.advise("19456 KiB and 2 passes, as `doorward user passwd` writes it"))
}

fn attempts_many(evidence: &Evidence<'_>) -> Option<Fault> {
    let mut providers = evidence.settings.providers.iter().enumerate();
    providers.find_map(|(index, provider)| {
        let (max, window) = match &provider.kind {
            Kind::Local(local) => (local.max_attempts, local.attempt_window),
            Kind::Ldap(ldap) => (ldap.max_attempts, ldap.attempt_window),
            Kind::External(_) | Kind::OAuth2(_) | Kind::Oidc(_) => return None,
        };
        let a_day = f64::from(max) * 86_400.0 / window.as_secs_f64();
        if a_day <= 2400.0 {
            return None;
        }
        let set = format!(
            "{} per user and address within {}, {a_day:.0} a day",
            max,
            show_duration(window)
        );
        let fault = Fault::new(Medium, format!("provider[{index}].max_attempts"), set);
        Some(fault.advise("10 within 15m, which is 960 a day"))
    })
}
