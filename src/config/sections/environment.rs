//! Secrets that the environment holds.

use zeroize::Zeroizing;

use crate::config::reader::{Value, quoted};

/// The name that `value` is, and what the environment holds under it. Whatever is wrong with either is reported.
pub(super) fn variable<'a>(
    value: &'a Value<'_>,
    example: &str,
) -> Option<(&'a str, Zeroizing<Vec<u8>>)> {
    let name = value.text()?;
    // A value in place of a name may be the secret itself.
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        value.report().blot_out(value.place());
        value
            .wrong("is not the name of an environment variable")
            .help(format!("like \"{example}\""))
            .push();
        return None;
    }
    let Some(text) = std::env::var_os(name) else {
        let help = "set it before doorward starts, for example with `EnvironmentFile=` in its systemd unit";
        value
            .wrong(format!("the environment has no {}", quoted(name)))
            .help(help)
            .push();
        return None;
    };
    Some((name, Zeroizing::new(text.into_encoded_bytes())))
}
