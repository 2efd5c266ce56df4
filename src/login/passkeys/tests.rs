use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::stored::{Credential, Handle, Passkey};
use crate::login::users::tests::PHC;
use crate::login::{UserFile, UserFileError};

/// As the library writes it; `id` in base64url.
fn credential(id: &str, counter: u32) -> String {
    format!(
        "{{\"cred\":{{\"cred_id\":\"{id}\",\"cred\":{{\"type_\":\"ES256\",\"key\":{{\"EC_EC2\":{{\"curve\":\"SECP256R1\",\
         \"x\":\"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY\",\"y\":\"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU\"}}}}}},\
         \"counter\":{counter},\"transports\":null,\"user_verified\":true,\"backup_eligible\":false,\"backup_state\":false,\
         \"registration_policy\":\"required\",\"extensions\":{{}},\"attestation\":{{\"data\":\"None\",\"metadata\":\"None\"}},\
         \"attestation_format\":\"none\"}}}}"
    )
}

fn passkey(name: &str, id: &str) -> Passkey {
    let key = serde_json::from_str(&credential(id, 1)).unwrap();
    let handle = Handle(uuid::Uuid::from_bytes([7; 16]));
    Passkey::new(
        name.to_owned(),
        "2026-01-31T12:00:00Z".to_owned(),
        (handle, key),
    )
    .unwrap()
}

fn place(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.toml");
    fs::write(&path, text).unwrap();
    (folder, path)
}

fn two_users() -> String {
    format!(
        "# Ours\n\n# first\n[[user]]\nname = 'alice'\npassword = '{PHC}'\n\n# on leave\n[[user]]\nname = 'bob'\npassword = '{PHC}' # x"
    )
}

fn load(path: &Path) -> UserFile {
    UserFile::load(path).unwrap()
}

fn names(path: &Path, user: &str) -> Vec<String> {
    let users = load(path);
    let passkeys = &users.find(user).unwrap().passkeys;
    passkeys
        .iter()
        .map(|passkey| passkey.name.clone())
        .collect()
}

#[test]
fn passkeys_come_and_go_and_everything_else_in_the_file_stays() {
    let (_folder, path) = place(&two_users());
    for (user, name, id) in [
        ("alice", "one", "AAAB"),
        ("bob", "'two'", "AAAC"),
        ("alice", "\"three\"", "AAAD"),
    ] {
        UserFile::add_passkey(&path, user, &passkey(name, id)).map_or_else(
            |error| assert_eq!(user, "bob", "{error}"),
            |()| assert_eq!(user, "alice"),
        );
    }
    assert_eq!(names(&path, "alice"), ["one", "\"three\""]);
    assert!(names(&path, "bob").is_empty(), "a handle is one user's");
    let users = load(&path);
    let (owner, found) = users.find_credential(&[0, 0, 3]).unwrap();
    assert_eq!(
        (owner.name.as_str(), found.label().as_str()),
        ("alice", "AAAD")
    );
    assert!(users.find_credential(&[0, 0, 2]).is_none());

    UserFile::remove_passkeys(&path, "alice", Some(&[0, 0, 1])).unwrap();
    assert_eq!(names(&path, "alice"), ["\"three\""]);
    let gone = UserFile::remove_passkeys(&path, "alice", Some(&[0, 0, 1]));
    assert!(matches!(gone, Err(UserFileError::Refused(_))), "{gone:?}");
    let removed = UserFile::remove_passkeys(&path, "alice", None).unwrap();
    assert_eq!(removed, ["\"three\""]);
    assert_eq!(fs::read_to_string(&path).unwrap(), two_users());

    UserFile::add_passkey(&path, "bob", &passkey("last", "AAAB")).unwrap();
    UserFile::remove(&path, "bob").unwrap();
    assert!(!fs::read_to_string(&path).unwrap().contains("passkey"));
}

#[test]
fn a_counter_is_written_once_and_who_is_slower_is_told() {
    let (_folder, path) = place(&two_users());
    let before = passkey("one", "AAAB");
    UserFile::add_passkey(&path, "alice", &before).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let after = || Credential::new(serde_json::from_str(&credential("AAAB", 2)).unwrap()).unwrap();
    UserFile::renew_passkey(&path, "alice", (&before, after())).unwrap();
    let changed = fs::read_to_string(&path).unwrap();
    assert_eq!(changed, text.replace("\"counter\":1,", "\"counter\":2,"));
    let late = UserFile::renew_passkey(&path, "alice", (&before, after()));
    assert!(matches!(late, Err(UserFileError::Refused(_))), "{late:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), changed);
}

#[test]
fn a_user_has_sixteen_passkeys_and_each_once() {
    let (_folder, path) = place(&two_users());
    for number in 0..16 {
        let added = passkey(&number.to_string(), &format!("AA{number:02}"));
        UserFile::add_passkey(&path, "alice", &added).unwrap();
    }
    let more = UserFile::add_passkey(&path, "alice", &passkey("more", "BBBB"));
    assert!(matches!(more, Err(UserFileError::Refused(_))), "{more:?}");
    let twice = UserFile::add_passkey(&path, "bob", &passkey("x", "AA00"));
    assert!(matches!(twice, Err(UserFileError::Refused(_))), "{twice:?}");
    let text = fs::read_to_string(&path).unwrap();
    let start = text.find("[[user.passkey]]").unwrap();
    let end = start + text.split_at(start + 1).1.find("[[user.passkey]]").unwrap() + 1;
    let one_more = text.get(start..end).unwrap().replace("AA00", "BBBB");
    fs::write(
        &path,
        text.replacen(
            "[[user.passkey]]",
            &format!("{one_more}[[user.passkey]]"),
            1,
        ),
    )
    .unwrap();
    let error = UserFile::load(&path).unwrap_err().to_string();
    assert!(error.contains("expected at most 16 passkeys"), "{error}");
}

#[test]
fn hostile_entries_are_refused_with_their_place() {
    let good = credential("AAAB", 1);
    let handle = "BwcHBwcHBwcHBwcHBwcHBw";
    let entry = |name: &str, created: &str, handle: &str, credential: &str| {
        format!(
            "[[user.passkey]]\nname = {name:?}\ncreated = {created:?}\nhandle = {handle:?}\ncredential = '{credential}'\n"
        )
    };
    let file = |entries: &str| format!("[[user]]\nname = 'a'\npassword = '{PHC}'\n{entries}");
    let day = "2026-01-31T12:00:00Z";
    let whole = entry("x", day, handle, &good);
    let (_folder, path) = place(&file(&whole));
    load(&path);
    let long = "x".repeat(65);
    for (entries, at) in [
        (entry("", day, handle, &good), "5:8"),
        (entry(&long, day, handle, &good), "5:8"),
        (entry("a\n", day, handle, &good), "5:8"),
        (entry("x", "yesterday", handle, &good), "6:11"),
        (entry("x", &"2".repeat(100), handle, &good), "6:11"),
        (entry("x", day, "", &good), "7:10"),
        (entry("x", day, "BwcH", &good), "7:10"),
        (entry("x", day, &"B".repeat(100), &good), "7:10"),
        (entry("x", day, handle, ""), "8:14"),
        (entry("x", day, handle, "{}"), "8:14"),
        (entry("x", day, handle, &credential("", 1)), "8:14"),
        (entry("x", day, handle, &credential("=", 1)), "8:14"),
        (
            entry("x", day, handle, &good.replace("ES256", "none")),
            "8:14",
        ),
        (
            entry("x", day, handle, &good.replace(":1,", ":-1,")),
            "8:14",
        ),
        (
            entry("x", day, handle, &format!("{good}{}", " ".repeat(4096))),
            "8:14",
        ),
        (entry("x", day, handle, &"[".repeat(4000)), "8:14"),
        (format!("{whole}{whole}"), "13:14"),
        (format!("{whole}counter = 7\n"), "9:1"),
    ] {
        fs::write(&path, file(&entries)).unwrap();
        let error = UserFile::load(&path).unwrap_err().to_string();
        assert!(
            error.contains(&format!("users.toml:{at}: ")),
            "{at}: {error}"
        );
        assert!(!error.contains("axfR8"), "{error}");
    }
    let other = format!("[[user]]\nname = 'b'\npassword = '{PHC}'\n");
    let second = entry("x", day, handle, &credential("AAAC", 1));
    fs::write(&path, format!("{}{other}{second}", file(&whole))).unwrap();
    let error = UserFile::load(&path).unwrap_err().to_string();
    assert!(error.contains("another user has it"), "{error}");
}
