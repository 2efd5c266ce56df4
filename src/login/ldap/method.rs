//! The provider: how often may be tried, how many are asked about at once, which server is asked.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout};

use super::asking::{Asking, Meant};
use super::dn::{Dn, folded};
use super::fault::Fault;
use super::link::Way;
use super::servers::{Pace, Servers};
use super::settings::LdapSettings;
use super::verdict::Verdict;
use crate::clock::Clock;
use crate::identity::{Identity, Subject};
use crate::login::throttle::{Attempt, Throttle, Verdict as Allowance};
use crate::login::{Credentials, LoginMethod, Refusal, Step};
use crate::outbound::{OutboundError, client_config};
use crate::resolver::Resolver;
use crate::secret::Secret;

/// Logins that wait for one of the connections; more are told to come again.
const QUEUE: usize = 64;

/// One `[[provider]]` of type `ldap`.
#[derive(Debug)]
pub struct Ldap {
    id: String,
    settings: LdapSettings,
    way: Way,
    group_base: Dn,
    clock: Clock,
    /// By what was typed, and by who was meant: one person may have several names.
    typed: Throttle,
    meant: Throttle,
    turns: Semaphore,
    queue: Semaphore,
    servers: Servers,
    pace: Pace,
}

enum Judgement {
    Right(Identity),
    Refused(Refusal),
}

impl Ldap {
    /// Asks nobody yet.
    pub fn new(id: String, settings: LdapSettings, clock: Clock) -> Result<Self, OutboundError> {
        let throttle = || Throttle::new(settings.max_attempts, settings.attempt_window);
        // Groups below a name that cannot be read are nowhere.
        let group_base = Dn::parse(&settings.group_base);
        let group_base = group_base.ok_or_else(|| {
            OutboundError::Transport(format!("{} is not a name", settings.group_base))
        })?;
        Ok(Self {
            id,
            way: Way {
                tls: Arc::new(client_config(settings.authorities.as_deref())?),
                resolver: Resolver::default(),
            },
            group_base,
            clock,
            typed: throttle(),
            meant: throttle(),
            turns: Semaphore::new(settings.connections),
            queue: Semaphore::new(QUEUE),
            servers: Servers::new(settings.servers.len()),
            pace: Pace::default(),
            settings,
        })
    }

    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(turn) = self.turns.try_acquire() {
            return Some(turn);
        }
        let _place = self.queue.try_acquire().ok()?;
        let turn = timeout(self.settings.answer_timeout, self.turns.acquire()).await;
        turn.ok()?.ok()
    }

    /// The first server that says something decides.
    async fn ask(&self, attempt: &Attempt<'_>, password: &Secret) -> Option<Judgement> {
        for index in self.servers.order(self.clock.now()) {
            let server = self.settings.servers.get(index)?;
            match self.ask_one(index, attempt, password).await {
                Ok(judgement) => {
                    self.servers.answered(index);
                    return Some(judgement);
                }
                Err(fault) => {
                    self.servers.failed(index, self.clock.now());
                    tracing::warn!(provider = self.id, %server, error = %fault, "a login cannot be checked at this server");
                }
            }
        }
        None
    }

    async fn ask_one(
        &self,
        index: usize,
        attempt: &Attempt<'_>,
        password: &Secret,
    ) -> Result<Judgement, Fault> {
        let settings = &self.settings;
        let Some(server) = settings.servers.get(index) else {
            return Err(Fault::Closed);
        };
        let place = (&self.way, &self.group_base);
        let mut asking = Asking::begin(&self.id, (settings, server), place, attempt.user).await?;
        let meant = asking.find().await?;
        let Some((dn, key)) = meant.dn().map(str::to_owned).zip(meant.key()) else {
            if matches!(meant, Meant::Several) {
                let user: String = attempt.user.chars().take(64).collect();
                tracing::warn!(
                    provider = self.id,
                    user,
                    "several entries fit this name, so nobody is meant"
                );
            }
            asking.link.close().await;
            sleep(self.pace.usual(settings.answer_timeout)).await;
            return Ok(Judgement::Refused(Refusal::Credentials));
        };
        let own = Attempt {
            user: &key,
            ..*attempt
        };
        let reservation = match self.meant.reserve(&own, self.clock.now()) {
            Allowance::Allowed(reservation) => reservation,
            Allowance::TooMany { retry_after } => {
                return Ok(Judgement::Refused(Refusal::TooManyAttempts { retry_after }));
            }
        };
        let began = Instant::now();
        let proved = asking.prove(&dn, password).await;
        let judged = match proved {
            Ok(verdict) => {
                self.pace.saw(began.elapsed());
                self.judge(&mut asking, (meant, dn), verdict).await
            }
            Err(fault) => Err(fault),
        };
        match &judged {
            // It counts.
            Ok(Judgement::Refused(_)) => {}
            Ok(Judgement::Right(_)) | Err(_) => reservation.give_back(),
        }
        if judged.is_ok() {
            asking.link.close().await;
        }
        judged
    }

    async fn judge(
        &self,
        asking: &mut Asking<'_>,
        (meant, dn): (Meant, String),
        verdict: Verdict,
    ) -> Result<Judgement, Fault> {
        match verdict {
            Verdict::Right => asking.identify(meant).await.map(Judgement::Right),
            Verdict::Wrong => Ok(Judgement::Refused(Refusal::Credentials)),
            Verdict::Barred(reason) => {
                tracing::warn!(
                    provider = self.id,
                    dn,
                    reason,
                    "the directory refuses an account"
                );
                Ok(Judgement::Refused(Refusal::Credentials))
            }
        }
    }
}

#[async_trait]
impl LoginMethod for Ldap {
    /// Only the directory knows whom a name means.
    fn subject(&self, _: &str) -> Option<Subject> {
        None
    }

    async fn log_in(&self, credentials: Credentials) -> Step {
        let Credentials {
            user,
            password,
            address,
            known_browser,
        } = credentials;
        let name = folded(&user);
        let counted = Attempt {
            user: &name,
            address,
            known_browser,
        };
        let reservation = match self.typed.reserve(&counted, self.clock.now()) {
            Allowance::Allowed(reservation) => reservation,
            Allowance::TooMany { retry_after } => {
                return Step::Refuse(Refusal::TooManyAttempts { retry_after });
            }
        };
        // Many servers let anybody in who shows no password (RFC 4513 section 5.1.2).
        if name.is_empty() || password.expose().is_empty() {
            return Step::Refuse(Refusal::Credentials);
        }
        let Some(_turn) = self.turn().await else {
            reservation.give_back();
            return Step::Refuse(Refusal::Busy);
        };
        let attempt = Attempt {
            user: &user,
            ..counted
        };
        let step = match self.ask(&attempt, &password).await {
            Some(Judgement::Refused(refusal)) => return Step::Refuse(refusal),
            Some(Judgement::Right(identity)) => Step::Admit(identity),
            None => Step::Refuse(Refusal::Unavailable),
        };
        reservation.give_back();
        step
    }
}
