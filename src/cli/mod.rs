//! The command line. Exit codes: 0 it worked, 1 it did not, 2 it was asked for something that does not exist.

mod admin_client;
pub mod audit;
pub mod cert;
pub mod session;
mod table;
pub mod token;
pub mod user;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use admin_client::AdminClient;

use crate::clock::Clock;
use crate::config::{self, CertificateSource, ConfigErrors, Missing, Settings};
use crate::login::Kind;
use crate::{app, demo, telemetry};

const EXAMPLES: &str = "Examples:
  doorward demo                     try it: a sample app, a user, a password
  doorward cert                     a certificate for the hosts in config.toml
  doorward user add alice           a user who may log in (asks for a password)
  doorward check                    every mistake in config.toml, with its place
  doorward audit                    what a security review would find
  doorward session list             who is logged in
  doorward run --config site.toml   serve";

/// A reverse proxy that owns the session: TLS, login and identity in front of apps that have none.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Hold the configuration and what runs against OWASP ASVS, NIST SP 800-63B-4 and the session cheat sheet
    Audit(audit::AuditArgs),
    /// Make a local certificate authority, and a certificate for the hosts of the routes
    Cert(ConfigFile),
    /// Read the configuration and report every mistake; nothing is started
    Check(ConfigFile),
    /// Serve a sample app, ready to log in to; nothing to prepare
    Demo(demo::Options),
    /// Serve
    Run(ConfigFile),
    /// List the sessions of a running Doorward, and end them
    Session(SessionArgs),
    /// Manage API tokens, which programs use in place of a session
    Token(TokenArgs),
    /// Manage local users
    User(UserArgs),
}

#[derive(Args, Debug)]
struct ConfigFile {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "config.toml")]
    config: PathBuf,
}

#[derive(Args, Debug)]
struct SessionArgs {
    /// The configuration that Doorward runs with
    #[arg(
        long,
        value_name = "FILE",
        default_value = "config.toml",
        global = true
    )]
    config: PathBuf,
    /// Doorward's unix socket, in place of the one that the configuration names
    #[arg(long, value_name = "FILE", global = true)]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: session::SessionCommand,
}

#[derive(Args, Debug)]
struct UserArgs {
    /// The configuration that names the users file
    #[arg(
        long,
        value_name = "FILE",
        default_value = "config.toml",
        global = true
    )]
    config: PathBuf,
    #[command(subcommand)]
    command: user::UserCommand,
}

#[derive(Args, Debug)]
struct TokenArgs {
    /// The configuration that names the tokens file
    #[arg(
        long,
        value_name = "FILE",
        default_value = "config.toml",
        global = true
    )]
    config: PathBuf,
    #[command(subcommand)]
    command: token::TokenCommand,
}

pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match execute(cli.command) {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    let done = match command {
        Command::Audit(args) => return audit::run(&args),
        Command::Cert(file) => make_certificate(&file.config),
        Command::Check(file) => check(&file.config),
        Command::Demo(options) => demo::run(&options),
        Command::Run(file) => serve(&file.config),
        Command::Session(args) => {
            let doorward = AdminClient::new(admin_socket(&args)?)?;
            session::run(&args.command, &doorward)
        }
        Command::Token(token) => {
            let settings = config::load(&token.config, Missing::Tolerated)?;
            token::run(&token.command, &settings.tokens)
        }
        Command::User(user) => {
            let settings = config::load(&user.config, Missing::Tolerated)?;
            user::run(&user.command, &users_file(&settings)?)
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn admin_socket(args: &SessionArgs) -> anyhow::Result<PathBuf> {
    if let Some(socket) = &args.socket {
        return Ok(socket.clone());
    }
    let settings = config::load(&args.config, Missing::Tolerated)?;
    let socket = settings.admin_socket.context(
        "the configuration turns the unix socket off, `admin_socket = \"off\"` in [server]; without it nothing can be asked here",
    )?;
    Ok(socket.path)
}

fn serve(file: &Path) -> anyhow::Result<()> {
    let settings = config::load(file, Missing::Refused)?;
    let _diagnostics = telemetry::init(&settings.log.level)?;
    let signals = app::Signals::catch()?;
    let running = app::start(settings, Clock::system())?;
    for addr in &running.https {
        tracing::info!(%addr, "serving https");
    }
    for addr in &running.http {
        tracing::info!(%addr, "redirecting http to https");
    }
    if let Some(addr) = running.admin {
        tracing::info!(%addr, "health and metrics");
    }
    if let Some(socket) = &running.admin_socket {
        tracing::info!(socket = %socket.path().display(), "admin API for commands");
    }
    signals.run(running);
    Ok(())
}

fn check(file: &Path) -> anyhow::Result<()> {
    let settings = config::load(file, Missing::Reported)?;
    app::check_certificates(&settings, &Clock::system())?;
    let routes = counted(settings.routes.len(), "route");
    let apps = counted(settings.upstreams.len(), "app");
    say(&format!("{}: good, {routes} to {apps}\n", file.display()))?;
    match users_file(&settings) {
        Ok(users) if !users.exists() => say(&format!(
            "{} is not there yet: nobody can log in before `doorward user add NAME`\n",
            users.display()
        )),
        _ => Ok(()),
    }
}

fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn make_certificate(file: &Path) -> anyhow::Result<()> {
    let settings = config::load(file, Missing::Tolerated)?;
    let beside = file.parent().unwrap_or(Path::new(".")).join("certs");
    let (folder, cert, key) = match &settings.tls.source {
        CertificateSource::LocalAuthority(folder) => (
            folder.clone(),
            folder.join("site.pem"),
            folder.join("site.key"),
        ),
        CertificateSource::Files(files) => match files.first() {
            Some((cert, key)) => (
                cert.parent().unwrap_or(&beside).to_owned(),
                cert.clone(),
                key.clone(),
            ),
            None => (
                beside.clone(),
                beside.join("site.pem"),
                beside.join("site.key"),
            ),
        },
    };
    cert::run(&cert::CertPlan {
        folder,
        cert,
        key,
        hosts: settings.hosts(),
        port: settings.listen.first().map_or(443, SocketAddr::port),
    })
}

fn users_file(settings: &Settings) -> anyhow::Result<PathBuf> {
    let mut kinds = settings.providers.iter().map(|provider| &provider.kind);
    let users = kinds.find_map(|kind| match kind {
        Kind::Local(local) => Some(local.users.clone()),
        Kind::External(_) | Kind::Ldap(_) | Kind::OAuth2(_) | Kind::Oidc(_) => None,
    });
    users.context("the configuration has no [[provider]] of type \"local\"")
}

/// One of several names with commas between them, which may have spaces beside.
fn listed_name(text: &str) -> Result<String, &'static str> {
    match text.trim() {
        "" => Err("one of the names is empty; between two names there is one comma"),
        name => Ok(name.to_owned()),
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    let text = error.render().ansi().to_string();
    if error.use_stderr() {
        anstream::eprint!("{text}");
        ExitCode::from(2)
    } else {
        anstream::print!("{text}");
        ExitCode::SUCCESS
    }
}

fn report(error: &anyhow::Error) {
    match error.downcast_ref::<ConfigErrors>() {
        Some(errors) => anstream::eprintln!("{}", errors.styled()),
        None => anstream::eprintln!("error: {error:#}"),
    }
}

fn say(text: &str) -> anyhow::Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to the terminal")
}
