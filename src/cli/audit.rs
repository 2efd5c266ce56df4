//! `doorward audit`: looks at the configuration, its files and the Doorward that runs, and says what a review would find.
//! The rules are elsewhere.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::admin_client::{AdminClient, target};
use super::{say, session};
use crate::app;
use crate::audit::{Evidence, Facts, Running, Seen, Severity, review};
use crate::clock::Clock;
use crate::config::{self, Missing, Settings};

/// Sessions that are looked at.
const MOST_SESSIONS: usize = 10_000;

#[derive(Args, Clone, Debug)]
pub struct AuditArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "config.toml")]
    pub config: PathBuf,
    /// Doorward's unix socket, in place of the one that the configuration names
    #[arg(long, value_name = "FILE")]
    pub socket: Option<PathBuf>,
    /// Exit with 1 where something is as bad as this, or worse
    #[arg(long, value_enum, default_value_t = SeverityArg::High)]
    pub min_severity: SeverityArg,
    /// Account for every requirement, the fulfilled ones too
    #[arg(long)]
    pub all: bool,
    /// As JSON, for programs, with every requirement
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SeverityArg {
    Low,
    Medium,
    High,
}

impl From<SeverityArg> for Severity {
    fn from(arg: SeverityArg) -> Self {
        match arg {
            SeverityArg::Low => Self::Low,
            SeverityArg::Medium => Self::Medium,
            SeverityArg::High => Self::High,
        }
    }
}

/// Prints the report; the exit code says whether it passes.
pub(super) fn run(args: &AuditArgs) -> Result<ExitCode> {
    let clock = Clock::system();
    let (settings, places) = config::load_placed(&args.config, Missing::Reported)?;
    app::check_certificates(&settings, &clock)?;
    let mut facts = Facts::gather(&settings, &places, clock.now())?;
    let mut unheard = None;
    match ask(args.socket.as_deref(), &settings) {
        Ok(running) => facts.running = Some(running),
        // The rest of what is there to say about nobody being there is advice.
        Err(why) => unheard = format!("{why:#}").lines().next().map(str::to_owned),
    }
    let evidence = Evidence {
        settings: &settings,
        places: &places,
        facts: &facts,
    };
    let report = review(&evidence);
    let threshold = args.min_severity.into();
    let text = if args.json {
        let json = report.to_json(&evidence, threshold);
        serde_json::to_string_pretty(&json)? + "\n"
    } else {
        report.to_text(&evidence, unheard.as_deref(), args.all)
    };
    say(&text)?;
    Ok(if report.passes(threshold) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What runs, or why that is not known.
fn ask(socket: Option<&Path>, settings: &Settings) -> Result<Running> {
    let configured = settings
        .admin_socket
        .as_ref()
        .map(|socket| socket.path.as_path());
    let socket = socket.or(configured);
    let socket = socket.context("`admin_socket` is \"off\", so what runs cannot be asked")?;
    let doorward = AdminClient::new(socket.to_owned())?;
    let status = doorward.ask(Method::GET, &target(&["status"]))?;
    let status =
        status.context("what runs is an earlier version, which does not tell its state")?;
    let running: Running =
        Deserialize::deserialize(status).context("its answer is not understood")?;
    let filter = [("state", "all".to_owned())];
    let (sessions, has_more) = match session::collect(&filter, MOST_SESSIONS, &doorward) {
        Ok(found) => found,
        // Its store fails, and then it is not ready either.
        Err(_) if !running.ready => (Vec::<Value>::new(), true),
        Err(error) => return Err(error),
    };
    let sessions = sessions
        .into_iter()
        .map(Seen::deserialize)
        .collect::<Result<_, _>>();
    Ok(Running {
        sessions: sessions.context("its answer is not understood")?,
        has_more,
        ..running
    })
}
