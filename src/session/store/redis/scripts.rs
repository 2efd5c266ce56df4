//! The scripts. Each has one key, or keys that are all of one kind; none makes up a key but the one that loads, which no
//! Cluster gets.

use redis::{Cmd, ErrorKind, Script, ServerErrorKind, ToRedisArgs, Value};

use super::fault::Fault;
use super::link::Link;
use crate::session::store::StoreError;

/// A script by its hash, which is all that is sent once a server knows it.
#[derive(Debug)]
pub(super) struct Prepared {
    hash: String,
    text: String,
}

#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) begin_epoch: Prepared,
    pub(super) claim: Prepared,
    pub(super) confirm: Prepared,
    pub(super) create: Prepared,
    pub(super) file: Prepared,
    pub(super) load: Prepared,
    pub(super) prolong: Prepared,
    pub(super) remove: Prepared,
    pub(super) rotate: Prepared,
    pub(super) touch: Prepared,
    pub(super) update: Prepared,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            begin_epoch: Prepared::with_expiry(include_str!("scripts/begin_epoch.lua")),
            claim: Prepared::with_expiry(include_str!("scripts/claim.lua")),
            confirm: Prepared::new(include_str!("scripts/confirm.lua")),
            create: Prepared::with_expiry(include_str!("scripts/create.lua")),
            file: Prepared::with_expiry(include_str!("scripts/file.lua")),
            load: Prepared::new(include_str!("scripts/load.lua")),
            prolong: Prepared::with_expiry(include_str!("scripts/prolong.lua")),
            remove: Prepared::new(include_str!("scripts/remove.lua")),
            rotate: Prepared::new(include_str!("scripts/rotate.lua")),
            touch: Prepared::new(include_str!("scripts/touch.lua")),
            update: Prepared::with_expiry(include_str!("scripts/update.lua")),
        }
    }
}

impl Prepared {
    fn new(text: &str) -> Self {
        let hash = Script::new(text).get_hash().to_owned();
        Self {
            hash,
            text: text.to_owned(),
        }
    }

    fn with_expiry(text: &str) -> Self {
        Self::new(&format!("{}{text}", include_str!("scripts/live_until.lua")))
    }

    /// Runs it; where the server does not know it (it has restarted, or is another one), with its text.
    pub(super) async fn run<K, A>(
        &self,
        link: &Link,
        keys: &[K],
        args: A,
    ) -> Result<Value, StoreError>
    where
        K: ToRedisArgs,
        A: ToRedisArgs,
    {
        Ok(self.send(link, keys, &args).await?)
    }

    /// Runs one that only looks. Where the connection breaks meanwhile, another one is asked.
    pub(super) async fn ask<K, A>(
        &self,
        link: &Link,
        keys: &[K],
        args: A,
    ) -> Result<Value, StoreError>
    where
        K: ToRedisArgs,
        A: ToRedisArgs,
    {
        match self.send(link, keys, &args).await {
            Err(fault) if fault.is_broken_connection() => Ok(self.send(link, keys, &args).await?),
            outcome => Ok(outcome?),
        }
    }

    async fn send<K, A>(&self, link: &Link, keys: &[K], args: &A) -> Result<Value, Fault>
    where
        K: ToRedisArgs,
        A: ToRedisArgs,
    {
        let short = call("EVALSHA", &self.hash, keys, args);
        let unknown = ErrorKind::Server(ServerErrorKind::NoScript);
        match link.send(&short).await {
            Err(fault) if fault.kind() == Some(unknown) => {
                let whole = call("EVAL", &self.text, keys, args);
                link.send(&whole).await
            }
            outcome => outcome,
        }
    }
}

fn call<K: ToRedisArgs, A: ToRedisArgs>(command: &str, script: &str, keys: &[K], args: &A) -> Cmd {
    let mut call = redis::cmd(command);
    call.arg(script).arg(keys.len()).arg(keys).arg(args);
    call
}
