//! What leads to a session: the names of its tokens, and its entries in the sorted sets. It changes no session.

use futures_util::future::try_join_all;

use super::backend::{AT_ONCE, Redis};
use super::keys::{hash_in, moment, named, score};
use super::rows::shaped;
use crate::session::record::{SessionRow, SubjectTag};
use crate::session::store::StoreError;
use crate::session::token::{Sid, TokenHash};

impl Redis {
    /// Takes the name of a token, before its session knows it.
    pub(super) async fn claim(
        &self,
        hash: TokenHash,
        (sid, subject): (Sid, Option<SubjectTag>),
        expires: &str,
    ) -> Result<bool, StoreError> {
        let (key, args) = (self.keys.token(hash), (named(sid, subject), expires));
        let claimed = self.scripts.claim.run(&self.link, &[key], args).await?;
        shaped(claimed)
    }

    /// Files a session everywhere where it is looked for. What is there already stays.
    pub(super) async fn file(&self, session: &SessionRow) -> Result<(), StoreError> {
        let sid = session.sid.as_bytes().to_vec();
        let due = named(session.sid, session.subject);
        let mut entries = vec![
            (self.keys.due(), score(session.ends()), due),
            (self.keys.all(), 0, sid.clone()),
        ];
        if let Some(subject) = session.subject {
            entries.push((self.keys.subject(subject), 0, sid));
        }
        let expires = moment(session.expires);
        let filing = entries.into_iter().map(|(key, score, member)| {
            let args = (score, member, expires.clone());
            async move { self.scripts.file.run(&self.link, &[key], args).await }
        });
        try_join_all(filing).await?;
        Ok(())
    }

    /// Lets everything that leads to a session live until `expires` at least.
    pub(super) async fn prolong(
        &self,
        session: &SessionRow,
        expires: &str,
    ) -> Result<String, StoreError> {
        let mut get = redis::cmd("HGET");
        get.arg(self.keys.session(session.sid)).arg("tokens");
        let count: Option<String> = self.link.ask(&get).await?;
        let mut get = redis::cmd("HKEYS");
        get.arg(self.keys.session(session.sid));
        let fields: Vec<Vec<u8>> = self.link.ask(&get).await?;
        let tokens = fields.iter().filter_map(|field| token_in(field));
        let mut names: Vec<String> = tokens.map(|hash| self.keys.token(hash)).collect();
        names.extend([self.keys.all(), self.keys.due()]);
        names.extend(session.subject.map(|subject| self.keys.subject(subject)));
        for some in names.chunks(AT_ONCE) {
            let prolonging = some.iter().map(|name| async move {
                let script = &self.scripts.prolong;
                script
                    .run(&self.link, std::slice::from_ref(name), &[expires])
                    .await
            });
            try_join_all(prolonging).await?;
        }
        Ok(count.unwrap_or_default())
    }

    /// Brings the entry by ends forward. One that is gone stays so.
    pub(super) async fn end_sooner(&self, session: &SessionRow) -> Result<(), StoreError> {
        let mut add = redis::cmd("ZADD");
        add.arg(self.keys.due()).arg("XX").arg("LT");
        add.arg(score(session.ends()));
        add.arg(named(session.sid, session.subject));
        self.link.tell(&add).await
    }

    pub(super) async fn forget_tokens(&self, hashes: Vec<TokenHash>) -> Result<(), StoreError> {
        for some in hashes.chunks(AT_ONCE) {
            let forgetting = some.iter().map(|hash| async move {
                let mut unlink = redis::cmd("UNLINK");
                unlink.arg(self.keys.token(*hash));
                self.link.tell(&unlink).await
            });
            try_join_all(forgetting).await?;
        }
        Ok(())
    }

    /// The entry by ends goes last: as long as it is there, the sweep comes back to the others.
    pub(super) async fn unfile(
        &self,
        sid: Sid,
        subject: Option<SubjectTag>,
    ) -> Result<(), StoreError> {
        let mut names = vec![self.keys.all()];
        names.extend(subject.map(|subject| self.keys.subject(subject)));
        let removing = names
            .into_iter()
            .map(|name| self.take_from(name, sid.as_bytes()));
        try_join_all(removing).await?;
        self.take_from(self.keys.due(), &named(sid, subject)).await
    }

    pub(super) async fn take_from(&self, set: String, member: &[u8]) -> Result<(), StoreError> {
        let mut remove = redis::cmd("ZREM");
        remove.arg(set).arg(member);
        self.link.tell(&remove).await
    }
}

fn token_in(field: &[u8]) -> Option<TokenHash> {
    hash_in(field.strip_prefix(b"t")?)
}
