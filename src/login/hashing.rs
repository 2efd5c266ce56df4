//! Password hashing with argon2id: what is computed on the threads of a [`Hasher`](super::Hasher). It knows no users.

use crate::secret::random;
use argon2::{
    ARGON2ID_IDENT, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, password_hash,
};

/// The most memory that one hash may ask for, in KiB.
const MAX_MEMORY_KIB: u32 = 1024 * 1024;
/// The most work that one hash may ask for: KiB times passes. About four seconds.
const MAX_WORK_KIB: u64 = 4 * 1024 * 1024;
const MAX_LANES: u32 = 16;

#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HashingError {
    /// Nothing was computed; the caller may try again later.
    #[error("too many passwords are waiting to be hashed")]
    Busy,
    #[error("hashing failed")]
    Failed,
    #[error("the password hash is not one of argon2id")]
    Unsupported,
    #[error("the password hash asks for more memory or time than is allowed")]
    TooCostly,
}

/// The password's hash in PHC form, with a new salt and the parameters OWASP recommends (19 MiB, 2 passes, 1 lane).
pub(super) fn hash_password(password: &[u8]) -> Result<String, HashingError> {
    let salt: [u8; password_hash::phc::Salt::RECOMMENDED_LENGTH] = random();
    let hash = Argon2::default()
        .hash_password_with_salt(password, &salt)
        .map_err(|_| HashingError::Failed)?;
    Ok(hash.to_string())
}

/// Whether `phc` is the hash of `password`.
pub(super) fn verify_password(password: &[u8], phc: &str) -> Result<bool, HashingError> {
    let hash = parse(phc)?;
    match Argon2::default().verify_password(password, &hash) {
        Ok(()) => Ok(true),
        Err(password_hash::Error::PasswordInvalid) => Ok(false),
        Err(_) => Err(HashingError::Failed),
    }
}

/// Whether [`verify_password`] would compute this hash.
pub(super) fn check_hash(phc: &str) -> Result<(), HashingError> {
    parse(phc).map(|_| ())
}

/// What a guess at a password costs whoever has its hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HashCost {
    pub memory_kib: u32,
    pub passes: u32,
}

/// `None` where [`check_hash`] refuses it.
pub(super) fn cost(phc: &str) -> Option<HashCost> {
    let params = Params::try_from(&parse(phc).ok()?).ok()?;
    Some(HashCost {
        memory_kib: params.m_cost(),
        passes: params.t_cost(),
    })
}

/// Reads a hash, and refuses one that would cost too much *before* anything is computed.
fn parse(phc: &str) -> Result<PasswordHash, HashingError> {
    let hash = PasswordHash::new(phc).map_err(|_| HashingError::Unsupported)?;
    let whole = hash.algorithm == ARGON2ID_IDENT && hash.salt.is_some() && hash.hash.is_some();
    if !whole {
        return Err(HashingError::Unsupported);
    }
    let params = Params::try_from(&hash).map_err(|_| HashingError::Unsupported)?;
    let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
    if params.m_cost() > MAX_MEMORY_KIB || work > MAX_WORK_KIB || params.p_cost() > MAX_LANES {
        return Err(HashingError::TooCostly);
    }
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_verifies_against_its_own_hash_and_no_other() {
        let phc = hash_password(b"correct horse").unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert_eq!(verify_password(b"correct horse", &phc), Ok(true));
        assert_eq!(verify_password(b"correct horsf", &phc), Ok(false));
        let again = hash_password(b"correct horse").unwrap();
        assert_ne!(phc, again, "every hash has its own salt");
    }

    #[test]
    fn a_hash_made_elsewhere_is_understood() {
        // From the test vectors of the argon2 reference implementation (RFC 9106's authors), encoded form.
        let phc = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert_eq!(verify_password(b"password", phc), Ok(true));
        assert_eq!(verify_password(b"Password", phc), Ok(false));
    }

    #[test]
    fn a_hash_that_costs_too_much_is_refused_before_it_is_computed() {
        let tail = "$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        for params in [
            "m=1048577,t=1,p=1",
            "m=4294967295,t=4294967295,p=1",
            "m=1048576,t=5,p=1",
            "m=65536,t=2,p=17",
        ] {
            let phc = format!("$argon2id$v=19${params}{tail}");
            assert_eq!(
                verify_password(b"password", &phc),
                Err(HashingError::TooCostly),
                "{params}"
            );
        }
    }

    #[test]
    fn what_is_no_argon2id_hash_is_refused() {
        for phc in [
            "",
            "secret",
            "$2b$12$abcdefghijklmnopqrstuuJ1d3Zr3bQ3l1r5c4bT3K1Z9q0d5m6yK",
            "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ",
            "$argon2id$v=19$m=65536,t=2,p=1",
            "$argon2id$v=19$m=65536,t=0,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        ] {
            assert_eq!(check_hash(phc), Err(HashingError::Unsupported), "{phc}");
        }
    }
}
