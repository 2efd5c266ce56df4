//! `doorward session`: lists sessions and ends them, by asking the Doorward that runs. It knows the admin API and no store.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::admin_client::{AdminClient, target};
use super::table::{plain, table};
use crate::clock::{Clock, Timestamp};
use crate::config::parse_duration;

/// Sessions that are asked for at once.
const PAGE: usize = 500;

#[derive(Clone, Debug, Subcommand)]
pub enum SessionCommand {
    /// List sessions, the oldest first
    List(ListArgs),
    /// Show all that is known of one session
    Show(ShowArgs),
    /// End sessions at once, with all that is open
    Revoke(RevokeArgs),
}

#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Of the user with this name
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Of users who logged in with this provider
    #[arg(long, value_name = "ID")]
    pub provider: Option<String>,
    /// Which ones: ended sessions wait to be removed from the store
    #[arg(long, value_enum, default_value_t = StateArg::Active)]
    pub state: StateArg,
    /// That began this long ago or earlier, like 8h or 7d
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub older_than: Option<Duration>,
    /// At most so many; 0: all of them
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub limit: usize,
    /// As JSON, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum StateArg {
    Active,
    Ended,
    All,
}

#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// The name of the session, as `list` shows it
    #[arg(value_name = "SID")]
    pub sid: String,
    /// As JSON, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct RevokeArgs {
    /// The names of sessions, as `list` shows them
    #[arg(
        value_name = "SID",
        required_unless_present = "user",
        conflicts_with = "user"
    )]
    pub sids: Vec<String>,
    /// All sessions of the user with this name
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Of that user, where several providers have one of this name
    #[arg(long, value_name = "ID", requires = "user")]
    pub provider: Option<String>,
    /// As JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// A session, as far as the table shows it. What cannot be opened has no user.
#[derive(Debug, Deserialize)]
struct Row {
    sid: String,
    user: Option<String>,
    provider: Option<String>,
    subject: Option<String>,
    device: Option<String>,
    address: Option<String>,
    created: String,
    last_seen: String,
    state: String,
}

fn age(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write it like 30m, 8h or 7d".to_owned())
}

/// Does what the command says and tells on standard output what was done.
pub(super) fn run(command: &SessionCommand, doorward: &AdminClient) -> Result<()> {
    let text = match command {
        SessionCommand::List(args) => list(args, doorward)?,
        SessionCommand::Show(args) => show(args, doorward)?,
        SessionCommand::Revoke(args) => revoke(args, doorward)?,
    };
    super::say(&text)
}

fn list(args: &ListArgs, doorward: &AdminClient) -> Result<String> {
    let most = if args.limit == 0 {
        usize::MAX
    } else {
        args.limit
    };
    let (sessions, more) = collect(&filter(args), most, doorward)?;
    if args.json {
        return Ok(serde_json::to_string_pretty(&sessions)? + "\n");
    }
    if sessions.is_empty() {
        return Ok("There are no such sessions.\n".to_owned());
    }
    let mut text = in_columns(&sessions, Clock::system().now())?;
    if more {
        text.push_str("There are more; `--limit 0` lists all.\n");
    }
    Ok(text)
}

fn filter(args: &ListArgs) -> Vec<(&'static str, String)> {
    let state = match args.state {
        StateArg::Active => "active",
        StateArg::Ended => "ended",
        StateArg::All => "all",
    };
    let mut filter = vec![("state", state.to_owned())];
    filter.extend(args.user.clone().map(|user| ("user", user)));
    filter.extend(args.provider.clone().map(|provider| ("provider", provider)));
    let age = args.older_than.map(|age| age.as_secs().to_string());
    filter.extend(age.map(|seconds| ("older_than", seconds)));
    filter
}

/// Page by page, until there are enough or no more; and whether there may be more.
pub(super) fn collect(
    filter: &[(&'static str, String)],
    most: usize,
    doorward: &AdminClient,
) -> Result<(Vec<Value>, bool)> {
    let mut sessions = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let limit = PAGE.min(most - sessions.len()).to_string();
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(filter).append_pair("limit", &limit);
        if let Some(cursor) = &cursor {
            query.append_pair("cursor", cursor);
        }
        let target = format!("{}?{}", target(&["sessions"]), query.finish());
        let page = doorward.ask(Method::GET, &target)?;
        let mut page = page.context("this Doorward has no list of sessions")?;
        if let Some(Value::Array(part)) = page.get_mut("sessions").map(Value::take) {
            sessions.extend(part);
        }
        cursor = page.get("next").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() || sessions.len() >= most {
            return Ok((sessions, cursor.is_some()));
        }
    }
}

fn in_columns(sessions: &[Value], now: Timestamp) -> Result<String> {
    let heading = [
        "SID",
        "USER",
        "PROVIDER",
        "DEVICE",
        "ADDRESS",
        "BEGAN",
        "LAST SEEN",
        "STATE",
    ];
    let mut rows = vec![heading.map(str::to_owned)];
    for session in sessions {
        let row = Row::deserialize(session).context("the answer is not understood")?;
        let known = |text: Option<String>| text.unwrap_or_else(|| "?".to_owned());
        rows.push([
            row.sid,
            row.user.unwrap_or_else(|| "(sealed)".to_owned()),
            known(row.provider),
            known(row.device),
            known(row.address),
            since(&row.created, now),
            since(&row.last_seen, now),
            row.state,
        ]);
    }
    Ok(table(&rows))
}

/// How long ago a moment in RFC 3339 was: `12s`, `5m`, `3h 20m`, `4d 2h`.
fn since(moment: &str, now: Timestamp) -> String {
    let Ok(moment) = moment.parse::<jiff::Timestamp>() else {
        return "?".to_owned();
    };
    let moment = u64::try_from(moment.as_millisecond()).unwrap_or(0);
    let seconds = now.since(Timestamp::from_millis(moment)).as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let span = match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m"),
        (0, ..) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    };
    format!("{span} ago")
}

fn show(args: &ShowArgs, doorward: &AdminClient) -> Result<String> {
    let found = doorward.ask(Method::GET, &target(&["sessions", &args.sid]))?;
    let Some(session) = found else {
        bail!("there is no session {:?}", args.sid);
    };
    if args.json {
        return Ok(serde_json::to_string_pretty(&session)? + "\n");
    }
    let mut rows = Vec::new();
    for name in [
        "sid",
        "state",
        "user",
        "provider",
        "subject",
        "device",
        "address",
        "user_agent",
        "created",
        "last_seen",
        "ends",
        "expires",
    ] {
        let told = match session.get(name) {
            None | Some(Value::Null) => "?".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        rows.push([format!("{name}:"), told]);
    }
    Ok(table(&rows))
}

fn revoke(args: &RevokeArgs, doorward: &AdminClient) -> Result<String> {
    let ended = if let Some(user) = &args.user {
        revoke_user(user, args.provider.as_deref(), doorward)?
    } else {
        for sid in &args.sids {
            let done = doorward.ask(Method::DELETE, &target(&["sessions", sid]))?;
            ensure!(done.is_some(), "there is no session {sid:?}");
        }
        u64::try_from(args.sids.len()).unwrap_or(u64::MAX)
    };
    if args.json {
        return Ok(format!("{}\n", serde_json::json!({ "ended": ended })));
    }
    Ok(match ended {
        0 => "No session was there to end.\n".to_owned(),
        1 => "Ended 1 session.\n".to_owned(),
        _ => format!("Ended {ended} sessions.\n"),
    })
}

/// Ends all sessions of each subject that goes by this name.
fn revoke_user(user: &str, provider: Option<&str>, doorward: &AdminClient) -> Result<u64> {
    let mut filter = vec![("state", "all".to_owned()), ("user", user.to_owned())];
    filter.extend(provider.map(|provider| ("provider", provider.to_owned())));
    let (sessions, _) = collect(&filter, usize::MAX, doorward)?;
    let mut subjects = BTreeSet::new();
    for session in &sessions {
        let row = Row::deserialize(session).context("the answer is not understood")?;
        subjects.extend(row.provider.zip(row.subject));
    }
    let providers: BTreeSet<&str> = subjects
        .iter()
        .map(|(provider, _)| provider.as_str())
        .collect();
    ensure!(
        providers.len() <= 1,
        "there is a {} with each of {}; `--provider ID` says which one",
        plain(user),
        plain(&providers.into_iter().collect::<Vec<_>>().join(", "))
    );
    let mut ended = 0;
    for (provider, subject) in &subjects {
        let target = target(&["users", provider, subject, "sessions"]);
        let done = doorward.ask(Method::DELETE, &target)?;
        let done = done.context("this Doorward cannot end the sessions of a user")?;
        ended += done.get("ended").and_then(Value::as_u64).unwrap_or(0);
    }
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_shows_who_from_where_and_since_when() {
        let sessions = [
            json!({
                "sid": "01993d7e-0000-7000-8000-000000000001", "user": "alice", "provider": "local", "subject": "alice",
                "device": "Firefox on Linux", "address": "192.0.2.7", "created": "2026-01-01T00:00:00.000Z",
                "last_seen": "2026-01-01T03:00:30.000Z", "state": "active", "more": 1,
            }),
            json!({
                "sid": "01993d7e-0000-7000-8000-000000000002", "user": null, "provider": null, "subject": null,
                "device": null, "address": null, "created": "2025-12-28T00:00:00.000Z",
                "last_seen": "2026-01-01T02:20:00.000Z", "state": "ended",
            }),
        ];
        let now = "2026-01-01T03:01:00Z".parse::<jiff::Timestamp>().unwrap();
        let now = Timestamp::from_millis(u64::try_from(now.as_millisecond()).unwrap());
        let text = in_columns(&sessions, now).unwrap();
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| {
                line.split("  ")
                    .map(str::trim)
                    .filter(|cell| !cell.is_empty())
                    .collect()
            })
            .collect();
        assert_eq!(
            lines[1][1..],
            [
                "alice",
                "local",
                "Firefox on Linux",
                "192.0.2.7",
                "3h 1m ago",
                "30s ago",
                "active"
            ]
        );
        assert_eq!(
            lines[2][1..],
            ["(sealed)", "?", "?", "?", "4d 3h ago", "41m ago", "ended"]
        );
    }

    #[test]
    fn an_answer_that_is_something_else_is_an_error() {
        assert!(in_columns(&[json!({ "sid": 1 })], Timestamp::default()).is_err());
    }
}
