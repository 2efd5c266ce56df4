//! The second step of a local user's login: after the password, a code. Wrong codes count as wrong passwords do, at the
//! same counters: whoever guesses has as few attempts for both together.

use std::net::IpAddr;

use super::changing::{ChangeError, Proven};
use super::own_change::fingerprint;
use super::password::LocalUsers;
use super::second_factor::{HalfWay, Matched, Needs, NewFactor, matched};
use super::throttle::Attempt;
use super::users::User;
use super::{Refusal, Step};
use crate::identity::Identity;

/// Whether local users need a second factor, from `second_factor` of a provider.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Requirement {
    /// Who has one needs it.
    #[default]
    Optional,
    /// Who has none gets one with the next login.
    Required,
}

/// A code that somebody typed.
#[derive(Clone, Copy, Debug)]
pub struct CodeAttempt<'a> {
    pub user: &'a str,
    pub code: &'a str,
    pub address: IpAddr,
    /// This browser has logged this user in before.
    pub known_browser: bool,
}

/// A code that was right.
#[derive(Debug)]
pub struct Checked {
    pub proven: Proven,
    pub identity: Identity,
    /// The step that it is of, which is good once; `None`: a recovery code, used up by now.
    pub step: Option<u64>,
    /// Recovery codes that are left.
    pub left: usize,
}

impl LocalUsers {
    pub(super) fn step(&self, user: User) -> Step {
        let needs = match (&user.totp, self.requirement) {
            (Some(_), _) => Needs::Code,
            (None, Requirement::Required) => Needs::Enrolment,
            (None, Requirement::Optional) => return Step::Admit(self.identity(user)),
        };
        Step::GoOn(HalfWay {
            known_by: fingerprint(&user),
            user: user.name,
            needs,
        })
    }

    /// What a user is known by now, and how many recovery codes they have: `None` for the latter where there is no second
    /// factor, `None` for both where there is no user.
    pub async fn standing(&self, name: &str) -> Result<Option<(HalfWay, Option<usize>)>, Refusal> {
        let user = self.find(name).await?;
        Ok(user.map(|user| {
            let half = HalfWay {
                user: user.name.clone(),
                needs: Needs::Enrolment,
                known_by: fingerprint(&user),
            };
            (half, user.second_factor())
        }))
    }

    /// The user of a login that is half way, if they are still known by what they were then. `None`: from the beginning.
    pub async fn still(&self, half: &HalfWay) -> Result<Option<(Proven, Identity)>, Refusal> {
        let user = self.find(&half.user).await?;
        let user = user.filter(|user| fingerprint(user) == half.known_by);
        Ok(user.map(|user| (Proven(user.clone()), self.identity(user))))
    }

    /// Looks at a code of a user who has a second factor. A recovery code that is right is used up.
    pub async fn check_code(&self, attempt: CodeAttempt<'_>) -> Result<Checked, Refusal> {
        let reservation = self.reserve(&Attempt {
            user: attempt.user,
            address: attempt.address,
            known_browser: attempt.known_browser,
        })?;
        let found = match self.find(attempt.user).await {
            Ok(found) => found,
            Err(refusal) => {
                reservation.give_back();
                return Err(refusal);
            }
        };
        let mut user = found.ok_or(Refusal::Credentials)?;
        let Some(factor) = self.factor(&user) else {
            reservation.give_back();
            return Err(Refusal::Unavailable);
        };
        let now = self.now();
        let kept = (&factor, user.recovery_codes.as_slice());
        let found = matched(attempt.code, kept, now).ok_or(Refusal::Credentials)?;
        let (step, left) = match found {
            Matched::Step(step) => {
                self.seal_anew(&mut user, &factor).await;
                (Some(step), user.recovery_codes.len())
            }
            Matched::Recovery(hash) => match self.spend(user.clone(), (&factor, &hash)).await {
                Ok(()) => (None, user.recovery_codes.len().saturating_sub(1)),
                // Somebody else used it.
                Err(ChangeError::Overtaken) => return Err(Refusal::Credentials),
                Err(ChangeError::Busy) => {
                    reservation.give_back();
                    return Err(Refusal::Busy);
                }
                Err(_) => {
                    reservation.give_back();
                    return Err(Refusal::Unavailable);
                }
            },
        };
        reservation.give_back();
        // As the file has it now, for what is to be changed next.
        let proven = match step {
            Some(_) => Some(user.clone()),
            None => self.find(attempt.user).await?,
        };
        Ok(Checked {
            proven: Proven(proven.ok_or(Refusal::Credentials)?),
            identity: self.identity(user),
            step,
            left,
        })
    }

    /// Whether a code is of a new factor, which nobody has yet. It counts as an attempt where it is not.
    pub fn check_new(&self, factor: &NewFactor, attempt: CodeAttempt<'_>) -> Result<u64, Refusal> {
        let reservation = self.reserve(&Attempt {
            user: attempt.user,
            address: attempt.address,
            known_browser: attempt.known_browser,
        })?;
        let step = factor.matches(attempt.code, self.now());
        let step = step.ok_or(Refusal::Credentials)?;
        reservation.give_back();
        Ok(step)
    }

    fn factor(&self, user: &User) -> Option<NewFactor> {
        let sealed = user.totp.as_deref()?;
        let opened = self
            .keyring
            .as_ref()
            .and_then(|keyring| NewFactor::open(sealed, keyring, &user.name));
        if opened.is_none() {
            tracing::error!(
                user = user.name,
                "a second factor does not open: the secret that it was sealed under is not among `session.secrets`"
            );
        }
        opened
    }
}
