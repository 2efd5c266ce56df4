//! Rows as a store keeps them under a key.
//!
//! Each value ends with a check over its key and itself: bytes that were changed, cut or stored under another name do
//! not read as a row. It finds accidents, not forgers (those meet the seals inside the rows).

use aws_lc_rs::digest::{Context, SHA256};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use crate::session::record::{RowError, decode, encode};

const CHECK_LEN: usize = 8;

/// A row as it is stored under `key`.
pub(super) fn seal<T: Serialize>(key: &[u8], row: &T) -> Vec<u8> {
    let mut bytes = encode(row);
    let check = check(key, &bytes);
    bytes.extend_from_slice(&check);
    bytes
}

/// The row stored under `key`, or [`StoreError::Damaged`], or [`StoreError::Version`].
pub(super) fn open<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    let damaged = |why: String| StoreError::Damaged(why);
    let Some((bytes, stored)) = value.split_last_chunk::<CHECK_LEN>() else {
        return Err(damaged("the record is cut short".to_owned()));
    };
    if check(key, bytes) != *stored {
        return Err(damaged("the record fails its check".to_owned()));
    }
    decode(bytes).map_err(|error| match error {
        RowError::Damaged => damaged(error.to_string()),
        RowError::Version(version) => StoreError::Version(version),
    })
}

fn check(key: &[u8], bytes: &[u8]) -> [u8; CHECK_LEN] {
    let mut context = Context::new(&SHA256);
    context.update(key);
    context.update(bytes);
    let mut check = [0; CHECK_LEN];
    for (to, from) in check.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    check
}
