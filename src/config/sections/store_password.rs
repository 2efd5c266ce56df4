//! A password that another server asks for: from a file or from the environment, never from the configuration. What is
//! read is never shown.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::environment::variable;
use crate::config::reader::Value;
use crate::secret::Secret;

/// What it is called, and how one says where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    pub(super) noun: &'static str,
    pub(super) example: &'static str,
    pub(super) variable: &'static str,
}

const PASSWORD: Words = Words {
    noun: "password",
    example: "`password = { file = \"secrets/store.password\" }` or `password = { env = \"DOORWARD_STORE_PASSWORD\" }`",
    variable: "DOORWARD_STORE_PASSWORD",
};

/// Far beyond any password; a file that is larger is something else.
const LONGEST: usize = 1024;

/// Makes the keys known to the reader wherever the table is there.
pub(super) fn know(value: Option<&Value<'_>>) {
    let table = value.filter(|value| value.as_table().is_some());
    if let Some(table) = table.and_then(Value::section) {
        table.value("file");
        table.value("env");
    }
}

/// What to say where a password stands in the file itself.
pub(super) fn refuse_written(value: &Value<'_>) {
    refuse(value, &PASSWORD);
}

fn refuse(value: &Value<'_>, words: &Words) {
    let Words { noun, example, .. } = words;
    value.report().blot_out(value.place());
    let complaint = value.wrong(format!(
        "a {noun} cannot stand in this file, which people copy, commit and show"
    ));
    complaint.help(format!("say where it is: {example}")).push();
}

/// One `{ file = … }` or `{ env = … }`.
pub(super) fn read(value: &Value<'_>) -> Option<Secret> {
    read_as(value, &PASSWORD)
}

/// The same by another name.
pub(super) fn read_as(value: &Value<'_>, words: &Words) -> Option<Secret> {
    let Words { noun, example, .. } = words;
    if value.as_table().is_none() {
        refuse(value, words);
        return None;
    }
    let section = value.section()?;
    let (file, env) = (section.value("file"), section.value("env"));
    section.finish();
    match (file, env) {
        (Some(file), None) => from_file(&file, words),
        (None, Some(env)) => from_environment(&env, words),
        (Some(_), Some(env)) => {
            let complaint = env.wrong(format!(
                "a {noun} comes from a file or from the environment"
            ));
            complaint.at_key().help("keep one of the two").push();
            None
        }
        (None, None) => {
            let complaint = value.wrong(format!("does not say where the {noun} is"));
            complaint.help(*example).push();
            None
        }
    }
}

fn from_file(value: &Value<'_>, words: &Words) -> Option<Secret> {
    let path = value.path()?;
    if value.report().tolerates_missing() && !path.exists() {
        return None;
    }
    let shown = path.display();
    match content(&path) {
        Err(error) => {
            let complaint = value.wrong(format!("{shown} cannot be read: {error}"));
            complaint
                .help(format!("a file with the {}, and nothing else", words.noun))
                .push();
            None
        }
        Ok((mode, _)) if mode & 0o007 != 0 => {
            let mode = mode & 0o777;
            let complaint = value.wrong(format!(
                "everybody on this machine can get at {shown} (mode {mode:03o})"
            ));
            complaint.help(format!("`chmod 600 {shown}`")).push();
            None
        }
        Ok((_, bytes)) => usable(value, &bytes, (&shown.to_string(), words)),
    }
}

fn content(path: &Path) -> std::io::Result<(u32, Zeroizing<Vec<u8>>)> {
    let data = std::fs::metadata(path)?;
    if data.len() > 2 * LONGEST as u64 {
        return Err(std::io::Error::other("it is too large"));
    }
    Ok((data.mode(), Zeroizing::new(std::fs::read(path)?)))
}

fn from_environment(value: &Value<'_>, words: &Words) -> Option<Secret> {
    let (name, bytes) = variable(value, words.variable)?;
    usable(value, &bytes, (&format!("the value of {name}"), words))
}

/// Takes off the newline that editors and `echo` leave at the end.
fn usable(value: &Value<'_>, bytes: &[u8], (what, words): (&str, &Words)) -> Option<Secret> {
    let trimmed = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let trimmed = trimmed.strip_suffix(b"\r").unwrap_or(trimmed);
    let is_line = std::str::from_utf8(trimmed)
        .is_ok_and(|text| !text.is_empty() && !text.contains(char::is_control));
    if !is_line || trimmed.len() > LONGEST {
        let complaint = value.wrong(format!("{what} is not a {}", words.noun));
        complaint
            .help(format!("one line of text, at most {LONGEST} bytes"))
            .push();
        return None;
    }
    Some(Secret::new(trimmed))
}
