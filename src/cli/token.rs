//! `doorward token`: gives out API tokens, lists them and takes them back. It knows the tokens file by its path alone.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde_json::json;

use super::table::table;
use crate::clock::{Clock, Timestamp};
use crate::config::parse_duration;
use crate::login::{ApiToken, NewToken, TokenFile};

#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, which happens this once
    Create(CreateArgs),
    /// List all tokens
    List(ListArgs),
    /// Take a token back; all that is open by it closes within a second
    Revoke(RevokeArgs),
}

#[derive(Args, Clone, Debug)]
pub struct CreateArgs {
    /// What apps and logs know its bearer by
    pub name: String,
    /// Groups that its bearer belongs to, with commas between them
    #[arg(long, value_delimiter = ',', value_parser = super::listed_name)]
    pub groups: Vec<String>,
    /// What it may be used for, with commas between them: routes ask for these words
    #[arg(long, value_delimiter = ',', value_parser = super::listed_name)]
    pub scopes: Vec<String>,
    /// How long it is good, like 30d or 12h; "never": until it is revoked
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = lifetime)]
    pub expires: Lifetime,
}

/// `None`: it does not end by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lifetime(Option<Duration>);

#[derive(Args, Clone, Copy, Debug)]
pub struct ListArgs {
    /// As JSON, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct RevokeArgs {
    pub name: String,
}

fn lifetime(text: &str) -> Result<Lifetime, String> {
    if text == "never" {
        return Ok(Lifetime(None));
    }
    let length = parse_duration(text).filter(|length| !length.is_zero());
    let length = length.ok_or("like 30d or 12h, or never")?;
    Ok(Lifetime(Some(length)))
}

/// Does what the command says to `tokens_file` and tells on standard output what was done.
pub fn run(command: &TokenCommand, tokens_file: &Path) -> Result<()> {
    let said = execute(command, tokens_file, Clock::system().now())?;
    tell(command, tokens_file, &said, io::stdout().lock())
}

/// A token that nobody got to see is taken back: nobody could use it, and its name would be gone.
fn tell(
    command: &TokenCommand,
    tokens_file: &Path,
    said: &str,
    mut out: impl io::Write,
) -> Result<()> {
    let written = out.write_all(said.as_bytes()).and_then(|()| out.flush());
    let Err(error) = written else {
        return Ok(());
    };
    let TokenCommand::Create(args) = command else {
        return Err(error).context("standard output cannot be written");
    };
    TokenFile::revoke(tokens_file, &args.name)?;
    Err(error).context("the token cannot be shown, so it was taken back")
}

fn execute(command: &TokenCommand, tokens_file: &Path, now: Timestamp) -> Result<String> {
    Ok(match command {
        TokenCommand::Create(args) => {
            let new = NewToken {
                name: args.name.clone(),
                groups: args.groups.clone(),
                scopes: args.scopes.clone(),
                lifetime: args.expires.0,
            };
            format!("{}\n", *TokenFile::create(tokens_file, new, now)?)
        }
        TokenCommand::List(args) => list(TokenFile::load(tokens_file)?.tokens(), args.json, now),
        TokenCommand::Revoke(args) => {
            TokenFile::revoke(tokens_file, &args.name)?;
            format!(
                "Revoked {}. A running Doorward refuses it within a second.\n",
                args.name
            )
        }
    })
}

fn list(tokens: &[ApiToken], as_json: bool, now: Timestamp) -> String {
    let moment = |seconds: u64| Timestamp::from_millis(seconds.saturating_mul(1000)).to_string();
    if as_json {
        let one = |token: &ApiToken| {
            json!({
                "name": token.name,
                "groups": token.groups,
                "scopes": token.scopes,
                "created": token.created,
                "expires": token.expires,
            })
        };
        let all: Vec<_> = tokens.iter().map(one).collect();
        return format!("{}\n", json!({ "tokens": all }));
    }
    let heading = ["NAME", "GROUPS", "SCOPES", "CREATED", "EXPIRES"].map(str::to_owned);
    let row = |token: &ApiToken| {
        let expires = match token.expires {
            Some(seconds) if seconds <= now.as_secs() => "expired".to_owned(),
            Some(seconds) => moment(seconds),
            None => "never".to_owned(),
        };
        [
            token.name.clone(),
            token.groups.join(","),
            token.scopes.join(","),
            moment(token.created),
            expires,
        ]
    };
    let rows: Vec<_> = [heading]
        .into_iter()
        .chain(tokens.iter().map(row))
        .collect();
    table(&rows)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: TokenCommand,
    }

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    #[test]
    fn a_token_is_shown_once_then_listed_without_itself_then_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.toml");
        let create = TokenCommand::Create(CreateArgs {
            name: "ci".to_owned(),
            groups: vec!["staff".to_owned()],
            scopes: vec!["deploy".to_owned()],
            expires: lifetime("1h").unwrap(),
        });
        let said = execute(&create, &file, NOW).unwrap();
        assert!(said.starts_with("dwt_") && said.ends_with('\n'));
        for json in [false, true] {
            let list = TokenCommand::List(ListArgs { json });
            let listed = execute(&list, &file, NOW).unwrap();
            for part in ["ci", "staff", "deploy"] {
                assert!(listed.contains(part), "{listed}");
            }
            assert!(!listed.contains(said.trim()), "{listed}");
        }
        let list = TokenCommand::List(ListArgs { json: false });
        let later = execute(&list, &file, NOW.after(Duration::from_hours(1))).unwrap();
        assert!(later.contains("expired"), "{later}");
        let revoke = TokenCommand::Revoke(RevokeArgs {
            name: "ci".to_owned(),
        });
        execute(&revoke, &file, NOW).unwrap();
        assert!(execute(&revoke, &file, NOW).is_err());
    }

    #[test]
    fn names_with_spaces_beside_their_commas_are_names_and_empty_ones_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.toml");
        let line = |groups, scopes| {
            [
                "token", "create", "ci", "--groups", groups, "--scopes", scopes,
            ]
        };
        let good = Line::try_parse_from(line("staff, wiki", " read ,deploy")).unwrap();
        execute(&good.command, &file, NOW).unwrap();
        let tokens = TokenFile::load(&file).unwrap();
        assert_eq!(tokens.tokens()[0].groups, ["staff", "wiki"]);
        assert_eq!(tokens.tokens()[0].scopes, ["read", "deploy"]);
        for (groups, scopes) in [
            ("staff,,wiki", "read"),
            ("staff, ", "read"),
            ("", "read"),
            ("staff", "read,"),
        ] {
            let error = Line::try_parse_from(line(groups, scopes)).unwrap_err();
            let told = error.to_string();
            assert!(told.contains("one of the names is empty"), "{told}");
        }
    }

    /// As a pipe whose reader has gone, or a full disk.
    struct Full;

    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_token_that_nobody_got_to_see_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.toml");
        let create = TokenCommand::Create(CreateArgs {
            name: "ci".to_owned(),
            groups: Vec::new(),
            scopes: Vec::new(),
            expires: lifetime("1h").unwrap(),
        });
        let said = execute(&create, &file, NOW).unwrap();
        assert!(tell(&create, &file, &said, Full).is_err());
        assert!(TokenFile::load(&file).unwrap().tokens().is_empty());

        let said = execute(&create, &file, NOW).unwrap();
        let mut shown = Vec::new();
        tell(&create, &file, &said, &mut shown).unwrap();
        assert_eq!(shown, said.as_bytes());
        let list = TokenCommand::List(ListArgs { json: false });
        assert!(tell(&list, &file, "NAME", Full).is_err());
        assert_eq!(TokenFile::load(&file).unwrap().tokens().len(), 1);
    }

    #[test]
    fn a_lifetime_is_a_time_or_never() {
        assert_eq!(lifetime("never"), Ok(Lifetime(None)));
        assert_eq!(
            lifetime("90d").unwrap().0,
            Some(Duration::from_hours(90 * 24))
        );
        assert!(lifetime("0s").is_err() && lifetime("soon").is_err());
    }
}
