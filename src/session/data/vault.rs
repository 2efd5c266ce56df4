//! What is sealed in a session's row: who it belongs to, and beside it the data of each namespace. Data is sealed under
//! the session's own key, which its token opens (R1); where a namespace has a key of its own, under that key and the
//! server secret, since its app comes for it without the token. A store never learns even the names.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Namespace;
use super::jars::Jars;
use super::space::Space;
use crate::secret::{Purpose, Secret, TokenKey, open_with_key, seal_with_key};
use crate::session::live::Private;
use crate::session::sessions::{Sessions, pack};
use crate::session::token::Sid;

/// No tag of a namespace: those have 32 bytes.
const JARS: &[u8] = b"jars";

pub(in crate::session) type Spaces = BTreeMap<String, Space>;

/// `private` of a row.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Vault {
    own: Vec<u8>,
    boxes: Vec<Sealed>,
    /// The cookies of apps, under the session's own key; empty where there are none.
    jars: Vec<u8>,
}

/// The data of one namespace.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Sealed {
    /// A keyed tag of the namespace's name.
    name: [u8; 32],
    /// Under the key of the namespace, and not that of the session.
    by_key: bool,
    bytes: Vec<u8>,
}

/// A vault that stands open.
#[derive(Debug)]
pub(in crate::session) struct Vaulted {
    pub(in crate::session) private: Private,
    pub(in crate::session) spaces: Spaces,
    pub(in crate::session) jars: Jars,
    /// What does not open stays as it is.
    sealed: Vec<Sealed>,
}

impl Vaulted {
    pub(in crate::session) fn new(private: Private, spaces: Spaces) -> Self {
        Self {
            private,
            spaces,
            jars: Jars::new(),
            sealed: Vec::new(),
        }
    }

    pub(in crate::session) fn with_jars(self, jars: Jars) -> Self {
        Self { jars, ..self }
    }
}

impl Sessions {
    pub(in crate::session) fn open_vault(
        &self,
        sid: Sid,
        key: &[u8; 32],
        bytes: &[u8],
    ) -> Option<Vaulted> {
        let vault = Vault::read(bytes)?;
        let own = open_with_key(key, sid.as_bytes(), &vault.own)?;
        let private = postcard::from_bytes(&own).ok()?;
        let mut open = Vaulted::new(private, Spaces::new());
        if !vault.jars.is_empty() {
            let jars = open_with_key(key, &context(sid, JARS), &vault.jars)?;
            open.jars = postcard::from_bytes(&jars).ok()?;
        }
        for sealed in vault.boxes {
            let opened = if sealed.by_key {
                let mut known = self.settings.data.namespaces.iter();
                known
                    .find(|namespace| self.is_of(&sealed, &namespace.name))
                    .and_then(|namespace| self.open_by_key(sid, namespace, &sealed))
            } else {
                open_with_key(key, &context(sid, &sealed.name), &sealed.bytes)
            };
            match opened.and_then(|bytes| postcard::from_bytes::<(String, Space)>(&bytes).ok()) {
                Some((name, space)) => drop(open.spaces.insert(name, space)),
                None => open.sealed.push(sealed),
            }
        }
        Some(open)
    }

    pub(in crate::session) fn close_vault(
        &self,
        sid: Sid,
        key: &[u8; 32],
        open: &Vaulted,
    ) -> Vec<u8> {
        let mut boxes = open.sealed.clone();
        for (name, space) in open.spaces.iter().filter(|(_, space)| !space.is_empty()) {
            boxes.push(match self.settings.data.namespace(name) {
                Some(namespace) => self.seal_by_key(sid, namespace, space),
                None => self.seal_by_token(sid, key, (name, space)),
            });
        }
        Vault {
            own: seal_with_key(key, sid.as_bytes(), &pack(&open.private)),
            boxes,
            jars: if open.jars.is_empty() {
                Vec::new()
            } else {
                seal_with_key(key, &context(sid, JARS), &pack(&open.jars))
            },
        }
        .write()
    }

    /// Whether something is kept for a namespace that does not open.
    pub(super) fn is_sealed(&self, open: &Vaulted, name: &str) -> bool {
        open.sealed.iter().any(|sealed| self.is_of(sealed, name))
    }

    /// The data of one namespace, without the session's key. `Err`: it is there, and does not open.
    pub(super) fn open_box(
        &self,
        sid: Sid,
        namespace: &Namespace,
        vault: &Vault,
    ) -> Result<Space, ()> {
        let mut boxes = vault.boxes.iter();
        let Some(sealed) = boxes.find(|sealed| self.is_of(sealed, &namespace.name)) else {
            return Ok(Space::default());
        };
        let bytes = sealed
            .by_key
            .then(|| self.open_by_key(sid, namespace, sealed))
            .flatten()
            .ok_or(())?;
        let (_, space) = postcard::from_bytes::<(String, Space)>(&bytes).map_err(drop)?;
        Ok(space)
    }

    pub(super) fn replace_box(
        &self,
        sid: Sid,
        namespace: &Namespace,
        (vault, space): (&mut Vault, &Space),
    ) {
        vault
            .boxes
            .retain(|sealed| !self.is_of(sealed, &namespace.name));
        if !space.is_empty() {
            vault.boxes.push(self.seal_by_key(sid, namespace, space));
        }
    }

    fn seal_by_token(&self, sid: Sid, key: &[u8; 32], named: (&String, &Space)) -> Sealed {
        let name = self.name_tag(named.0);
        Sealed {
            name,
            by_key: false,
            bytes: seal_with_key(key, &context(sid, &name), &pack(&named)),
        }
    }

    fn seal_by_key(&self, sid: Sid, namespace: &Namespace, space: &Space) -> Sealed {
        let name = self.name_tag(&namespace.name);
        let plain = pack(&(&namespace.name, space));
        let key = namespace.keys.first().map(hashed).unwrap_or_default();
        Sealed {
            name,
            by_key: true,
            bytes: self.keyring.seal_for(
                TokenKey(&key),
                Purpose::SessionData,
                &context(sid, &name),
                &plain,
            ),
        }
    }

    fn open_by_key(
        &self,
        sid: Sid,
        namespace: &Namespace,
        sealed: &Sealed,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let context = context(sid, &sealed.name);
        namespace.keys.iter().find_map(|key| {
            let key = hashed(key);
            self.keyring.open_for(
                TokenKey(&key),
                Purpose::SessionData,
                &context,
                &sealed.bytes,
            )
        })
    }

    fn name_tag(&self, name: &str) -> [u8; 32] {
        let mut tags = self.keyring.tags(Purpose::Namespace, name.as_bytes());
        tags.next().unwrap_or_default()
    }

    pub(super) fn is_of(&self, sealed: &Sealed, name: &str) -> bool {
        let mut tags = self.keyring.tags(Purpose::Namespace, name.as_bytes());
        tags.any(|tag| tag == sealed.name)
    }
}

impl Vault {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    pub(super) fn write(&self) -> Vec<u8> {
        // Sealed already; nothing in it has to be wiped.
        pack(self).to_vec()
    }

    /// What the data in it takes, sealed, of the boxes that count.
    pub(super) fn bytes(&self, counts: impl Fn(&Sealed) -> bool) -> usize {
        let boxes = self.boxes.iter().filter(|sealed| counts(sealed));
        boxes.map(|sealed| sealed.bytes.len()).sum()
    }
}

/// A box opens in its session and under its name only.
fn context(sid: Sid, name: &[u8]) -> Vec<u8> {
    [&sid.as_bytes()[..], name].concat()
}

fn hashed(key: &Secret) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, key.expose()).as_ref());
    hash
}
