//! Whether an answer proves what it claims. It blocks on the users file, where a counter is written down.

use std::path::Path;

use webauthn_rs::prelude::{
    DiscoverableAuthentication, PublicKeyCredential, Webauthn, WebauthnError,
};

use super::sealed::Question;
use super::stored::Credential;
use super::{ANSWERED, PasskeyError, parsed, unwritten};
use crate::clock::Timestamp;
use crate::login::oidc::spent::Spent;
use crate::login::users::{User, UserFile};

/// What a thread that may wait needs in order to judge an answer.
pub(super) struct Proof<'a> {
    pub(super) question: &'a Question,
    pub(super) answer: &'a PublicKeyCredential,
    pub(super) webauthn: &'a Webauthn,
}

impl Proof<'_> {
    pub(super) fn judge(
        &self,
        (users, path): (&UserFile, &Path),
        name: &str,
        (spent, now): (&Spent, Timestamp),
    ) -> Result<User, PasskeyError> {
        let id = self.answer.get_credential_id();
        let found = users.find_credential(id);
        // Looked up anew, as the file may have changed since it was claimed.
        let found = found.filter(|(user, _)| user.name == name);
        let (user, passkey) = found.ok_or(PasskeyError::Refused("nobody has such a passkey"))?;
        // First, since what comes again would look like a copy by its counter.
        if spent.holds(&self.question.nonce) {
            return Err(PasskeyError::Refused(ANSWERED));
        }
        let state: DiscoverableAuthentication = parsed(&self.question.state)?;
        let key = passkey.credential.key();
        let proved = self
            .webauthn
            .finish_discoverable_authentication_v2(self.answer, state, key);
        let proved = match proved {
            Ok(proved) => proved,
            Err(WebauthnError::CredentialPossibleCompromise) => {
                let user = name.to_owned();
                return Err(PasskeyError::Cloned { user });
            }
            Err(error) => return Err(PasskeyError::Refused(cause(&error))),
        };
        if !proved.user_verified() {
            return Err(PasskeyError::Refused("the user was not verified"));
        }
        // Only what is good can be spent, so nobody else fills this memory.
        if !spent.spend(&self.question.nonce, now) {
            return Err(PasskeyError::Refused(ANSWERED));
        }
        let mut after = key.clone();
        if after.update_credential(&proved) == Some(true) {
            let after = Credential::new(after).ok_or(PasskeyError::Unavailable)?;
            // A counter that is not written down would let a copy in later, so nobody comes in without.
            UserFile::renew_passkey(path, name, (passkey, after))
                .map_err(|error| unwritten(&error))?;
        }
        Ok(user.clone())
    }
}

/// In words of ours: an error of the library may hold what a stranger sent.
pub(super) fn cause(error: &WebauthnError) -> &'static str {
    match error {
        WebauthnError::InvalidRPOrigin => "it was given at another origin",
        WebauthnError::InvalidRPIDHash => "it is for another host",
        WebauthnError::MismatchedChallenge => "it answers another question",
        WebauthnError::UserNotVerified => "the user was not verified",
        WebauthnError::UserNotPresent => "nobody was there",
        WebauthnError::AuthenticationFailure => "the signature is wrong",
        WebauthnError::CredentialNotFound => "nobody has such a passkey",
        _ => "it is not what WebAuthn demands",
    }
}
