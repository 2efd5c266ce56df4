//! Logging in with a name and a password from the users file. Unknown users cost what wrong passwords cost.
//! It knows no form, no cookie and no session.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::hasher::Hasher;
use super::hashing::{self, HashingError};
use super::roster::Roster;
use super::rules;
use super::second_step::Requirement;
use super::throttle::{Attempt, Reservation, Throttle, Verdict};
use super::users::{User, UserFile};
use super::{Credentials, LocalSettings, LoginMethod, Refusal, Step};
use crate::clock::{Clock, Timestamp};
use crate::identity::{Identity, Subject};
use crate::secret::{Keyring, Secret, random};

/// One change is under way at a time, so that none finds this full.
const WRITES: usize = 16;

/// The users of one `[[provider]]` of type `local`.
#[derive(Debug)]
pub struct LocalUsers {
    id: String,
    throttle: Throttle,
    hasher: Arc<Hasher>,
    clock: Clock,
    directory: Arc<Directory>,
    /// Users' own changes wait here for each other.
    pub(super) changing: Arc<tokio::sync::Mutex<()>>,
    /// A thread of their own, which may wait for the disk.
    pub(super) writer: Arc<Hasher>,
    pub(super) requirement: Requirement,
    /// What second factors are sealed under. Without it they are good for nothing.
    pub(super) keyring: Option<Arc<Keyring>>,
}

/// What a hashing thread needs in order to judge a password.
#[derive(Debug)]
struct Directory {
    roster: Roster,
    /// What a password is compared with where there are no users. Nobody knows one to it.
    decoy: String,
    /// Chooses a decoy for each name that does not exist, always the same.
    choice: RandomState,
}

enum Judgement {
    Right(Box<User>),
    Wrong,
    Unavailable,
}

impl LocalUsers {
    /// Reads the users file and computes one hash on the calling thread. A users file that is missing or broken is
    /// logged, not an error: it is looked at again upon each login.
    pub fn new(
        id: String,
        settings: LocalSettings,
        hasher: Arc<Hasher>,
        clock: Clock,
    ) -> Result<Self, HashingError> {
        let LocalSettings {
            users,
            max_attempts,
            attempt_window,
            rp_id: _,
            second_factor,
        } = settings;
        Ok(Self {
            id,
            throttle: Throttle::new(max_attempts, attempt_window),
            hasher,
            clock,
            directory: Arc::new(Directory {
                roster: Roster::new(users),
                decoy: hashing::hash_password(&random::<32>())?,
                choice: RandomState::new(),
            }),
            changing: Arc::default(),
            requirement: second_factor,
            keyring: None,
            writer: Arc::new(Hasher::new(1, WRITES).map_err(|_| HashingError::Failed)?),
        })
    }

    /// With second factors, which are sealed under these secrets.
    #[must_use]
    pub fn with_keyring(self, keyring: Arc<Keyring>) -> Self {
        Self {
            keyring: Some(keyring),
            ..self
        }
    }

    /// The provider that they are of.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Every user's name now; `None` where the file has never been good. Reads the file if it has changed.
    pub fn names(&self) -> Option<Vec<String>> {
        let users = self.directory.roster.users()?;
        Some(users.users().iter().map(|user| user.name.clone()).collect())
    }

    /// Users who have vanished from the file or whose password has changed since the last call: their sessions are
    /// to end. Looks at the file, and reads it if it has changed: for a thread that may wait for a disk.
    ///
    /// A file replaced by another is believed at once; one that is gone or was changed in place at the next call,
    /// since it may be half written. A vanished user is told again at the next call, for a login that was under way.
    pub fn changes(&self) -> Vec<String> {
        self.directory.roster.changes(self.keyring.as_deref())
    }

    /// The epoch that has ended whatever was there before what a user is known by now, where the user did that on our
    /// pages: at that or a later one, nothing is left to be ended.
    pub fn settled(&self, name: &str) -> Option<u64> {
        let users = self.directory.roster.users()?;
        let user = users.find(name)?;
        user.own_change?.settles(user)
    }

    /// Looks at a name and a password, as at a login, and counts the attempt where they are wrong.
    pub(super) async fn judge(&self, credentials: Credentials) -> Result<User, Refusal> {
        let Credentials {
            user,
            password,
            address,
            known_browser,
        } = credentials;
        let attempt = Attempt {
            user: &user,
            address,
            known_browser,
        };
        let reservation = self.reserve(&attempt)?;
        let directory = Arc::clone(&self.directory);
        let judged = self.hasher.run(move || directory.judge(&user, &password));
        // Where nobody looked at the password, nothing was learned from the attempt.
        let outcome = match judged.await {
            Ok(Judgement::Wrong) => return Err(Refusal::Credentials),
            Ok(Judgement::Right(user)) => Ok(*user),
            Err(HashingError::Busy) => Err(Refusal::Busy),
            Ok(Judgement::Unavailable) | Err(_) => Err(Refusal::Unavailable),
        };
        reservation.give_back();
        outcome
    }

    pub(super) fn reserve(&self, attempt: &Attempt<'_>) -> Result<Reservation<'_>, Refusal> {
        match self.throttle.reserve(attempt, self.clock.now()) {
            Verdict::Allowed(reservation) => Ok(reservation),
            Verdict::TooMany { retry_after } => Err(Refusal::TooManyAttempts { retry_after }),
        }
    }

    /// A user as the file has them now.
    pub(super) async fn find(&self, name: &str) -> Result<Option<User>, Refusal> {
        let (directory, name) = (Arc::clone(&self.directory), name.to_owned());
        let found = self.hasher.run(move || {
            let users = directory.roster.users()?;
            Some(users.find(&name).cloned())
        });
        match found.await {
            Ok(found) => found.ok_or(Refusal::Unavailable),
            Err(HashingError::Busy) => Err(Refusal::Busy),
            Err(_) => Err(Refusal::Unavailable),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.roster.path()
    }

    pub(super) fn subject_of(&self, user: &str) -> Subject {
        Subject {
            provider: self.id.clone(),
            id: user.to_owned(),
        }
    }

    /// Whether anybody here has a passkey, as far as the file was last looked at.
    pub(super) fn have_passkeys(&self) -> bool {
        self.directory.roster.has_passkeys()
    }

    pub(super) fn throttle(&self) -> &Throttle {
        &self.throttle
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Does something with the users now (`None` where the file has never been good) and the path of their file, where
    /// that may wait for a disk.
    pub(super) async fn with_users<T, F>(&self, work: F) -> Result<T, HashingError>
    where
        T: Send + 'static,
        F: FnOnce(Option<&UserFile>, &Path) -> T + Send + 'static,
    {
        let directory = Arc::clone(&self.directory);
        let job = move || {
            let users = directory.roster.users();
            work(users.as_deref(), directory.roster.path())
        };
        self.hasher.run(job).await
    }

    pub(super) fn identity(&self, user: User) -> Identity {
        Identity {
            subject: self.subject_of(&user.name),
            user: user.name,
            name: user.display_name,
            email: user.email,
            groups: user.groups,
        }
    }
}

#[async_trait]
impl LoginMethod for LocalUsers {
    fn subject(&self, user: &str) -> Option<Subject> {
        Some(self.subject_of(user))
    }

    async fn log_in(&self, credentials: Credentials) -> Step {
        match self.judge(credentials).await {
            Ok(user) => self.step(user),
            Err(refusal) => Step::Refuse(refusal),
        }
    }
}

impl Directory {
    fn judge(&self, name: &str, password: &Secret) -> Judgement {
        let Some(users) = self.roster.users() else {
            return Judgement::Unavailable;
        };
        let fits = password.expose().len() <= rules::MAX_BYTES;
        let user = users.find(name).filter(|_| fits);
        let phc = user.map_or_else(|| self.decoy(&users, name), |user| &user.password);
        match hashing::verify_password(password.expose(), phc) {
            Ok(true) => user.map_or(Judgement::Wrong, |user| self.confirm(user)),
            Ok(false) => Judgement::Wrong,
            Err(error) => {
                tracing::error!(%error, "a password could not be verified");
                Judgement::Unavailable
            }
        }
    }

    /// Some user's hash, so that a name which does not exist takes as long as one that does, whatever parameters the
    /// hashes in the file have. A match admits nobody.
    fn decoy<'u>(&'u self, users: &'u UserFile, name: &str) -> &'u str {
        let users = users.users();
        let count = u64::try_from(users.len()).unwrap_or(u64::MAX);
        let place = self.choice.hash_one(name).checked_rem(count);
        let user = place.and_then(|place| users.get(usize::try_from(place).ok()?));
        user.map_or(&self.decoy, |user| &user.password)
    }

    /// Hashing takes a while: who was removed or got a new password meanwhile is not admitted with the old one.
    fn confirm(&self, user: &User) -> Judgement {
        let users = self.roster.users();
        match users.as_deref().and_then(|users| users.find(&user.name)) {
            Some(now) if now.password == user.password => Judgement::Right(Box::new(now.clone())),
            _ => Judgement::Wrong,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;
    use crate::login::{NewPassword, NewUser, UserFile};

    struct Bench {
        folder: TempDir,
        users: LocalUsers,
        clock: Clock,
    }

    impl Bench {
        fn new(max_attempts: u32) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let clock = Clock::fixed(Timestamp::from_millis(1_000_000));
            let settings = LocalSettings {
                users: folder.path().join("users.toml"),
                max_attempts,
                attempt_window: Duration::from_mins(15),
                rp_id: None,
                second_factor: Requirement::Optional,
            };
            let hasher = Arc::new(Hasher::new(1, 8).unwrap());
            let users =
                LocalUsers::new("local".to_owned(), settings, hasher, clock.clone()).unwrap();
            Self {
                folder,
                users,
                clock,
            }
        }

        fn path(&self) -> std::path::PathBuf {
            self.folder.path().join("users.toml")
        }

        async fn try_with(&self, user: &str, password: &str, known_browser: bool) -> Step {
            let credentials = Credentials {
                user: user.to_owned(),
                password: Secret::new(password),
                address: if known_browser {
                    [192, 0, 2, 1]
                } else {
                    [10, 0, 0, 1]
                }
                .into(),
                known_browser,
            };
            self.users.log_in(credentials).await
        }

        async fn refusal(&self, user: &str, password: &str) -> Refusal {
            match self.try_with(user, password, false).await {
                Step::Refuse(refusal) => refusal,
                other => panic!("{other:?}"),
            }
        }
    }

    fn add(path: &Path, name: &str, password: &str) {
        let user = NewUser {
            name: name.to_owned(),
            display_name: Some("Alice A.".to_owned()),
            email: Some("alice@example.com".to_owned()),
            groups: vec!["staff".to_owned()],
            password: NewPassword::choose(name, password).unwrap(),
        };
        UserFile::add(path, user).unwrap();
    }

    #[tokio::test]
    async fn the_right_password_admits_with_what_the_file_says() {
        let bench = Bench::new(5);
        add(&bench.path(), "alice", "correct horse");
        match bench.try_with("alice", "correct horse", false).await {
            Step::Admit(identity) => {
                assert_eq!(identity.subject.to_string(), "local:alice");
                assert_eq!(identity.user, "alice");
                assert_eq!(identity.name.as_deref(), Some("Alice A."));
                assert_eq!(identity.email.as_deref(), Some("alice@example.com"));
                assert_eq!(identity.groups, ["staff"]);
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_wrong_password_and_an_unknown_user_are_answered_alike() {
        let bench = Bench::new(5);
        add(&bench.path(), "alice", "correct horse");
        for (user, password) in [
            ("alice", "Correct horse"),
            ("alice", ""),
            ("alice ", "correct horse"),
            ("Alice", "correct horse"),
            ("bob", "correct horse"),
        ] {
            assert_eq!(
                bench.refusal(user, password).await,
                Refusal::Credentials,
                "{user} {password}"
            );
        }
    }

    #[test]
    fn an_unknown_user_costs_a_hash_of_the_same_parameters() {
        let bench = Bench::new(5);
        let directory = &bench.users.directory;
        let text = |name: &str, memory: u32| {
            let tail = "$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
            format!(
                "[[user]]\nname = '{name}'\npassword = '$argon2id$v=19$m={memory},t=2,p=1{tail}'\n"
            )
        };
        fs::write(bench.path(), text("alice", 64) + &text("bob", 128)).unwrap();
        let users = directory.roster.users().unwrap();
        let decoys: std::collections::BTreeSet<_> = (0..64)
            .map(|number| directory.decoy(&users, &number.to_string()))
            .collect();
        let kept = users.users().iter().map(|user| user.password.as_str());
        assert_eq!(decoys, kept.collect(), "as often as each of them");
        let again = directory.decoy(&users, "nobody");
        assert_eq!(directory.decoy(&users, "nobody"), again);
        // Where there are no users at all, those of the first.
        let chosen = NewPassword::choose("alice", "correct horse").unwrap();
        let parameters = |phc: &str| phc.split('$').take(4).collect::<Vec<_>>().join("$");
        assert_eq!(
            parameters(directory.decoy(&UserFile::default(), "nobody")),
            parameters(chosen.phc())
        );
    }

    #[test]
    fn a_password_that_fits_the_decoy_admits_nobody() {
        let bench = Bench::new(5);
        let directory = Directory {
            roster: Roster::new(bench.path()),
            decoy: hashing::hash_password(b"guessed it").unwrap(),
            choice: RandomState::new(),
        };
        let judged = directory.judge("nobody", &Secret::new("guessed it"));
        assert!(matches!(judged, Judgement::Wrong));
        // The only user's hash is the decoy of everybody else.
        add(&bench.path(), "alice", "correct horse");
        let judged = directory.judge("nobody", &Secret::new("correct horse"));
        assert!(matches!(judged, Judgement::Wrong));
    }

    #[tokio::test]
    async fn too_many_wrong_passwords_close_the_door_for_strangers_and_not_for_the_owner() {
        let bench = Bench::new(3);
        add(&bench.path(), "alice", "correct horse");
        for _ in 0..3 {
            assert_eq!(
                bench.refusal("alice", "wrong one").await,
                Refusal::Credentials
            );
        }
        let retry_after = Duration::from_mins(15);
        assert_eq!(
            bench.refusal("alice", "correct horse").await,
            Refusal::TooManyAttempts { retry_after },
            "even with the right password"
        );
        let owner = bench.try_with("alice", "correct horse", true).await;
        assert!(matches!(owner, Step::Admit(_)));
        bench.clock.advance(retry_after);
        let later = bench.try_with("alice", "correct horse", false).await;
        assert!(matches!(later, Step::Admit(_)));
    }

    #[tokio::test]
    async fn right_passwords_use_up_no_attempts() {
        let bench = Bench::new(1);
        add(&bench.path(), "alice", "correct horse");
        for _ in 0..3 {
            let step = bench.try_with("alice", "correct horse", false).await;
            assert!(matches!(step, Step::Admit(_)));
        }
    }

    #[tokio::test]
    async fn a_removed_user_and_an_old_password_are_refused_at_once() {
        let bench = Bench::new(5);
        add(&bench.path(), "alice", "correct horse");
        add(&bench.path(), "bob", "battery staple");
        assert!(bench.users.changes().is_empty(), "new users end no session");
        let new = NewPassword::choose("alice", "another horse").unwrap();
        UserFile::set_password(&bench.path(), "alice", &new).unwrap();
        UserFile::remove(&bench.path(), "bob").unwrap();
        assert_eq!(
            bench.refusal("alice", "correct horse").await,
            Refusal::Credentials
        );
        assert_eq!(
            bench.refusal("bob", "battery staple").await,
            Refusal::Credentials
        );
        assert_eq!(bench.users.names().unwrap(), ["alice"]);
        assert_eq!(bench.users.changes(), ["alice", "bob"]);
    }

    #[test]
    fn who_is_removed_or_gets_a_new_password_while_hashing_is_not_admitted() {
        let bench = Bench::new(5);
        add(&bench.path(), "alice", "correct horse");
        add(&bench.path(), "bob", "battery staple");
        let directory = &bench.users.directory;
        let before = directory.roster.users().unwrap();
        let confirmed = |name: &str| directory.confirm(before.find(name).unwrap());
        assert!(matches!(confirmed("alice"), Judgement::Right(_)));
        UserFile::remove(&bench.path(), "alice").unwrap();
        let new = NewPassword::choose("bob", "another staple").unwrap();
        UserFile::set_password(&bench.path(), "bob", &new).unwrap();
        assert!(matches!(confirmed("alice"), Judgement::Wrong));
        assert!(matches!(confirmed("bob"), Judgement::Wrong));
    }

    #[tokio::test]
    async fn a_broken_file_keeps_the_last_good_users_and_one_never_good_is_unavailable() {
        let bench = Bench::new(5);
        add(&bench.path(), "alice", "correct horse");
        assert!(bench.users.names().is_some());
        fs::write(bench.path(), "[[user]").unwrap();
        let step = bench.try_with("alice", "correct horse", false).await;
        assert!(matches!(step, Step::Admit(_)));

        let settings = LocalSettings {
            users: bench.path(),
            max_attempts: 1,
            attempt_window: Duration::from_mins(15),
            rp_id: None,
            second_factor: Requirement::Optional,
        };
        let hasher = Arc::clone(&bench.users.hasher);
        let users =
            LocalUsers::new("local".to_owned(), settings, hasher, bench.clock.clone()).unwrap();
        let bench = Bench { users, ..bench };
        for _ in 0..3 {
            assert_eq!(
                bench.refusal("alice", "correct horse").await,
                Refusal::Unavailable,
                "no attempt is used up"
            );
        }
    }

    #[tokio::test]
    async fn a_login_that_finds_the_queue_full_is_refused_and_uses_up_no_attempt() {
        let bench = Bench::new(1);
        let hasher = Arc::new(Hasher::new(1, 0).unwrap());
        let users = LocalUsers {
            hasher,
            ..bench.users
        };
        let bench = Bench { users, ..bench };
        for _ in 0..3 {
            assert_eq!(bench.refusal("alice", "x").await, Refusal::Busy);
        }
    }

    #[tokio::test]
    async fn a_password_longer_than_any_that_could_be_set_is_wrong() {
        let bench = Bench::new(5);
        add(&bench.path(), "alice", &"a".repeat(rules::MAX_BYTES));
        let longest = "a".repeat(rules::MAX_BYTES);
        let step = bench.try_with("alice", &longest, false).await;
        assert!(matches!(step, Step::Admit(_)));
        assert_eq!(
            bench.refusal("alice", &format!("{longest}a")).await,
            Refusal::Credentials
        );
    }
}
