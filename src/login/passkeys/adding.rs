//! Adding a passkey: what is asked for, and what is kept of the answer.

use serde_json::json;
use webauthn_rs::prelude::{PasskeyRegistration, RegisterPublicKeyCredential, Uuid};

use super::proving::cause;
use super::sealed::Kind;
use super::stored::{Handle, Passkey};
use super::{Answered, Asked, PasskeyError, Passkeys, QuestionId, overloaded, parsed, unwritten};
use crate::identity::Identity;
use crate::login::users::{UserFile, check_name};
use crate::secret::random;

/// A new passkey that is proved, and is yet to be kept.
#[derive(Debug)]
pub struct NewPasskey {
    question: QuestionId,
    user: String,
    passkey: Passkey,
}

impl NewPasskey {
    pub fn question(&self) -> QuestionId {
        self.question
    }
}

impl Passkeys {
    /// Asks for a new passkey of a user who has these already. `None` where none can be used here.
    pub fn ask_to_add(
        &self,
        (authority, session): (&str, &[u8]),
        user: &Identity,
        known: &[Passkey],
    ) -> Option<Asked> {
        let handle = known.first().map(|passkey| passkey.handle);
        let handle = handle.unwrap_or_else(|| Handle(Uuid::from_bytes(random())));
        let name = &user.subject.id;
        let shown = user.name.as_deref().unwrap_or(name);
        let (asked, state) = self
            .webauthn(authority)?
            .start_passkey_registration(handle.0, name, shown, None)
            .ok()?;
        let mut asked = serde_json::to_value(&asked).ok()?;
        // Only what the authenticator finds by itself can be used without a user name.
        let options = asked.get_mut("publicKey")?.as_object_mut()?;
        let selection = options.get_mut("authenticatorSelection")?.as_object_mut()?;
        selection.insert("residentKey".to_owned(), json!("required"));
        selection.insert("requireResidentKey".to_owned(), json!(true));
        let known = known
            .iter()
            .map(|passkey| json!({ "type": "public-key", "id": passkey.label() }));
        options.insert("excludeCredentials".to_owned(), known.collect());
        let state = serde_json::to_string(&state).ok()?;
        let kind = Kind::Adding {
            user: name.clone(),
            handle: handle.0.into_bytes(),
        };
        self.asked(asked, (authority, session), (kind, state))
    }

    /// Judges a new passkey. `Refused` says what the user may be told.
    pub async fn judge_new(
        &self,
        answered: Answered<'_>,
        (user, name): (&str, &str),
    ) -> Result<NewPasskey, PasskeyError> {
        check_name(name).map_err(PasskeyError::Refused)?;
        let question = self.question(&answered)?;
        let webauthn = self.webauthn(answered.authority);
        let webauthn = webauthn.ok_or(PasskeyError::Expired)?;
        let answer: RegisterPublicKeyCredential = parsed(answered.credential)?;
        let Kind::Adding {
            user: asked,
            handle,
        } = &question.kind
        else {
            return Err(PasskeyError::Refused("the question was another one"));
        };
        if asked != user {
            return Err(PasskeyError::Refused("another user was asked"));
        }
        let handle = Handle(Uuid::from_bytes(*handle));
        let state: PasskeyRegistration = parsed(&question.state)?;
        let now = self.users.clock().now();
        let (nonce, user, name) = (question.nonce, user.to_owned(), name.to_owned());
        let judged = self.users.with_users(move |_, _| {
            let key = webauthn.finish_passkey_registration(&answer, &state);
            let key = key.map_err(|error| PasskeyError::Refused(cause(&error)))?;
            let passkey = Passkey::new(name, now.to_string(), (handle, key));
            let passkey = passkey.ok_or(PasskeyError::Refused("it is too large to be kept"))?;
            Ok(NewPasskey {
                question: nonce,
                user,
                passkey,
            })
        });
        judged.await.map_err(overloaded)?
    }

    /// Takes a new passkey in.
    pub async fn add(&self, new: NewPasskey) -> Result<(), PasskeyError> {
        let added = self.users.with_users(move |_, path| {
            UserFile::add_passkey(path, &new.user, &new.passkey).map_err(|error| unwritten(&error))
        });
        added.await.map_err(overloaded)?
    }
}
