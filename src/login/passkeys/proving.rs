//! Whether an answer proves what it claims, and what of it is written down in the users file.

use std::path::Path;

use webauthn_rs::prelude::{
    DiscoverableAuthentication, PublicKeyCredential, Webauthn, WebauthnError,
};

use super::sealed::Question;
use super::stored::Credential;
use super::{Passkey, PasskeyError, parsed, unwritten};
use crate::login::users::{User, UserFile};

/// What a thread that may wait needs in order to judge an answer.
pub(super) struct Proof<'a> {
    pub(super) question: &'a Question,
    pub(super) answer: &'a PublicKeyCredential,
    pub(super) webauthn: &'a Webauthn,
}

/// A passkey as it was, and what has changed of it with an answer.
#[derive(Debug)]
pub(super) struct Renewal {
    before: Passkey,
    after: Credential,
}

impl Renewal {
    /// Blocks on the users file.
    pub(super) fn write(self, path: &Path, name: &str) -> Result<(), PasskeyError> {
        UserFile::renew_passkey(path, name, (&self.before, self.after))
            .map_err(|error| unwritten(&error))
    }
}

impl Proof<'_> {
    pub(super) fn judge(
        &self,
        users: &UserFile,
        name: &str,
    ) -> Result<(User, Option<Renewal>), PasskeyError> {
        let id = self.answer.get_credential_id();
        let found = users.find_credential(id);
        // Looked up anew, as the file may have changed since it was claimed.
        let found = found.filter(|(user, _)| user.name == name);
        let (user, passkey) = found.ok_or(PasskeyError::Refused("nobody has such a passkey"))?;
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
        let mut after = key.clone();
        let is_changed = after.update_credential(&proved) == Some(true);
        let renewal = is_changed.then(|| {
            let before = passkey.clone();
            let after = Credential::new(after).ok_or(PasskeyError::Unavailable)?;
            Ok(Renewal { before, after })
        });
        Ok((user.clone(), renewal.transpose()?))
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
