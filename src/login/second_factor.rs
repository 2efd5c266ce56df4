//! The second factor of local users: codes of an authenticator app (RFC 6238: SHA-1, six digits, 30 seconds, which is what
//! apps take), and recovery codes for whoever has lost it. It decides what is right, and stores nothing.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use qrcode::{Color, QrCode};
use serde::{Deserialize, Serialize};
use totp_rs::{Builder, Secret as Shared, Totp};
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::secret::{Keyring, Purpose, random};

/// As RFC 4226 section 4 recommends: 160 bits.
const SECRET_LEN: usize = 20;

const RECOVERY_CODES: usize = 10;
/// 120 bits: so many that a plain hash keeps them (NIST SP 800-63B-4 section 3.1.2.2 asks for 112).
const RECOVERY_LEN: usize = 15;
/// Of its text without hyphens.
const RECOVERY_CHARS: usize = 24;

/// The longest text that is looked at, in bytes.
const MAX_CODE: usize = 64;

/// A login whose password was right, and which needs more.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HalfWay {
    pub user: String,
    pub needs: Needs,
    /// Of what the user was known by then.
    pub(super) known_by: [u8; 8],
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Needs {
    Code,
    /// The user has no second factor, and everybody needs one.
    Enrolment,
}

/// A secret that an authenticator app is to share with us.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct NewFactor(Zeroizing<[u8; SECRET_LEN]>);

/// What people see of a [`NewFactor`] once.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Base32, in groups of four.
    pub text: String,
    /// Modules of the QR code on each side, and its dark ones as the path of an SVG.
    pub size: usize,
    pub path: String,
}

/// What was right of a code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Matched {
    Step(u64),
    /// The hash of the recovery code.
    Recovery(String),
}

impl NewFactor {
    pub fn generate() -> Self {
        Self(Zeroizing::new(random()))
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Zeroizing::new).map(Self)
    }

    /// The step whose code it is, of the one now and its neighbours (RFC 6238 section 5.2).
    pub(super) fn matches(&self, code: &str, now: Timestamp) -> Option<u64> {
        self.totp("", "")?.check(&digits(code)?, now.as_secs())
    }

    /// As apps take it in: `issuer` is where the account is, `user` whose it is.
    pub fn shown(&self, issuer: &str, user: &str) -> Option<Shown> {
        // A colon would end the one and begin the other.
        let clean = |text: &str| text.replace(':', " ");
        let totp = self.totp(&clean(issuer), &clean(user))?;
        let code = QrCode::new(totp.to_url().ok()?.as_bytes()).ok()?;
        let text = totp.secret().to_base32();
        Some(Shown {
            text: grouped(&text, " "),
            size: code.width(),
            path: path(&code.to_colors(), code.width()),
        })
    }

    /// Sealed for a users file, for this user alone.
    pub(super) fn seal(&self, keyring: &Keyring, user: &str) -> String {
        let sealed = keyring.seal(Purpose::SecondFactor, user.as_bytes(), &*self.0);
        BASE64_URL_SAFE_NO_PAD.encode(sealed)
    }

    pub(super) fn open(text: &str, keyring: &Keyring, user: &str) -> Option<Self> {
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        Self::parse(&keyring.open(Purpose::SecondFactor, user.as_bytes(), &sealed)?)
    }

    /// Whether a sealed one is sealed as [`NewFactor::seal`] would now.
    pub(super) fn is_newest(text: &str, keyring: &Keyring) -> bool {
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(text);
        sealed.is_ok_and(|sealed| keyring.is_newest(&sealed))
    }

    fn totp(&self, issuer: &str, user: &str) -> Option<Totp> {
        let secret = Shared::new(Box::new(*self.0));
        let builder = Builder::new().with_secret(secret).with_skew(1);
        let builder = builder.with_account_name(user);
        builder.with_issuer(Some(issuer)).build().ok()
    }
}

impl fmt::Debug for NewFactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewFactor(..)")
    }
}

/// Ten new ones, as they are shown.
pub(super) fn recovery_codes() -> Vec<Zeroizing<String>> {
    let code = || {
        let bytes: [u8; RECOVERY_LEN] = random();
        let text = Zeroizing::new(Shared::new(Box::new(bytes)).to_base32().to_lowercase());
        Zeroizing::new(grouped(&text, "-"))
    };
    std::iter::repeat_with(code).take(RECOVERY_CODES).collect()
}

/// What is kept of a recovery code; `None` where the text cannot be one.
pub(super) fn recovery_hash(code: &str) -> Option<String> {
    if code.len() > MAX_CODE {
        return None;
    }
    let letters = code.chars().filter(|c| !c.is_whitespace() && *c != '-');
    // Nobody is to be sent away for what looks alike.
    let alike = letters.map(|c| match c.to_ascii_lowercase() {
        '0' => 'o',
        '1' => 'l',
        other => other,
    });
    let text: Zeroizing<String> = Zeroizing::new(alike.collect());
    let is_one = |c: char| c.is_ascii_lowercase() || ('2'..='7').contains(&c);
    let fits = text.len() == RECOVERY_CHARS && text.chars().all(is_one);
    fits.then(|| BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes())))
}

/// What is right of a text that somebody typed.
pub(super) fn matched(
    code: &str,
    (factor, recovery): (&NewFactor, &[String]),
    now: Timestamp,
) -> Option<Matched> {
    if let Some(step) = factor.matches(code, now) {
        return Some(Matched::Step(step));
    }
    let hash = recovery_hash(code)?;
    // Of 120 bits, whose hash nobody comes near to: how long it takes says nothing.
    recovery.contains(&hash).then_some(Matched::Recovery(hash))
}

pub(super) fn check_sealed(text: &str) -> Result<(), &'static str> {
    const OVERHEAD: usize = 4 + 12 + 16;
    let sealed = BASE64_URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    if sealed.len() == OVERHEAD + SECRET_LEN {
        Ok(())
    } else {
        Err("expected a sealed secret as Doorward writes it")
    }
}

pub(super) fn check_recovery(text: &str) -> Result<(), &'static str> {
    let hash = BASE64_URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    if hash.len() == 32 {
        Ok(())
    } else {
        Err("expected the hash of a recovery code as Doorward writes it")
    }
}

/// Six digits, however they were grouped.
fn digits(code: &str) -> Option<String> {
    if code.len() > MAX_CODE {
        return None;
    }
    let digits: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    let fits = digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_digit());
    fits.then_some(digits)
}

fn grouped(text: &str, between: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let groups = chars.chunks(4).map(|group| group.iter().collect());
    groups.collect::<Vec<String>>().join(between)
}

/// Each run of dark modules in a row is one rectangle.
fn path(colors: &[Color], width: usize) -> String {
    use std::fmt::Write;

    let mut path = String::new();
    for (y, row) in colors.chunks(width).enumerate() {
        let mut x = 0;
        for run in row.chunk_by(|a, b| a == b) {
            if run.first() == Some(&Color::Dark) {
                let len = run.len();
                // Into a string, which takes everything.
                let _written = write!(path, "M{x} {y}h{len}v1h-{len}z");
            }
            x += run.len();
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn ring(byte: u8) -> Keyring {
        Keyring::new(vec![Secret::new(vec![byte; 32])]).unwrap()
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    /// The secret of RFC 6238 appendix B, whose codes have eight digits there: these are the last six.
    #[test]
    fn codes_are_those_of_the_rfc_and_of_the_steps_beside() {
        let factor = NewFactor::parse(b"12345678901234567890").unwrap();
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
        ] {
            let step = Some(seconds / 30);
            assert_eq!(factor.matches(code, at(seconds)), step, "{seconds}");
            assert_eq!(factor.matches(code, at(seconds + 30)), step);
            assert_eq!(factor.matches(code, at(seconds - 30)), step);
            assert_eq!(factor.matches(code, at(seconds + 60)), None);
            assert_eq!(
                factor.matches(code, at(seconds.saturating_sub(60))),
                if seconds < 60 { step } else { None }
            );
        }
        assert_eq!(
            factor.matches("287 082", at(59)),
            Some(1),
            "as apps show it"
        );
        for wrong in [
            "",
            "28708",
            "2870820",
            "+28708",
            "28708a",
            "２８７０８２",
            &"2".repeat(100),
        ] {
            assert_eq!(factor.matches(wrong, at(59)), None, "{wrong}");
        }
    }

    #[test]
    fn a_recovery_code_is_found_however_it_was_typed_and_never_by_another() {
        let codes = recovery_codes();
        assert_eq!(codes.len(), 10);
        let hashes: Vec<String> = codes
            .iter()
            .map(|code| recovery_hash(code).unwrap())
            .collect();
        let factor = NewFactor::generate();
        let first = codes[0].as_str();
        assert_eq!(first.len(), 29, "{first}");
        let found = Some(Matched::Recovery(hashes[0].clone()));
        let plain = first.replace('-', "");
        for typed in [
            first,
            &first.to_uppercase(),
            &plain,
            &first.replace('-', " "),
            &first.replace('o', "0").replace('l', "1"),
        ] {
            assert_eq!(matched(typed, (&factor, &hashes), at(0)), found, "{typed}");
        }
        assert_eq!(matched(&hashes[0], (&factor, &hashes), at(0)), None);
        assert_eq!(
            matched(&recovery_codes()[0], (&factor, &hashes), at(0)),
            None
        );
        let mut all = hashes.clone();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 10);
        assert!(hashes.iter().all(|hash| check_recovery(hash).is_ok()));
        assert!(check_recovery(first).is_err());
    }

    #[test]
    fn a_sealed_secret_opens_for_its_user_under_its_secret_alone() {
        let factor = NewFactor::generate();
        let text = factor.seal(&ring(1), "alice");
        assert_eq!(check_sealed(&text), Ok(()));
        assert_eq!(NewFactor::open(&text, &ring(1), "alice"), Some(factor));
        assert_eq!(NewFactor::open(&text, &ring(1), "bob"), None);
        assert_eq!(NewFactor::open(&text, &ring(2), "alice"), None);
        assert!(check_sealed("c2VhbGVk").is_err() && check_sealed("?").is_err());
    }

    #[test]
    fn what_is_shown_is_the_address_that_apps_take() {
        let factor = NewFactor::parse(b"12345678901234567890").unwrap();
        let shown = factor.shown("wiki.example.com:8443", "al:ice").unwrap();
        assert_eq!(shown.text, "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ");
        assert!(
            shown.size >= 33 && shown.path.starts_with("M0 0h7v1h-7z"),
            "{shown:?}"
        );
        let totp = factor.totp("wiki", "alice").unwrap();
        assert_eq!(
            totp.to_url().unwrap(),
            "otpauth://totp/wiki:alice?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=wiki"
        );
        assert_eq!(format!("{factor:?}"), "NewFactor(..)");
    }
}
