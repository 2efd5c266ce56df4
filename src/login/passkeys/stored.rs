//! Passkeys as the users file holds them, one `[[user.passkey]]` each. Here they are read and judged.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use toml::Spanned;
use webauthn_rs::prelude::{Passkey as Key, Uuid};

use crate::login::users::{Fault, check_name};

/// Passkeys of one user.
pub(in crate::login) const MAX_PASSKEYS: usize = 16;
/// Bytes of a credential as it is written: one with RSA has about 1300.
const MAX_CREDENTIAL: usize = 4096;
const MAX_CREATED: usize = 64;

/// One passkey of a user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Passkey {
    /// What its owner calls it.
    pub name: String,
    /// In RFC 3339.
    pub created: String,
    pub(super) handle: Handle,
    pub(super) credential: Credential,
}

/// What an authenticator knows a user by: random, the same for all passkeys of a user, and nothing that names them
/// (`WebAuthn` section 14.6.1).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Handle(pub(super) Uuid);

/// The public key, and what else the library keeps beside it.
#[derive(Clone, Debug)]
pub(super) struct Credential {
    text: String,
    key: Arc<Key>,
}

/// Two are the same when they are written the same: the library compares ids alone.
impl PartialEq for Credential {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Credential {}

impl Passkey {
    pub(super) fn new(name: String, created: String, (handle, key): (Handle, Key)) -> Option<Self> {
        check_name(&name).ok()?;
        Some(Self {
            name,
            created,
            handle,
            credential: Credential::new(key)?,
        })
    }

    /// What the authenticator calls it, in bytes.
    pub fn id(&self) -> &[u8] {
        self.credential.key.cred_id()
    }

    /// The same in base64url.
    pub fn label(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.id())
    }
}

impl Handle {
    fn parse(text: &str) -> Option<Self> {
        if text.len() > 32 {
            return None;
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        Uuid::from_slice(&bytes).ok().map(Self)
    }

    pub(super) fn text(self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0.as_bytes())
    }
}

impl Credential {
    /// `None` where it is too large to be kept: nothing but an attestation that nobody asked for makes it so.
    pub(super) fn new(key: Key) -> Option<Self> {
        let text = serde_json::to_string(&key).ok()?;
        (text.len() <= MAX_CREDENTIAL).then(|| Self {
            text,
            key: Arc::new(key),
        })
    }

    fn parse(text: String) -> Option<Self> {
        if text.len() > MAX_CREDENTIAL {
            return None;
        }
        let key: Key = serde_json::from_str(&text).ok()?;
        let key = Arc::new(key);
        (!key.cred_id().is_empty()).then_some(Self { text, key })
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::login) struct PasskeyForm {
    name: Spanned<String>,
    created: Spanned<String>,
    handle: Spanned<String>,
    credential: Spanned<String>,
}

/// Where the file says so, in bytes.
#[derive(Debug)]
pub(in crate::login) struct PasskeyPlace {
    /// The `[[user.passkey]]` line.
    pub(super) header: Range<usize>,
    /// The value of `credential`, quotes included.
    pub(super) credential: Range<usize>,
    /// The end of the last value.
    pub(super) end: usize,
}

/// What users before have, by the user's place in the file.
#[derive(Default)]
pub(in crate::login) struct Taken {
    users: usize,
    handles: HashMap<Handle, usize>,
    credentials: HashMap<Vec<u8>, usize>,
}

/// Reads the passkeys of the next user of the file.
pub(in crate::login) fn read(
    forms: Vec<Spanned<PasskeyForm>>,
    taken: &mut Taken,
) -> Result<(Vec<Passkey>, Vec<PasskeyPlace>), Fault> {
    taken.users += 1;
    if let Some(excess) = forms.get(MAX_PASSKEYS) {
        let message = format!("expected at most {MAX_PASSKEYS} passkeys of one user");
        return Err(Fault::new(excess.span(), message));
    }
    let mut read = (Vec::new(), Vec::new());
    for form in forms {
        let header = form.span();
        let (passkey, place) = form.into_inner().judge(header, taken)?;
        read.0.push(passkey);
        read.1.push(place);
    }
    Ok(read)
}

impl PasskeyForm {
    fn judge(
        self,
        header: Range<usize>,
        taken: &mut Taken,
    ) -> Result<(Passkey, PasskeyPlace), Fault> {
        let Self {
            name,
            created,
            handle,
            credential,
        } = self;
        let spans = [
            name.span(),
            created.span(),
            handle.span(),
            credential.span(),
        ];
        let [name_at, created_at, handle_at, credential_at] = spans.clone();
        check_name(name.get_ref()).map_err(|message| Fault::new(name_at, message))?;
        if !is_moment(created.get_ref()) {
            let message = "expected a moment, as in \"2026-01-31T12:00:00Z\"";
            return Err(Fault::new(created_at, message));
        }
        let Some(handle) = Handle::parse(handle.get_ref()) else {
            return Err(Fault::new(
                handle_at,
                "expected 16 bytes in base64url, as Doorward wrote them here",
            ));
        };
        let Some(credential) = Credential::parse(credential.into_inner()) else {
            return Err(Fault::new(
                credential_at,
                "expected a credential as Doorward wrote it here",
            ));
        };
        let here = taken.users;
        if *taken.handles.entry(handle).or_insert(here) != here {
            let message = "expected a handle of this user's own, another user has it";
            return Err(Fault::new(handle_at, message));
        }
        let id = credential.key.cred_id().clone();
        if taken.credentials.insert(id, here).is_some() {
            let message = "expected a credential of its own, this one is in the file already";
            return Err(Fault::new(credential_at, message));
        }
        let place = PasskeyPlace {
            header,
            credential: credential_at,
            end: spans.iter().map(|span| span.end).max().unwrap_or(0),
        };
        let passkey = Passkey {
            name: name.into_inner(),
            created: created.into_inner(),
            handle,
            credential,
        };
        Ok((passkey, place))
    }
}

fn is_moment(text: &str) -> bool {
    text.len() <= MAX_CREATED && text.parse::<jiff::Timestamp>().is_ok()
}
